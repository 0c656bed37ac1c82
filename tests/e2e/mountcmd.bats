# vial mount and vial umount: an image among the host's files, and nothing of it afterwards.
load common
load images
setup_file() { make_images; }

setup() {
	common_setup
	export MARK=$BATS_FILE_TMPDIR/$BATS_TEST_NAME
	mkdir dir
}

teardown() {
	# what a failed test leaves would outlive its directory
	mounted_here | while IFS= read -r where; do
		fusermount3 -u -z -- "$where" 2>/dev/null || umount -l -- "$where" 2>/dev/null || true
	done
	common_teardown
}

mounted_here() { awk -v d="$PWD/" 'index($5, d) == 1 { print $5 }' /proc/self/mountinfo | while IFS= read -r w; do printf '%b\n' "$w"; done; }
server() { pgrep -x vial-fuse | while read -r p; do
	if tr '\0' '\n' 2>/dev/null <"/proc/$p/environ" | grep -qx "MARK=$MARK"; then echo "$p"; fi
done 2>/dev/null; }
no_server() { [ -z "$(server)" ]; }
nothing_left() {
	python3 -B "$HERE/leftovers.py" "MARK=$MARK" "$SIF" "$SQUASHFS"
	[ -z "$(mounted_here)" ]
}
is_mounted() { mountpoint -q "$1"; }
not_mounted() { ! mountpoint -q "$1"; }

@test "a SIF and a bare squashfs show what is in them, read-only, until unmounted" {
	local image
	for image in "$SIF" "$SQUASHFS"; do
		expect 0 vial mount "$image" dir
		stdout_is ''
		stderr_is ''
		[ "$(cat dir/etc/file)" = 'in the image' ]
		[ "$(readlink dir/linked)" = usr/bin ]
		expect 1 touch dir/etc/file
		expect 1 mkdir dir/new
		dir/bin/true
		expect 0 vial umount dir
		stderr_is ''
		[ -z "$(ls -A dir)" ]
		nothing_left
	done
}

@test "all of the image is there, for tools that know nothing of images" {
	expect 0 vial mount "$SIF" dir
	# what conversion adds lies in the image only
	(cd "$TREE" && find . -type f -not -path './.singularity.d/*' -print0 | sort -z | xargs -0 sha256sum) >want
	(cd dir && sha256sum --quiet -c ../want)
	tar -C dir -cf - etc | tar -tf - | grep -qx etc/file
	expect 0 vial umount dir
	nothing_left
}

@test "the kernel is told: read-only, no set-user-id, no devices, whose it is, and of what" {
	expect 0 vial mount "$SIF" dir
	run awk -v d="$PWD/dir" '$5 == d' /proc/self/mountinfo
	[[ $output == *" ro,nosuid,nodev"* ]]
	[[ $output == *" - fuse.vial $SIF ro,user_id=$(id -u),group_id=$(id -g),default_permissions"* ]]
	[[ $output != *allow_other* ]]
	[[ $output != *noexec* ]]
	expect 0 vial umount dir
	expect 0 vial mount -o noexec,ro "$SIF" dir
	run -126 dir/bin/true
	expect 0 vial umount dir
	nothing_left
}

@test "no other user sees it, unless asked for" {
	need_root
	chmod 755 .
	copy=$(mktemp -d /tmp/vial-mountcmd.XXXXXX) # a place where the other user may look
	chmod 755 "$copy"
	local other=(setpriv --reuid "$VIAL_TEST_UID" --regid "$VIAL_TEST_UID" --clear-groups cat "$copy/etc/file")
	expect 0 vial mount "$SIF" "$copy"
	run "${other[@]}"
	[ "$status" -ne 0 ]
	expect 0 vial umount "$copy"
	expect 0 vial mount -o allow_other "$SIF" "$copy"
	run "${other[@]}"
	local got=$output
	expect 0 vial umount "$copy"
	rmdir "$copy"
	[ "$got" = 'in the image' ]
	nothing_left
}

@test "names with blanks, commas, backslashes and newlines; links and relative paths" {
	local name=$'a b,c\\d\\040\n-e'
	mkdir -- "$name" inner
	ln -s "$name" link
	cp "$SIF" $'im,age \\ \n.sif'
	expect 0 vial mount $'im,age \\ \n.sif' "$name"
	[ "$(cat "$name/etc/file")" = 'in the image' ]
	expect 0 vial mount --json
	python3 - "$output" "$PWD/$name" "$PWD/"$'im,age \\ \n.sif' <<-'EOT'
		import json, sys
		assert any(m["directory"] == sys.argv[2] and m["image"] == sys.argv[3] for m in json.loads(sys.argv[1])), sys.argv
	EOT
	expect 0 vial umount "./inner/../$name/"
	not_mounted "$name"
	expect 0 vial mount "$SIF" link
	is_mounted "$name"
	expect 0 vial umount link
	(cd inner && expect 0 vial mount "$SIF" ../dir && expect 0 vial umount ../dir)
	(cd dir && expect 0 vial mount "$SIF" . && cd .. && expect 0 vial umount dir)
	nothing_left
}

@test "the list has the caller's own mounts, and those of containers are not among them" {
	mkdir other
	mine() { "$VIAL" mount | grep -F "$PWD/" || true; }
	[ -z "$(mine)" ]
	expect 0 vial mount "$SIF" dir
	stdout_is ''
	expect 0 vial mount --json "$SQUASHFS" other
	python3 -c 'import json, sys; m = json.loads(sys.argv[1]); assert m == {"image": sys.argv[2], "directory": sys.argv[3], "allow_other": False}, m' \
		"$output" "$SQUASHFS" "$PWD/other"
	[ "$(mine)" = "$SIF on $PWD/dir
$SQUASHFS on $PWD/other" ]
	# a container's root is an image too, and not a mount of `vial mount`
	local bind
	bind=$(dirname "$(realpath "$VIAL")")
	expect 0 vial exec -B "$bind" -B /usr -B /lib -B /lib64 "$SIF" "$VIAL" mount
	stdout_lacks ' on /
'
	expect 0 vial umount dir other
	[ -z "$(mine)" ]
	nothing_left
}

@test "the server holds nothing of the caller's: neither descriptors, nor directory, nor mounts" {
	mkfifo pipe
	exec 7<>pipe
	expect 0 vial mount "$SIF" dir
	local p
	p=$(server)
	[ -n "$p" ]
	run ! grep -vxE "|/dev/null|/dev/fuse|/proc/$p/statm|$SIF" <(find "/proc/$p/fd" -printf '%l\n')
	[ "$(readlink "/proc/$p/ns/mnt")" != "$(readlink /proc/self/ns/mnt)" ]
	[ "$(grep -c . "/proc/$p/mountinfo")" -le 1 ]
	[ "$(awk '{ print $7 }' "/proc/$p/stat")" = 0 ] # no terminal
	exec 7>&-
	expect 0 vial umount dir
	nothing_left
	# whoever reads our output to its end is not kept waiting
	[ "$("$VIAL" mount "$SIF" dir | cat)" = '' ]
	expect 0 vial umount dir
	nothing_left
}

@test "mounts of a namespace that ends end with it" {
	expect 0 unshare -rm sh -c '"$0" mount "$1" dir && cat dir/etc/file' "$VIAL" "$SIF"
	stdout_is 'in the image'
	nothing_left
	is_root || return 0
	expect 0 unshare -m sh -c '"$0" mount "$1" dir && cat dir/etc/file' "$VIAL" "$SIF"
	stdout_is 'in the image'
	nothing_left
}

@test "in use: umount says by whom, and with --lazy it goes with its last user" {
	expect 0 vial mount "$SIF" dir
	mkfifo go
	(cd dir && exec sh -c 'read x; cat etc/file' <../go >../out) 3>&- &
	local user=$!
	exec 9>go
	in_use() { [ "$(readlink "/proc/$user/cwd")" = "$PWD/dir" ]; }
	eventually in_use
	expect 255 vial umount dir
	one_fatal_line "$PWD/dir is in use by $user (sh)"
	stderr_has "vial umount --lazy"
	expect 0 vial umount -l dir
	not_mounted dir
	expect 255 vial umount dir
	one_fatal_line 'is not mounted'
	[ -n "$(server)" ]
	echo >&9
	exec 9>&-
	wait "$user"
	grep -qx 'in the image' out
	nothing_left
}

@test "who has a file open or mapped is named too, three of them" {
	expect 0 vial mount "$SIF" dir
	mkfifo go
	exec 9<>go
	local i pids=()
	for i in 1 2 3 4; do
		dir/bin/sleep 100 3>&- 9>&- &
		pids+=($!)
	done
	local p
	mapped() { for p in "${pids[@]}"; do grep -q "$PWD/dir/" "/proc/$p/maps" || return 1; done; }
	eventually mapped
	expect 255 vial umount dir
	kill "${pids[@]}"
	one_fatal_line '(sleep), '
	stderr_has ' and 1 more'
	wait "${pids[@]}" || true
	exec 5<dir/etc/file 9>&-
	expect 255 vial umount dir
	one_fatal_line "$$ (bash)"
	exec 5<&-
	expect 0 vial umount dir
	nothing_left
}

@test "a server that was killed: umount and a new mount work" {
	expect 0 vial mount "$SIF" dir
	kill -9 "$(server)"
	eventually no_server
	expect 1 cat dir/etc/file
	expect 255 vial mount "$SIF" dir
	one_fatal_line 'vial umount'
	expect 0 vial mount
	stdout_has "$PWD/dir"
	expect 0 vial umount dir
	nothing_left
	expect 0 vial mount "$SIF" dir
	[ "$(cat dir/etc/file)" = 'in the image' ]
	kill -9 "$(server)"
	expect 0 vial umount --lazy ./dir/
	nothing_left
}

@test "umount refuses what is not mounted, not vial's or not there" {
	expect 255 vial umount dir
	one_fatal_line "$PWD/dir is not mounted"
	expect 255 vial umount /proc
	one_fatal_line '/proc is a mount of proc'
	expect 255 vial umount nowhere
	one_fatal_line nowhere
	expect 1 vial umount
	expect 1 vial umount --all dir
	nothing_left
}

@test "umount --all takes the caller's, whatever lies above what" {
	mkdir other
	expect 0 vial mount "$SIF" dir
	expect 0 vial mount "$SQUASHFS" other
	expect 0 unshare -rm sh -c '"$0" mount "$1" dir/etc/dir && "$0" umount --all && "$0" mount' "$VIAL" "$SIF"
	expect 0 vial umount dir other
	nothing_left
}

@test "another user's mount stays" {
	need_root
	local open
	open=$(mktemp -d /tmp/vial-mountcmd.XXXXXX) # where the other user may look
	chmod 755 "$open"
	cp "$VIAL" "$SIF" "$open"
	install -d -o "$VIAL_TEST_UID" "$open/theirs"
	expect 0 setpriv --reuid "$VIAL_TEST_UID" --regid "$VIAL_TEST_UID" --clear-groups \
		env -C "$open" HOME=/ ./vial mount test.sif theirs
	grep -qF " $open/theirs " /proc/self/mountinfo
	expect 0 vial mount
	stdout_lacks theirs
	expect 0 vial umount --all
	grep -qF " $open/theirs " /proc/self/mountinfo
	# root may, when it says which
	expect 0 vial umount "$open/theirs"
	python3 -B "$HERE/leftovers.py" "MARK=$MARK" "$open/test.sif"
	rm -r "$open"
	nothing_left
}

@test "what cannot be mounted is refused with the next step, and nothing is left" {
	expect 255 vial mount "$SIF" nowhere
	one_fatal_line 'mkdir nowhere'
	expect 255 vial mount "$SIF" "$SQUASHFS"
	one_fatal_line 'not a directory'
	expect 255 vial mount "$TREE" dir
	one_fatal_line 'is a directory already'
	expect 255 vial mount nothing.sif dir
	one_fatal_line nothing.sif
	expect 255 vial mount -o rw "$SIF" dir
	one_fatal_line '-o rw'
	expect 255 vial mount -o sync "$SIF" dir
	one_fatal_line '-o sync is not known'
	head -c 8192 "$SQUASHFS" >cut.sqfs
	expect 255 vial mount cut.sqfs dir
	one_fatal_line cut.sqfs
	expect 0 vial mount "$SIF" dir
	expect 255 vial mount "$SIF" dir
	one_fatal_line 'mounted already'
	expect 0 vial umount dir
	expect 1 vial mount "$SIF"
	expect 1 vial mount "$SIF" dir true
	expect 1 vial mount "$SIF" dir --
	nothing_left
}

@test "a plain user: without fusermount3 the error names it, and the way that needs none" {
	need_user
	expect 255 env PATH=/nonexistent "$VIAL" mount "$SIF" dir
	one_fatal_line 'fusermount3 is not installed (package fuse3)'
	stderr_has "-- COMMAND"
	expect 255 vial mount "$SIF" /etc
	one_fatal_line '/etc is not a directory of yours'
	nothing_left
	expect 0 vial -v mount "$SIF" dir
	stderr_has fusermount3
	expect 0 vial umount dir
	if ! grep -qx user_allow_other /etc/fuse.conf; then
		expect 255 vial mount -o allow_other "$SIF" dir
		one_fatal_line user_allow_other
		stderr_has "-- COMMAND"
	fi
	nothing_left
}

@test "a command sees it alone, with the host's files and its own status" {
	echo ours >file
	# shellcheck disable=SC2016 # expanded inside
	expect 42 vial mount "$SIF" dir -- sh -c 'cat dir/etc/file file; id -u; pwd; exit 42'
	stdout_is "in the image
ours
$(id -u)
$PWD"
	not_mounted dir
	# shellcheck disable=SC2034 # complain's
	COMMAND='vial mount -- /no/such/program'
	run -127 --separate-stderr "$VIAL" mount "$SIF" dir -- /no/such/program
	one_fatal_line /no/such/program
	expect 0 vial mount "$SIF" dir -- grep -c fuse.vial /proc/self/mountinfo
	(cd dir && expect 0 vial mount "$SIF" . -- cat etc/file && stdout_is 'in the image')
	expect 0 vial mount "$SIF" /mnt -- cat /mnt/etc/file
	stdout_is 'in the image'
	mkfifo go
	vial mount "$SIF" dir -- sh -c 'kill -TERM $$; exit 3' 3>&- &
	local status=0
	wait $! || status=$?
	[ "$status" -eq 143 ]
	nothing_left
}

@test "a plain user: a path with the word busy in it is not the reason" {
	need_user
	mkdir busy bin
	printf '#!/bin/sh\necho "fusermount3: failed to unmount %s/busy: Invalid argument" >&2\nexit 1\n' "$PWD" >bin/fusermount3
	chmod +x bin/fusermount3
	expect 0 vial mount "$SIF" busy
	expect 255 env PATH="$PWD/bin:$PATH" "$VIAL" umount busy
	one_fatal_line "/busy: Invalid argument"
	stderr_lacks "in use"
	expect 0 vial umount busy
}

@test "a command works without fusermount3, and its mount goes when it is killed" {
	mkfifo go
	exec 9<>go
	local cat
	cat=$(type -P cat)
	PATH=/nonexistent "$VIAL" mount "$SIF" dir -- "$cat" dir/etc/file go >out 2>err <&9 3>&- 9>&- &
	local pid=$!
	eventually grep -qx 'in the image' out || { cat err && false; }
	not_mounted dir
	kill -9 $pid
	wait $pid || true
	exec 9>&-
	nothing_left
}

@test "--foreground stays until a signal, and then unmounts" {
	local sig status
	for sig in INT TERM HUP; do
		"$VIAL" mount -f "$SIF" dir >out 2>err 3>&- &
		local pid=$!
		eventually is_mounted dir || { cat err && false; }
		[ "$(cat dir/etc/file)" = 'in the image' ]
		kill "-$sig" $pid
		status=0
		wait $pid || status=$?
		[ "$status" -eq 0 ] || { cat err && false; }
		not_mounted dir
		[ ! -s err ]
	done
	nothing_left
}

@test "--foreground ends when somebody else unmounts, and cleans up when the server dies" {
	"$VIAL" mount --foreground "$SIF" dir 2>err 3>&- &
	local pid=$!
	eventually is_mounted dir
	[ "$(cat dir/etc/file)" = 'in the image' ]
	expect 0 vial umount dir
	wait $pid
	[ ! -s err ]
	"$VIAL" mount --foreground "$SIF" dir 2>err 3>&- &
	pid=$!
	eventually is_mounted dir
	[ "$(cat dir/etc/file)" = 'in the image' ]
	kill -9 "$(server)"
	wait $pid
	not_mounted dir
	nothing_left
}

@test "--foreground of a mount in use goes lazily and says so" {
	"$VIAL" mount -f "$SIF" dir 2>err 3>&- &
	local pid=$!
	eventually is_mounted dir
	exec 5<dir/etc/file
	kill -TERM $pid
	wait $pid
	not_mounted dir
	grep -q 'WARNING: .*is in use by' err
	grep -qx 'in the image' <&5
	exec 5<&-
	nothing_left
}

@test "fifty mounts and umounts in a row leave nothing" {
	local i
	for ((i = 0; i < 50; i++)); do
		"$VIAL" mount "$SIF" dir
		[ -e dir/etc/file ]
		"$VIAL" umount dir
	done
	nothing_left
}

@test "kill -9 of vial mount at any moment leaves a mount or none, and umount leaves nothing" {
	local i
	helper_gone() {
		local p
		# in the order in which a process is one and then the other
		for p in $(pgrep -x vial -U "$(id -u)"); do
			! tr '\0' '\n' 2>/dev/null <"/proc/$p/environ" | grep -qx "MARK=$MARK" || return 1
		done
		# whose it is says its real id; its environment cannot be read
		! pgrep -x fusermount3 -U "$(id -u)" >/dev/null
	}
	mkfifo go
	exec 9<>go
	for ((i = 0; i < 40; i++)); do
		"$VIAL" mount "$SIF" dir >/dev/null 2>&1 3>&- 9>&- &
		[ $((i % 5)) -eq 0 ] || read -rt "0.0$((i % 10))$i" <&9 || true
		kill -9 $! 2>/dev/null || true
		wait $! 2>/dev/null || true
		# the helper may be at it still, also before it is fusermount3
		eventually helper_gone
		"$VIAL" umount --all --lazy
	done
	exec 9>&-
	"$VIAL" umount --all --lazy
	nothing_left
	expect 0 vial mount "$SIF" dir
	[ "$(cat dir/etc/file)" = 'in the image' ]
	expect 0 vial umount dir
	nothing_left
}

@test "--stats adds a line when the mount ends" {
	expect 0 vial mount --stats line "$SIF" dir
	[ ! -s line ]
	cat dir/etc/file >/dev/null
	local p
	p=$(server)
	expect 0 vial umount dir
	eventually test -s line
	python3 - "$SIF" "$p" <<-'EOT'
		import json, sys
		(line,) = open("line").read().splitlines()
		j = json.loads(line)
		assert j["image"] == sys.argv[1] and j["pid"] == int(sys.argv[2]) and j["until"] >= j["since"], j
		assert {"reads": 1, "bytes": 13, "path": "/etc/file"} in j["stats"]["files"], j
	EOT
	expect 0 vial mount --stats line "$SIF" dir -- cat dir/etc/file
	two_lines() { [ "$(grep -c . line)" -eq 2 ]; }
	eventually two_lines
	expect 255 vial mount --stats no/such/dir "$SIF" dir
	one_fatal_line '--stats: cannot open no/such/dir'
	nothing_left
}
