#!/usr/bin/env bats
load common

@test "key newpair: two PEM files that openssl reads, with the right modes" {
	(umask 022 && vial key newpair k >id)
	[ "$(stat -c %a k.pem)" = 600 ]
	[ "$(stat -c %a k.pub.pem)" = 644 ]
	openssl pkey -in k.pem -pubout | cmp - k.pub.pem
	expect 0 vial key show k.pub.pem
	stdout_is "$(cat id)"
	expect 0 vial key show k.pem
	stdout_is "$(cat id)"
}

@test "key: the id is what ssh-keygen prints" {
	type -P ssh-keygen >/dev/null || skip "no ssh-keygen"
	for t in ed25519 ecdsa rsa; do
		vial key newpair --type $t $t
		if [ $t = ed25519 ]; then continue; fi # ssh-keygen imports no Ed25519 from PKCS#8
		ssh-keygen -i -m PKCS8 -f $t.pub.pem >$t.ssh
		[ "$(ssh-keygen -lf $t.ssh | cut -d' ' -f2)" = "$(vial key show $t.pem | cut -d' ' -f1)" ]
	done
}

@test "key newpair: existing files stay" {
	vial key newpair k
	cp k.pem before
	expect 255 vial key newpair k
	one_fatal_line "k.pem"
	cmp k.pem before
	expect 0 vial key newpair --force k
	run ! cmp -s k.pem before
	rm k.pem
	expect 255 vial key newpair k
	one_fatal_line "k.pub.pem"
	[ ! -e k.pem ]
}

@test "key newpair: types that are not made" {
	expect 255 vial key newpair --type dsa k
	one_fatal_line dsa
	expect 255 vial key newpair --type rsa --bits 1024 k
	one_fatal_line 1024
	[ ! -e k.pem ]
}
