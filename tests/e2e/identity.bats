load common
load images
setup_file() { make_images; }

@test "the same user and groups inside as outside" {
	expect 0 vial exec "$SIF" id -u
	stdout_is "$(id -u)"
	expect 0 vial exec "$SIF" id -g
	stdout_is "$(id -g)"
	expect 0 vial exec "$SIF" id -un
	stdout_is "$(id -un)"
}

@test "files made inside belong to the user outside" {
	expect 0 inside 'touch made'
	[ "$(stat -c %u:%g made)" = "$(id -u):$(id -g)" ]
}

@test "passwd and group have the user's entry, and the image's others" {
	need_user
	expect 0 inside 'cat /etc/passwd /etc/group'
	stdout_has "root:x:0:0:root:/root:/bin/sh"
	stdout_has "$(id -un):x:$(id -u):$(id -g):"
	stdout_has "$(id -gn):x:$(id -g):"
}

@test "an entry of the same uid takes the host's name and keeps its shell" {
	need_user
	cp -a "$TREE" t
	echo "old:x:$(id -u):77:Old Name:/old:/bin/special" >>t/etc/passwd
	expect 0 vial exec --home "$PWD:/new/home" t grep ":$(id -u):" /etc/passwd
	[[ $output == "$(id -un):x:$(id -u):77:"*":/new/home:/bin/special" ]]
}

@test "an image without passwd and group runs" {
	cp -a "$TREE" t
	rm t/etc/passwd t/etc/group
	make_sif t.sif t
	expect 0 vial exec t.sif sh -c 'ls /etc/passwd' || [ "$status" -ne 0 ]
	expect 0 vial exec t.sif true
	stderr_is ""
}

@test "root sees the real owners and may read what others own" {
	need_root
	mkdir -m 700 private
	echo x >private/f
	chown -R "$VIAL_TEST_UID" private
	expect 0 vial exec "$SIF" sh -c 'cat private/f; stat -c %u private/f'
	stdout_is "x
$VIAL_TEST_UID"
}

@test "a user sees the image's files as his own" {
	need_user
	expect 0 vial exec "$SIF" stat -c %u:%g /etc/file
	stdout_is "$(id -u):$(id -g)"
}

@test "umask is the caller's, 0022 with --no-umask" {
	expect 0 bash -c 'umask 077; "$VIAL" exec "$1" sh -c umask; "$VIAL" exec --no-umask "$1" sh -c umask' - "$SIF"
	stdout_is $'0077\n0022'
}

@test "a strict umask does not close the root of a writable layer" {
	expect 0 bash -c 'umask 077; "$VIAL" exec --writable-tmpfs "$1" stat -c %a /' - "$SIF"
	local writable=$output
	expect 0 vial exec "$SIF" stat -c %a /
	stdout_is "$writable"
}

@test "passwd that is a link of the image is not read through" {
	cp -a "$TREE" t
	echo 'secret:x:77:77::/:/bin/sh' >secret
	ln -sf /data/secret t/etc/passwd
	expect 0 vial exec -B "$PWD:/data" t cat /etc/passwd
	stdout_is 'secret:x:77:77::/:/bin/sh'
}

@test "a right that a supplementary group gives is kept" {
	need_root
	local open
	open=$(mktemp -d /tmp/vial-group.XXXXXX) # others cannot reach the directory of a test
	chmod 755 "$open"
	mkdir -m 770 "$open/shared"
	chgrp 5 "$open/shared"
	install -m 644 "$SIF" "$open/test.sif"
	run setpriv --reuid "$VIAL_TEST_UID" --regid "$VIAL_TEST_UID" --groups 5 env HOME=/ "$VIAL" exec "$open/test.sif" touch "$open/shared/made"
	run ls "$open/shared"
	rm -r "$open"
	[ "$output" = made ]
}

# a user of a directory service: no file of the host has him
served() {
	local lib
	lib=$(find /usr/lib /usr/lib64 -name libnss_wrapper.so 2>/dev/null | head -n 1)
	[ -n "$lib" ] || skip "needs libnss-wrapper"
	! is_sanitized || skip "a sanitizer's library must be the first"
	env NSS_WRAPPER_PASSWD="$PWD/users" NSS_WRAPPER_GROUP="$PWD/groups" LD_PRELOAD="$lib" "$@"
}

@test "a user of a directory service has his name, home and groups" {
	echo "ldapuser:*:$(id -u):$(id -g):Some One:/home/ldap/some:/bin/zsh" >users
	printf 'ldapgroup:*:%s:ldapuser\n' "$(id -g)" >groups
	expect 0 served "$VIAL" exec --no-env LD_PRELOAD "$SIF" sh -c 'sed -n "/^ldapuser:/p" /etc/passwd; echo $HOME'
	if is_root; then
		stdout_is "ldapuser:x:0:0:Some One:/home/ldap/some:/bin/sh"$'\n'/home/ldap/some
	else
		stdout_is "ldapuser:x:$(id -u):$(id -g):Some One:/home/ldap/some:/bin/zsh"$'\n'/home/ldap/some
		expect 0 served "$VIAL" exec --no-env LD_PRELOAD "$SIF" sed -n '/^ldapgroup:/p' /etc/group
		stdout_is "ldapgroup:x:$(id -g):ldapuser"
	fi
}

@test "a user without a passwd entry on this node runs, in HOME, with the image's passwd" {
	: >users
	printf 'known:*:%s:\n' "$(id -g)" >groups
	expect 0 served "$VIAL" exec --no-env LD_PRELOAD "$SIF" sh -c 'id -u; echo $HOME; cat /etc/passwd'
	stdout_is "$(id -u)"$'\n'"$HOME"$'\n'"root:x:0:0:root:/root:/bin/sh"
	stderr_is ""
	is_root || {
		expect 0 served "$VIAL" exec --no-env LD_PRELOAD "$SIF" sed -n '/^known:/p' /etc/group
		stdout_is "known:x:$(id -g):"
	}
}
