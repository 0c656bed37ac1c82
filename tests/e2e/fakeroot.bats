load common
load images

setup_file() {
	make_images
	copy_program "$TREE" chown chmod chgrp mknod mkfifo setpriv ln mv tar
	chmod -R go+rX "$TREE"
	make_sif "$SIF" "$TREE"
}

# as_root ARG...: root in a container, in the way of $how
as_root() { vial exec --fakeroot ${how:+"$how"} "$@"; }
ways() { # the user's subordinate ids where he has any, then none
	is_root || ! grep -q "^$(id -un):" /etc/subuid || echo
	echo --ignore-subuid
}
need_subids() {
	need_user
	if ! grep -q "^$(id -un):" /etc/subuid || ! grep -q "^$(id -un):" /etc/subgid; then skip "needs subordinate ids"; fi
}

@test "root inside: ids, name, home" {
	for how in $(ways) ''; do
		expect 0 as_root "$SIF" sh -c 'id -u; id -g; id -un; echo $HOME; sed -n s/^root:x:0:0:.*/entry/p /etc/passwd'
		stdout_is $'0\n0\nroot\n/root\nentry'
		stderr_is ""
	done
}

@test "the home directory is mounted at /root; --home decides otherwise" {
	need_user
	local home
	home=$(getent passwd "$(id -u)" | cut -d: -f6)
	touch "$home/mark.$$"
	expect 0 as_root "$SIF" ls "/root/mark.$$"
	rm "$home/mark.$$"
	mkdir mine
	touch mine/here
	expect 0 as_root --home "$PWD/mine:/there" "$SIF" sh -c 'ls $HOME; echo $HOME'
	stdout_is $'here\n/there'
}

@test "the environment's word is enough" {
	expect 0 env APPTAINER_FAKEROOT=1 "$VIAL" exec "$SIF" id -u
	stdout_is 0
}

@test "words of other ways to be root are taken" {
	expect 0 as_root --ignore-fakeroot-command --ignore-userns --no-setgroups "$SIF" id -u
	stdout_is 0
	stderr_is ""
}

@test "what root makes belongs to the user outside" {
	for how in $(ways); do
		expect 0 as_root "$SIF" sh -c 'touch made; stat -c %u:%g made'
		stdout_is 0:0
		[ "$(stat -c %u:%g made)" = "$(id -u):$(id -g)" ]
		rm made
	done
}

@test "subordinate ids: owners are real" {
	need_subids
	local first
	first=$(sed -n "s/^$(id -un):\([0-9]*\):.*/\1/p" /etc/subuid | head -n 1)
	expect 0 as_root "$SIF" sh -c 'touch f; chown 5:6 f; stat -c %u:%g f; setpriv --reuid 5 --regid 6 --clear-groups id -u'
	stdout_is $'5:6\n5'
	[ "$(stat -c %u f)" = $((first + 4)) ]
	# and what the image says of owners is shown
	expect 0 as_root "$SIF" sh -c 'chown 0:0 f; rm f'
}

@test "without them: chown and devices are answered, files are root's" {
	need_user
	how=--ignore-subuid
	expect 0 as_root "$SIF" sh -c 'touch f && chown 5:6 f && chgrp 7 f && ln -s f l && chown -h 8 l && stat -c %u:%g f'
	stdout_is 0:0
	expect 0 as_root "$SIF" sh -c 'mknod null c 1 3 && mknod disk b 8 0 && mkfifo fifo && ls'
	stdout_has fifo
	stdout_lacks null
	stdout_lacks disk
	[ -p fifo ]
}

@test "a program that gives up root finds that it has, and its children" {
	local text='setpriv --reuid 5 --regid 6 --clear-groups sh -c "id -u; id -g; sh -c \"id -u; id -g\"; sed -n 1p /etc/passwd"; id -u'
	for how in $(ways); do
		expect 0 as_root "$SIF" sh -c "$text"
		stdout_is $'5\n6\n5\n6\nroot:x:0:0:root:/root:/bin/sh\n0'
	done
}

@test "who has given up root does not get it back" {
	for how in $(ways); do
		expect 0 as_root "$SIF" setpriv --reuid 5 --regid 6 --clear-groups sh -c 'setpriv --reuid 0 true 2>&1 || echo refused'
		stdout_has refused
	done
}

@test "an archive is unpacked with its owners" {
	mkdir src
	touch src/f
	tar --create --owner=daemon:1 --group=mail:8 --file=a.tar src
	rm -r src
	for how in $(ways); do
		expect 0 as_root "$SIF" sh -c 'tar --extract --numeric-owner --same-owner --preserve-permissions --file=a.tar && rm -r src'
	done
}

@test "dpkg installs into a directory image" {
	type dpkg dpkg-deb >/dev/null || skip "needs dpkg"
	mkdir -p pkg/DEBIAN pkg/opt/probe
	echo content >pkg/opt/probe/f
	printf 'Package: probe\nVersion: 1\nArchitecture: all\nMaintainer: x <x@y>\nDescription: x\n' >pkg/DEBIAN/control
	printf '#!/bin/sh\nset -e\nchown 5:6 /opt/probe/f\nchmod 4755 /opt/probe/f\nsetpriv --reuid 5 --regid 6 --clear-groups id -u >/opt/probe/id\n' >pkg/DEBIAN/postinst
	sed -i 's|>/opt/probe/id|\| tee /opt/probe/id|' pkg/DEBIAN/postinst
	chmod 755 pkg/DEBIAN/postinst
	dpkg-deb --build --root-owner-group -Zgzip pkg probe.deb
	for how in $(ways); do
		cp -a "$TREE" t
		mkdir -p t/var/lib/dpkg/{info,updates} t/opt
		touch t/var/lib/dpkg/status
		copy_program t dpkg dpkg-deb dpkg-split dpkg-query tar gzip tee
		expect 0 as_root --writable -B "$PWD:/data" t dpkg --force-bad-path --force-depends -i /data/probe.deb
		expect 0 as_root --writable t sh -c 'cat /opt/probe/f /opt/probe/id; dpkg-query -W -f "\${Status}" probe'
		stdout_is $'content\n5\ninstall ok installed'
		as_root --writable t rm -rf /opt/probe # files of other owners
		rm -rf t
	done
}

@test "passwd of a writable image can be replaced, as useradd does" {
	for how in $(ways); do
		cp -a "$TREE" t
		expect 0 as_root --writable t sh -c 'cat /etc/passwd >/etc/new && echo bob:x:5:5::/:/bin/sh >>/etc/new && mv /etc/new /etc/passwd && id -u bob'
		stdout_is 5
		rm -rf t
	done
}

@test "a time zone of a writable image can be replaced" {
	cp -a "$TREE" t
	expect 0 as_root --writable t sh -c 'echo zone >/etc/localtime.new && mv /etc/localtime.new /etc/localtime'
	[ "$(cat t/etc/localtime)" = zone ]
}

@test "an image without an entry for root gets one" {
	cp -a "$TREE" t
	echo 'app:x:5:5::/:/bin/sh' >t/etc/passwd
	expect 0 as_root t sh -c 'id -un; sed -n 1p /etc/passwd'
	stdout_is $'root\napp:x:5:5::/:/bin/sh'
}

@test "the user namespace is not shared with others" {
	"$VIAL" exec "$SIF" sleep 1000 &
	local pid=$! mine
	mine=$(readlink /proc/self/ns/user)
	inside_one() { [ "$(readlink "/proc/$pid/ns/user")" != "$mine" ] && [ "$(cat "/proc/$pid/comm")" = sleep ]; }
	eventually inside_one
	expect 0 as_root "$SIF" readlink /proc/self/ns/user
	mine=$(readlink "/proc/$pid/ns/user")
	kill "$pid"
	[ "$output" != "$mine" ]
}

@test "the program's status and signals are its own" {
	for how in $(ways); do
		expect 42 as_root "$SIF" sh -c 'exit 42'
		expect 143 as_root "$SIF" sh -c 'kill $$'
	done
}

# Processes of this test that run: a zombie has no environment to show.
ours() {
	local p
	for p in /proc/[0-9]*; do
		if tr '\0' '\n' 2>/dev/null <"$p/environ" | grep -qx "MARK=$MARK"; then echo "${p#/proc/}"; fi
	done 2>/dev/null
}
nobody_left() { [ -z "$(ours)" ]; }

@test "nothing is left when it ends, or is killed" {
	local MARK=$BATS_TEST_TMPDIR
	for how in $(ways); do
		expect 0 env MARK="$MARK" "$VIAL" exec --fakeroot ${how:+"$how"} "$SIF" id -u
		eventually nobody_left
		mkfifo ready
		env MARK="$MARK" "$VIAL" exec --fakeroot ${how:+"$how"} "$SIF" sh -c 'echo >ready; exec sleep 1000' &
		read -r <ready
		kill -9 $!
		eventually nobody_left
		rm ready
	done
}

@test "newuidmap is missing: it goes without, and -v says why" {
	need_subids
	mkdir empty
	expect 0 env PATH="$PWD/empty" "$VIAL" -v exec --fakeroot "$SIF" sh -c 'id -u; touch f; chown 5 f; stat -c %u f'
	stdout_is $'0\n0'
	stderr_has "newgidmap is not there (package uidmap)"
}

@test "newuidmap refuses: its words are a warning, and it goes without" {
	need_subids
	mkdir fake
	printf '#!/bin/sh\necho "%s: not for you" >&2\nexit 1\n' newuidmap >fake/newuidmap
	chmod 755 fake/newuidmap
	expect 0 env PATH="$PWD/fake:$PATH" "$VIAL" exec --fakeroot "$SIF" sh -c 'id -u; touch f; chown 5 f; stat -c %u f'
	stdout_is $'0\n0'
	stderr_has "WARNING"
	stderr_has "newuidmap: not for you"
}

@test "ranges from elsewhere than files are asked for" {
	need_root
	local entry
	entry=$(getent passwd "$VIAL_TEST_UID" | cut -d: -f1)
	entry=$(grep "^$entry:" /etc/subuid) || skip "needs subordinate ids"
	local open
	open=$(mktemp -d /tmp/vial-subid.XXXXXX) # others cannot reach the directory of a test
	chmod 755 "$open"
	mkdir "$open/bin"
	install -m 644 "$SIF" "$open/test.sif"
	cp /etc/nsswitch.conf "$open/nsswitch.conf"
	echo 'subid: sss' >>"$open/nsswitch.conf"
	printf '#!/bin/sh\necho "$@" >>%s/asked\necho "0: %s"\n' "$open" "${entry//:/ }" >"$open/bin/getsubids"
	chmod 755 "$open/bin/getsubids"
	: >"$open/asked"
	chown "$VIAL_TEST_UID" "$open/asked"
	run unshare --mount sh -c 'mount --bind "$0/nsswitch.conf" /etc/nsswitch.conf; cd "$0"; exec "$@"' "$open" \
		setpriv --reuid "$VIAL_TEST_UID" --regid "$VIAL_TEST_UID" --clear-groups env PATH="$open/bin:$PATH" HOME=/ \
		"$VIAL" exec --fakeroot test.sif cat /proc/self/uid_map
	local asked
	asked=$(cat "$open/asked")
	rm -r "$open"
	echo "# $output"
	[[ $output == *"$(cut -d: -f2 <<<"$entry")"* ]]
	[ "$asked" = "${entry%%:*}"$'\n'"-g ${entry%%:*}" ]
}
