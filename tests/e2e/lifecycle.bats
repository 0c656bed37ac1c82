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
	ours() { grep -cF "$BATS_RUN_TMPDIR" /proc/self/mountinfo || true; } # other tests mount things meanwhile
	mounts=$(ours)
	for ((i = 0; i < 50; i++)); do vial exec "$SQUASHFS" true; done
	eventually none_left
	[ "$(ours)" -eq "$mounts" ]
}

@test "kill -9 of the program ends the server" {
	"$VIAL" exec "$SIF" sh -c 'echo up; exec sleep 600' >out 3>&- &
	eventually grep -q up out
	[ "$(servers | wc -l)" -eq 1 ]
	kill -9 $!
	wait $! || true
	eventually none_left
}

@test "kill -9 of the server: the program gets an error, nothing hangs, nothing is left" {
	"$VIAL" exec "$SIF" sh -c 'echo up; i=0; while [ ! -e go ] && [ $i -lt 200 ]; do sleep 0.05; i=$((i+1)); done; cat /etc/file' >out 2>err 3>&- &
	eventually grep -q up out
	kill -9 "$(servers)"
	touch go
	run timeout 100 tail --pid=$! -f /dev/null
	[ "$status" -eq 0 ]
	eventually none_left
}

@test "a background process of the program keeps the mount, and its end ends it" {
	expect 0 inside 'sleep 0.5 >/dev/null 2>&1 3>&- & echo left'
	[ "$(servers | wc -l)" -eq 1 ]
	eventually none_left
}

@test "the server has no capabilities, can gain none, and a filter of system calls" {
	! is_sanitized || skip "a sanitizer's build has no filter"
	"$VIAL" exec "$SIF" sh -c 'echo up; exec sleep 30' >out 3>&- &
	eventually grep -q up out
	cat "/proc/$(servers)/status" >status
	kill -9 $!
	grep -qE '^Seccomp:[[:space:]]+2$' status
	grep -qE '^NoNewPrivs:[[:space:]]+1$' status
	for set in Inh Prm Eff Amb; do grep -qE "^Cap$set:[[:space:]]+0+$" status; done
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

# evil_image OUT SIZE: one file /f, of SIZE bytes in blocks of 4 KiB, whose block list is 60000 metadata
# blocks of zeros that each take some twenty bytes.
evil_image() {
	python3 - "$1" "$2" <<-'EOF2'
		import struct, sys, zlib
		def meta(b, packed=False):
		    z = zlib.compress(b, 9) if packed else b
		    return struct.pack("<H", len(z) | (0 if packed else 0x8000)) + z
		size = int(sys.argv[2])
		listing = struct.pack("<III", 0, 0, 1) + struct.pack("<HhHH", 32, 1, 2, 0) + b"f"
		root = struct.pack("<HHHHIIIIHHI", 1, 0o755, 0, 0, 0, 1, 0, 2, len(listing) + 3, 0, 1)
		file = struct.pack("<HHHHIIQQQIIII", 9, 0o644, 0, 0, 0, 2, 96, size, 0, 1, 2**32 - 1, 0, 2**32 - 1)
		inodes = meta((root + file).ljust(8192, b"\0")) + meta(bytes(8192), True) * 60000
		dirs, ids = meta(listing), meta(struct.pack("<I", 0))
		at = 96 + len(inodes)
		table = at + len(dirs) + len(ids)
		none = 2**64 - 1
		head = struct.pack("<IIIIIHHHHHHQQQQQQQQ", 0x73717368, 2, 0, 4096, 0, 1, 12, 0x10, 1, 4, 0,
		                   0, table + 8, table, none, 96, at, none, none)
		open(sys.argv[1], "wb").write(head + inodes + dirs + ids + struct.pack("<Q", at + len(dirs)) + bytes(4096))
	EOF2
}

@test "a file that lies about its size costs an error, not a server that never ends" {
	local size binds=() dir
	for dir in bin lib lib64 usr; do [ ! -e "$TREE/$dir" ] || binds+=(-B "$TREE/$dir:/$dir"); done
	for size in $((60000 * 2048 * 4096)) $((1 << 62)); do
		evil_image evil.sqfs "$size"
		expect 1 timeout 300 "$VIAL" exec "${binds[@]}" evil.sqfs dd if=/f bs=4096 skip=$((size / 4096 - 1)) count=1
		stderr_has "Input/output error"
		"$VIAL" exec "${binds[@]}" evil.sqfs dd if=/f bs=4096 skip=$((size / 4096 - 1)) count=1 2>out 3>&- &
		kill -9 $!
		wait $! || true
		eventually none_left
	done
}

# A program that waits until it has no children, with the host's python.
wait_for_all='import os, sys
if os.fork() == 0: os._exit(3)
while True:
    try: print("child", os.waitstatus_to_exitcode(os.wait()[1]))
    except ChildProcessError: break
print("none")'

@test "a program that waits for all children ends, as PID 1 and as a subreaper too" {
	local dir binds=() python
	python=$(readlink -f "$(type -P python3)")
	for dir in /usr /lib /lib64 /bin; do [ ! -e "$dir" ] || binds+=(-B "$dir"); done
	expect 0 timeout 100 python3 -c 'import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) # PR_SET_CHILD_SUBREAPER
os.execv(sys.argv[1], sys.argv[1:])' "$VIAL" exec "${binds[@]}" "$SIF" "$python" -c "$wait_for_all"
	stdout_is $'child 3\nnone'
	eventually none_left
	is_root || return 0
	expect 0 timeout 100 unshare -pf --mount-proc --kill-child "$VIAL" exec "${binds[@]}" "$SIF" "$python" -c "$wait_for_all"
	stdout_is $'child 3\nnone'
	eventually none_left
}
