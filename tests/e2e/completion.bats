# Completion scripts ask the program for words, so what is offered is what exists.
load common

# offered WORD...: what the bash script offers for this line; the last word is being typed.
offered() {
	PATH=$(dirname "$VIAL"):$PATH bash --norc -c '
		source <(vial completion bash)
		COMP_WORDS=(vial "$@") COMP_CWORD=$#
		_vial
		printf "%s\n" "${COMPREPLY[@]}"' bash "$@"
}

@test "bash: commands are offered by their first letters" {
	expect 0 offered ver
	stdout_has "version"
	expect 0 offered ""
	first_words=$(vial help --words | sed 's/[ 	].*//' | sort -u)
	stdout_is "$first_words"
}

@test "bash: the options of every command are offered after it" {
	vial help --words | cut -f1 >commands
	while read -r words; do
		# shellcheck disable=SC2086 # "sif list" is two words
		expect 0 offered --log-format json $words --
		# shellcheck disable=SC2086
		stdout_is "$(vial help --words $words | cut -f1)"
	done <commands
}

@test "bash: an option's value is a directory, or what bash offers anyway" {
	mkdir some-dir
	: >some-file
	for words in "exec --workdir" "exec --home" "pull --dir"; do
		# shellcheck disable=SC2086
		expect 0 offered $words so
		stdout_is some-dir
	done
	for words in "exec --bind" "verify --key" "exec --env"; do
		# shellcheck disable=SC2086
		expect 0 offered $words so
		stdout_is ""
	done
	# after one that has none, it goes on as ever
	expect 0 offered exec --contain --conta
	stdout_is $'--contain\n--containall'
}

@test "what may be typed is what the tables have: every option of the manual is a word" {
	vial help --words | cut -f1 >commands
	while read -r words; do
		# shellcheck disable=SC2086
		vial help $words | sed -n 's/^  *\(-[A-Za-z], \)\{0,1\}\(--[a-z0-9-]*\).*/\2/p' | sort >in-help
		# shellcheck disable=SC2086
		expect 0 diff in-help <(vial help --words $words | cut -f1 | sort)
	done <commands
}

@test "bash: help completes commands" {
	expect 0 offered help comp
	stdout_is "completion"
}

@test "bash: the instances that run are offered" {
	export XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR/run
	mkdir -m 700 "$XDG_RUNTIME_DIR"
	make_rootfs tree
	expect 0 vial instance start tree one
	expect 0 vial instance start tree two
	expect 0 offered instance stop ""
	stdout_is "$(printf 'one\ntwo')"
	expect 0 offered instance logs t
	stdout_is two
	expect 0 vial instance stop --all
}

@test "zsh and fish accept their scripts" {
	vial completion zsh >_vial
	expect 0 zsh -n _vial
	vial completion fish >vial.fish
	expect 0 fish --no-execute vial.fish
}

@test "an unknown shell is a usage error that names the known ones" {
	expect 1 vial completion csh
	stderr_has "there is bash, zsh and fish"
}
