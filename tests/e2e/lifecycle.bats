load common
load images
setup_file() { make_images; }

# servers of this test: processes of ours whose name is the server's
servers() { pgrep -u "$(id -u)" -x vial-fuse | while read -r p; do
	tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | grep -qx "MARK=$BATS_TEST_NAME" && echo "$p"
done; }
none_left() { [ -z "$(servers)" ]; }

setup() {
	common_setup
	export MARK=$BATS_TEST_NAME
}

@test "after fifty runs there is no process and no mount left" {
	local i mounts
	mounts=$(wc -l </proc/self/mountinfo)
	for ((i = 0; i < 50; i++)); do vial exec "$SQUASHFS" true; done
	eventually none_left
	[ "$(wc -l </proc/self/mountinfo)" -eq "$mounts" ]
}

@test "kill -9 of the program ends the server" {
	"$VIAL" exec "$SIF" sh -c 'echo up; sleep 60' >out 3>&- &
	eventually grep -q up out
	[ "$(servers | wc -l)" -eq 1 ]
	kill -9 $!
	wait $! || true
	pkill -P $$ -x sleep || true
	eventually none_left || { pkill -f "^sleep 60$" -u "$(id -u)"; eventually none_left; }
}

@test "kill -9 of the server: the program gets an error, nothing hangs, nothing is left" {
	"$VIAL" exec "$SIF" sh -c 'echo up; i=0; while [ ! -e go ] && [ $i -lt 200 ]; do sleep 0.05; i=$((i+1)); done; cat /etc/file' >out 2>err 3>&- &
	eventually grep -q up out
	kill -9 "$(servers)"
	touch go
	run timeout 10 tail --pid=$! -f /dev/null
	[ "$status" -eq 0 ]
	eventually none_left
}

@test "a background process of the program keeps the mount, and its end ends it" {
	expect 0 inside 'sleep 0.5 >/dev/null 2>&1 3>&- & echo left'
	[ "$(servers | wc -l)" -eq 1 ]
	eventually none_left
}

@test "Ctrl-C on the terminal is for the program, not for the server" {
	python3 - "$VIAL" "$SIF" <<-'EOF'
		import os, pty, sys, time, select, signal
		pid, fd = pty.fork()
		if pid == 0:
		    signal.signal(signal.SIGINT, signal.SIG_DFL) # ignored in background jobs, and inherited
		    os.execv(sys.argv[1], [sys.argv[1], "exec", sys.argv[2], "sh", "-c",
		             "trap 'cat /etc/file; exit 7' INT; echo ready; i=0; while [ $i -lt 200 ]; do sleep 0.05; i=$((i+1)); done"])
		out = b""
		def upto(word):
		    global out
		    end = time.time() + 10
		    while word not in out and time.time() < end:
		        if select.select([fd], [], [], 0.1)[0]:
		            try: out += os.read(fd, 4096)
		            except OSError: return
		upto(b"ready")
		os.write(fd, b"\x03")
		upto(b"in the image")
		code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
		assert b"in the image" in out, out
		assert code == 7, code
	EOF
}

@test "shell: a terminal, a prompt and job control" {
	python3 - "$VIAL" "$SIF" <<-'EOF'
		import os, pty, sys, time, select
		pid, fd = pty.fork()
		if pid == 0:
		    os.execv(sys.argv[1], [sys.argv[1], "shell", sys.argv[2]])
		out = b""
		def upto(word):
		    global out
		    end = time.time() + 10
		    while word not in out and time.time() < end:
		        if select.select([fd], [], [], 0.1)[0]:
		            try: out += os.read(fd, 4096)
		            except OSError: return
		    assert word in out, out
		upto(b"vial> ")
		os.write(b"" and fd or fd, b"tty; cat /etc/file; sleep 100 & kill %1; echo sum $((40+2))\n")
		upto(b"sum 42")
		assert b"/dev/pts/" in out and b"in the image" in out and b"job control" not in out, out
		os.write(fd, b"exit 9\n")
		code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
		assert code == 9, code
	EOF
}
