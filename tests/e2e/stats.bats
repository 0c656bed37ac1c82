# --stats: one line about the image's server when it is over, and nothing held that was not asked for.
load common
load images
setup_file() { make_images; }

setup() {
	common_setup
	export MARK=$BATS_FILE_TMPDIR/$BATS_TEST_NAME XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR/run
	mkdir -m 700 "$XDG_RUNTIME_DIR"
	mkfifo hold
	exec 8<>hold # programs that read it run until a line comes
}
teardown() {
	exec 8>&-
	common_teardown
}

ours() { pgrep -x "$1" | while read -r p; do
	if tr '\0' '\n' 2>/dev/null <"/proc/$p/environ" | grep -qx "MARK=$MARK"; then echo "$p"; fi
done 2>/dev/null; }
nothing_left() { python3 -B "$HERE/leftovers.py" "MARK=$MARK" "$SIF"; }
has_lines() { [ "$(grep -c . "$1")" -eq "$2" ]; }
# line FILE NUMBER TEXT [ARG...]: the line as j, and a python text that must hold of it
line() {
	python3 - "$@" <<-'EOT'
		import json, sys
		j = json.loads(open(sys.argv[1]).read().splitlines()[int(sys.argv[2])])
		arg = sys.argv[4:]
		assert eval(sys.argv[3]), (sys.argv[3:], j)
	EOT
}
waiting() { # OPTION... : a start in the background that says that it is up; its pid is $PID
	"$VIAL" exec "$@" "$SIF" sh -c 'echo up; cat /etc/file; read x' <&8 >out 2>err 3>&- 8>&- &
	PID=$!
	eventually grep -qx 'in the image' out || { cat err && false; }
}

@test "a mount of its own: what was asked, read, unpacked, kept, and of which file" {
	expect 0 vial exec --private-mount --stats line "$SIF" cat /etc/file
	stdout_is 'in the image'
	stderr_is ''
	eventually has_lines line 1
	line line 0 'j["image"] == arg[0] and j["until"] >= j["since"] > 1e9 and "holder" not in j' "$SIF"
	line line 0 'set(j["stats"]["requests"]) == {"lookup", "getattr", "readlink", "read", "readdir", "statfs", "xattr", "lseek"}'
	line line 0 'j["stats"]["requests"]["read"] > 0 and j["stats"]["bytes"] > 13 and j["stats"]["unpacked"]["nanoseconds"] > 0'
	line line 0 '{"hits", "misses"} == set(j["stats"]["data"]) == set(j["stats"]["metadata"])'
	line line 0 'j["stats"]["threads"] >= 1 and j["stats"]["resident"] > 100000'
	line line 0 '{"reads": 1, "bytes": 13, "path": "/etc/file"} in j["stats"]["files"]'
	expect 0 env VIAL_STATS=line "$VIAL" exec --private-mount "$SIF" true
	eventually has_lines line 2
	nothing_left
}

@test "a shared mount: one line for each start that asks, at its own end" {
	waiting --stats first
	local first=$PID holder
	holder=$(ours vial-holder)
	[ ! -s first ]
	expect 0 vial exec "$SIF" true
	expect 0 vial exec --stats second "$SIF" sh -c 'echo $$'
	eventually has_lines second 1
	line second 0 'j["holder"] == int(arg[0]) and j["pid"] == int(arg[1])' "$holder" "$output"
	[ ! -s first ]
	echo >&8
	wait "$first"
	eventually has_lines first 1
	line first 0 'j["holder"] == int(arg[0]) and j["pid"] == int(arg[1]) and j["image"] == arg[2]' "$holder" "$first" "$SIF"
	line first 0 '"/etc/file" in [f["path"] for f in j["stats"]["files"]]'
	nothing_left
}

@test "sixteen starts at once: sixteen whole lines" {
	local i pids=()
	for ((i = 0; i < 16; i++)); do
		"$VIAL" exec --stats lines "$SIF" true 3>&- 8>&- &
		pids+=($!)
	done
	wait "${pids[@]}"
	eventually has_lines lines 16
	for ((i = 0; i < 16; i++)); do line lines "$i" 'j["stats"]["bytes"] > 0'; done
	nothing_left
}

@test "-: standard error, and only when asked for" {
	"$VIAL" exec --stats - "$SIF" true >out 2>err
	eventually has_lines err 1
	[ ! -s out ]
	line err 0 'j["stats"]["bytes"] > 0'
	# who reads to the end has the line
	"$VIAL" exec --private-mount --stats - "$SIF" true 2>&1 >/dev/null | cat >all
	has_lines all 1
	"$VIAL" exec --stats - "$SIF" true 2>&1 >/dev/null | cat >all
	has_lines all 1
	nothing_left
}

@test "the program has not got the file, and the server can only add to it" {
	local option p fd
	expect 0 vial exec --stats line "$SIF" sh -c 'readlink /proc/$$/fd/*; true'
	stdout_lacks "$PWD/line"
	for option in '' --private-mount; do
		waiting --stats line ${option:+"$option"}
		p=$(ours vial-holder)
		[ -n "$p" ] || p=$(ours vial-fuse)
		[ -z "$option" ] || [ -z "$(ours vial-holder)" ]
		fd=$(find "/proc/$p/fd" -lname "$PWD/line" -printf '%f\n')
		[ "$(wc -w <<<"$fd")" -eq 1 ]
		# O_WRONLY, O_APPEND and O_CLOEXEC
		[ $((0$(sed -n 's/^flags:\t//p' "/proc/$p/fdinfo/$fd") & 02002003)) -eq $((02002001)) ]
		[ -z "$(find "/proc/$p/fd" -lname "$PWD/out" -o -lname "$PWD/err")" ]
		[ -n "$option" ] || [ -z "$(find "/proc/$(ours vial-fuse)/fd" -lname "$PWD/line")" ]
		echo >&8
		wait "$PID"
		nothing_left
	done
	has_lines line 3
}

@test "lines are added to what is there, and a reader that has gone harms nobody" {
	echo '{"image": "old"}' >lines
	expect 0 vial exec --stats lines "$SIF" true
	eventually has_lines lines 2
	line lines 0 'j["image"] == "old"'
	mkfifo pipe
	expect 125 vial exec --stats pipe "$SIF" true
	one_fatal_line 'nobody reads'
	waiting
	local holder
	holder=$(ours vial-holder)
	exec 9<>pipe
	"$VIAL" exec --stats pipe "$SIF" sh -c 'read x' <&8 2>err 3>&- 8>&- 9>&- &
	local other=$!
	joined() { [ "$("$VIAL" holders --json | python3 -c 'import json, sys; print(sum(len(h["users"]) for h in json.load(sys.stdin) if h["pid"] == int(sys.argv[1])))' "$holder")" -eq 2 ]; }
	eventually joined
	exec 9>&-
	kill -9 $other
	wait $other || true
	expect 0 vial exec "$SIF" true
	[ "$(ours vial-holder)" = "$holder" ]
	echo >&8
	wait "$PID"
	nothing_left
}

@test "a reader that reads nothing keeps nobody waiting" {
	mkfifo pipe
	exec 9<>pipe
	dd if=/dev/zero bs=1k count=1024 oflag=nonblock >&9 2>/dev/null || true
	local i
	for i in 1 2 3; do expect 0 vial exec --stats pipe "$SIF" true; done
	expect 0 vial exec --private-mount --stats pipe "$SIF" true
	nothing_left
	exec 9>&-
}

@test "when the server was killed, the line says that nothing is known" {
	waiting --stats line
	kill -9 "$(ours vial-fuse)"
	eventually has_lines line 1
	line line 0 'j["stats"] is None and j["pid"] == int(arg[0])' "$PID"
	kill -9 "$PID"
	wait "$PID" || true
	nothing_left
}

@test "a file that cannot be opened is refused, and a directory image has nothing to tell" {
	expect 125 vial exec --stats no/where "$SIF" true
	one_fatal_line '--stats: cannot open no/where'
	expect 0 vial exec --stats line "$TREE" true
	stderr_has 'WARNING: --stats'
	[ ! -s line ]
	nothing_left
}

@test "vial holders --stats shows the same as a table" {
	waiting
	expect 0 vial holders --stats
	stdout_has 'requests   lookup '
	stdout_has 'cache hits metadata '
	stdout_has ' blocks unpacked in '
	stdout_has 'threads at most'
	stdout_has '13 B in 1 reads  /etc/file'
	stdout_lacks '{'
	echo >&8
	wait "$PID"
	nothing_left
}
