# The image corpora: OCI layouts and archives that a converter must get right or must refuse, made
# by tests/data/oci, judged by its check.py. Every case comes out as its table says.
load common

# judge CORPUS: 0 failures, and not a case left out.
judge() {
	export VIAL
	run python3 -B "$HERE/../data/oci/check.py" "$1" '"$VIAL" build {out} {uri}'
	printf '%s\n' "$output" | tail -n 30
	[ "$status" -eq 0 ]
	[[ ${lines[-1]} =~ ^[0-9]+' passed, 0 failed'$ ]]
	[ "$(wc -l <"$1/expected.tsv")" -eq $((${lines[-1]%% *} + 1)) ]
}

@test "corpus: every image is converted or refused as expected.tsv says" {
	bash "$HERE/../data/oci/make.sh" "$PWD/corpus" >make.log
	judge corpus
}

@test "corpus: the same for the second one, 700 cases of the same families" {
	need_user # the first one shows that root's images are the same
	(cd "$HERE/../data/oci" && python3 -B cases2.py "$OLDPWD/corpus") >make.log
	judge corpus
}

@test "corpus: bombs are refused while they are small" {
	need_user
	PYTHONPATH=$HERE/../data/oci python3 -B - <<-'PY'
		from ocigen import *
		def put(name, layers):
		    l = Layout(); l.image([l.layer(t) for t in layers]); l.write(name)
		put('folders', [b''.join(paxhdr([('path', '%d/' % i + 'a/' * 2000 + 'f')]) + header(b'f', '0') for i in range(2200))])
		put('holes', [tar([RAW(gnusparse_pax01('s%d' % i, [], (1 << 38) - 1))]) for i in range(20)])
		put('attributes', [b''.join(paxhdr([('SCHILY.xattr.user.%d' % j, b'v' * 60000) for j in range(16)]) + header(b'f%d' % i, '0') for i in range(600))])
		put('links', [tar([L('l%d' % i, 'a/../' * 800 + 'l%d' % (i + 1)) for i in range(37)] + [D('a'), L('l37', '.')], end=b'') +
		              b''.join(header(b'l0/f%d' % i, '0') for i in range(3000))])
	PY
	for bomb in folders holes attributes links; do
		expect 255 bash -c 'ulimit -v "$2"; exec "$VIAL" -q build a.sif "oci:$1:latest"' sh "$bomb" "$(addresses 3000000)"
		one_fatal_line
		[ ! -e a.sif ]
	done
}
