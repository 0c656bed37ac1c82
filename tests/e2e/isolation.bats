# Namespaces of the container's own. What must not change with them: signals, terminal, exit status, nothing left.
load common
load images
setup_file() { make_images; }

setup() {
	common_setup
	export MARK=$BATS_FILE_TMPDIR/$BATS_TEST_NAME
	pid=
}
teardown() {
	[ -n "${BATS_TEST_COMPLETED:-}" ] || [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
	common_teardown
}
nothing_left() { python3 -B "$HERE/leftovers.py" "MARK=$MARK" "$SIF"; }
# the process of this test with that name
named() { pgrep -u "$(id -u)" -x "$1" | while read -r p; do
	if tr '\0' '\n' 2>/dev/null <"/proc/$p/environ" | grep -qx "MARK=$MARK"; then echo "$p"; fi
done 2>/dev/null; }
stopped() { grep -q '^State:[[:space:]]*T' "/proc/$1/status"; }
running() { ! stopped "$1"; }
has() { grep -qx -- "$1" out; }

# start TEXT [OPTION...]: a shell text in the background, in a process group of its own, with fd 3 of bats closed; its
# output goes to out. $pid is the caller's, which shall look like the program.
start() {
	local text=$1
	shift
	: >out
	# a shell's background job ignores SIGINT and SIGQUIT
	setsid env --default-signal "$VIAL" exec "$@" "$SIF" sh -c "$text" >>out 2>err 3>&- &
	pid=$!
	eventually has up || { cat out err && false; }
}
# ended STATUS: waits for it
ended() {
	local status=0
	wait "$pid" || status=$?
	[ "$status" -eq "$1" ] || { echo "# status $status, not $1" && cat out err && false; }
}

# ---- pid ------------------------------------------------------------------------------------

@test "without these options: the caller's own pid and namespaces" {
	expect 0 vial exec "$SIF" sh -c 'readlink /proc/self/ns/pid /proc/self/ns/ipc /proc/self/ns/uts /proc/self/ns/net'
	stdout_is "$(readlink /proc/self/ns/pid /proc/self/ns/ipc /proc/self/ns/uts /proc/self/ns/net)"
	# shellcheck disable=SC2016
	expect 0 sh -c 'echo $$; exec "$0" exec "$1" sh -c "echo \$\$"' "$VIAL" "$SIF"
	[ "${lines[0]}" = "${lines[1]}" ]
}

@test "--pid: its own processes only, below an init" {
	local opt
	for opt in -p --pid; do
		# shellcheck disable=SC2016
		expect 0 vial exec "$opt" "$SIF" sh -c 'echo $$; cat /proc/1/comm; ls -d /proc/[0-9]*; :'
		stdout_is $'2\nvial-init\n/proc/1\n/proc/2'
	done
	nothing_left
}

@test "secrets that were for vial are not in what the container sees of its own processes" {
	local opts
	for opts in --pid --containall '--pid --no-init'; do
		# shellcheck disable=SC2016,SC2086 # words
		expect 0 env VIAL_ENCRYPTION_PASSPHRASE=hush APPTAINER_DOCKER_PASSWORD=hush \
			SINGULARITYENV_DB_PASSWORD=mine VIAL_DOCKER_USERNAME=told "$VIAL" exec $opts "$SIF" sh -c 'cat /proc/1/environ; echo; echo $DB_PASSWORD'
		[[ $opts = *no-init* ]] || stdout_has VIAL_DOCKER_USERNAME=told
		stdout_has mine
		stdout_lacks hush
	done
}

@test "--pid --no-init: the program is the first process" {
	# shellcheck disable=SC2016
	expect 0 vial exec --pid --no-init "$SIF" sh -c 'echo $$; cat /proc/1/comm'
	stdout_is $'1\nsh'
	nothing_left
}

@test "--no-pid takes --pid back, also from the environment" {
	# shellcheck disable=SC2016
	expect 0 vial exec --pid --no-pid "$SIF" readlink /proc/self/ns/pid
	stdout_is "$(readlink /proc/self/ns/pid)"
	VIAL_PID=1 expect 0 vial exec --no-pid "$SIF" readlink /proc/self/ns/pid
	stdout_is "$(readlink /proc/self/ns/pid)"
	APPTAINER_PID=1 expect 0 vial exec "$SIF" readlink /proc/self
	stdout_is 2
}

@test "exit statuses come through, with and without an init" {
	local opts status
	for opts in --pid '--pid --no-init' '--pid --private-mount'; do
		for status in 0 1 42 143 137 255; do
			# shellcheck disable=SC2086
			expect "$status" vial exec $opts "$SIF" sh -c "exit $status"
		done
		# shellcheck disable=SC2086
		expect 127 vial exec $opts "$SIF" /no/such/program
		one_fatal_line "not found"
		# shellcheck disable=SC2086
		expect 126 vial exec $opts "$SIF" /etc/file
		one_fatal_line "not executable"
	done
	nothing_left
}

@test "who is killed by a signal is seen to be, without a core file" {
	local sig
	for sig in TERM INT KILL SEGV USR1 PIPE; do
		ulimit -c unlimited 2>/dev/null || true
		expect 0 python3 - "$VIAL" "$SIF" "$sig" <<-'EOF'
			import os, signal, subprocess, sys
			number = getattr(signal, "SIG" + sys.argv[3])
			p = subprocess.run([sys.argv[1], "exec", "--pid", sys.argv[2], "sh", "-c", "ulimit -c 0; kill -%d $$; sleep 9" % number])
			assert p.returncode == -number, p.returncode
		EOF
	done
	nothing_left
}

@test "each signal to the caller reaches the program, once" {
	local sig
	for sig in HUP INT QUIT USR1 USR2 TERM WINCH ALRM URG; do
		# shellcheck disable=SC2016
		start "trap 'echo got $sig' $sig; trap 'exit 7' XCPU; echo up; while :; do sleep 0.05; done" --pid
		kill -s "$sig" "$pid"
		eventually has "got $sig"
		kill -s XCPU "$pid"
		ended 7
		[ "$(grep -c got out)" -eq 1 ] || { cat out && false; }
	done
	nothing_left
}

@test "a signal to the process group reaches the program once, not twice" {
	# shellcheck disable=SC2016
	start 'trap "echo got" USR1; trap "exit 7" XCPU; echo up; while :; do read -r x </dev/null; done' --pid
	for _ in 1 2 3; do
		: >out
		kill -s USR1 -- "-$pid"
		eventually has got
	done
	kill -s XCPU "$pid"
	ended 7
	[ "$(grep -c got out)" -eq 1 ] || { cat out && false; }
	nothing_left
}

# whoever of the two that watch is late: the kernel makes one signal of two that nobody has looked at, but for those of real time
@test "signals to the process group, while the caller or the init stands still" {
	local init late sig
	# shellcheck disable=SC2016
	start 'trap "echo got" USR1 36; trap "echo last" 40; trap "exit 7" XCPU; echo up; while :; do read -r x </dev/null; done' --pid
	init=$(pgrep -P "$pid" -x vial-init)
	for late in "$init" "$pid" "$init $pid"; do
		# shellcheck disable=SC2086 # words
		kill -s STOP $late
		for sig in USR1 USR1 USR1 36 36 36; do
			: >out
			kill -s "$sig" -- "-$pid"
			eventually has got
		done
		: >out
		# shellcheck disable=SC2086
		kill -s CONT $late
		kill -s 40 "$pid" # looked at after the others
		eventually has last
		[ "$(cat out)" = last ] || { echo "# late: $late" && cat out && false; }
		kill -s USR1 "$pid"
		eventually has got
	done
	kill -s XCPU "$pid"
	ended 7
	nothing_left
}

@test "a signal sent to the init from inside is for the program" {
	# shellcheck disable=SC2016
	start 'trap "echo got; exit 3" TERM; echo up; kill -s TERM 1; while :; do sleep 0.05; done' --pid
	ended 3
	has got
}

@test "--no-init: signals reach a program that has handlers" {
	# shellcheck disable=SC2016
	start 'trap "echo got; exit 3" TERM; echo up; while :; do sleep 0.05; done' --pid --no-init
	kill -s TERM "$pid"
	ended 3
	has got
	nothing_left
}

@test "an ignored signal stays ignored, a blocked one blocked" {
	expect 0 sh -c 'trap "" HUP CHLD; exec "$0" exec --pid "$1" grep -E "^Sig(Ign|Blk)" /proc/self/status' "$VIAL" "$SIF"
	local with=$output
	expect 0 sh -c 'trap "" HUP CHLD; exec "$0" exec "$1" grep -E "^Sig(Ign|Blk)" /proc/self/status' "$VIAL" "$SIF"
	stdout_is "$with"
	# a parent that ignores its children still gets the status
	expect 42 sh -c 'trap "" CHLD; exec "$0" exec --pid "$1" sh -c "exit 42"' "$VIAL" "$SIF"
}

@test "stopping and continuing: the caller stops with the program and goes on with it" {
	# shellcheck disable=SC2016
	start 'trap "echo go on" CONT; trap "exit 7" XCPU; echo up; while :; do sleep 0.05; done' --pid
	kill -s STOP "$pid"
	eventually stopped "$pid"
	kill -s CONT "$pid"
	eventually has "go on"
	eventually running "$pid"
	kill -s XCPU "$pid"
	ended 7
	nothing_left
}

@test "a terminal: Ctrl-Z stops all, fg goes on, Ctrl-C comes once" {
	local opt
	for opt in --pid --private-mount; do # the second: as it is without a namespace
		expect 0 timeout 100 python3 - "$VIAL" "$SIF" "$opt" <<-'EOF'
			import os, pty, select, sys, time
			vial, sif, opt = sys.argv[1:]
			pid, fd = pty.fork()
			if pid == 0:
			    os.environ["PS1"] = "host> "
			    os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
			out = b""
			def upto(word):
			    global out
			    end = time.time() + 30
			    while word not in out and time.time() < end:
			        if select.select([fd], [], [], 0.1)[0]:
			            try: out += os.read(fd, 4096)
			            except OSError: break
			    assert word in out, out
			    before, out = out.split(word, 1)
			    return before
			def say(text): os.write(fd, text)
			upto(b"host> ")
			say(b"%s exec %s %s sh -c 'trap \"echo int$((1))\" INT; echo up$((1)); while :; do read -r x; echo \"<$x>\"; [ \"$x\" != end ] || exit 5; done'\n"
			    % (vial.encode(), opt.encode(), sif.encode()))
			upto(b"up1")
			say(b"one\n"); upto(b"<one>")
			say(b"\x1a"); upto(b"Stopped"); upto(b"host> ")
			say(b"echo here$((1))\n"); upto(b"here1"); upto(b"host> ")
			say(b"fg\n"); upto(b"exec")
			say(b"two\n"); upto(b"two>")
			say(b"\x03"); upto(b"int1")
			say(b"end\n"); seen = upto(b"end>")
			assert b"int1" not in seen, seen
			upto(b"host> ")
			say(b"echo status $?\n"); upto(b"status 5")
		EOF
	done
	nothing_left
}

@test "a shell in a pid namespace has job control" {
	expect 0 timeout 100 python3 - "$VIAL" "$SIF" <<-'EOF'
		import os, pty, select, sys, time
		pid, fd = pty.fork()
		if pid == 0:
		    os.execv(sys.argv[1], [sys.argv[1], "shell", "--pid", sys.argv[2]])
		out = b""
		def upto(word):
		    global out
		    end = time.time() + 30
		    while word not in out and time.time() < end:
		        if select.select([fd], [], [], 0.1)[0]:
		            try: out += os.read(fd, 4096)
		            except OSError: break
		    assert word in out, out
		upto(b"vial> ")
		assert b"job control" not in out, out
		os.write(fd, b"sed s/l/x/\n"); os.write(fd, b"line\n"); upto(b"xine")
		os.write(fd, b"\x1a"); upto(b"Stopped")
		os.write(fd, b"kill %1; wait; echo sum $((40+2))\n"); upto(b"sum 42")
		done = 0
		while not done: # a shell that has not heard of the job's end yet wants to be told twice
		    try: os.write(fd, b"exit 9\n")
		    except OSError: pass
		    time.sleep(0.2)
		    done, status = os.waitpid(pid, os.WNOHANG)
		code = os.waitstatus_to_exitcode(status)
		assert code == 9, code
	EOF
	nothing_left
}

is_vial() { [ "$(cat "/proc/$1/comm" 2>/dev/null)" = vial ]; }

@test "a signal before the program runs ends the start" {
	cp "$SIF" copy.sif
	"$VIAL" exec --pid --private-mount copy.sif sleep 1000 >out 2>&1 3>&- &
	local start=$! status=0
	eventually is_vial "$start" # before, the signal would be for the shell, which has its own mind about it
	kill -s TERM "$start"
	wait "$start" || status=$?
	[ "$status" -eq 143 ] || { echo "status $status" && cat out && false; }
	python3 -B "$HERE/leftovers.py" "MARK=$MARK" copy.sif
}

@test "zombies are reaped, and what the program leaves behind ends with it" {
	# shellcheck disable=SC2016
	expect 0 vial exec --pid "$SIF" sh -c '
		for i in 1 2 3 4 5 6 7 8; do (sleep 0.0$i & ) ; done
		i=0
		while grep -lE "^State:.Z|^PPid:.1$" /proc/[0-9]*/status 2>/dev/null | grep -vq "^/proc/2/"; do
			sleep 0.05; i=$((i + 1)); [ $i -lt 400 ] || { ps -ef; exit 1; }
		done; sleep 1000 & echo left'
	stdout_is left
	nothing_left
}

@test "kill -9 of the caller, the init or the program: all of it ends, nothing is left" {
	local who victim
	for who in caller init program; do
		start 'sleep 1000 & echo up; sleep 1000' --pid
		case $who in
		caller) victim=$pid ;;
		init) victim=$(named vial-init) ;;
		program) victim=$(pgrep -P "$(named vial-init)" -x sh) ;;
		esac
		kill -9 "$victim"
		ended 137
		nothing_left
	done
	start 'echo up; exec sleep 1000' --pid --no-init
	kill -9 "$pid"
	ended 137
	nothing_left
}

@test "kill -9 of the caller at any moment leaves nothing" {
	local i
	for ((i = 0; i < 20; i++)); do
		setsid "$VIAL" exec --pid "$SIF" sh -c 'sleep 1000 & sleep 1000' >/dev/null 2>&1 3>&- &
		python3 -c "import time; time.sleep($i * 0.004)" # the moment, not a wait for something
		kill -9 $!
		wait $! || true
	done
	nothing_left
}

@test "who reads the program's output sees its end, though the caller waits" {
	# shellcheck disable=SC2016
	expect 0 timeout 60 sh -c '"$0" exec --pid "$1" sh -c "echo data; exec >/dev/null 2>&1; touch \"$2/closed\"; while [ ! -e \"$2/go\" ]; do sleep 0.05; done" |
		{ cat; touch "$2/go"; }' "$VIAL" "$SIF" "$PWD"
	stdout_is data
}

@test "extra descriptors and the environment come through" {
	echo text >file
	expect 0 sh -c 'exec 7<file; VAR=1 exec "$0" exec --pid "$1" sh -c "cat <&7; echo \$VAR"' "$VIAL" "$SIF"
	stdout_is $'text\n1'
}

@test "a start inside of a pid namespace" {
	local dir binds=()
	for dir in "$(dirname "$VIAL")" /usr /lib /lib64; do [ ! -e "$dir" ] || binds+=(-B "$dir"); done
	cp "$SIF" inner.sif
	expect 5 vial exec --pid "${binds[@]}" "$SIF" "$VIAL" exec --pid "$PWD/inner.sif" sh -c 'echo $$; exit 5'
	stdout_is 2
	expect 6 vial exec --pid "${binds[@]}" "$SIF" "$VIAL" exec "$PWD/inner.sif" sh -c 'exit 6'
	expect 143 vial exec --pid "${binds[@]}" "$SIF" "$VIAL" exec --pid "$PWD/inner.sif" sh -c 'kill -TERM $$'
	nothing_left
	python3 -B "$HERE/leftovers.py" "MARK=$MARK" inner.sif
}

@test "starts with and without a pid namespace share one mount" {
	export XDG_RUNTIME_DIR=$PWD/run
	mkdir -m 700 run
	start 'echo up; exec sleep 1000'
	expect 0 vial exec --pid "$SIF" cat /etc/file
	stdout_is "in the image"
	expect 0 vial holders
	[ "$(named vial-holder | wc -l)" -eq 1 ]
	kill -9 "$pid"
	ended 137
	nothing_left
}

@test "where a new proc is refused, the outer one is shown, with a warning" {
	need_root
	# shellcheck disable=SC2016
	expect 0 unshare -m sh -c 'mount -t tmpfs none /proc/fs && exec "$0" exec --pid "$1" sh -c "test -e /proc/self/ns/pid && readlink /proc/self"' \
		"$VIAL" "$SIF"
	stderr_has "WARNING"
	stderr_has "/proc shows the processes outside"
	[ "$output" -gt 2 ]
}

# ---- ipc, uts, dev --------------------------------------------------------------------------

@test "--ipc: message queues and shared memory of its own" {
	local opt
	for opt in -i --ipc; do
		echo mine >/dev/shm/vial-test-$$
		expect 0 vial exec "$opt" "$SIF" sh -c 'readlink /proc/self/ns/ipc; ls /dev/shm; echo x >/dev/shm/x; cat /dev/shm/x'
		rm -f /dev/shm/vial-test-$$
		stdout_lacks "$(readlink /proc/self/ns/ipc)"
		stdout_lacks vial-test
		stdout_has x
		[ ! -e /dev/shm/x ]
	done
	expect 0 vial exec -c --ipc "$SIF" grep -c ' /dev/mqueue mqueue ' /proc/mounts
	stdout_is 1
}

@test "--hostname: the name, its file, and not outside" {
	local host
	host=$(uname -n)
	expect 0 vial exec --hostname box-1.example "$SIF" sh -c 'cat /proc/sys/kernel/hostname /etc/hostname'
	stdout_is $'box-1.example\nbox-1.example'
	[ "$(uname -n)" = "$host" ]
	# a directory image without the file, and a file of the user's
	expect 0 vial exec --hostname box "$TREE" cat /etc/hostname
	stdout_is box
	echo other >file
	expect 0 vial exec -B file:/etc/hostname --hostname box "$SIF" cat /etc/hostname /proc/sys/kernel/hostname
	stdout_is $'other\nbox'
	expect 0 vial exec --uts "$SIF" cat /proc/sys/kernel/hostname
	stdout_is "$host"
	expect 0 vial exec --uts "$SIF" readlink /proc/self/ns/uts
	[ "$output" != "$(readlink /proc/self/ns/uts)" ]
}

@test "a host name that is none is refused" {
	local name
	for name in '' -x .x 'a b' 'a/b' "$(printf 'a%.0s' {1..65})"; do
		expect 125 vial exec --hostname "$name" "$SIF" true
		one_fatal_line "host name"
	done
}

@test "a minimal /dev has what programs expect, and no more" {
	expect 0 vial exec -c --pid --ipc "$SIF" ls /dev </dev/null
	stdout_is "$(printf '%s\n' fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero)"
	expect 0 vial exec -c "$SIF" sh -c 'head -c 4 /dev/zero | wc -c; echo x >/dev/null; echo y >/dev/stderr; test -c /dev/ptmx -o -L /dev/ptmx'
	stdout_is 4
	stderr_is y
}
