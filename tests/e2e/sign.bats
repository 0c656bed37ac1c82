#!/usr/bin/env bats
load common

DATA=$HERE/../data/sif

# A key behind a passphrase, made once; of few rounds, for to make it slow is not what these tests are about.
setup_file() {
	cd "$BATS_FILE_TMPDIR" || return 1
	"$VIAL" -q key newpair plain
	openssl pkcs8 -topk8 -v2 aes-256-cbc -iter 1000 -passout 'pass:open sesame' -in plain.pem -out enc.pem
	mv plain.pub.pem enc.pub.pem
	chmod 600 enc.pem
}

encrypted_key() { cp -p "$BATS_FILE_TMPDIR"/enc.* .; }

setup() {
	common_setup
	install -m 644 "$DATA/valid/unsigned-small-table.sif" app.sif
	vial key newpair me >keyid
}

@test "sign: every kind of key, then verify" {
	local args
	for args in "--type ed25519" "--type ecdsa" "--type ecdsa --bits 384" "--type ecdsa --bits 521" "--type rsa --bits 2048"; do
		cp "$DATA/valid/unsigned-small-table.sif" i.sif
		chmod u+w i.sif
		# shellcheck disable=SC2086 # words
		vial key newpair --force $args k
		expect 0 vial sign --key k.pem i.sif
		expect 0 vial verify --key k.pub.pem i.sif
		expect 255 vial verify --key me.pub.pem i.sif
	done
}

@test "sign: openssl agrees with what was signed" {
	vial key newpair --type rsa --bits 2048 k
	vial sign --no-tree --key k.pem app.sif
	vial sif dump 4 app.sif | python3 -c '
import base64, json, sys
e = json.load(sys.stdin)
p = base64.b64decode(e["payload"], validate=True)
t = e["payloadType"].encode()
open("pae", "wb").write(b"DSSEv1 %d %s %d %s" % (len(t), t, len(p), p))
open("sig", "wb").write(base64.b64decode(e["signatures"][0]["sig"], validate=True))'
	openssl dgst -sha256 -verify k.pub.pem -signature sig pae
}

@test "sign: only adds; objects stay where they were" {
	vial sif list app.sif >before
	expect 0 vial sign --no-tree --key me.pem app.sif
	vial sif list app.sif | head -n "$(wc -l <before)" | cmp - before
	expect 0 vial sif info 4 app.sif
	stdout_has "Linked ID:    1 (G)"
	stdout_has "Group ID:     NONE"
}

@test "sign: again, by object, by group" {
	expect 0 vial sign --key me.pem -i 2 app.sif
	expect 255 vial verify --key me.pub.pem app.sif
	expect 0 vial verify --key me.pub.pem -i 2 app.sif
	vial sif del 4 app.sif
	expect 0 vial sign --key me.pem -g 1 app.sif
	expect 0 vial sign --key me.pem app.sif
	expect 0 vial verify --key me.pub.pem app.sif
	stdout_has "Signature 5"
	expect 255 vial sign --key me.pem -g 7 app.sif
	one_fatal_line "group 7"
	expect 255 vial sign --key me.pem -i 77 app.sif
	one_fatal_line "no object 77"
}

@test "sign: refusals leave the file as it was" {
	vial key newpair --type ecdsa k
	cp app.sif before
	expect 255 vial sign --key me.pub.pem app.sif
	one_fatal_line "public key"
	expect 255 vial sign app.sif
	one_fatal_line "key newpair"
	expect 255 vial sign -k 0 app.sif
	one_fatal_line "key newpair"
	expect 255 vial sign --key nobody app.sif
	one_fatal_line "nobody: neither a file nor a private key"
	openssl pkey -in k.pem -aes128 -passout pass:x -out enc.pem
	expect 255 vial sign --key enc.pem app.sif
	one_fatal_line "encrypted"
	cmp app.sif before
	vial sif new --slots 1 full.sif
	vial sif add full.sif me.pub.pem --datatype 7 --groupid 1
	cp full.sif before
	expect 255 vial sign --key me.pem full.sif
	one_fatal_line "free descriptors"
	cmp full.sif before
	vial sif new empty.sif
	expect 255 vial sign --key me.pem empty.sif
	one_fatal_line "group"
}

@test "sign: the key may come from the environment" {
	APPTAINER_SIGN_KEY=me.pem expect 0 vial sign app.sif
	expect 0 vial verify --key me.pub.pem app.sif
}

@test "sign: a deterministic image signed twice by one ed25519 key is the same file" {
	install -m 644 "$DATA/valid/deterministic-signed-p256.sif" d.sif
	vial sif del 4 d.sif
	cp d.sif e.sif
	vial sign --key me.pem d.sif
	sleep 1.1
	vial sign --key me.pem e.sif
	cmp d.sif e.sif
}

@test "sign: killed at any moment, the image is as before or signed" {
	local i pid
	vial key newpair --type ecdsa k
	head -c 3000000 /dev/urandom >big
	vial sif add app.sif big --datatype 7 --groupid 1
	vial sign --key me.pem app.sif
	for i in $(seq 15); do
		cp app.sif i.sif
		"$VIAL" sign --key k.pem i.sif 2>/dev/null &
		pid=$!
		sleep "0.0$((i % 3))$((RANDOM % 10))"
		kill -9 $pid 2>/dev/null || true
		wait $pid || true
		expect 0 vial verify --key me.pub.pem --key k.pub.pem i.sif
	done
}

# ---- which key --------------------------------------------------------------------------------------

@test "sign: the keyring's only private key signs without a word; of several one is chosen" {
	export VIAL_NO_TREE=1 # the image has room for a few signatures, and none beside them
	vial key newpair --name anna >anna.id
	expect 0 vial sign app.sif
	stderr_has "$(cut -d' ' -f2 anna.id)"
	vial key newpair --name bob >bob.id
	cp app.sif before
	expect 255 vial sign app.sif
	one_fatal_line "anna, bob"
	cmp app.sif before
	expect 0 vial sign --key bob app.sif
	stderr_has "$(cut -d' ' -f2 bob.id)"
	cp before app.sif # its table has room for a few
	expect 0 vial sign --keyidx 0 app.sif
	stderr_has "$(cut -d' ' -f2 anna.id)"
	expect 255 vial sign -k 2 app.sif
	one_fatal_line "number 2"
	expect 255 vial sign -k x app.sif
	one_fatal_line "--keyidx"
	# an explicit number beats the environment's key
	VIAL_SIGN_KEY=anna expect 0 vial sign -k 1 app.sif
	stderr_has "$(cut -d' ' -f2 bob.id)"
	cp before app.sif
	VIAL_SIGN_KEY=anna expect 0 vial sign app.sif
	stderr_has "$(cut -d' ' -f2 anna.id)"
}

@test "sign: several signers on one image, each verifies where both are known" {
	vial key newpair --name anna
	vial key newpair --type ecdsa --name bob
	vial key export anna anna.pem
	vial key export bob bob.pem
	expect 0 vial sign --key anna app.sif
	expect 0 vial sign --key bob app.sif
	expect 0 vial verify --key anna.pem --key bob.pem app.sif
	[ "$(vial sif list app.sif | grep -c Signature)" = 2 ]
}

@test "sign: halves of two keys under one name are not taken for a key" {
	echo pw >pw
	vial key newpair --name anna --passphrase-file pw
	vial key newpair --name bob
	cp "$HOME/.config/vial/keys/bob.pub" "$HOME/.config/vial/keys/anna.pub"
	cp app.sif before
	expect 255 vial sign --key anna --passphrase-file pw app.sif
	one_fatal_line "public half"
	cmp app.sif before
}

@test "sign: encrypted keys: file, environment, and without either no terminal is waited for" {
	echo "open sesame" >pw
	encrypted_key
	expect 0 vial sign --key enc.pem --passphrase-file pw app.sif
	VIAL_KEY_PASSPHRASE="open sesame" expect 0 vial sign --key enc.pem app.sif
	VIAL_KEY_PASSPHRASE_FILE=pw expect 0 vial sign --key enc.pem app.sif
	expect 0 vial verify --key enc.pub.pem app.sif
	cp app.sif before
	VIAL_KEY_PASSPHRASE=wrong expect 255 vial sign --key enc.pem app.sif
	one_fatal_line "passphrase"
	expect 255 setsid -w "$VIAL" sign --key enc.pem app.sif
	one_fatal_line "--passphrase-file"
	cmp app.sif before
}

# on_terminal ANSWERS CMD...: CMD on a terminal of its own, answered as it asks. Prints what the terminal showed.
on_terminal() {
	python3 - "$@" <<-'END'
		import os, pty, sys, termios
		answers, cmd = [a for a in sys.argv[1].encode().decode("unicode_escape").split("|") if a], sys.argv[2:]
		pid, fd = pty.fork()
		if pid == 0:
		    os.execvp(cmd[0], cmd)
		seen = b""
		asked = 0
		while True:
		    try:
		        part = os.read(fd, 4096)
		    except OSError:
		        break
		    if not part:
		        break
		    seen += part
		    if answers and seen.count(b": ", asked) and seen.rstrip(b" ").endswith(b":"):
		        asked = len(seen)
		        while termios.tcgetattr(fd)[3] & termios.ECHO:  # it turns echo off before it asks
		            pass
		        os.write(fd, answers.pop(0).encode())
		echo = None
		try:
		    echo = bool(termios.tcgetattr(fd)[3] & termios.ECHO)
		except termios.error:
		    pass
		status = os.waitpid(pid, 0)[1]
		sys.stdout.write(seen.decode(errors="replace").replace("\r", ""))
		print("echo:", echo, "status:", os.WEXITSTATUS(status) if os.WIFEXITED(status) else "signal %d" % os.WTERMSIG(status))
	END
}

@test "sign: the passphrase is asked for on the terminal, and not shown" {
	echo "open sesame" >pw
	encrypted_key
	expect 0 on_terminal 'open sesame\n' "$VIAL" sign --key enc.pem app.sif
	stdout_has "Passphrase for enc.pem:"
	stdout_has "status: 0"
	stdout_lacks "sesame"
	expect 0 vial verify --key enc.pub.pem app.sif
	# a new key: twice, and both must be the same
	expect 0 on_terminal 'one two\n|one two\n' "$VIAL" key newpair asked
	stdout_has "status: 0"
	openssl pkey -in asked.pem -passin "pass:one two" -noout
	expect 0 on_terminal 'one\n|two\n' "$VIAL" key newpair differ
	stdout_has "differ"
	[ ! -e differ.pem ]
	expect 0 on_terminal '\n' "$VIAL" key newpair plain
	stdout_has "status: 0"
	openssl pkey -in plain.pem -noout
}

@test "sign: interrupted while it asks, the terminal has its echo back" {
	echo "open sesame" >pw
	encrypted_key
	cp app.sif before
	expect 0 on_terminal 'open\x03' sh -c "trap : INT; '$VIAL' sign --key enc.pem app.sif; stty -a"
	grep -qE '(^| )echo( |$)' <<<"$output" || complain "no echo"
	cmp app.sif before
}

# ---- tokens -------------------------------------------------------------------------------------------

@test "sign: a key in a PKCS #11 token, by its URI" {
	local module args id n=0
	module=$(find /usr/lib -name libsofthsm2.so 2>/dev/null | head -n 1)
	[ -n "$module" ] || skip "no softhsm2"
	mkdir tokens
	printf 'directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n' "$PWD/tokens" >softhsm2.conf
	export SOFTHSM2_CONF=$PWD/softhsm2.conf PKCS11_MODULE_PATH=$module
	softhsm2-util --init-token --free --label site --so-pin 123456 --pin 5678 >out
	echo 5678 >pin
	for args in "--type rsa --bits 2048" "--type ecdsa"; do
		# shellcheck disable=SC2086 # words
		vial key newpair --force $args k
		id=$(vial key show k.pub.pem | cut -d' ' -f1)
		softhsm2-util --import k.pem --token site --label "${args:7:3}" --id "0$((++n))" --pin 5678 >out
		expect 0 vial sign --key "pkcs11:token=site;object=${args:7:3}" --passphrase-file pin app.sif
		stderr_has "$id"
		expect 0 vial verify --key k.pub.pem -i 1 app.sif
		install -m 644 "$DATA/valid/unsigned-small-table.sif" app.sif
	done
	cp app.sif before
	VIAL_KEY_PASSPHRASE=8765 expect 255 vial sign --key "pkcs11:token=site;object=rsa" app.sif
	stderr_has "PIN is wrong"
	expect 255 vial sign --key "pkcs11:token=site;object=rsa;pin-value=5678" app.sif
	one_fatal_line "pin-value"
	expect 255 vial sign --key "pkcs11:token=site;object=none" --passphrase-file pin app.sif
	stderr_has "no such key"
	cmp app.sif before
}

@test "sign: a key by another URI" {
	expect 0 vial sign --key "file:$PWD/me.pem" app.sif
	expect 0 vial verify --key me.pub.pem app.sif
	echo "open sesame" >pw
	encrypted_key
	expect 0 vial sign --key "file:$PWD/enc.pem" --passphrase-file pw app.sif
	expect 255 vial sign --key "nothing-known:x" app.sif
	one_fatal_line "nothing-known:x"
}
