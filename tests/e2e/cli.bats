# The front door: global options, usage errors, help, the profiles of argv[0].
load common

@test "version prints the number alone; --version names the program" {
	expect 0 vial version
	number=$output
	[[ $number =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || complain "not a number"
	expect 0 vial --version
	stdout_is "vial version $number"
}

@test "called as apptainer or singularity it reports apptainer of at least 1.4" {
	for name in apptainer singularity; do
		ln -sf "$VIAL" "$name"
		expect 0 "./$name" --version
		[[ $output =~ ^apptainer\ version\ 1\.([4-9]|[1-9][0-9]) ]] || complain "no 1.4"
	done
}

@test "an unknown command names the nearest one and exits 1" {
	expect 1 vial verzion
	stderr_has "unknown command 'verzion'; did you mean 'version'?"
	stdout_is ""
}

@test "an unknown global option exits 1 and says which" {
	expect 1 vial --quite version
	stderr_has "unknown option --quite; did you mean --quiet?"
}

@test "an argument too many is a usage error that shows the usage" {
	expect 1 vial version extra
	stderr_has "unexpected argument 'extra'"
	stderr_has "usage: vial version"
}

@test "no command at all: the help, and exit 1" {
	expect 1 vial
	stdout_has "Usage: vial"
}

@test "help of every command works and is the same by both ways" {
	expect 0 vial help
	commands=$(sed -n '/^Commands:/,/^$/{/^  /p}' <<<"$output" | sed -E 's/^  (.{20}).*/\1/; s/ *$//')
	[ -n "$commands" ]
	while read -r name; do
		# shellcheck disable=SC2086 # "sif list" is two words
		expect 0 vial help $name
		stdout_has "Usage: vial $name"
		first=$output
		# shellcheck disable=SC2086
		expect 0 vial $name --help
		stdout_is "$first"
	done <<<"$commands"
}

@test "with --log-format json an error is one JSON object a line" {
	expect 1 vial --log-format json verzion
	while IFS= read -r line; do
		python3 -c 'import json,sys; d=json.loads(sys.argv[1]); assert d["level"]=="fatal" and d["msg"]' "$line"
	done <<<"$stderr"
}

@test "closed standard streams do no harm" {
	"$VIAL" version <&- >out 2>&-
	grep -qx '[0-9.]*' out
	"$VIAL" version >&-
}

@test "a full disk under stdout is an error" {
	[ -w /dev/full ]
	to_full() { "$VIAL" version >/dev/full; }
	expect 255 to_full
	stderr_has "cannot write to standard output"
}

@test "the old names report failures of their own as 255, and their number as one of at least 1.4" {
	ln -s "$VIAL" singularity
	expect 255 ./singularity exec no-such-image true
	expect 1 ./singularity exec --no-such-option x true
	expect 0 ./singularity version
	[[ $output =~ ^1\.([4-9]|[1-9][0-9]) ]] || complain "no number of at least 1.4"
}

@test "how much is said: options, their twins, and false ones" {
	expect 0 vial -d version
	expect 0 vial --debug=false --nocolor -qs version
	export APPTAINER_SILENT=1
	expect 1 vial verzion
	unset APPTAINER_SILENT
	for level in "-q" "-s"; do
		SINGULARITY_BIND=/a APPTAINER_BIND=/b expect 0 vial $level completion bash
		if [ "$level" = -q ]; then stderr_has WARNING; else stderr_is ""; fi
	done
	for twin in VIAL_SILENT=1 APPTAINER_SILENT=true SINGULARITY_SILENT=yes; do
		SINGULARITY_BIND=/a APPTAINER_BIND=/b expect 0 env "$twin" "$VIAL" completion bash
		stderr_is ""
	done
	expect 1 vial --build-config
	stderr_has "not supported yet"
}
