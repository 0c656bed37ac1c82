# Writable containers: layers over the image, where changes go, and who may make them at the same time.
load common
load images

setup_file() {
	make_images
	copy_program "$TREE" seq mv ln chmod chown cp rmdir find df setfattr
	mkdir -p "$TREE/etc/tree/deep" "$TREE/data"
	echo one >"$TREE/etc/tree/one"
	echo two >"$TREE/etc/tree/deep/two"
	make_sif "$SIF" "$TREE"
	"$VIAL" sif dump 4 "$SIF" >"$SQUASHFS"
}

setup() {
	common_setup
	MARK=$BATS_TEST_TMPDIR
	export MARK
}

over() { # OVERLAY TEXT: a shell text in the image under the overlay
	local overlay=$1
	shift
	"$VIAL" exec -o "$overlay" "$SIF" sh -c "$@"
}

# An ext3 image, made once.
ext3() {
	if [ ! -e "$BATS_RUN_TMPDIR/vial-ext3-$(id -u)" ]; then "$VIAL" overlay create --sparse "$BATS_RUN_TMPDIR/vial-ext3-$(id -u)"; fi
	cp --sparse=always "$BATS_RUN_TMPDIR/vial-ext3-$(id -u)" "$1"
}

# kinds: a writable overlay of each kind that there is
kinds() {
	mkdir dir
	ext3 image
	echo dir image
}

# hold OVERLAY: a container that uses it until its standard input ends; $holder is its pid
hold() {
	mkfifo hold.in
	"$VIAL" exec "${@:2}" -o "$1" "$SIF" sh -c 'echo up; cat' <hold.in >hold.out 3>&- &
	holder=$!
	exec 8>hold.in
	eventually grep -q up hold.out
}
let_go() {
	exec 8>&-
	wait "$holder" || true
	rm -f hold.in
}

nothing_left() { python3 -B "$HERE/leftovers.py" "MARK=$MARK" "$SIF"; }

# ---- what is kept ----------------------------------------------------------------------------------

@test "changes of every sort are kept, in a directory and in an ext3 image" {
	local o
	for o in $(kinds); do
		expect 0 over "$o" '
			echo new >/etc/new && echo changed >/etc/file && rm /etc/tree/one && mkdir /top && echo x >/top/x &&
			ln /top/x /top/hard && ln -s x /top/soft && mv /etc/tree/deep /etc/moved && chmod 0700 /etc/file &&
			rm -r /etc/dir && mkdir /etc/dir && echo fresh >/etc/dir/fresh'
		expect 0 over "$o" '
			cat /etc/new /etc/file /etc/moved/two /top/soft /etc/dir/fresh; stat -c "%h %a" /top/x /etc/file
			ls /etc/tree /etc/dir'
		stdout_is 'new
changed
two
x
fresh
2 644
1 700
/etc/dir:
fresh

/etc/tree:'
		expect 0 over "$o" 'echo again >/top/hard; cat /top/x; rm /top/x; cat /top/hard'
		stdout_is 'again
again'
		expect 0 vial exec "$SIF" cat /etc/file /etc/tree/one
		stdout_is 'in the image
one'
	done
	nothing_left
}

@test "a directory made anew hides what the image has under that name" {
	local o
	for o in $(kinds); do
		expect 0 over "$o" 'rm -r /etc/tree && mkdir /etc/tree && echo mine >/etc/tree/mine'
		expect 0 over "$o" 'find /etc/tree -type f'
		stdout_is /etc/tree/mine
		expect 0 over "$o:ro" 'find /etc/tree -type f'
		stdout_is /etc/tree/mine
	done
}

@test "root changes owners, and they are kept" {
	need_root
	local o
	for o in $(kinds); do
		expect 0 over "$o" 'echo x >/x && chown 12:34 /x /etc/file && chmod 4755 /x'
		expect 0 over "$o" 'stat -c "%u:%g %a" /x /etc/file'
		stdout_is '12:34 4755
12:34 644'
	done
}

@test "upper and work are made when they are missing, with the mode of the image's root" {
	mkdir d
	(umask 077 && over d 'echo x >/x')
	[ -f d/upper/x ] && [ -d d/work ]
	[ "$(stat -c %a d/upper)" = "$(stat -c %a "$TREE")" ]
}

@test "a directory that has no upper is a layer itself, when it is only read" {
	mkdir -p d/etc
	echo other >d/etc/file
	expect 0 over d:ro 'cat /etc/file'
	stdout_is other
	[ ! -e d/upper ]
}

@test "OVERLAY and OVERLAYIMAGE name overlays too" {
	mkdir -p a/upper/etc b/upper/etc
	echo a >a/upper/etc/file
	echo b >b/upper/etc/file
	expect 0 env VIAL_OVERLAY=a:ro,b:ro "$VIAL" exec "$SIF" cat /etc/file
	stdout_is b
	expect 0 env APPTAINER_OVERLAYIMAGE=a:ro "$VIAL" exec "$SIF" cat /etc/file
	stdout_is a
}

# ---- stacks -------------------------------------------------------------------------------------------

@test "several overlays: the later is on top, of every kind" {
	local n
	for n in a b; do
		mkdir -p "$n/upper/etc"
		echo "$n" >"$n/upper/etc/file"
		echo "$n" >"$n/upper/etc/of-$n"
		mksquashfs "$n/upper" "$n.sqfs" -quiet -no-progress >/dev/null
		ext3 "$n.img"
		over "$n.img" 'echo '$n' >/etc/file; echo '$n' >/etc/of-'$n
	done
	local x y
	for x in a:ro a.sqfs a.sqfs:ro a.img:ro; do
		for y in b:ro b.sqfs b.img:ro; do
			expect 0 vial exec -o "$x" -o "$y" "$SIF" cat /etc/file /etc/of-a /etc/of-b
			stdout_is 'b
a
b'
			expect 0 vial exec -o "$y" -o "$x" "$SIF" cat /etc/file
			stdout_is a
		done
	done
	expect 2 vial exec -o a:ro -o b.sqfs "$SIF" sh -c 'echo >/etc/file'
	stderr_has "Read-only file system"
	expect 2 vial exec -o a.img:ro "$SIF" sh -c 'echo >/etc/file'
	stderr_has "Read-only file system"
	nothing_left
}

@test "the one that takes the changes is on top, wherever it stands" {
	mkdir -p a/upper/etc d/upper/etc
	echo a >a/upper/etc/file
	echo d >d/upper/etc/file
	ext3 e
	over e 'echo e >/etc/file; rm /bin/grep'
	expect 0 vial exec -o d -o a:ro -o e:ro "$SIF" sh -c 'cat /etc/file; echo x >/etc/x; ls /bin/grep 2>/dev/null; true'
	stdout_is d
	expect 0 vial exec -o e -o a:ro "$SIF" cat /etc/file
	stdout_is e
	[ -f d/upper/etc/x ] && [ ! -e a/upper/etc/x ]
	expect 125 vial exec -o d -o e "$SIF" true
	one_fatal_line ":ro"
	expect 125 vial exec -o d:ro -o d "$SIF" true
	one_fatal_line "twice"
}

@test "more layers than the kernel takes in one word" {
	local i args=()
	for ((i = 0; i < 30; i++)); do
		mkdir -p "l$i/upper"
		echo "$i" >"l$i/upper/last"
		touch "l$i/upper/n$i"
		args+=(-o "l$i:ro")
	done
	expect 0 vial exec "${args[@]}" "$SIF" sh -c 'cat /last; ls -d /n0 /n29'
	stdout_is '29
/n0
/n29'
}

@test "a directory as image has overlays, and binds to places it lacks" {
	local o
	cp -r "$TREE" image
	mkdir src
	echo bound >src/file
	for o in $(mkdir dir && echo dir) ; do
		expect 0 vial exec -o "$o" -B "$PWD/src:/not/there" image sh -c 'cat /not/there/file; echo x >/etc/new'
		stdout_is bound
		expect 0 vial exec -o "$o:ro" -B "$PWD/src:/not/there" image sh -c 'cat /not/there/file /etc/new'
		stdout_is 'bound
x'
	done
	[ ! -e image/not ] && [ ! -e image/etc/new ] && [ ! -e dir/upper/not ]
}

@test "what an overlay removed can be a bind's place again" {
	mkdir d src
	echo bound >src/file
	expect 0 over d 'rm -r /data'
	expect 0 vial exec -o d -B "$PWD/src:/data" "$SIF" cat /data/file
	stdout_is bound
}

@test "--writable-tmpfs over overlays that are read; beside one that is changed it says so" {
	mkdir d
	over d 'echo kept >/etc/new'
	ext3 e
	over e 'rm /etc/tree/one'
	expect 0 vial exec --writable-tmpfs -o d:ro -o e:ro "$SIF" sh -c 'cat /etc/new; echo gone >/etc/new; rm /etc/file; ls /etc/tree'
	stdout_is 'kept
deep'
	stderr_is ""
	[ "$(cat d/upper/etc/new)" = kept ]
	expect 0 vial exec --writable-tmpfs -o d "$SIF" sh -c 'echo x >/etc/x'
	stderr_has "--writable-tmpfs has no effect"
	[ -f d/upper/etc/x ]
}

# ---- the layer in memory --------------------------------------------------------------------------------

@test "--tmpfs-size bounds what goes to memory" {
	expect 0 vial exec --writable-tmpfs --tmpfs-size 2M "$SIF" sh -c 'dd if=/dev/zero of=/big bs=64k count=16 2>/dev/null'
	expect 1 vial exec --writable-tmpfs --tmpfs-size 2M "$SIF" dd if=/dev/zero of=/big bs=64k count=64
	stderr_has "No space left on device"
	expect 1 env VIAL_TMPFS_SIZE=1M "$VIAL" exec --writable-tmpfs "$SIF" dd if=/dev/zero of=/big bs=64k count=64
	stderr_has "No space left on device"
	expect 125 vial exec --writable-tmpfs --tmpfs-size much "$SIF" true
	one_fatal_line "--tmpfs-size"
}

@test "what goes to memory is at most half of what the job may use" {
	! is_sanitized || skip "a sanitizer's shadow takes more addresses than a limit leaves"
	size() { "$VIAL" exec --private-mount --writable-tmpfs "$SIF" stat -f -c '%S %b' / | awk '{ print $1 * $2 / 1048576 }'; }
	[ "$(ulimit -v $((2048 * 1024)) && size)" = 1024 ]
	[ "$(ulimit -v $((120 * 1024)) && size)" = 64 ]
}

# ---- refusals -------------------------------------------------------------------------------------------

@test "an overlay that is none is refused by name" {
	expect 125 over missing true
	one_fatal_line "missing does not exist"
	echo garbage >garbage
	expect 125 over garbage true
	one_fatal_line "neither a directory nor a squashfs or ext3 image"
	mkfifo fifo
	expect 125 over fifo true
	one_fatal_line "neither a file nor a directory"
	head -c 4000 "$SQUASHFS" >short
	expect 125 over short true
	one_fatal_line "$PWD/short"
	: >empty
	expect 125 over ./empty true
	one_fatal_line "empty"
}

@test "an ext3 image that lies is refused or gives errors, and nothing is left" {
	ext3 good
	local size
	size=$(stat -c %s good)
	# a superblock and nothing behind it
	head -c 4096 good >./cut-off
	expect 125 over cut-off true
	one_fatal_line "$PWD/cut-off"
	head -c 1080 /dev/zero >magic
	printf '\x53\xef' >>magic
	head -c 70000 /dev/zero >>magic
	expect 125 over magic true
	one_fatal_line "$PWD/magic"
	cp --sparse=always good noise
	dd if=/dev/urandom of=noise bs=4096 seek=1 count=20 conv=notrunc status=none
	run over noise 'echo x >/etc/new' # whatever: but it ends
	cp --sparse=always good dirs
	for name in upper work; do
		debugfs -w -R "rm $name" dirs 2>/dev/null
		debugfs -w -R "rmdir $name" dirs 2>/dev/null
		debugfs -w -R "symlink $name $PWD/target" dirs 2>/dev/null
	done
	mkdir target
	expect 125 over dirs 'echo escaped >/escaped'
	one_fatal_line "$PWD/dirs"
	expect 125 over dirs:ro true
	one_fatal_line "$PWD/dirs"
	[ -z "$(ls target)" ] && [ "$(stat -c %s good)" = "$size" ]
	nothing_left
}

@test "links and files in the place of upper and work lead nowhere" {
	local part
	mkdir target
	for part in upper work; do
		rm -rf d
		mkdir -p d/upper d/work
		rmdir "d/$part"
		ln -s "$PWD/target" "d/$part"
		expect 125 over d 'echo escaped >/escaped'
		one_fatal_line "$PWD/d/$part is not a directory"
		rm "d/$part"
		echo file >"d/$part"
		expect 125 over d true
		one_fatal_line "$PWD/d/$part is not a directory"
	done
	rm -rf d
	mkdir d
	ln -s "$PWD/target" d/upper
	expect 125 over d:ro true
	one_fatal_line "$PWD/d/upper is not a directory"
	[ -z "$(ls target)" ]
}

@test "the lock's file is never somebody else's" {
	mkdir d
	echo precious >precious
	ln -s ../precious d/.vial.lock
	expect 125 over d true
	one_fatal_line "$PWD/d"
	rm d/.vial.lock
	ln precious d/.vial.lock
	expect 125 over d true
	one_fatal_line "$PWD/d/.vial.lock"
	[ "$(cat precious)" = precious ]
	rm d/.vial.lock
	mkfifo d/.vial.lock
	expect 125 over d true
	one_fatal_line "$PWD/d/.vial.lock"
}

@test "a request to change what cannot be changed is an error, and :ro is not" {
	need_user
	mkdir -p d/upper d/work
	echo x >d/upper/x
	ext3 e
	chmod 0555 d
	chmod 0444 e
	expect 125 over d true
	one_fatal_line "$PWD/d"
	expect 125 over e true
	one_fatal_line "e cannot be changed: Permission denied"
	expect 0 over d:ro 'cat /x'
	expect 0 over e:ro true
	chmod 0755 d
}

@test "a file system that cannot keep changes is named" {
	mkdir d
	# an overlay of the kernel takes no other as its upper layer, and says so as it does of network file systems
	expect 125 unshare --user --map-root-user --mount sh -c '
		mkdir low up work merged && mount -t overlay overlay -o lowerdir=low,upperdir=up,workdir=work,userxattr merged &&
		mkdir merged/d && exec "$VIAL" exec -o merged/d "$0" true' "$SIF"
	one_fatal_line "its file system is overlay"
	stderr_has "vial overlay create"
}

@test "without its programs an ext3 overlay is one clear error" {
	ext3 e
	# the usual directories are searched as well, so they are hidden
	expect 125 unshare --user --map-current-user --keep-caps --mount sh -c '
		for p in fuse2fs fuse-overlayfs; do
			for d in /usr/bin /bin /usr/sbin /sbin; do [ ! -e $d/$p ] || mount --bind /dev/null $d/$p; done
		done
		exec "$VIAL" exec -o e "$0" true' "$SIF"
	one_fatal_line "install the package fuse2fs"
}

# ---- locks ----------------------------------------------------------------------------------------------

@test "two cannot change an overlay at once, and the second is told who does" {
	local o
	for o in $(kinds); do
		SLURM_JOB_ID=4711 hold "$o"
		expect 125 over "$o" true
		one_fatal_line "$PWD/$o is in use"
		stderr_has "process $holder (sh)"
		stderr_has "on $(uname -n)"
		stderr_has "Slurm job 4711"
		expect 125 over "$o:ro" true
		one_fatal_line "$PWD/$o is in use"
		let_go
		expect 0 over "$o" true
	done
	nothing_left
}

@test "many read an overlay at once, and nobody changes it meanwhile" {
	local o
	for o in $(kinds); do
		over "$o" 'echo x >/x'
		hold "$o:ro"
		expect 0 over "$o:ro" 'cat /x'
		stdout_is x
		expect 125 over "$o" true
		one_fatal_line "other containers read it"
		let_go
		expect 0 over "$o" true
	done
	nothing_left
}

@test "a lock dies with its holder, also by kill -9, and nothing else is left" {
	local o
	for o in $(kinds); do
		hold "$o"
		kill -9 "$holder"
		let_go
		expect 0 over "$o" 'echo next >/next'
		expect 0 over "$o:ro" 'cat /next'
		stdout_is next
	done
	[ -z "$(find . -name '.image*')" ]
	nothing_left
}

@test "start after start: each finds the lock free and what the one before wrote" {
	local o round # run has an i of its own
	for o in $(kinds); do
		over "$o" 'echo 0 >/n'
		for round in 1 2 3 4 5 6 7 8 9 10; do
			expect 0 over "$o" 'read -r n </n; [ $((n + 1)) -eq "$1" ] && echo "$1" >/n' sh $round
		done
		expect 0 over "$o:ro" 'cat /n'
		stdout_is 10
	done
}

@test "the note of the next one who changes an ext3 image stays" {
	ext3 e
	hold e
	[ -f .e.lock ]
	echo "of the next" >.e.lock
	let_go # waits for the end of all that is done after the program
	[ "$(cat .e.lock)" = "of the next" ]
	expect 0 over e true
	[ ! -e .e.lock ]
}

@test "who reads another's directory leaves no lock there that its owner could not take" {
	need_root
	cp "$SIF" app.sif
	chmod a+x .. ../.. # bats makes its directories for one user
	as_user mkdir d
	local user=(setpriv --reuid "$VIAL_TEST_UID" --regid "$VIAL_TEST_UID" --clear-groups --)
	chown 0 d
	chmod 0777 d
	expect 0 "${user[@]}" "$VIAL" exec -o d:ro app.sif true
	[ ! -e d/.vial.lock ]
	expect 0 over d:ro true
	[ "$(stat -c %u d/.vial.lock)" -eq 0 ]
	rm d/.vial.lock
	"${user[@]}" touch d/.vial.lock
	expect 125 over d true
	one_fatal_line "its lock $PWD/d/.vial.lock belongs to uid $VIAL_TEST_UID"
}

@test "no inotify instances left: who reads is warned once, who writes is told the sysctl" {
	local none='echo 0 >/proc/sys/user/max_inotify_instances; exec "$VIAL" exec "$@"'
	mkdir -p a/upper d
	echo x >a/upper/x
	expect 0 unshare --user --map-root-user sh -c "$none" - -o a:ro "$SIF" cat /x
	stdout_is x
	[ "$(grep -c "max_user_instances" <<<"$stderr")" -eq 1 ] || complain "not one warning"
	expect 125 unshare --user --map-root-user sh -c "$none" - -o a:ro -o d "$SIF" true
	one_fatal_line "$PWD/d: this user has"
	stderr_has "sysctl -w fs.inotify.max_user_instances"
	nothing_left
}

@test "what is said of a holder cannot write to a terminal" {
	mkdir d
	over d true
	printf 'host \033[31mred\nuser %s\npid 99999999999999999999\nsince x\nprogram \007\n' "$(printf 'x%.0s' {1..5000})" >d/.vial.lock
	flock --help >/dev/null
	exec 7<>d/.vial.lock
	python3 -c 'import fcntl, struct; fcntl.fcntl(7, 37, struct.pack("hhqqixxxx", fcntl.F_WRLCK, 0, 0, 0, 0))'
	expect 125 over d true
	one_fatal_line "in use"
	[[ $stderr != *$'\033'* && $stderr != *$'\007'* ]]
}

# ---- the process that stays for an ext3 image -------------------------------------------------------------

@test "an ext3 image is whole and written when the command has ended" {
	local k # run has an i of its own
	ext3 e
	for k in 1 2 3; do
		expect 0 over e "seq $k 200000 >/f$k"
		cp --sparse=always e copy
		expect 0 e2fsck -fn copy
		expect 0 over copy:ro "wc -l </f$k"
		stdout_is $((200001 - k))
	done
}

@test "statuses and signals pass through the process that stays" {
	local n
	ext3 e
	for n in 0 1 42 255; do expect "$n" over e "exit $n"; done
	expect 143 over e 'kill -TERM $$'
	expect 137 over e 'kill -KILL $$'
	mkfifo hold.in
	"$VIAL" exec -o e "$SIF" sh -c 'trap "echo caught; exit 7" USR1; echo up; while :; do sleep 0.05; done' >out 3>&- &
	eventually grep -q up out
	kill -USR1 $!
	run wait $!
	n=0
	wait $! || n=$?
	[ "$n" -eq 7 ]
	grep -q caught out
	expect 127 over e 'exec nothing-of-that-name'
	expect 125 vial exec -o e -B /not/there:/x "$SIF" true
	one_fatal_line "/not/there"
	expect 0 over e true
}

@test "what a program leaves running keeps the overlay, and is not waited for" {
	ext3 e
	mkfifo go
	expect 0 vial exec -o e "$SIF" sh -c 'sh -c "read -r x <\$0; echo late >/late" "$1" >/dev/null 2>&1 & echo there' sh "$PWD/go"
	stdout_is there
	echo >go
	eventually over e:ro 'cat /late'
}

@test "one that has ended beside one that runs: the one that runs is not waited for" {
	ext3 e
	mkfifo go
	expect 0 timeout -s KILL 120 "$VIAL" exec -o e "$SIF" sh -c '
		sh -c "echo \$\$ >pid; read -r x <go" >/dev/null 2>&1 & true & exec sleep 1'
	kill -0 "$(cat pid)"
	echo >go
}

@test "who waits until an ext3 image is written can be told to end" {
	local n=0 stays user p
	ext3 e
	mkfifo in in2
	"$VIAL" exec -o e "$SIF" sh -c 'echo $$; read -r x' <in >out 3>&- &
	stays=$!
	exec 8>in
	eventually grep -q . out
	p=$(cat out)
	[ "$(readlink /proc/$$/ns/user)" = "$(readlink "/proc/$p/ns/user")" ] || user="--user --preserve-credentials"
	# one who came from outside: the overlay is in use, and by none whom the program left behind
	# shellcheck disable=SC2086 # words
	nsenter --target "$p" ${user:-} --mount sh -c 'echo there; read -r x' <in2 >there 3>&- 8>&- &
	exec 7>in2
	eventually grep -q there there
	exec 8>&-
	eventually [ ! -e "/proc/$p" ]
	kill -0 "$stays"
	told() { ! kill -TERM "$stays"; } 2>/dev/null # until it is gone: earlier ones are the program's
	eventually told
	wait "$stays" || n=$?
	[ "$n" -eq 143 ]
	exec 7>&-
	eventually over e true
}

@test "a full ext3 image is the program's to know, and no harm to it" {
	ext3 e
	expect 1 over e 'dd if=/dev/zero of=/big bs=1M count=100'
	stderr_has "No space left on device"
	expect 0 over e 'rm /big; echo fits >/small'
	expect 0 over e:ro 'cat /small'
	stdout_is fits
	expect 0 e2fsck -fn e
}

# ---- overlay create and --writable -------------------------------------------------------------------------

@test "overlay create makes a new image, and never over another file" {
	expect 0 vial overlay create --sparse --size 65 --create-dir /opt/a --create-dir ../../b new.img
	[ "$(stat -c '%s %a' new.img)" = "$((65 << 20)) 600" ]
	[ $(($(stat -c %b new.img) * 512)) -lt $((32 << 20)) ]
	expect 0 over new.img 'ls -d /opt/a /b'
	expect 0 over new.img 'echo x >/opt/a/x'
	expect 255 vial overlay create new.img
	one_fatal_line "new.img is there already"
	expect 1 vial overlay create --size 63 small.img
	[ ! -e small.img ]
	expect 0 env TMPDIR="$PWD" "$VIAL" overlay create full.img
	[ $(($(stat -c %b full.img) * 512)) -ge $((64 << 20)) ]
	[ -z "$(find . -name '*vial-overlay*' -o -name 'small*')" ]
}

@test "overlay create --fakeroot: an image that --fakeroot can change, with its directories" {
	expect 0 vial overlay create --fakeroot --sparse --create-dir /opt/a f.img
	local name
	for name in / /upper /work /upper/opt/a; do
		expect 0 debugfs -R "stat $name" f.img
		[[ $output =~ User:\ +0\ +Group:\ +0\  ]] || complain "$name is not root's"
	done
	if is_root; then return; fi # who maps all ids
	expect 0 vial exec --fakeroot --ignore-subuid --overlay f.img "$SIF" sh -c 'echo x >/x && echo y >/opt/a/y'
	expect 0 vial exec --fakeroot --ignore-subuid --overlay f.img:ro "$SIF" cat /x /opt/a/y
	stdout_is 'x
y'
}

@test "overlay create --fakeroot where no user namespace can be made says so" {
	need_user
	expect 255 "$HERE/deny.py" unshare=EPERM "$VIAL" overlay create --fakeroot --sparse f.img
	one_fatal_line "cannot start mke2fs: "
	stderr_has "unshare(CLONE_NEWUSER)"
	[ ! -e f.img ]
	expect 0 "$HERE/deny.py" unshare=EPERM "$VIAL" overlay create --sparse f.img
}

@test "a SIF gets an overlay: stacked unasked, changed with --writable" {
	cp "$SIF" app.sif
	expect 125 vial exec --writable app.sif true
	one_fatal_line "vial overlay create"
	expect 0 vial overlay create app.sif
	expect 0 vial sif list app.sif
	stdout_has "FS (Ext3/Overlay/"
	expect 255 vial overlay create app.sif
	one_fatal_line "has an overlay"
	expect 255 vial overlay create --sparse app.sif
	expect 2 vial exec app.sif sh -c 'echo x >/etc/x'
	stderr_has "Read-only file system"
	expect 0 vial exec --writable app.sif sh -c 'echo x >/etc/x; rm /etc/file'
	expect 0 vial exec app.sif sh -c 'cat /etc/x; ls /etc/file 2>/dev/null; true'
	stdout_is x
	expect 0 vial exec --writable-tmpfs app.sif sh -c 'echo y >/etc/x; cat /etc/x'
	stdout_is y
	mkdir d
	expect 0 vial exec -o d app.sif sh -c 'cat /etc/x; echo z >/etc/x'
	stdout_is x
	expect 0 vial exec app.sif cat /etc/x
	stdout_is x
	nothing_left
}

@test "an embedded squashfs overlay is stacked unasked" {
	mkdir -p over/etc
	echo overlaid >over/etc/file
	mksquashfs over over.sqfs -quiet -no-progress >/dev/null
	cp "$SIF" app.sif
	vial sif add --datatype 4 --parttype 4 --partfs 1 --partarch 2 --groupid 1 app.sif over.sqfs
	expect 0 vial exec app.sif cat /etc/file
	stdout_is overlaid
	expect 125 vial exec --writable app.sif true
	one_fatal_line "vial overlay create"
	# of a kind that nobody stacks
	cp "$SIF" raw.sif
	vial sif add --datatype 4 --parttype 4 --partfs 4 --partarch 2 --groupid 1 raw.sif over.sqfs
	expect 125 vial exec raw.sif true
	one_fatal_line "overlay"
}

@test "a signed SIF gets no overlay" {
	cp "$SIF" app.sif
	vial key newpair pair
	vial sign --key pair.pem app.sif
	cp app.sif before.sif
	expect 255 vial overlay create app.sif
	one_fatal_line "signed"
	expect 0 cmp before.sif app.sif
}
