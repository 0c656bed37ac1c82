# The image corpus: OCI layouts and archives that a converter must get right or must refuse, made
# by tests/data/oci/make.sh, judged by its check.py. Every case comes out as its table says.
load common

@test "corpus: every image is converted or refused as expected.tsv says" {
	bash "$HERE/../data/oci/make.sh" "$PWD/corpus" >make.log
	export VIAL
	run python3 -B "$HERE/../data/oci/check.py" corpus '"$VIAL" build {out} {uri}'
	printf '%s\n' "$output" | tail -n 30
	[ "$status" -eq 0 ]
	[[ ${lines[-1]} =~ ^[0-9]+' passed, 0 failed'$ ]]
	[ "$(wc -l <corpus/expected.tsv)" -eq $((${lines[-1]%% *} + 1)) ]
}
