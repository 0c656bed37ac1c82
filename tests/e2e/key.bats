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

# ---- the keyring ----------------------------------------------------------------------------------

keys() { echo "$HOME/.config/vial/keys"; }

@test "keyring: newpair, list, show, export: private, found again, nothing to see for others" {
	(umask 000 && vial key newpair --name me >line)
	read -r name id type <line
	[ "$name $type" = "me Ed25519" ]
	[[ $id =~ ^SHA256:[A-Za-z0-9+/]{43}$ ]]
	[ "$(stat -c %a "$(keys)" "$(keys)/me.key" "$(keys)/me.pub")" = "$(printf '700\n600\n644')" ]
	expect 0 vial key list
	stdout_has "$id"
	stdout_has "trusted"
	expect 0 vial key show me
	stdout_is "$id Ed25519"
	expect 0 vial key export me me.pub.pem
	expect 0 vial key show me.pub.pem
	stdout_is "$id Ed25519"
	expect 0 vial key export --secret me me.pem
	[ "$(stat -c %a me.pem)" = 600 ]
	openssl pkey -in me.pem -pubout -out derived
	cmp derived me.pub.pem
	expect 255 vial key export me me.pub.pem
	one_fatal_line "me.pub.pem"
	# once more, under a name that is taken
	expect 255 vial key newpair --name me
	one_fatal_line "me.pub"
	want=$(cat me.pub.pem)
	expect 0 vial key export me -
	stdout_is "$want"
	# without a name it is the user's
	expect 0 vial key newpair
	[ "$(vial key list --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)))')" = 4 ]
}

@test "keyring: list --json" {
	vial key newpair --name me
	vial key list --json >listed
	python3 - "$(keys)" <<-'END'
		import json, sys
		v = json.load(open("listed"))
		assert [(e["name"], e["kind"]) for e in v] == [("me", "private"), ("me", "public")], v
		assert v[0]["id"] == v[1]["id"] and v[1]["trusted"] and not v[1]["site"] and v[0]["encrypted"] is False, v
		assert v[1]["path"] == sys.argv[1] + "/me.pub", v
	END
	XDG_CONFIG_HOME=$PWD/elsewhere expect 0 vial key list --json
	stdout_is "[]"
}

@test "keyring: import takes keys, certificates and OpenPGP keys, and trusts none" {
	local data=$HERE/../data/sif
	expect 0 vial key import "$data/keys/p384.pub.pem"
	stdout_is "p384 SHA256:Jpo88znzrVO0VqPxehOZiizUH+OUIWuiq+JMlUpZ9Kg"
	stderr_has "key trust p384"
	expect 0 vial key import --name leaf "$data/certs/dev-leaf.pem"
	stdout_is "leaf SHA256:dlqo97wVy7uF/7hdbIcsoxZpzFNqvdO2l2zdG52Zl4s"
	cat >anna.asc <<-'END'
		-----BEGIN PGP PUBLIC KEY BLOCK-----
		Comment: an example

		mDMEawKtphYJKwYBBAHaRw8BAQdASkRVVoo7hdFFWb1w7R+SYl7pazIhgCrmZfmE
		95NN5Ri0H0FubmEgRXhhbXBsZSA8YW5uYUBleGFtcGxlLm9yZz6IlgQTFggAPhYh
		BF1SHfXtXUO38b4uUDIlwtkeZclkBQJrAq2mAhsDBQkF2dOaBQsJCAcCBhUKCQgL
		AgQWAgMBAh4BAheAAAoJEDIlwtkeZclkD/sBAMLB2B5UOaTYxspTl21t/ysfxnmT
		QZo0mdba7nz+wExWAPsGRUAq2sXO6k+lu3gvRrzSrGf9v708lgOqxsZeBBQVDw==
		=Hccg
		-----END PGP PUBLIC KEY BLOCK-----
	END
	expect 0 vial key import anna.asc
	stdout_is "anna 5D521DF5ED5D43B7F1BE2E503225C2D91E65C964"
	expect 0 vial key list
	stdout_has "CN=leaf,O=dev"
	stdout_has "Anna Example <anna@example.org>"
	stdout_lacks "trusted"
	# by the end of the fingerprint, as gpg users know it
	expect 0 vial key trust 3225C2D91E65C964
	stdout_is 5D521DF5ED5D43B7F1BE2E503225C2D91E65C964
	expect 0 vial key trust SHA256:Jpo88zn
	[ "$(vial key list | grep -c ' trusted ')" = 2 ]
	expect 0 vial key untrust anna
	[ "$(vial key list | grep -c ' trusted ')" = 1 ]
	expect 0 vial key import --force --trust "$data/certs/dev-leaf.pem" --name leaf
	[ "$(vial key list | grep -c ' trusted ')" = 2 ]
}

@test "keyring: import refuses what is no key, and leaves nothing" {
	echo hello >text.pem
	expect 255 vial key import text.pem
	one_fatal_line "text.pem"
	printf -- '-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAAA\n-----END PGP PRIVATE KEY BLOCK-----\n' >priv.asc
	expect 255 vial key import priv.asc
	one_fatal_line "private OpenPGP key"
	expect 255 vial key import --name ../up "$HERE/../data/sif/keys/p384.pub.pem"
	one_fatal_line "../up"
	expect 255 vial key import missing.pem
	one_fatal_line "missing.pem"
	expect 0 vial key list
	stdout_is ""
}

@test "keyring: remove; a private key goes only when it is named" {
	vial key newpair --name me
	expect 0 vial key remove me
	expect 255 vial key remove me
	one_fatal_line "--secret"
	[ -e "$(keys)/me.key" ]
	expect 0 vial key remove --secret me
	expect 0 vial key list
	stdout_is ""
	run ! grep -q SHA256 "$(keys)/trusted"
	vial key newpair --name me
	expect 0 vial key remove --both me
	expect 0 vial key list
	stdout_is ""
	expect 255 vial key remove me
	one_fatal_line "'me'"
}

@test "keyring: the site's keys are seen, trusted by its list, and not changed" {
	local site=$PWD/etc/vial/keys
	mkdir -p etc/vial/keys
	chmod 755 etc etc/vial etc/vial/keys
	cp "$HERE/../data/sif/keys/p384.pub.pem" "$site/vendor.pub"
	chmod 644 "$site/vendor.pub"
	echo "SHA256:Jpo88znzrVO0VqPxehOZiizUH+OUIWuiq+JMlUpZ9Kg  # the vendor" >"$site/trusted"
	chmod 644 "$site/trusted"
	on_site() { with_site "$PWD/etc" "$VIAL" "$@"; }
	expect 0 on_site key list
	stdout_has "(site)"
	stdout_has "trusted"
	expect 255 on_site key remove vendor
	one_fatal_line "site"
	expect 0 on_site key untrust vendor
	stderr_has "the site trusts it still"
	# the environment does not choose it
	VIAL_SITE_KEYSDIR=$site expect 0 vial key list
	stdout_lacks "Jpo88zn"
	chmod 666 "$site/vendor.pub"
	expect 0 on_site key list
	stdout_lacks "Jpo88zn"
	stderr_has "vendor.pub"
	chmod 777 "$site"
	expect 255 on_site key list
	one_fatal_line "/etc/vial/keys"
}

@test "keyring: a directory that others may write is refused" {
	vial key newpair --name me
	chmod 777 "$(keys)"
	for args in "key list" "key show me" "key newpair --name you" "key trust me"; do
		# shellcheck disable=SC2086 # words
		expect 255 vial $args
		one_fatal_line "$(keys)"
	done
}

@test "key: passphrases from a file, a pipe, standard input and the environment" {
	echo "open sesame" >pw
	expect 0 vial key newpair --name me --passphrase-file pw
	stderr_lacks "not encrypted"
	grep -q "ENCRYPTED" "$(keys)/me.key"
	openssl pkey -in "$(keys)/me.key" -passin file:pw -noout
	expect 0 vial key newpair --passphrase-file <(cat pw) files
	grep -q "ENCRYPTED" files.pem
	expect 0 vial key show files.pub.pem
	id=$output
	VIAL_KEY_PASSPHRASE="open sesame" expect 0 vial key show files.pem
	stdout_is "$id"
	expect 0 vial key show --passphrase-file - files.pem <pw
	stdout_is "$id"
	VIAL_KEY_PASSPHRASE=wrong expect 255 vial key show files.pem
	one_fatal_line "files.pem"
	: >empty
	expect 255 vial key newpair --name other --passphrase-file empty
	one_fatal_line "empty"
	expect 1 vial key newpair --name other -P secret
	stderr_has "command line"
	# encrypted by somebody else, in both forms that there are
	openssl genrsa -aes128 -traditional -passout file:pw -out old.pem 2048 2>/dev/null
	grep -q "Proc-Type: 4,ENCRYPTED" old.pem
	expect 0 vial key import --passphrase-file pw old.pem
	expect 0 vial key list --secret
	stdout_has "private*"
	stdout_has "RSA 2048"
	run ! grep -q "Proc-Type" "$(keys)/old.key"
}

@test "key search, pull, push: said in words" {
	for word in search pull push; do
		expect 1 vial key $word somebody
		stderr_has "key import"
	done
}
