#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031 # each test sets its own
load common
load images

DATA=$HERE/../data/sif

# encrypted OUT DIR [MESSAGE]: the SIF that Apptainer makes of such a directory.
encrypted() {
	mksquashfs "$2" part.sqfs -noappend -all-root -noD -noF -quiet -no-progress >/dev/null
	vial sif new --force "$1"
	vial sif add "$1" part.sqfs --datatype 4 --parttype 2 --partfs 6 --partarch "$(arch_number)" --groupid 1
	[ -z "${3:-}" ] || vial sif add "$1" "$3" --datatype 8 --groupid 1 --link 1
}

arch_number() {
	case $(uname -m) in
	x86_64) echo 2 ;;
	aarch64) echo 4 ;;
	*) echo 0 ;;
	esac
}

setup_file() {
	cd "$BATS_FILE_TMPDIR" || return 1
	export HOME=$PWD LC_ALL=C
	make_rootfs tree
	printf 'in the image\n' >tree/etc/file
	head -c 300000 /dev/urandom >tree/etc/large
	chmod -R go+rX tree
	make_sif plain.sif tree
	"$VIAL" sif dump 4 plain.sif >plain.sqfs
	"$VIAL" -q key newpair --type rsa --bits 2048 rsa >/dev/null
	"$VIAL" -q key newpair --type rsa --bits 2048 other >/dev/null
	"$HERE/encrypt.py" plain.sqfs dir "open sesame" rsa.pub.pem
	encrypted key.sif dir message
	encrypted words.sif dir
}

setup() {
	common_setup
	F=$BATS_FILE_TMPDIR
}

@test "encrypted: exec with the key or the passphrase, by option and by variable" {
	expect 0 vial exec --pem-path "$F/rsa.pem" "$F/key.sif" cat /etc/file
	stdout_is "in the image"
	VIAL_ENCRYPTION_PEM_PATH=$F/rsa.pem expect 0 vial exec "$F/key.sif" cat /etc/file
	stdout_is "in the image"
	APPTAINER_ENCRYPTION_PASSPHRASE="open sesame" vial exec "$F/words.sif" cat /etc/large | cmp - "$F/tree/etc/large"
	# the passphrase is the secret of the key as well
	VIAL_ENCRYPTION_PASSPHRASE="open sesame" expect 0 vial exec "$F/key.sif" true
	# a plain image wants nothing of it
	VIAL_ENCRYPTION_PASSPHRASE=x expect 0 vial exec "$F/plain.sif" true
}

@test "encrypted: without the key it is said what to give, wherever the image is met" {
	local args
	for args in "exec $F/key.sif true" "run $F/key.sif" "shell $F/key.sif" "mount $F/key.sif $PWD -- true" "ls $F/key.sif" \
		"cat $F/key.sif:/etc/file" "build --sandbox box $F/key.sif"; do
		# shellcheck disable=SC2086 # words
		run --separate-stderr vial $args
		[ "$status" -ne 0 ]
		stderr_has "encrypted; give its key with --pem-path KEY.pem or --passphrase"
	done
	expect 0 vial inspect "$F/key.sif"
	stderr_has "encrypted"
	[ ! -e box ]
}

@test "encrypted: the wrong key, the wrong passphrase, the wrong kind" {
	expect 125 vial exec --pem-path "$F/other.pem" "$F/key.sif" true
	one_fatal_line "not encrypted for this key"
	expect 125 vial exec --pem-path "$F/rsa.pem" "$F/words.sif" true
	one_fatal_line "with a passphrase"
	VIAL_ENCRYPTION_PASSPHRASE=wrong expect 125 vial exec "$F/words.sif" true
	one_fatal_line "not the image's"
	vial -q key newpair ed >/dev/null
	expect 125 vial exec --pem-path ed.pem "$F/key.sif" true
	one_fatal_line "RSA"
	expect 125 vial exec --pem-path missing.pem "$F/key.sif" true
	one_fatal_line "missing.pem"
	expect 125 setsid -w "$VIAL" exec --passphrase "$F/words.sif" true
	one_fatal_line "no terminal"
	VIAL_ENCRYPTION_PASSPHRASE=x expect 125 vial exec "$DATA/valid/luks-labelled-signed-p256.sif" true
	one_fatal_line "LUKS"
}

@test "encrypted: ls, cat, mount and decrypt take the key from the environment" {
	export VIAL_ENCRYPTION_PEM_PATH=$F/rsa.pem
	expect 0 vial cat "$F/key.sif:/etc/file"
	stdout_is "in the image"
	expect 0 vial mount "$F/key.sif" "$PWD" -- cat "$PWD/etc/file"
	stdout_is "in the image"
	expect 0 vial decrypt "$F/key.sif" out.sqfs
	cmp out.sqfs "$F/plain.sqfs"
	[ "$(stat -c %a out.sqfs)" = 600 ]
	expect 255 vial decrypt "$F/key.sif" out.sqfs
	one_fatal_line "out.sqfs"
	expect 255 vial decrypt "$F/plain.sif" other.sqfs
	one_fatal_line "not encrypted"
	[ ! -e other.sqfs ]
}

@test "encrypted: a byte changed, a block gone, another image's file: refused before anything runs" {
	local at size
	export VIAL_ENCRYPTION_PEM_PATH=$F/rsa.pem
	size=$(stat -c %s "$F/dir/squashfs-1")
	for at in 0 5 18 34 4200 $((size / 2)) $((size - 1)); do
		rm -rf dir
		cp -r "$F/dir" dir
		chmod -R u+w dir
		python3 -c 'import sys
with open("dir/squashfs-1", "r+b") as f:
    f.seek(int(sys.argv[1])); b = f.read(1); f.seek(int(sys.argv[1])); f.write(bytes([b[0] ^ 1]))' "$at"
		encrypted bad.sif dir "$F/message"
		expect 125 vial exec bad.sif true
		one_fatal_line "bad.sif"
	done
	rm -rf dir
	cp -r "$F/dir" dir
	chmod -R u+w dir
	rm dir/gocryptfs.conf
	encrypted bad.sif dir "$F/message"
	expect 125 vial exec bad.sif true
	one_fatal_line "gocryptfs.conf"
	cp "$F/dir/gocryptfs.conf" dir
	cp dir/squashfs-1 dir/squashfs-2
	encrypted bad.sif dir "$F/message"
	expect 125 vial exec bad.sif true
	one_fatal_line "more than one file"
}

@test "encrypted: policy and verify go by the image, not by what comes out of it" {
	local keys=$HOME/.config/vial/keys rules=$HOME/.config/vial/policy.d
	export VIAL_ENCRYPTION_PEM_PATH=$F/rsa.pem
	mkdir -p "$keys" "$rules"
	vial -q key newpair me >/dev/null
	cp me.pub.pem "$keys/me.pub"
	cp "$F/key.sif" signed.sif
	vial -q sign --key me.pem signed.sif
	printf 'default = "deny"\n[[rule]]\naction = "allow"\nkind = "sif"\npath = "%s/**"\nsigner = "%s"\n' \
		"$(realpath "$PWD")" "$(vial key show me.pub.pem | cut -d' ' -f1)" >"$rules/10.toml"
	chmod -R go-w "$HOME/.config"
	expect 0 vial exec signed.sif cat /etc/file
	stdout_is "in the image"
	cp "$F/key.sif" unsigned.sif
	expect 125 vial exec unsigned.sif true
	one_fatal_line "denied by policy"
	(unset VIAL_ENCRYPTION_PEM_PATH && expect 0 vial policy check signed.sif)
	rm "$rules/10.toml"
	expect 125 vial exec --verify --verify-key me.pub.pem signed.sif true
	one_fatal_line "it is encrypted, and has no hash tree"
}

@test "encrypted: nothing of the plain image is left on disk, and no descriptor in the container" {
	export VIAL_ENCRYPTION_PEM_PATH=$F/rsa.pem TMPDIR=$PWD/tmp
	mkdir tmp
	expect 0 vial exec "$F/key.sif" sh -c 'ls -l /proc/self/fd; id >/dev/null'
	stdout_lacks "vial-decrypted"
	[ -z "$(ls -A tmp)" ]
}
