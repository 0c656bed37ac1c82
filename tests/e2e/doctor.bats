load common
load images
setup_file() { make_images; }

# What is provoked: each cause must be named, with what mends it, and the exit status must tell.

deny() { "$HERE/deny.py" "$@"; }
# in_space TEXT: a shell in a user and a mount namespace, where files of the host can be covered
in_space() { unshare --user --map-root-user --mount sh -c "$1; exec \"\$VIAL\" doctor" -; }
problem() { grep -qE "^PROBLEM +$1" <<<"$output" || complain "no problem with $1"; }
note() { grep -qE "^note +$1" <<<"$output" || complain "no note about $1"; }
ok() { grep -qE "^ok +$1" <<<"$output" || complain "no ok for $1"; }

@test "here containers can run, and nothing is left" {
	export XDG_CACHE_HOME=$PWD/cache TMPDIR=$PWD/tmp
	mkdir tmp
	expect 0 vial doctor "$SIF"
	local what
	for what in kernel "user namespace" "mount namespace" /dev/fuse "image server" "mount of the image" "overlay in memory" \
		"runtime directory" "image: $SIF"; do
		ok "$what"
	done
	stdout_lacks PROBLEM
	stdout_has "containers can run here"
	[ ! -e cache ]
	[ -z "$(find tmp "$HOME" -mindepth 1)" ] || complain "something was left"
	expect 0 vial doctor "$TREE"
	expect 0 vial doctor "$SQUASHFS"
}

@test "as JSON" {
	expect 0 vial doctor --json "$SIF"
	python3 -c 'import json, sys
d = json.load(sys.stdin)
assert d["works"] is True
assert all(c["state"] in ("ok", "note") and c["check"] for c in d["checks"])
assert all(c.get("mend") for c in d["checks"] if c["state"] == "note" and c["check"] == "Slurm")' <<<"$output"
	expect 1 deny fsopen=ENOSYS "$VIAL" doctor --json
	python3 -c 'import json, sys
d = json.load(sys.stdin)
assert d["works"] is False
assert [c["check"] for c in d["checks"] if c["state"] == "problem"][0] == "mount namespace"' <<<"$output"
}

@test "user namespaces: used up, by the sysctl" {
	expect 1 in_space 'echo 0 >/proc/sys/user/max_user_namespaces'
	problem "user namespace.*user.max_user_namespaces is 0"
	stdout_has "-> as root: sysctl -w user.max_user_namespaces=65536"
	stdout_has "containers cannot run here"
}

@test "user namespaces: the sysctl of some distributions, and AppArmor's" {
	local gate
	for gate in unprivileged_userns_clone=0 apparmor_restrict_unprivileged_userns=1; do
		# these files do not exist everywhere: a directory of our own shows them
		expect 1 unshare --user --map-root-user --mount sh -c '
			mount -t tmpfs none /proc/sys/kernel && echo "$2" >"/proc/sys/kernel/$1" &&
			exec "$3" unshare:0x10000000=EPERM "$VIAL" doctor' - "${gate%=*}" "${gate#*=}" "$HERE/deny.py"
		problem "user namespace.*kernel.${gate%=*} is ${gate#*=}"
		stdout_has "-> as root: sysctl -w kernel.${gate%=*}="
	done
}

@test "user namespaces: nested too deep, or the limit of the host" {
	expect 1 deny unshare:0x10000000=ENOSPC "$VIAL" doctor
	problem "user namespace.*nesting depth of 32"
}

@test "user namespaces: a filter of system calls" {
	local code
	for code in EPERM ENOSYS; do
		expect 1 deny unshare:0x10000000=$code "$VIAL" doctor
		problem "user namespace.*a seccomp filter .* refuses unshare.CLONE_NEWUSER."
		stdout_has "seccomp=unconfined"
		stdout_lacks "image server"
	done
}

@test "mount namespaces: used up, filtered" {
	expect 1 in_space 'echo 0 >/proc/sys/user/max_mnt_namespaces'
	problem ".* namespace.*max_mnt_namespaces"
	stdout_has "sysctl -w user.max_mnt_namespaces=65536"
	expect 1 deny unshare:0x20000=EPERM "$VIAL" doctor
	problem "mount namespace.*a seccomp filter .* refuses unshare.CLONE_NEWNS."
	ok "user namespace"
}

@test "mounts: a kernel without the interface, a filter that forbids it" {
	expect 1 deny fsopen=ENOSYS "$VIAL" doctor
	problem "mount namespace.*mount interface of Linux 5.12"
	local call
	for call in fsopen fsconfig fsmount move_mount; do
		expect 1 deny $call=EPERM "$VIAL" doctor
		problem "mount namespace.*seccomp filter"
	done
}

@test "/dev/fuse: missing, closed, no device" {
	expect 1 in_space 'mount -t tmpfs none /dev && : >/dev/null'
	problem "/dev/fuse.*missing"
	stdout_has "-> as root: modprobe fuse"
	ok "mount namespace"
	expect 1 in_space 'mount -t tmpfs none /mnt && touch /mnt/fuse && mount --bind -o nodev,nosuid /dev/fuse /mnt/fuse && mount -o remount,bind,nodev,nosuid /mnt/fuse && mount --bind /mnt/fuse /dev/fuse'
	problem "/dev/fuse.*may not be opened"
	stdout_has "-> as root: chmod 0666 /dev/fuse"
	# directories run nevertheless
	expect 0 unshare --user --map-root-user --mount sh -c 'mount -t tmpfs none /dev && : >/dev/null && exec "$VIAL" doctor "$1"' - "$TREE"
	note /dev/fuse
}

@test "image server: it cannot jail itself" {
	expect 1 deny seccomp=EPERM "$VIAL" doctor
	problem "image server.*cannot restrict the image server"
	expect 1 deny capset=EPERM "$VIAL" doctor
	problem ".*cannot drop capabilities"
}

@test "the image: missing, damaged, no image" {
	expect 1 vial doctor missing.sif
	problem "image.*missing.sif"
	head -c 5000 "$SQUASHFS" >cut.sqfs
	expect 1 vial doctor cut.sqfs
	problem "mount of the image.*cut short"
	echo text >text
	expect 1 vial doctor text
	problem "image.*neither a SIF nor a squashfs"
}

@test "directories: read-only, full, none" {
	need_user
	mkdir -m 500 closed
	VIAL_CACHEDIR=$PWD/closed/cache expect 0 vial doctor
	note "image cache.*closed.*denied"
	stdout_has "-> export VIAL_CACHEDIR="
	TMPDIR=$PWD/closed expect 0 vial doctor
	note "temporary directory.*closed"
	stdout_has "-> export TMPDIR="
	expect 0 env -u HOME -u XDG_CACHE_HOME "$VIAL" doctor
	note "image cache.*no home directory"
}

@test "directories: a small file system" {
	expect 0 unshare --user --map-root-user --mount sh -c 'mount -t tmpfs -o size=1m none /mnt && VIAL_CACHEDIR=/mnt/c exec "$VIAL" doctor' -
	note "image cache.*tmpfs.*little for an image"
}

@test "runtime directory: somebody else's" {
	expect 0 unshare --user --map-root-user --mount sh -c '
		mount -t tmpfs none /mnt && cp "$VIAL" /mnt/vial
		for d in /dev/shm /tmp; do mount -t tmpfs none $d && mkdir -m 777 "$d/vial-0"; done
		mount -t tmpfs none /run
		unset XDG_RUNTIME_DIR; cd / && exec /mnt/vial doctor' -
	note "runtime directory.*open to others.*each start mounts its image for itself"
}

@test "helpers: those that are missing are named with their package" {
	mkdir bin
	expect 0 unshare --user --map-root-user --mount sh -c '
		cp "$VIAL" bin/vial
		mount -t tmpfs none /usr/sbin; mount -t tmpfs none /usr/bin; PATH=/nowhere exec bin/vial doctor' -
	note "fuse2fs"
	note "fuse-overlayfs"
	note "pasta"
	note "fusermount3"
	stdout_has "install the package passt"
}

@test "limits: no cgroup to make" {
	expect 0 unshare --user --map-root-user --mount sh -c 'mount -t tmpfs none /sys/fs/cgroup; exec "$VIAL" doctor' -
	note "limits.*no unified hierarchy|note +limits.*not delegated"
}

@test "GPUs: seen, and closed" {
	expect 0 unshare --user --map-root-user --mount sh -c '
		mount -t tmpfs none /mnt; mkdir /mnt/dev; mount --rbind /dev /mnt/dev; mount -t tmpfs none /dev
		for f in null zero fuse urandom; do touch /dev/$f; mount --bind /mnt/dev/$f /dev/$f; done
		touch /dev/nvidia0 /dev/nvidiactl; exec "$VIAL" doctor' -
	ok "/dev/nvidia0.*can be used"
	ok /dev/nvidiactl
}

@test "a registry: one that answers, one that does not" {
	python3 -c 'import socket, sys
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(); print(s.getsockname()[1], flush=True)
s.accept()' >port &
	local server=$!
	eventually test -s port
	expect 0 vial doctor --registry "127.0.0.1:$(cat port)"
	ok "registry 127.0.0.1.*takes connections"
	wait "$server"
	expect 0 env -u https_proxy -u HTTPS_PROXY "$VIAL" doctor --registry "127.0.0.1:$(cat port)"
	note "registry 127.0.0.1.*refused"
	# a name and a password of a proxy are nobody's business
	expect 0 env https_proxy=http://me:geheim@proxy "$VIAL" doctor --registry "127.0.0.1:$(cat port)"
	stdout_lacks geheim
}

@test "Slurm: srun loads the plugin, or says why not; it has to be required" {
	mkdir -p bin conf/plugstack.conf.d
	export SLURM_CONF=$PWD/conf/slurm.conf
	srun() { printf '#!/bin/sh\n%s\n' "$1" >bin/srun && chmod 755 bin/srun; }
	srun 'echo "      --box-image=IMAGE run inside this image"'
	PATH=$PWD/bin:$PATH expect 0 vial doctor
	stdout_has "ok       Slurm: srun has the options of vial's plugin"
	echo 'optional   /usr/lib/slurm/spank_vial.so timeout=60' >conf/plugstack.conf.d/vial.conf
	PATH=$PWD/bin:$PATH expect 0 vial doctor
	stdout_has 'note     Slurm: its plugstack.conf has the plugin of vial as optional'
	stdout_has 'write `required` in the place of `optional`'
	printf '#optional spank_vial.so\noptional other.so spank_vial.so\n\trequired\tspank_vial.so # of vial\n' >conf/plugstack.conf.d/vial.conf
	PATH=$PWD/bin:$PATH expect 0 vial doctor
	stdout_has "ok       Slurm: srun has the options of vial's plugin"
	srun 'echo "Usage: srun"'
	PATH=$PWD/bin:$PATH expect 0 vial doctor
	stdout_has "note     Slurm: srun does not have the options of vial's plugin"
	stdout_has 'add the line `required /DIR/spank_vial.so` to plugstack.conf'
	srun 'echo "srun: error: spank: Incompatible plugin version" >&2; exit 1'
	PATH=$PWD/bin:$PATH expect 0 vial doctor
	stdout_has "plugin: spank: Incompatible plugin version"
}
