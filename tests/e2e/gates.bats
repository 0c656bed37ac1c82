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
