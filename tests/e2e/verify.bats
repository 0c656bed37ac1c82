#!/usr/bin/env bats
# `vial verify`: the whole image corpus, certificates, options, and what it prints.
# shellcheck disable=SC2034 # columns of a manifest; COMMAND is complain's
load common

DATA=$HERE/../data/sif

# check_class CLASS: every row of the manifest whose file lies in that folder.
check_class() {
	local file verify inspect made why word rows=0 before
	cp -r "$DATA/$1" "$DATA/keys" .
	while IFS=$'\t' read -r file verify inspect made why; do
		[[ $file == "$1"/* ]] || continue
		before=$(sha256sum <"$file")
		for word in $verify; do
			rows=$((rows + 1))
			COMMAND="vial verify --key keys/${word%%=*}.pub.pem $file  # $why"
			run --separate-stderr timeout 20 "$VIAL" verify --key "keys/${word%%=*}.pub.pem" "$file"
			case ${word#*=}:$status in
			0:0) stdout_has "Objects verified:" ;;
			nz:255 | any:255) one_fatal_line "$file" ;;
			any:0) ;;
			*) complain "$word gives $status" ;;
			esac
		done
		[ "$before" = "$(sha256sum <"$file")" ] || complain "$file was changed"
	done < <(tail -n +2 "$DATA/manifest.tsv")
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
	stdout_has "Signature 4 by key SHA256:dlqo97wVy7uF/7hdbIcsoxZpzFNqvdO2l2zdG52Zl4s (ECDSA P-256)"
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

@test "verify: JSON, also when it fails" {
	expect 0 vial verify --json --key "$DATA/keys/p256.pub.pem" "$DATA/valid/signed-p256.sif"
	echo "$output" | python3 -c '
import json, sys
j = json.load(sys.stdin)
assert j["Signatures"] == 1
s = [k["Signer"] for k in j["SignerKeys"]]
assert [x["Partition"] for x in s] == ["Def.FILE", "JSON.Generic", "FS"]
assert all(x["KeyCheck"] and x["DataCheck"] for x in s)
assert s[0]["Fingerprint"] == "SHA256:dlqo97wVy7uF/7hdbIcsoxZpzFNqvdO2l2zdG52Zl4s"'
	expect 255 vial verify --json --key "$DATA/keys/rsa.pub.pem" "$DATA/tampered/data-json.sif"
	echo "$output" | python3 -c '
import json, sys
assert [k["Signer"]["DataCheck"] for k in json.load(sys.stdin)["SignerKeys"]] == [True, False]'
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
