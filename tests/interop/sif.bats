# What vial writes and signs, Apptainer and siftool accept; and the other way round.
load ../e2e/common

apptainer() { "$HERE/../interop/run" --exec apptainer "$@"; }
siftool() { "$HERE/../interop/run" --exec siftool "$@"; }

setup_file() {
	cd "$BATS_FILE_TMPDIR" || return 1
	export HOME=$PWD LC_ALL=C
	BATS_TEST_TMPDIR=$PWD make_rootfs tree
	BATS_TEST_TMPDIR=$PWD make_oci layout latest '{"Env":["FROM_IMAGE=a b$c`d`\"e}\\\\f'"'"'g"],"Cmd":["cat","/etc/os-release"],"Labels":{"who":"me"}}' tree
	"$VIAL" build ours.sif oci:layout:latest
	apptainer build theirs.sif tree
}

setup() {
	common_setup
	cp "$BATS_FILE_TMPDIR"/{ours,theirs}.sif .
}

@test "siftool reads our header and lists the same objects" {
	expect 0 siftool header ours.sif
	stdout_has "$(uname -m | sed 's/x86_64/amd64/;s/aarch64/arm64/')"
	siftool list ours.sif | awk -F'|' '$1 ~ /^[0-9]/ { print $1 + 0, $2, $3, $4, $5 }' >theirs.list
	vial sif list ours.sif | awk -F'|' '$1 ~ /^[0-9]/ { print $1 + 0, $2, $3, $4, $5 }' >ours.list
	[ -s theirs.list ]
	expect 0 diff <(tr -s ' ' <theirs.list) <(tr -s ' ' <ours.list)
}

@test "apptainer runs our image, with its environment and its command" {
	expect 0 apptainer exec ours.sif cat /etc/os-release
	stdout_has "ID=vialtest"
	expect 0 apptainer run ours.sif
	stdout_has "ID=vialtest"
	expect 0 apptainer exec ours.sif sh -c 'echo "$FROM_IMAGE"'
	stdout_is 'a b$c`d`"e}\f'"'g"
	expect 0 vial exec ours.sif sh -c 'echo "$FROM_IMAGE"'
	stdout_is 'a b$c`d`"e}\f'"'g"
}

@test "apptainer inspects our labels" {
	expect 0 apptainer inspect ours.sif
	stdout_has "who: me"
}

@test "a file read through apptainer is the file of the tree" {
	apptainer exec ours.sif cat /bin/sh >copy
	expect 0 cmp copy "$BATS_FILE_TMPDIR/tree/bin/sh"
}

@test "apptainer verifies our signatures of every key type" {
	for type in "ed25519" "ecdsa --bits 256" "ecdsa --bits 384" "rsa --bits 2048"; do
		cp "$BATS_FILE_TMPDIR/ours.sif" signed.sif
		# shellcheck disable=SC2086 # type and size
		expect 0 vial key newpair --force --type $type pair
		expect 0 vial sign --key pair.pem signed.sif
		expect 0 vial verify --key pair.pub.pem signed.sif
		expect 0 apptainer verify --key pair.pub.pem signed.sif
		# and would have noticed
		flip_byte signed.sif $(($(stat -c %s ours.sif) - 5000))
		expect 255 apptainer verify --key pair.pub.pem signed.sif
		expect 255 vial verify --key pair.pub.pem signed.sif
	done
}

@test "vial verifies apptainer's signatures" {
	for type in "ed25519" "ecdsa --bits 256" "rsa --bits 2048"; do
		cp "$BATS_FILE_TMPDIR/theirs.sif" signed.sif
		# shellcheck disable=SC2086
		expect 0 vial key newpair --force --type $type pair
		expect 0 apptainer sign --key pair.pem signed.sif
		expect 0 vial verify --key pair.pub.pem signed.sif
		expect 0 vial key newpair --force other
		expect 255 vial verify --key other.pub.pem signed.sif
		flip_byte signed.sif $(($(stat -c %s theirs.sif) - 5000))
		expect 255 vial verify --key pair.pub.pem signed.sif
	done
}

@test "vial verifies apptainer's PGP signatures, with the keys that it keeps" {
	local fingerprint
	cp "$BATS_FILE_TMPDIR/theirs.sif" signed.sif
	expect 0 apptainer key newpair --name Maker --email maker@example.invalid --comment '' --password '' --push=false
	expect 0 apptainer sign signed.sif
	expect 0 apptainer verify --local --json signed.sif
	printf '%s' "$output" >theirs.json
	fingerprint=$(sed -n 's/.*"Fingerprint": "\([0-9a-f]*\)".*/\1/p' theirs.json | head -n 1)
	[ ${#fingerprint} -eq 40 ]
	expect 0 vial verify signed.sif
	stdout_has "valid, by OpenPGP key ${fingerprint^^} (Maker"
	expect 0 vial verify --local --json signed.sif
	stdout_is "$(cat theirs.json)"
	expect 0 apptainer key export --armor maker.asc <<<0
	rm -r "$HOME/.apptainer/keys"
	expect 255 vial verify signed.sif
	one_fatal_line "$(printf %s "${fingerprint^^}")"
	expect 0 vial verify --key maker.asc signed.sif
	# both kinds on one image, which they cannot verify in one call
	expect 0 vial key newpair --no-passphrase pair
	expect 0 vial sign --key pair.pem signed.sif
	expect 0 vial verify --key maker.asc --key pair.pub.pem signed.sif
	flip_byte signed.sif $(($(stat -c %s theirs.sif) - 5000))
	expect 255 vial verify --key maker.asc --key pair.pub.pem signed.sif
}

@test "vial prints of key files the JSON that apptainer prints" {
	cp "$BATS_FILE_TMPDIR/ours.sif" signed.sif
	expect 0 vial key newpair --no-passphrase pair
	expect 0 vial sign --key pair.pem signed.sif
	expect 0 apptainer verify --json --key pair.pub.pem signed.sif
	printf '%s' "$output" >theirs.json
	expect 0 vial verify --json --key pair.pub.pem signed.sif
	stdout_is "$(cat theirs.json)"
}

@test "vial runs apptainer's image" {
	expect 0 vial exec theirs.sif cat /etc/os-release
	stdout_has "ID=vialtest"
	expect 0 vial exec theirs.sif id -u
	stdout_is "$(id -u)"
}

@test "vial reads apptainer's image" {
	expect 0 vial inspect theirs.sif
	stdout_has "org.label-schema.build-date"
	siftool list theirs.sif | awk -F'|' '$1 ~ /^[0-9]/ { print $1 + 0, $2, $3, $4, $5 }' | tr -s ' ' >theirs.list
	vial sif list theirs.sif | awk -F'|' '$1 ~ /^[0-9]/ { print $1 + 0, $2, $3, $4, $5 }' | tr -s ' ' >ours.list
	expect 0 diff theirs.list ours.list
}

@test "an overlay that one of us writes, the other reads and changes" {
	local o removed=/etc/os-release
	# root's Apptainer has the kernel mount the file, which takes fuse-overlayfs's whiteouts for files
	[ "$(id -u)" -ne 0 ] || removed=/none
	expect 0 vial overlay create --sparse mine.img
	expect 0 apptainer overlay create theirs.img
	for o in mine.img theirs.img; do
		expect 0 vial exec --overlay $o ours.sif sh -c "echo vial >/from-vial; rm -f $removed"
		expect 0 apptainer exec --overlay $o ours.sif sh -c "cat /from-vial; ls $removed 2>/dev/null; rm /from-vial; echo apptainer >/from-apptainer"
		stdout_is vial
		expect 0 vial exec --overlay $o:ro ours.sif sh -c 'cat /from-apptainer; ls /from-vial 2>/dev/null; true'
		stdout_is apptainer
	done
}

@test "an overlay in a SIF, made by either, is stacked by both" {
	expect 0 vial overlay create ours.sif
	expect 0 vial exec --writable ours.sif sh -c 'echo vial >/from-vial'
	expect 0 apptainer exec ours.sif cat /from-vial
	stdout_is vial
	expect 0 apptainer overlay create theirs.sif
	expect 0 vial exec --writable theirs.sif sh -c 'echo vial >/from-vial'
	expect 0 apptainer exec theirs.sif cat /from-vial
	stdout_is vial
	expect 0 vial exec theirs.sif cat /from-vial
}

@test "vial runs what apptainer encrypted, by key and by passphrase" {
	need_user # root's are LUKS containers
	openssl genrsa -out rsa.pem 2048 2>/dev/null
	openssl rsa -in rsa.pem -pubout -RSAPublicKey_out -out rsa.pub.pem 2>/dev/null
	expect 0 apptainer build --encrypt --pem-path rsa.pub.pem key.sif "$BATS_FILE_TMPDIR/theirs.sif"
	expect 0 vial exec --pem-path rsa.pem key.sif cat /etc/os-release
	stdout_has "ID=vialtest"
	APPTAINER_ENCRYPTION_PASSPHRASE="open sesame" expect 0 apptainer build --encrypt words.sif "$BATS_FILE_TMPDIR/theirs.sif"
	APPTAINER_ENCRYPTION_PASSPHRASE="open sesame" expect 0 vial exec words.sif cat /etc/os-release
	stdout_has "ID=vialtest"
	APPTAINER_ENCRYPTION_PASSPHRASE="wrong" expect 125 vial exec words.sif true
}

@test "apptainer runs what vial encrypted, by key and by passphrase" {
	need_user # it mounts gocryptfs without root only
	openssl genrsa -traditional -out rsa.pem 2048 2>/dev/null
	openssl rsa -in rsa.pem -pubout -RSAPublicKey_out -out rsa.pub.pem 2>/dev/null
	expect 0 vial build --encrypt --pem-path rsa.pub.pem key.sif oci:"$BATS_FILE_TMPDIR"/layout:latest
	expect 0 apptainer exec --pem-path rsa.pem key.sif cat /etc/os-release
	stdout_has "ID=vialtest"
	APPTAINER_ENCRYPTION_PASSPHRASE="open sesame" expect 0 vial build --encrypt words.sif oci:"$BATS_FILE_TMPDIR"/layout:latest
	export APPTAINER_ENCRYPTION_PASSPHRASE="open sesame"
	apptainer exec words.sif cat /bin/sh | cmp - "$BATS_FILE_TMPDIR/tree/bin/sh"
	APPTAINER_ENCRYPTION_PASSPHRASE="wrong" run apptainer exec words.sif true
	[ "$status" -ne 0 ]
}
