# One mount of an image for all starts of a user: who shares it, who must not, and what is left.
load common
load images
setup_file() { make_images; }

setup() {
	common_setup
	PIDS=()
	export MARK=$BATS_TEST_NAME XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR/run
	mkdir -m 700 "$XDG_RUNTIME_DIR"
	mkfifo hold
	exec 8<>hold # containers that read it run until this is closed
}

teardown() {
	exec 8>&-
	[ ${#PIDS[@]} -eq 0 ] || kill -9 "${PIDS[@]}" 2>/dev/null || true
	common_teardown
}

# our processes of that name
ours() { pgrep -x "$1" | while read -r p; do
	tr '\0' '\n' 2>/dev/null <"/proc/$p/environ" | grep -qx "MARK=$BATS_TEST_NAME" && echo "$p"
done 2>/dev/null; }
servers() { ours vial-fuse; }
holders() { ours vial-holder; }
number_of() { "$1" | wc -l; }
no_holder() { [ -z "$(holders)" ]; }
no_process() { [ -z "$(servers)$(holders)" ]; }
none_left() { no_process && [ -z "$(ls -A "$XDG_RUNTIME_DIR/vial" 2>/dev/null)" ]; }

# start NAME [COMMAND...]: a container, vial unless COMMAND says otherwise, that says which file system it is
# on, runs the lines that are written to NAME.in, and tells in NAME.out what they print.
start() {
	local name=$1
	shift
	[ $# -gt 0 ] || set -- "$VIAL" exec "$SIF"
	mkfifo "$name.in"
	"$@" sh -c 'stat -c %d / && while read -r line; do eval "$line"; echo "did: $line"; done' \
		<>"$name.in" >"$name.out" 2>"$name.err" 3>&- 8>&- &
	PID=$!
	PIDS+=("$PID")
	eventually test -s "$name.out" || { cat "$name.err"; return 1; }
}
tell() { # NAME LINE: and waits until it is done
	echo "$2" >"$1.in"
	eventually grep -qF "did: $2" "$1.out"
}
device() { head -n 1 "$1.out"; }
stop() { # PID...
	local p
	for p; do
		kill -9 "$p"
		wait "$p" || true
	done
}

@test "a second start joins the first, and the last one out ends it" {
	start a
	local first=$PID
	start b
	[ "$(device a)" = "$(device b)" ]
	[ "$(number_of servers)" -eq 1 ]
	[ "$(number_of holders)" -eq 1 ]
	expect 0 inside 'stat -c %d /'
	stdout_is "$(device a)"
	stop "$first"
	tell b 'cat /etc/file'
	grep -qx 'in the image' b.out
	[ "$(number_of holders)" -eq 1 ]
	stop "$PID"
	eventually none_left
}

namespace() { tell "$1" 'readlink /proc/self/ns/mnt' && grep -m 1 '^mnt:' "$1.out"; }

@test "starts that come to the same container are in one, all others in their own" {
	mkdir data
	echo x >data/file
	start a "$VIAL" exec -B "$PWD/data:/mnt" "$SIF"
	start b "$VIAL" exec -B "$PWD/data:/mnt" --env X=1 --pwd / "$SIF"
	start c "$VIAL" exec -B "$PWD/data:/mnt:ro" "$SIF"
	start d "$VIAL" exec -B "$PWD/data:/mnt" --writable-tmpfs "$SIF"
	start e "$VIAL" exec -B "$PWD/data:/mnt" --pid "$SIF"
	start f "$VIAL" exec -B "$PWD/data:/mnt" --private-mount "$SIF"
	start g "$VIAL" exec -B "$PWD/data:/mnt" --no-home "$SIF"
	[ "$(namespace a)" = "$(namespace b)" ]
	[ "$(for n in a c d e f g; do namespace $n; done | sort -u | wc -l)" -eq 6 ]
	# what is a process's own is its own
	tell b 'echo "$X in $PWD, $(cat /mnt/file)"'
	grep -qx '1 in /, x' b.out
	tell a 'echo "<$X>"'
	grep -qx '<>' a.out
	# the container is there for the next one as long as one of them is
	stop "${PIDS[0]}"
	start h "$VIAL" exec -B "$PWD/data:/mnt" "$SIF"
	[ "$(namespace h)" = "$(namespace b)" ]
	stop "${PIDS[@]:1}"
	eventually none_left
}

@test "another file or directory of the same name is found by the next start" {
	mkdir dir
	echo old >file
	echo old >dir/file
	start a "$VIAL" exec -B "$PWD/file:/mnt/file,$PWD/dir:/mnt/dir" "$SIF"
	echo new >file.new
	mv file.new file
	mv dir dir.old
	mkdir dir
	echo new >dir/file
	expect 0 "$VIAL" exec -B "$PWD/file:/mnt/file,$PWD/dir:/mnt/dir" "$SIF" cat /mnt/file /mnt/dir/file
	stdout_is $'new\nnew'
	tell a 'cat /mnt/file /mnt/dir/file'
	[ "$(grep -cx old a.out)" -eq 2 ]
}

@test "a bind whose place lies in another bind is where that leads now" {
	mkdir -p a/v1 a/v2 b
	echo v2 >a/v2/f
	echo b >b/f
	ln -s v1 a/cur
	start a "$VIAL" exec -B "$PWD/a:/mnt" -B "$PWD/b:/mnt/cur" "$SIF"
	ln -sfn v2 a/cur
	expect 0 "$VIAL" exec -B "$PWD/a:/mnt" -B "$PWD/b:/mnt/cur" "$SIF" cat /mnt/cur/f
	stdout_is b
}

@test "what is mounted on the host meanwhile is there for the next start" {
	need_root
	mkdir data
	unshare -m --propagation private bash -ec '
		start() { "$VIAL" exec -B "$PWD/data:/mnt" "$SIF" "$@" 3>&- 8>&-; }
		start sh -c "echo up; read x" <&8 >up &
		until [ -s up ]; do sleep 0.05; done
		mount -t tmpfs none data
		echo here >data/file
		start cat /mnt/file >now
		start cat /mnt/file >later
		umount data
		start ls /mnt >after
		echo >&8
		wait'
	[ "$(cat now later)" = $'here\nhere' ]
	[ ! -s after ]
	eventually none_left
}

@test "64 starts at once make one holder" {
	local i pids=()
	for ((i = 0; i < 64; i++)); do
		"$VIAL" exec "$SIF" sh -c 'stat -c %d /; read x' <&8 >"out.$i" 2>&1 3>&- 8>&- &
		pids+=($!)
	done
	all_up() { [ "$(cat out.* | wc -l)" -eq 64 ]; }
	eventually all_up || eventually all_up || eventually all_up
	[ "$(cat out.* | sort -u | wc -l)" -eq 1 ]
	[ "$(number_of servers)" -eq 1 ]
	[ "$(number_of holders)" -eq 1 ]
	for ((i = 0; i < 64; i++)); do echo >&8; done
	wait "${pids[@]}"
	eventually none_left
}

@test "after two hundred runs nothing is left" {
	local i
	mounts() { grep -v ' /tmp/vial-.* fuse\.vial ' /proc/self/mountinfo | cut -d' ' -f1 | sort; } # but for those of mountcmd.bats
	nothing_new() { [ -z "$(mounts | comm -13 before -)" ]; }                                     # the machine's own come and go
	mounts >before
	for ((i = 0; i < 200; i++)); do "$VIAL" exec "$SIF" true; done
	eventually none_left
	eventually nothing_new
}

@test "kill -9 of the holder: who runs goes on, and the next start makes a new one" {
	start a
	local first=$PID
	kill -9 "$(holders)"
	tell a 'cat /etc/file'
	grep -qx 'in the image' a.out
	start b
	[ "$(device a)" != "$(device b)" ]
	[ "$(number_of holders)" -eq 1 ]
	[ "$(number_of servers)" -eq 2 ]
	[ "$(find "$XDG_RUNTIME_DIR/vial" -mindepth 1 | wc -l)" -eq 1 ]
	stop "$first" "$PID"
	eventually none_left
}

@test "kill -9 of the server: the holder goes, and the next start makes a new one" {
	start a
	local first=$PID
	kill -9 "$(servers)"
	eventually no_holder
	start b
	[ "$(device a)" != "$(device b)" ]
	tell b 'cat /etc/file'
	stop "$first" "$PID"
	eventually none_left
}

@test "a holder that is stopped is not waited for without end" {
	start a
	kill -STOP "$(holders)"
	expect 0 "$VIAL" -v exec "$SIF" cat /etc/file
	stdout_is 'in the image'
	[[ $stderr == *'does not answer'* ]]
	kill -CONT "$(holders)"
	tell a 'cat /etc/file'
	grep -qx 'in the image' a.out
}

@test "starts that meet a dying holder or server all succeed" {
	local i pids=() p
	for ((i = 0; i < 40; i++)); do
		"$VIAL" exec "$SIF" true >>log 2>&1 3>&- 8>&- &
		pids+=($!)
		[ $((i % 4)) -ne 3 ] || holders | xargs -r kill -9 2>/dev/null || true
	done
	for p in "${pids[@]}"; do wait "$p"; done
	[ ! -s log ]
	"$VIAL" exec "$SIF" true
	eventually none_left
}

@test "kill -9 of a start at any moment leaves nothing" {
	local i
	for ((i = 0; i < 40; i++)); do
		"$VIAL" exec "$SIF" true >/dev/null 2>&1 3>&- 8>&- &
		[ $((i % 3)) -eq 0 ] || read -rt "0.00$((i % 10))" <&8 || true
		kill -9 $! 2>/dev/null || true
		wait $! 2>/dev/null || true
	done
	"$VIAL" exec "$SIF" true
	eventually none_left
}

@test "what a program leaves behind keeps the mount, not the holder" {
	expect 0 inside '{ while [ ! -e go ]; do sleep 0.05; done; cat /etc/file >out; } >/dev/null 2>&1 3>&- 8>&- & stat -c %d /'
	eventually no_holder
	[ "$(number_of servers)" -eq 1 ]
	local was=$output
	start b
	[ "$(device b)" != "$was" ]
	touch go
	eventually grep -qx 'in the image' out
	stop "$PID"
	eventually none_left
}

@test "bind targets that the image lacks appear for the second start, after a failed look too" {
	start a
	local first=$PID
	tell a '[ -e /fresh ] || echo absent; cat /deep/er/file 2>/dev/null || echo absent too'
	grep -qx 'absent too' a.out
	mkdir src
	echo data >src/f
	expect 0 "$VIAL" exec -B "$PWD/src:/fresh" -B "$PWD/src/f:/deep/er/file" "$SIF" sh -c 'stat -c %d /; cat /fresh/f /deep/er/file'
	stdout_is "$(device a)"$'\ndata\ndata'
	# all that the other one sees is an empty place
	tell a 'ls -A /fresh; [ ! -s /deep/er/file ] && echo empty'
	grep -qx empty a.out
	stop "$first"
	eventually none_left
}

@test "a writable layer lies over the shared mount, and is its start's alone" {
	start a
	local first=$PID
	expect 0 "$VIAL" exec --writable-tmpfs "$SIF" sh -c 'echo new >/etc/file; rm /etc/os-release; cat /etc/file'
	stdout_is new
	tell a 'cat /etc/file; ls /etc/os-release'
	grep -qx 'in the image' a.out
	grep -qx /etc/os-release a.out
	[ "$(number_of servers)" -eq 1 ]
	stop "$first"
	eventually none_left
}

@test "run | cat ends, though others go on" {
	mkfifo pipe
	cat pipe >got 3>&- 8>&- &
	local reader=$! first
	"$VIAL" exec "$SIF" sh -c 'echo up; read x' <&8 >pipe 2>&1 3>&- 8>&- & # the one that makes the holder
	first=$!
	eventually grep -qx up got
	start b
	echo >&8
	wait "$first"
	timeout 100 tail --pid="$reader" -f /dev/null
	[ "$(number_of holders)" -eq 1 ]
	stop "$PID"
	eventually none_left
}

@test "--private-mount, --writable and directories take no holder" {
	start a
	local first=$PID
	expect 0 "$VIAL" exec --private-mount "$SIF" stat -c %d /
	[ "$output" != "$(device a)" ]
	VIAL_PRIVATE_MOUNT=1 expect 0 inside 'stat -c %d /'
	[ "$output" != "$(device a)" ]
	stop "$first"
	eventually none_left
	start b "$VIAL" exec "$TREE"
	[ -z "$(holders)" ]
	stop "$PID"
}

@test "--mount-memory, --mount-threads: a server as it was asked for, shared by those who asked for the same" {
	start a
	local first=$PID
	start b "$VIAL" exec --mount-memory 24M --mount-threads 1 "$SIF"
	[ "$(device a)" != "$(device b)" ]
	VIAL_MOUNT_MEMORY=24M VIAL_MOUNT_THREADS=1 expect 0 inside 'stat -c %d /'
	stdout_is "$(device b)"
	printf 'mount-memory = 24M\nmount-threads = 1\n' >vial.conf
	expect 0 vial --config vial.conf exec "$SIF" stat -c %d /
	stdout_is "$(device b)"
	expect 0 vial exec --mount-memory 24M "$SIF" stat -c %d /
	[ "$output" != "$(device a)" ] && [ "$output" != "$(device b)" ]
	tell b 'cat /bin/* >/dev/null'
	expect 0 vial holders --stats
	stdout_has '1 threads at most, '
	stdout_has 'its caches and buffers take 24.0 MiB at most'
	stdout_has 'its caches and buffers take 64.0 MiB at most'
	"$VIAL" holders --stats --json | python3 -c '
import json, sys
s = [h["stats"] for h in json.load(sys.stdin) if h["image"] == sys.argv[1] and h["stats"]["memory"] == 24 << 20]
assert [x["threads"] for x in s] == [1] and all(x["resident"] <= x["memory"] for x in s), s' "$SIF"
	stop "$first" "$PID"
	eventually none_left
}

@test "memory and threads that do not go together are refused, with what would do" {
	expect 125 vial exec --mount-memory 3M "$SIF" true
	one_fatal_line '3M is too little for 1 thread: at least 22M'
	expect 125 vial exec --mount-memory 24M --mount-threads 2 "$SIF" true
	one_fatal_line '24M is too little for 2 threads: at least 28M'
	expect 125 vial exec --mount-threads 20 "$SIF" true
	one_fatal_line '--mount-memory 136M'
	expect 125 vial exec --mount-threads 65 "$SIF" true
	one_fatal_line '64 at most'
	expect 125 vial exec --mount-memory 1000T "$SIF" true
	one_fatal_line 'more than this machine has'
	expect 125 vial exec --mount-memory much "$SIF" true
	one_fatal_line 'takes a size'
	mkdir dir
	expect 255 vial mount --mount-memory 3M "$SIF" dir
	one_fatal_line 'at least 22M'
}

@test "a new image under the old name has a new holder" {
	cp "$SIF" image.sif
	start a "$VIAL" exec image.sif
	local first=$PID
	cp "$SIF" other.sif
	mv other.sif image.sif
	start b "$VIAL" exec image.sif
	[ "$(device a)" != "$(device b)" ]
	touch -d '2001-01-01' image.sif # the same file, changed
	start c "$VIAL" exec image.sif
	[ "$(device b)" != "$(device c)" ]
	ln image.sif link.sif
	start d "$VIAL" exec link.sif
	start e "$VIAL" exec image.sif # the link changed the file's ctime
	[ "$(device d)" = "$(device e)" ]
	stop "${PIDS[@]}"
	eventually none_left
}

@test "other groups and mount namespaces share nothing" {
	need_root
	start a
	start b setpriv --regid 12345 --clear-groups "$VIAL" exec "$SIF"
	start c unshare -m "$VIAL" exec "$SIF"
	start d unshare -fp --kill-child --mount-proc "$VIAL" exec "$SIF"
	start e
	[ "$(for n in a b c d; do device $n; done | sort -u | wc -l)" -eq 4 ]
	[ "$(device a)" = "$(device e)" ]
	tell b 'id -g'
	grep -qx 12345 b.out
	stop "${PIDS[@]}"
	eventually no_process
	# the first process of d's pid namespace took the holder with it, whose socket the next new one removes
	"$VIAL" exec "$SIF" true
	eventually none_left
}

@test "another user has another holder, whatever he says the runtime directory is" {
	need_root
	start a
	local first=$PID
	local open
	open=$(mktemp -d /tmp/vial-holder.XXXXXX) # where the other user may look
	chmod 755 "$open"
	cp "$VIAL" "$SIF" "$open"
	expect 0 setpriv --reuid "$VIAL_TEST_UID" --regid "$VIAL_TEST_UID" --clear-groups \
		env -C / HOME=/ "$open/vial" exec "$open/test.sif" stat -c %d /
	rm -r "$open"
	[ "$output" != "$(device a)" ]
	chmod 777 "$XDG_RUNTIME_DIR/vial" # and the owner trusts it no more
	expect 0 inside 'stat -c %d /'
	[ "$output" != "$(device a)" ]
	stop "$first"
	eventually none_left
}

@test "a runtime directory that is a link, or open to others, is not used" {
	mkdir -m 700 elsewhere
	ln -s "$PWD/elsewhere" "$XDG_RUNTIME_DIR/vial"
	start a
	[ -z "$(ls -A elsewhere)" ]
	rm "$XDG_RUNTIME_DIR/vial"
	mkdir -m 777 "$XDG_RUNTIME_DIR/vial"
	chmod 777 "$XDG_RUNTIME_DIR/vial"
	expect 0 inside 'cat /etc/file'
	[ -z "$(ls -A "$XDG_RUNTIME_DIR/vial")" ]
	stop "$PID"
	eventually none_left
}

@test "where there can be no holder, the start mounts for itself and says so with -v" {
	expect 0 bash -c 'ulimit -t 1000; exec "$0" -v exec "$1" cat /etc/file' "$VIAL" "$SIF"
	stdout_is 'in the image'
	stderr_has 'mounted for this start alone'
	eventually none_left
	expect 0 "$VIAL" exec "$SIF" true
	stderr_is ''
}

@test "exit statuses and signals are the program's own, for a start that joins" {
	start a
	local first=$PID
	expect 42 inside 'exit 42'
	run -127 "$VIAL" exec "$SIF" /no/such/program
	start b
	kill -TERM "$PID"
	local status=0
	wait "$PID" || status=$?
	[ "$status" -eq 143 ]
	stop "$first"
	eventually none_left
}

@test "a container in a container has a holder of its own" {
	local dir binds=()
	for dir in /usr /lib /lib64 /bin "$(dirname "$(realpath "$VIAL")")"; do [ ! -e "$dir" ] || binds+=(-B "$dir"); done
	start a
	expect 0 "$VIAL" exec "${binds[@]}" -B "$BATS_RUN_TMPDIR" "$SIF" "$VIAL" exec "$SIF" sh -c 'stat -c %d /; cat /etc/file'
	[[ $output == *"in the image" ]]
	[ "${lines[0]}" != "$(device a)" ]
	stop "$PID"
	eventually none_left
}

@test "an image that cannot be mounted is refused as without a holder" {
	head -c 8192 "$SQUASHFS" >cut.sqfs
	expect 125 "$VIAL" exec --private-mount cut.sqfs true
	local want=$stderr
	expect 125 "$VIAL" exec cut.sqfs true
	stderr_is "$want"
	one_fatal_line cut.sqfs
	eventually none_left
}

@test "the first start's processor binding does not bind the server of all" {
	start a taskset -c 0 "$VIAL" exec "$SIF"
	# as many as the test may use, which may be bound itself
	[ "$(nproc)" -le "$(taskset -pc "$(servers)" | sed 's/.*: //' | tr ',' '\n' | awk -F- '{ n += NF > 1 ? $2 - $1 + 1 : 1 } END { print n }')" ]
	stop "$PID"
	eventually none_left
}

@test "vial holders tells the image, its users and what its server did" {
	# others of this user may have holders too: only those of this test count
	mine() { "$VIAL" holders | grep -cF "$BATS_RUN_TMPDIR" || true; }
	[ "$(mine)" -eq 0 ]
	cp "$SIF" $'odd \n name.sif'
	start a
	local first=$PID
	start b
	start c "$VIAL" exec $'odd \n name.sif'
	expect 0 vial holders
	stdout_has "$SIF"
	stdout_has 'odd \x0a name.sif'
	[ "$(mine)" -eq 2 ]
	expect 0 vial holders --json --stats
	python3 - "$output" "$SIF" "$PWD/odd" "$first" "${PIDS[1]}" "$(holders | tr '\n' ' ')" <<-'EOF'
		import json, sys
		a, b = (next(h for h in json.loads(sys.argv[1]) if h["image"].startswith(p)) for p in sys.argv[2:4])
		assert a["image"] == sys.argv[2] and sorted(a["users"]) == sorted(map(int, sys.argv[4:6])), a
		assert b["image"].endswith("/odd \n name.sif"), b
		assert {a["pid"], b["pid"]} == set(map(int, sys.argv[6].split()))
		assert a["memory"] > 100000 and a["since"] > 1e9 and a["stats"]["requests"]["read"] > 0, a
	EOF
	stop "${PIDS[@]}"
	eventually none_left
	[ "$(mine)" -eq 0 ]
}
