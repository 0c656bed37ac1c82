#!/usr/bin/env bats
# `vial verify`: the whole image corpus, certificates, options, and what it prints.
# shellcheck disable=SC2034 # columns of a manifest; COMMAND is complain's
load common
load images

DATA=$HERE/../data/sif
PGP=0346B9F8FE0B713B5550B13F50A8035AE66B993B

# check_class CLASS: every row of the manifest whose file lies in that folder.
check_class() {
	local file verify inspect made why word rows=0
	need_user # what a file is refused for has nothing to do with who asks
	cp -r "$DATA/$1" "$DATA/keys" .
	sha256sum -b "$1"/* >before
	while IFS=$'\t' read -r file verify inspect made why; do
		[[ $file == "$1"/* ]] || continue
		for word in $verify; do
			rows=$((rows + 1))
			COMMAND="vial verify --key keys/${word%%=*}.pub.pem $file  # $why"
			run --separate-stderr timeout 100 "$VIAL" verify --key "keys/${word%%=*}.pub.pem" "$file"
			case ${word#*=}:$status in
			0:0) stdout_has "Objects verified:" ;;
			nz:255 | any:255) one_fatal_line "$file" ;;
			any:0) ;;
			*) complain "$word gives $status" ;;
			esac
		done
	done < <(tail -n +2 "$DATA/manifest.tsv")
	sha256sum --quiet -c before
	[ "$rows" -gt 0 ] || complain "no row for $1"
}

@test "verify: images of other tools" { check_class valid; }
@test "verify: unusual envelopes" { check_class envelope; }
@test "verify: bad envelopes are refused" { check_class envelope-bad; }
@test "verify: tampering is noticed" { check_class tampered; }
@test "verify: changes where no signature looks" { check_class unprotected; }
@test "verify: malformed images are refused in one line" { check_class malformed; }

@test "verify: certificates" {
	local image cert between roots want args
	cd "$DATA"
	while IFS=$'\t' read -r image cert between roots want; do
		args=(--certificate "$cert")
		[ "$between" = - ] || args+=(--certificate-intermediates "$between")
		[ "$roots" = - ] || args+=(--certificate-roots "$roots")
		expect "$want" vial verify "${args[@]}" "$image"
		[ "$want" = 0 ] || one_fatal_line
	done < <(tail -n +2 certs.tsv)
}

@test "verify: names the key and the objects" {
	expect 0 vial verify --key "$DATA/keys/p256.pub.pem" "$DATA/valid/signed-p256.sif"
	stdout_has "Signature 4 is valid, by key SHA256:dlqo97wVy7uF/7hdbIcsoxZpzFNqvdO2l2zdG52Zl4s (ECDSA P-256)"
	stdout_has "3   |1       |NONE    |FS (Squashfs/*System/amd64)"
	expect 255 vial verify --key "$DATA/keys/rsa.pub.pem" "$DATA/tampered/data-json.sif"
	one_fatal_line "object 2 (JSON.Generic)"
	stderr_has "data was changed"
}

@test "verify: a tampered image says which key made it" {
	expect 255 vial verify --key "$DATA/keys/evil.pub.pem" "$DATA/valid/signed-p256.sif"
	one_fatal_line "SHA256:dlqo97wVy7uF/7hdbIcsoxZpzFNqvdO2l2zdG52Zl4s"
}

@test "verify: unsigned and foreign kinds of signature are told apart" {
	expect 255 vial verify --key "$DATA/keys/rsa.pub.pem" "$DATA/valid/unsigned.sif"
	one_fatal_line "not signed"
	stderr_has "sign --key"
	expect 255 vial verify --key "$DATA/keys/rsa.pub.pem" "$DATA/valid/pgp-signed.sif"
	one_fatal_line "PGP"
	expect 255 vial verify --key "$DATA/keys/rsa.pub.pem" "$DATA/valid/legacy-group-only.sif"
	one_fatal_line "old-style"
}

@test "verify: two signers need both keys" {
	cd "$DATA"
	expect 0 vial verify --key keys/rsa.pub.pem --key keys/p256.pub.pem valid/signed-by-two-keys.sif
	expect 255 vial verify --key keys/rsa.pub.pem valid/signed-by-two-keys.sif
	expect 255 vial verify --key keys/rsa.pub.pem --key keys/evil.pub.pem valid/signed-by-two-keys.sif
}

@test "verify: one object, one group" {
	cd "$DATA"
	expect 0 vial verify --key keys/rsa.pub.pem -i 3 valid/signed-object-3-only.sif
	expect 255 vial verify --key keys/rsa.pub.pem -i 1 valid/signed-object-3-only.sif
	one_fatal_line "not among what was signed"
	expect 0 vial verify --key keys/ed25519.pub.pem --group-id 1 valid/two-groups-one-signed.sif
	expect 255 vial verify --key keys/ed25519.pub.pem -g 2 valid/two-groups-one-signed.sif
	expect 255 vial verify --key keys/ed25519.pub.pem -g 9 valid/two-groups-one-signed.sif
}

# covered NAME FINGERPRINT KEY DATA PARTITION...: the JSON that Apptainer prints for one signature
covered() {
	local name=$1 fingerprint=$2 key=$3 data=$4 p comma=
	shift 4
	printf '{\n  "Signatures": 1,\n  "SignerKeys": [\n'
	for p; do
		printf '%s    {\n      "Signer": {\n        "Partition": "%s",\n        "Name": "%s",\n        "Fingerprint": "%s",\n' \
			"$comma" "$p" "$name" "$fingerprint"
		printf '        "KeyLocal": %s,\n        "KeyCheck": %s,\n        "DataCheck": %s\n      }\n    }' "$key" "$key" "$data"
		comma=$',\n'
	done
	printf '\n  ]\n}\n'
}

@test "verify: JSON, byte for byte as Apptainer prints it" {
	cd "$DATA"
	expect 0 vial verify --json --key keys/p256.pub.pem valid/signed-p256.sif
	stdout_is "$(covered unknown '' false true Def.FILE JSON.Generic FS)"
	expect 0 vial verify --json --key keys/pgp.pub.asc valid/pgp-signed.sif
	stdout_is "$(covered 'Corpus Dev \u003ccorpus@example.invalid\u003e' "${PGP,,}" true true Def.FILE JSON.Generic FS)"
	expect 255 vial verify --json --key keys/p256.pub.pem valid/signed-rsa.sif
	stdout_is '{
  "Signatures": 1,
  "SignerKeys": null
}'
	expect 255 vial verify --json --key keys/rsa.pub.pem valid/unsigned.sif
	stdout_has '"Signatures": 0,'
	expect 255 vial verify --json --key keys/rsa.pub.pem tampered/data-json.sif
	stdout_has '"DataCheck": false'
	stdout_has '"Partition": "JSON.Generic"'
}

@test "verify: a report of every signature" {
	cd "$DATA"
	expect 0 vial verify --report --key keys/rsa.pub.pem --key keys/pgp.pub.asc valid/dsse-and-pgp.sif
	echo "$output" | python3 -c '
import json, sys
j = json.load(sys.stdin)
assert j["verified"] and "error" not in j
a, b = j["signatures"]
assert (a["form"], b["form"]) == ("dsse", "pgp")
assert all(s["verdict"] == "valid" and s["objects"] == [1, 2, 3] for s in (a, b))
assert b["signers"][0]["name"] == "Corpus Dev <corpus@example.invalid>"'
	expect 255 vial verify --report --key keys/rsa.pub.pem valid/dsse-and-pgp.sif
	echo "$output" | python3 -c '
import json, sys
j = json.load(sys.stdin)
assert not j["verified"] and "OpenPGP" in j["error"]
assert [s["verdict"] for s in j["signatures"]] == ["unchecked", "unknown signer"]
assert j["signatures"][1]["claims"] == "'$PGP'" and j["signatures"][1]["signers"] == []'
	expect 1 vial verify --report --json --key keys/rsa.pub.pem valid/dsse-and-pgp.sif
}

@test "verify: OpenPGP signatures" {
	local f
	cd "$DATA"
	expect 0 vial verify --key keys/pgp.pub.asc valid/pgp-signed.sif
	stdout_has "Signature 4 is valid, by OpenPGP key $PGP (Corpus Dev <corpus@example.invalid>)"
	expect 255 vial verify --key keys/pgp.pub.asc valid/signed-rsa.sif
	expect 255 vial verify --key keys/pgp.pub.asc valid/dsse-and-pgp.sif
	cd "$BATS_TEST_TMPDIR"
	cp "$DATA/valid/pgp-signed.sif" i.sif
	chmod u+w i.sif
	for f in 40 3700 5000 5800 6400; do # header, an object, the partition, the text, the packet
		flip_byte i.sif $f
		expect 255 vial verify --key "$DATA/keys/pgp.pub.asc" i.sif
		one_fatal_line
		flip_byte i.sif $f
	done
	# the fingerprint in the descriptor
	flip_byte i.sif $((128 + 3 * 585 + 201 + 10))
	expect 255 vial verify --key "$DATA/keys/pgp.pub.asc" i.sif
	one_fatal_line "its descriptor names"
	echo "-----BEGIN PGP PUBLIC KEY BLOCK-----" >bad.asc
	expect 255 vial verify --key bad.asc "$DATA/valid/pgp-signed.sif"
	one_fatal_line "bad.asc"
}

@test "verify: old-style signatures count only when they are asked for" {
	local key=(--key "$DATA/keys/pgp.pub.asc") old=(--legacy-insecure)
	cd "$DATA/valid"
	expect 255 vial verify "${key[@]}" legacy-group-only.sif
	one_fatal_line "old-style"
	expect 0 vial verify "${key[@]}" "${old[@]}" legacy-object-signature.sif
	stdout_has "old-style: it covers data alone"
	expect 0 vial verify "${key[@]}" "${old[@]}" -g 1 legacy-group-only.sif
	expect 255 vial verify "${key[@]}" "${old[@]}" legacy-group-only.sif
	one_fatal_line "object 3 has no old-style signature"
	expect 255 vial verify "${key[@]}" "${old[@]}" --all legacy-object-signature.sif
	one_fatal_line "object 1 has no"
	expect 255 vial verify "${key[@]}" "${old[@]}" pgp-signed.sif
	expect 255 vial verify --key "$DATA/keys/rsa.pub.pem" "${old[@]}" legacy-object-signature.sif
	cd "$BATS_TEST_TMPDIR"
	cp "$DATA/valid/legacy-object-signature.sif" i.sif
	chmod u+w i.sif
	flip_byte i.sif 5000
	expect 255 vial verify "${key[@]}" "${old[@]}" i.sif
	one_fatal_line "data of object 3 was changed"
}

@test "verify: the keyring decides when no key is named" {
	local id=SHA256:dlqo97wVy7uF/7hdbIcsoxZpzFNqvdO2l2zdG52Zl4s
	vial key import "$DATA/keys/rsa.pub.pem" "$DATA/keys/p256.pub.pem"
	cd "$DATA"
	expect 255 vial verify valid/signed-p256.sif
	one_fatal_line "is valid, but its signer is not trusted: $id"
	vial key trust "$id"
	expect 0 vial verify valid/signed-p256.sif
	stdout_has "$id (ECDSA P-256), which is trusted"
	expect 255 vial verify valid/signed-p384.sif
	one_fatal_line "the signer is unknown"
	stderr_has "SHA256:Jpo88znzrVO0VqPxehOZiizUH+OUIWuiq+JMlUpZ9Kg"
	expect 255 vial verify tampered/changed-and-signed-by-other-key.sif
	# one trusted signer of two is enough here, and the other is shown
	expect 0 vial verify valid/signed-by-two-keys.sif
	stdout_has "which is not trusted"
	# but not when somebody else signed something that is bad
	expect 255 vial verify tampered/garbage-signature-added.sif
}

@test "verify: a key that hides in the file of another is neither known nor trusted" {
	local ring=$HOME/.config/vial/keys
	vial key import --name dev "$DATA/keys/pgp.pub.asc"
	expect 255 vial verify "$DATA/valid/pgp-signed.sif"
	one_fatal_line "its signer is not trusted"
	rm "$ring/dev.asc"
	vial key import --trust "$DATA/keys/p256.pub.pem"
	cat "$DATA/keys/pgp.pub.asc" "$DATA/keys/pgp.pub.asc" >two.asc
	expect 255 vial key import --name two two.asc
	one_fatal_line "two.asc holds something beside one"
	install -m 644 two.asc "$ring/two.asc"
	expect 255 vial verify "$DATA/valid/pgp-signed.sif"
	stderr_has "the signer is unknown"
	stderr_has "two.asc holds something beside one"
	expect 0 vial verify "$DATA/valid/signed-p256.sif"
}

@test "verify: keys that Apptainer keeps serve, if only their owner may write them" {
	local ring=$HOME/.apptainer/keys
	mkdir -p "$ring"
	sed '/^-/d;/^=/d;/^$/d' "$DATA/keys/pgp.pub.asc" | base64 -d >"$ring/pgp-public"
	chmod 644 "$ring/pgp-public"
	expect 0 vial verify --local "$DATA/valid/pgp-signed.sif"
	stdout_has "$PGP (Corpus Dev <corpus@example.invalid>), which is in the keyring of Apptainer"
	expect 0 vial verify "$DATA/valid/dsse-and-pgp.sif"
	stdout_has "Signature 4 does not count"
	chmod 666 "$ring/pgp-public"
	expect 255 vial verify "$DATA/valid/pgp-signed.sif"
	stderr_has "others may write it"
	rm "$ring/pgp-public"
	APPTAINER_KEYSDIR=$ring expect 255 vial verify --url https://keys.example.invalid "$DATA/valid/pgp-signed.sif"
	stderr_has "no key server is asked"
}

# start_responder NAME [OPTION...]: `openssl ocsp` for the CA NAME; its address in $RESPONDER
start_responder() {
	local name=$1
	shift
	openssl ocsp -port 0 -index index.txt -CA ca.crt -rsigner "$name.crt" -rkey "$name.key" "$@" >"$name.log" 2>&1 3>&- &
	RESPONDERS+=($!)
	eventually grep -q 'ACCEPT .*:[0-9]' "$name.log"
	RESPONDER=http://127.0.0.1:$(sed -n 's/.*ACCEPT .*:\([0-9][0-9]*\).*/\1/p' "$name.log")
}

teardown() {
	[ -z "${RESPONDERS[*]:-}" ] || kill "${RESPONDERS[@]}" || true
	common_teardown
}

make_ca() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.crt" -subj "/CN=$1" \
		-days 30 -addext keyUsage=critical,keyCertSign,digitalSignature 2>/dev/null
}

# make_leaf NAME SERIAL EXTENSION...: a certificate of the key me
make_leaf() {
	openssl req -new -key me.pem -subj "/CN=$1" -out leaf.csr
	openssl x509 -req -in leaf.csr -CA ca.crt -CAkey ca.key -set_serial "$2" -days 10 -out "$1.crt" \
		-extfile <(printf '%s\n' "${@:3}") 2>/dev/null
}

@test "verify: certificates that were revoked, or of which nobody says that they were not" {
	local c eku=extendedKeyUsage=codeSigning ku=keyUsage=digitalSignature aia=authorityInfoAccess=OCSP
	make_ca ca
	make_ca other
	printf '%s\n' $'V\t391231235959Z\t\t01\tunknown\t/CN=good' $'R\t391231235959Z\t200101000000Z,keyCompromise\t02\tunknown\t/CN=revoked' \
		$'V\t391231235959Z\t\t05\tunknown\t/CN=forged' >index.txt
	vial key newpair --type ecdsa me
	install -m 644 "$DATA/valid/unsigned-small-table.sif" i.sif
	vial sign --key me.pem i.sif
	start_responder ca
	make_leaf good 1 $ku $eku "$aia;URI:$RESPONDER"
	make_leaf revoked 2 $ku $eku "$aia;URI:$RESPONDER"
	make_leaf stranger 3 $ku $eku "$aia;URI:$RESPONDER"
	make_leaf mute 4 $ku $eku
	start_responder other
	make_leaf forged 5 $ku $eku "$aia;URI:$RESPONDER"
	make_leaf other-use 6 keyUsage=keyEncipherment $eku
	for c in good revoked stranger mute forged; do
		expect 0 vial verify --certificate "$c.crt" --certificate-roots ca.crt i.sif
		stdout_has "by certificate CN=$c, key SHA256:"
	done
	expect 0 strace -f -o calls -e trace=prctl,connect "$VIAL" verify --ocsp-verify --certificate good.crt --certificate-roots ca.crt i.sif
	# answers come from strangers: nobody reads them with privileges
	sed -n '/PR_SET_NO_NEW_PRIVS, 1/,$p' calls | grep -q 'connect.*AF_INET' || complain "there is no question, or it came too early"
	! sed '/PR_SET_NO_NEW_PRIVS, 1/,$d' calls | grep 'connect.*AF_INET' || complain "it asks with privileges"
	expect 255 vial verify --ocsp-verify --certificate revoked.crt --certificate-roots ca.crt i.sif
	one_fatal_line "revoked: keyCompromise"
	expect 255 vial verify --ocsp-verify --certificate stranger.crt --certificate-roots ca.crt i.sif
	one_fatal_line "not known to the responder"
	expect 255 vial verify --ocsp-verify --certificate mute.crt --certificate-roots ca.crt i.sif
	one_fatal_line "names no responder"
	expect 255 vial verify --ocsp-verify --certificate forged.crt --certificate-roots ca.crt i.sif
	one_fatal_line "cannot be learned"
	expect 255 vial verify --ocsp-verify --certificate good.crt --certificate-roots good.crt i.sif
	one_fatal_line "issuer is not known"
	expect 255 vial verify --certificate other-use.crt --certificate-roots ca.crt i.sif
	one_fatal_line "not meant for signatures"
}

@test "verify: a key in the environment serves, and does not widen the command line" {
	cd "$DATA"
	APPTAINER_VERIFY_KEY=keys/p256.pub.pem expect 0 vial verify valid/signed-p256.sif
	VIAL_VERIFY_KEY=keys/p256.pub.pem expect 255 vial verify --key keys/evil.pub.pem valid/signed-p256.sif
	expect 255 vial verify valid/signed-p256.sif
	one_fatal_line "--key"
}

@test "verify: keys that are none" {
	cd "$DATA"
	expect 255 vial verify --key certs/dev-leaf.pem valid/signed-p256.sif
	one_fatal_line "certificate"
	expect 255 vial verify --key manifest.tsv valid/signed-p256.sif
	one_fatal_line "no PEM key"
	expect 255 vial verify --key missing.pem valid/signed-p256.sif
	one_fatal_line "missing.pem"
}

@test "verify: what cannot be checked is not passed over, also when the environment asks for it" {
	export APPTAINER_VERIFY_OCSP=1
	expect 1 vial verify --key x.pem image.sif
	stderr_has "ocsp"
}
