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
	if is_root; then # to others it does not show its descriptors
		expect 0 strace -f -o calls -e trace=prctl,pread64 -e decode-fds=path "$VIAL" decrypt "$F/key.sif" out.sqfs
		! sed '/PR_SET_NO_NEW_PRIVS, 1/,$d' calls | grep 'key\.sif' || complain "it reads the image with privileges"
		grep -q 'pread64.*key\.sif' calls
	else
		expect 0 vial decrypt "$F/key.sif" out.sqfs
	fi
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

# ---- making them ----

@test "build --encrypt: for a key and under a passphrase, and only they open it" {
	mkdir tmp
	expect 0 env TMPDIR="$PWD/tmp" "$VIAL" build --encrypt --compress none --pem-path "$F/rsa.pub.pem" key.sif "$F/tree"
	expect 125 vial exec --pem-path "$F/other.pem" key.sif true
	one_fatal_line "not encrypted for this key"
	vial exec --pem-path "$F/rsa.pem" key.sif cat /etc/large | cmp - "$F/tree/etc/large"
	# nothing can be read in the file, and nothing was elsewhere
	vial build --compress none plain.sif "$F/tree"
	grep -q "in the image" plain.sif
	run ! grep -q "in the image" key.sif
	[ -z "$(ls -A tmp)" ]
	# the same squashfs as without
	export VIAL_ENCRYPTION_PASSPHRASE="open sesame"
	expect 0 vial build -e --compress none words.sif "$F/tree"
	expect 0 vial decrypt words.sif words.sqfs
	vial sif dump 4 plain.sif | cmp - words.sqfs
}

@test "build --encrypt: without a key, with a wrong one, or for what cannot be encrypted" {
	expect 255 vial build --encrypt out.sif "$F/tree"
	one_fatal_line "needs a public RSA key"
	vial -q key newpair ed >/dev/null
	expect 255 vial build --encrypt --pem-path ed.pub.pem out.sif "$F/tree"
	one_fatal_line "RSA"
	expect 255 vial build --pem-path missing.pem out.sif "$F/tree"
	one_fatal_line "missing.pem"
	expect 255 setsid -w "$VIAL" build --passphrase out.sif "$F/tree"
	one_fatal_line "no terminal"
	VIAL_ENCRYPTION_PASSPHRASE=$'two\nlines' expect 255 vial build --encrypt out.sif "$F/tree"
	one_fatal_line "more than one line"
	expect 1 vial build --encrypt --sandbox out "$F/tree"
	expect 1 vial build --encrypt --profile true out.sif "$F/tree"
	[ ! -e out.sif ] && [ ! -e out ]
	# the variable alone is there for running
	VIAL_ENCRYPTION_PASSPHRASE=x expect 0 vial build out.sif "$F/tree"
	expect 0 vial exec out.sif true
}

@test "build --encrypt: asks twice, and no other process of the user looks into it" {
	python3 - "$VIAL" "$F/tree" <<'EOF'
import os, pty, sys
vial, tree = sys.argv[1:]

def build(answers):
    pid, tty = pty.fork()
    if pid == 0:
        os.execv(vial, [vial, "build", "--passphrase", "asked.sif", tree])
    seen = b""
    for question, answer in answers:
        while question not in seen:
            seen += os.read(tty, 4096)
        seen = b""
        # /proc/PID belongs to root when nobody else may look into the process
        assert os.geteuid() == 0 or os.stat(f"/proc/{pid}/environ").st_uid == 0
        os.write(tty, answer + b"\n")
    try:
        while chunk := os.read(tty, 4096):
            seen += chunk
    except OSError:
        pass
    assert not any(answer in seen for _, answer in answers), seen
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen

status, said = build([(b"Passphrase for the image", b"open it"), (b"Once more", b"open that")])
assert status == 255 and b"differ" in said and not os.path.exists("asked.sif"), said
status, said = build([(b"Passphrase for the image", b"open it"), (b"Once more", b"open it")])
assert status == 0, said
EOF
	VIAL_ENCRYPTION_PASSPHRASE="open it" expect 0 vial exec asked.sif cat /etc/file
	stdout_is "in the image"
}

@test "encrypted: more than fits into memory is refused before it is read" {
	export VIAL_ENCRYPTION_PEM_PATH=$F/rsa.pem
	cp "$F/key.sif" large.sif
	truncate -s 2T large.sif # nothing of it is there
	python3 - <<'EOF'
import struct
with open("large.sif", "r+b") as f:
    table, = struct.unpack("<Q", f.read(128)[96:104])
    for slot in range(48):
        f.seek(table + 585 * slot)
        d = f.read(585)
        if d[4] and struct.unpack("<I", d[:4])[0] == 0x4004:
            f.seek(table + 585 * slot + 25)
            f.write(struct.pack("<Q", 1 << 40))
EOF
	expect 125 vial exec large.sif true
	one_fatal_line "1.0 TiB of memory"
	stderr_has "vial decrypt"
}
