# Records of steps: what the Slurm plugin hands over, written as a line of JSON, and shown.
load common

setup() { common_setup; }
teardown() { common_teardown; }

# note FILE WORD...: as the plugin does
note() {
	local file=$1
	shift
	printf '%s\0' "$@" | "$VIAL" -q hold --record="$file" -
}

@test "a record is one line, whatever it is told, and is shown" {
	local f=$BATS_TEST_TMPDIR/n1.jsonl
	note "$f" job=12 step=0 node=n1 exit=3 signal=0 start=100 end=160 image=/a.sif command=sh command=-c $'command=a\nb "c" \e[31m' mounts=/x:/y uid=-1 =empty novalue $'latin=\xff'
	note "$f" job=13 step=batch node=n1 signal=9 start=1 end=2 image=/b.sif
	[ "$(wc -l <"$f")" -eq 2 ]
	[ "$(stat -c %a "$f")" = 600 ]
	python3 - "$f" <<-'EOP'
		import json, sys
		a, b = [json.loads(l) for l in open(sys.argv[1])]
		assert a["job"] == 12 and a["exit"] == 3 and a["version"] == 1 and a["uid"] == "-1", a
		assert a["command"] == ["sh", "-c", 'a\nb "c" \x1b[31m'] and a["mounts"] == ["/x:/y"], a
		assert b["step"] == "batch" and b["signal"] == 9, b
	EOP
	expect 0 vial record show "$f"
	stdout_has "12.0  n1"
	stdout_has "exit 3"
	stdout_has "signal 9"
	[[ $output != *$'\e'* ]]
	expect 0 vial record show --dir "$BATS_TEST_TMPDIR" 13
	stdout_lacks "12.0"
	stdout_has "13.batch"
	expect 0 vial record show --json --dir "$BATS_TEST_TMPDIR"
	[ "${#lines[@]}" -eq 2 ]
	echo "records = $BATS_TEST_TMPDIR" >vial.conf
	expect 0 vial --config vial.conf record show 13
	stdout_has "13.batch"
	expect 255 vial record show --dir "$BATS_TEST_TMPDIR" 14
	stderr_has "no record of job 14"
	expect 1 vial record show
}

@test "what is no record is passed over, and where none can be written nothing is changed" {
	local f=$BATS_TEST_TMPDIR/r.jsonl
	printf 'garbage\n\n[1]\n"text"\n{"job":"x","command":[1,{}],"start":1e99}\n{"job":7}\n{"job":' >"$f"
	expect 0 vial record show "$f" </dev/null
	stderr_has "passed over"
	# what a record does not say is not made up
	stdout_is "$(printf "?  ?  ?s  exit ?\n  command  '' ''\n7  ?  ?s  exit ?")"
	# one that is too long, and a file that is none, do not end the listing
	{ head -c 9000000 /dev/zero | tr '\0' x && printf '\n{"job":8,"exit":0,"start":5,"end":6}\n'; } >"$BATS_TEST_TMPDIR/q.jsonl"
	mkdir "$BATS_TEST_TMPDIR/a.jsonl"
	expect 255 vial record show --dir "$BATS_TEST_TMPDIR"
	stdout_has "8  "
	stdout_has "7  ?"
	stderr_has "a.jsonl"
	stderr_has "longer than a record can be"
	stderr_has "1 of the files"
	expect 1 vial record show --dir "$BATS_TEST_TMPDIR" "$f"
	stderr_has "either --dir"
	expect 0 env VIAL_RECORDS=/none "$VIAL" record show "$f"
	expect 0 env VIAL_RECORDS="$BATS_TEST_TMPDIR" "$VIAL" record show --json "$f"
	stdout_lacks '"job":8'
	ln -s "$f" "$BATS_TEST_TMPDIR/link"
	run ! note "$BATS_TEST_TMPDIR/link" job=1
	run ! note "$BATS_TEST_TMPDIR" job=1
	run ! note /none/r.jsonl job=1
	[ "$(grep -c '"job":1' "$f")" -eq 0 ]
}

@test "records that are written at the same time do not mix" {
	local f=$BATS_TEST_TMPDIR/r.jsonl i long pids=()
	long=$(printf '%5000s' x)
	for i in $(seq 20); do
		note "$f" job="$i" "command=$long" &
		pids+=($!)
	done
	wait "${pids[@]}"
	[ "$(wc -l <"$f")" -eq 20 ]
	expect 0 vial record show --json "$f"
	[ "${#lines[@]}" -eq 20 ]
}

@test "a lock that another holds keeps no record away" {
	local f=$BATS_TEST_TMPDIR/r.jsonl
	: >"$f"
	exec {lock}<"$f"
	flock -x "$lock"
	run timeout 100 bash -c 'printf "job=3\0" | "$VIAL" -q hold --record="$1" -' - "$f"
	[ "$status" -eq 0 ]
	exec {lock}<&-
	[ "$(wc -l <"$f")" -eq 1 ]
}

@test "of a record that is too long the last words are missing, and it says so" {
	local f=$BATS_TEST_TMPDIR/r.jsonl
	{ printf 'job=3\0exit=4\0' && for i in $(seq 20); do printf 'command=%100000s\0' "$i"; done; } | "$VIAL" -q hold --record="$f" -
	note "$f" job=5 exit=0
	expect 0 vial record show "$f"
	stdout_has "the record was too long"
	stdout_has "exit 4"
	[ "$(grep -c '"truncated":true' "$f")" -eq 1 ]
	[ "$(wc -l <"$f")" -eq 2 ]
}
