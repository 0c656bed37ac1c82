#!/usr/bin/env bats
load common

DATA=$HERE/../data/sif

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
	vial sign --key k.pem app.sif
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
	expect 0 vial sign --key me.pem app.sif
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
	expect 1 vial sign app.sif
	expect 1 vial sign -k 0 app.sif
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
	for i in $(seq 25); do
		cp app.sif i.sif
		"$VIAL" sign --key k.pem i.sif 2>/dev/null &
		pid=$!
		sleep "0.0$((i % 3))$((RANDOM % 10))"
		kill -9 $pid 2>/dev/null || true
		wait $pid || true
		expect 0 vial verify --key me.pub.pem --key k.pub.pem i.sif
	done
}
