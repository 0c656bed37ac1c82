# shellcheck disable=SC2030,SC2031,SC2034,SC2089,SC2090 # status, stderr and COMMAND are of common.bash
load common
load images
setup_file() { make_images; }

# One line that names the gate and the command that opens it.

@test "no user namespaces left: the sysctl is named" {
	command -v unshare >/dev/null
	# inside a namespace of our own the limit is ours to set
	expect 125 unshare --user --map-root-user sh -c 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$VIAL" exec "$1" true' - "$SIF"
	one_fatal_line "sysctl -w user.max_user_namespaces"
}

@test "no mount namespaces left: the sysctl is named" {
	expect 125 unshare --user --map-root-user sh -c 'echo 0 >/proc/sys/user/max_mnt_namespaces; exec "$VIAL" exec "$1" true' - "$SIF"
	one_fatal_line "sysctl -w user.max_mnt_namespaces"
}

@test "no /dev/fuse: the module is named; a directory image still runs" {
	local hide='mount -t tmpfs none /dev && : >/dev/null && exec "$VIAL" exec --no-mount dev "$1" true'
	expect 125 unshare --user --map-root-user --mount sh -c "$hide" - "$SIF"
	one_fatal_line "modprobe fuse"
	expect 0 unshare --user --map-root-user --mount sh -c "$hide" - "$TREE"
}

@test "/dev/fuse closed to the user: its mode is named" {
	touch closed
	chmod 000 closed
	# a device that cannot be opened, for root too: bound without device access
	expect 125 unshare --user --map-root-user --mount sh -c 'mount -t tmpfs none /mnt && touch /mnt/fuse && mount --bind -o nodev,nosuid /dev/fuse /mnt/fuse && mount -o remount,bind,nodev,nosuid /mnt/fuse && mount --bind /mnt/fuse /dev/fuse; exec "$VIAL" exec "$1" true' - "$SIF"
	one_fatal_line "chmod 0666 /dev/fuse"
}

@test "in a chroot: said so" {
	need_root
	mkdir -p jail
	copy_program jail "$VIAL"
	cp "$SIF" jail/test.sif
	mkdir -p jail/proc jail/dev
	expect 125 chroot jail "/bin/$(basename "$VIAL")" exec /test.sif true
	one_fatal_line "chroot"
}

# ---- each call of a start, refused once ------------------------------------------------------------------------

# sweep CALLS ERRNO MAX ARG...: starts in which the first, the second.. of these calls of each process fails. Whatever
# that is, the program runs or one line says why not. What was said is in `said`.
sweep() {
	local calls=$1 code=$2 max=$3 n
	shift 3
	for ((n = 1; n <= max; n++)); do
		run --separate-stderr strace -f -qq -o calls -e "trace=$calls" -e "inject=$calls:error=$code:when=$n" "$VIAL" "$@"
		COMMAND="with $calls $n failing: $*"
		grep -q INJECTED calls || return 0
		printf '%s\n' "$stderr" >>said
		[ "$status" -eq 0 ] && continue
		[ "$status" -eq 125 ] || complain "exit status is $status"
		stderr=$(grep -v '^WARNING:' <<<"$stderr") # of what was left out before
		one_fatal_line
	done
}
said() {
	local text
	for text; do grep -qF -- "$text" said || complain "nobody said '$text', but: $(sort -u said)"; done
}

ALONE=(--private-mount --pid --ipc --hostname x --network none --contain --writable-tmpfs --bind /usr:/opt/x)

@test "every call for namespaces and mounts that fails is named" {
	sweep unshare EPERM 6 exec "${ALONE[@]}" "$SIF" true
	sweep unshare EPERM 2 exec --private-mount "$SIF" true
	said "user namespaces are forbidden here: unshare(CLONE_NEWUSER) is refused" "unshare(CLONE_NEWNS) is refused" \
		"cannot make a namespace (ipc)" "cannot make a namespace (uts)" "cannot make a namespace (net)" "cannot make a pid namespace"
	sweep fsopen EPERM 6 exec "${ALONE[@]}" "$SIF" true
	said "cannot mount fuse:" "cannot mount tmpfs:" "cannot put a layer over the image" "cannot mount devpts" \
		"/dev/mqueue is left out"
	sweep move_mount EPERM 2 exec --private-mount "$SIF" true
	said "cannot mount on /:" "cannot mount on /dev:"
	sweep open_tree EPERM 1 exec --private-mount "$SIF" true
	said "cannot bind /dev"
	sweep mount_setattr EPERM 1 exec --private-mount "$SIF" true
	said "cannot restrict the mount of /dev"
	sweep mount EPERM 1 exec --private-mount "$SIF" true
	said "cannot separate the mounts from those of the host"
	sweep pivot_root EPERM 1 exec "$SIF" true
	sweep umount2 EPERM 1 exec "$SIF" true
	sweep fchdir EACCES 1 exec "$SIF" true
	sweep pivot_root,chroot EINVAL 1 exec "$SIF" true
	said "cannot make the image the root" "cannot let go of the host's root" "cannot enter the image"
}

@test "every call for processes, names and capabilities that fails is named" {
	sweep socketpair EMFILE 3 exec "${ALONE[@]}" "$SIF" true
	said "cannot make a socket pair"
	sweep clone,clone3,fork,vfork EAGAIN 6 exec "${ALONE[@]}" "$SIF" true
	said "cannot start the first process of a pid namespace" "cannot start the image server"
	sweep prctl EPERM 8 exec --private-mount "$SIF" true
	! is_root || said "cannot drop capability" # a user has none to drop
	sweep capset EPERM 2 exec --private-mount "$SIF" true
	said "cannot drop capabilities"
	sweep sethostname EPERM 1 exec --hostname x "$SIF" true
	said "cannot set the host name x"
	sweep ioctl EPERM 3 exec --network none "$SIF" true
	said "cannot bring up the loopback interface"
	sweep seccomp EPERM 1 exec --private-mount "$SIF" true
	said "cannot restrict the image server"
}

@test "every directory and file that cannot be made is named" {
	mkdir over
	sweep mkdirat EROFS 6 exec "${ALONE[@]}" "$SIF" true
	said "cannot prepare a writable layer" "cannot make a directory in memory" "cannot make /dev/pts" "cannot make /dev/shm"
	sweep symlinkat EROFS 3 exec "${ALONE[@]}" "$SIF" true
	said "cannot make /dev/fd" "cannot make /dev/stdin"
	sweep mkdirat EROFS 2 exec --private-mount --overlay over "$SIF" true
	said "over/upper: Read-only file system" "over/work: Read-only file system"
	sweep chdir EACCES 1 exec --cwd /etc "$SIF" true
	sweep chdir EACCES 2 exec --cwd /etc "$SIF" true
	said "cannot enter the working directory /etc"
}

@test "a shared mount that cannot be had is one's own" {
	sweep connect,bind EACCES 3 exec "$SIF" true
	sweep setns EPERM 2 exec "$SIF" true
	expect 0 vial exec "$SIF" true
}

@test "filters of system calls are named as what they are" {
	local call
	for call in fsopen fsconfig fsmount move_mount open_tree mount_setattr pivot_root mount umount2 unshare:0x10000000 unshare:0x20000; do
		expect 125 "$HERE/deny.py" "$call=EPERM" "$VIAL" exec --private-mount "$SIF" true
		one_fatal_line "seccomp filter"
	done
	expect 125 "$HERE/deny.py" fsopen=ENOSYS "$VIAL" exec --private-mount "$SIF" true
	one_fatal_line "mount interface of Linux 5.12"
}

@test "descriptors and memory for files run out: one line" {
	local n
	for n in 4 5 6 7 8 10 12 16; do
		run --separate-stderr sh -c 'ulimit -n "$1"; exec "$VIAL" exec --private-mount "$2" true' - "$n" "$SIF"
		COMMAND="ulimit -n $n"
		[ "$status" -eq 0 ] && continue
		[[ $stderr != *"shared libraries"* ]] || continue # not even loaded
		[ "$status" -eq 125 ] || [ "$status" -eq 255 ] || complain "exit status is $status"
		stderr=$(grep -v '^WARNING:' <<<"$stderr")
		one_fatal_line
	done
	run --separate-stderr sh -c 'ulimit -n 20; exec "$VIAL" exec --private-mount --bind "$2" "$1" true' - "$SIF" "$(printf '/usr:/mnt/%d,' {1..19})/usr"
	[ "$status" -eq 125 ]
	stderr=$(grep -v '^WARNING:' <<<"$stderr")
	one_fatal_line "the limit of 20 (ulimit -n)"
	# what is written for the container, where no file may be; a pipe, since what bats listens with is one
	run sh -c '{ (ulimit -f 0; exec "$VIAL" exec --hostname elsewhere "$1" true); echo "status $?"; } 2>&1 | cat' - "$SIF"
	[[ $output == *"limit on the size of files (ulimit -f)"*"status 125" ]] || complain "$output"
	[ "$(wc -l <<<"$output")" -eq 2 ]
}

@test "words that cannot be understood are named" {
	local words
	for words in "--bind /usr:rel|the destination 'rel' must be an absolute path" \
		"--mount type=bind,src=/usr,dst=/mnt,bad=1|unknown field 'bad=1'" \
		"--mount type=bind,src=/usr|dst=PATH with an absolute path is missing" \
		"--mount type=bind,dst=/mnt|src=PATH is missing" \
		"--add-caps nonsense|is no capability that this kernel knows"; do
		# shellcheck disable=SC2086 # an option and its value
		expect 125 vial exec ${words%%|*} "$SIF" true
		one_fatal_line "${words#*|}"
	done
	expect 1 vial exec --app none "$SIF" true
	one_fatal_line "has no app 'none'"
	expect 126 vial exec "$SIF" /etc/file
	one_fatal_line "not executable in the container"
}

@test "images that are none are named" {
	printf 'hsqs' >short.sqfs
	expect 125 vial exec --private-mount short.sqfs true
	one_fatal_line "too short for a squashfs: 4 bytes"
	{ printf 'hsqs' && head -c 200 /dev/zero; } >old.sqfs
	expect 125 vial exec --private-mount old.sqfs true
	one_fatal_line "squashfs version 0.0; only 4.0 is supported"
}

@test "profiles of system calls that are wrong are named" {
	local rule
	for rule in '{"syscalls":[]}|an action is missing' \
		'{"defaultAction":"SCMP_ACT_ALLOW","syscalls":{}}|syscalls is no list' \
		'{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","args":{}}]}|args is no list' \
		'{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":99999}]}|is no error number'; do
		printf '%s' "${rule%%|*}" >p.json
		expect 125 vial exec --security seccomp:p.json "$SIF" true
		one_fatal_line "${rule#*|}"
	done
}
