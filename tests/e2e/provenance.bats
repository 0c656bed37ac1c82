# What an image says about where it comes from, and cosign's signatures at the source.
load common
load registry

setup_file() {
	registry_setup
	start_registry REG
	start_proxy PROXY REG
	export TREE=$BATS_FILE_TMPDIR/tree KEYS=$BATS_FILE_TMPDIR/keys
	make_rootfs "$TREE"
	mkdir "$BATS_FILE_TMPDIR/second" "$KEYS"
	printf 'second\n' >"$BATS_FILE_TMPDIR/second/file"
	IMAGE_CONFIG='{"Cmd":["/bin/true"]}' push_image "$REG_HOST/apps/tool:1.0" "$TREE" "$BATS_FILE_TMPDIR/second"
	openssl ecparam -name prime256v1 -genkey -noout -out "$KEYS/ec.key"
	openssl genrsa -out "$KEYS/rsa.key" 2048 2>/dev/null
	openssl genpkey -algorithm ed25519 -out "$KEYS/ed.key"
	openssl ecparam -name prime256v1 -genkey -noout -out "$KEYS/other.key"
	for key in "$KEYS"/*.key; do openssl pkey -in "$key" -pubout -out "${key%.key}.pub"; done
	DIGEST=$(manifest_digest "$REG_HOST/apps/tool:1.0")
	export DIGEST
}
teardown_file() { stop_servers; }
setup() {
	common_setup
	registry_setup
	faults
	forget_requests
}
teardown() {
	stop_servers
	common_teardown
}

# ---- cosign's side, by the letter of its specifications -----------------------------------------------

payload() { # DIGEST [TYPE]
	printf '{"critical":{"identity":{"docker-reference":"%s/apps/tool"},"image":{"docker-manifest-digest":"%s"},"type":"%s"},"optional":null}' \
		"$REG_HOST" "$1" "${2:-cosign container image signature}"
}

# sig KEY FILE: base64 on one line. Ed25519 signs the bytes, the others their SHA-256.
sig() {
	if [[ $1 == */ed.key ]]; then
		openssl pkeyutl -sign -rawin -inkey "$1" -in "$2" | base64 -w0
	else
		openssl dgst -sha256 -sign "$1" "$2" | base64 -w0
	fi
}

# layer TYPE FILE [SIGNATURE]: uploads the file, prints its descriptor.
layer() {
	printf '{"mediaType":"%s","size":%s,"digest":"%s","annotations":{"dev.cosignproject.cosign/signature":"%s"}}' \
		"$1" "$(stat -c %s "$2")" "$(put_blob "$REG_HOST" apps/tool "$2")" "${3-}"
}

# manifest TAG MORE LAYER: under the tag; prints its digest.
manifest() {
	printf '{}' >empty.json
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",%s"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":"%s"},"layers":[%s]}' \
		"$2" "$(put_blob "$REG_HOST" apps/tool empty.json)" "$3" >manifest.json
	curl -sS --fail-with-body --noproxy '*' -o /dev/null -X PUT --data-binary @manifest.json \
		-H 'Content-Type: application/vnd.oci.image.manifest.v1+json' "http://$REG_HOST/v2/apps/tool/manifests/$1"
	echo "sha256:$(sha256sum <manifest.json | cut -d' ' -f1)"
}

SIMPLE=application/vnd.dev.cosign.simplesigning.v1+json

# cosign_sign KEY [PAYLOAD-FILE]: the image's .sig tag holds this signature alone.
cosign_sign() {
	local file=${2:-payload.json}
	[ $# -gt 1 ] || payload "$DIGEST" >payload.json
	manifest "${DIGEST/:/-}.sig" "" "$(layer "$SIMPLE" "$file" "$(sig "$1" "$file")")" >signature-digest
}

# envelope KEY STATEMENT: DSSE around it.
envelope() {
	local type=application/vnd.in-toto+json
	printf 'DSSEv1 %d %s %d ' ${#type} "$type" "$(stat -c %s "$2")" | cat - "$2" >pae
	printf '{"payloadType":"%s","payload":"%s","signatures":[{"keyid":"","sig":"%s"}]}' \
		"$type" "$(base64 -w0 <"$2")" "$(sig "$1" pae)"
}

statement() { # PREDICATE-TYPE DIGEST
	printf '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"%s","subject":[{"name":"tool","digest":{"sha256":"%s"}}],"predicate":{}}' \
		"$1" "${2#sha256:}"
}

clean_signatures() {
	local tag
	for tag in "${DIGEST/:/-}" "${DIGEST/:/-}.sig" "${DIGEST/:/-}.att"; do
		digest=$(curl -sS --noproxy '*' -o /dev/null -I -w '%header{docker-content-digest}' \
			-H 'Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json' \
			"http://$REG_HOST/v2/apps/tool/manifests/$tag")
		[ -z "$digest" ] || curl -sS --noproxy '*' -o /dev/null -X DELETE "http://$REG_HOST/v2/apps/tool/manifests/$digest"
	done
}

# ---- provenance ------------------------------------------------------------------------------------------

@test "provenance: names source, configuration and every layer by digest" {
	expect 0 vial -q pull a.sif "docker://$REG_HOST/apps/tool:1.0"
	expect 0 vial inspect --provenance a.sif
	printf '%s' "$output" >statement.json
	raw_manifest "$REG_HOST/apps/tool:1.0" >image.json
	python3 - "$REG_HOST" "$DIGEST" <<-'EOT'
		import json, sys
		host, digest = sys.argv[1:]
		s, m = json.load(open("statement.json")), json.load(open("image.json"))
		assert s["_type"] == "https://in-toto.io/Statement/v1"
		assert s["predicateType"] == "https://slsa.dev/provenance/v1"
		source = f"docker://{host}/apps/tool@{digest}"
		assert [x["digest"] for x in s["subject"]] == [{"sha256": digest[7:]}], s["subject"]
		d = s["predicate"]["buildDefinition"]
		assert d["externalParameters"]["source"] == source
		assert d["externalParameters"]["compress"] == "zstd:3" and d["externalParameters"]["blockSize"] == 131072
		found = ["sha256:" + x["digest"]["sha256"] for x in d["resolvedDependencies"]]
		assert found == [digest, m["config"]["digest"]] + [l["digest"] for l in m["layers"]], found
		assert "vial" in s["predicate"]["runDetails"]["builder"]["version"]
		assert d["buildType"] and s["predicate"]["runDetails"]["builder"]["id"]
	EOT
}

@test "provenance: the same source gives the same bytes, by any tag and any number of threads" {
	copy_image "docker://$REG_HOST/apps/tool:1.0" "docker://$REG_HOST/apps/tool:again"
	expect 0 vial -q pull --disable-cache --threads 1 a.sif "docker://$REG_HOST/apps/tool:1.0"
	expect 0 vial -q pull --disable-cache --threads 2 b.sif "docker://$REG_HOST/apps/tool:again"
	cmp a.sif b.sif
	expect 0 vial -q pull --disable-cache --compress gzip c.sif "docker://$REG_HOST/apps/tool:1.0"
	expect 0 vial inspect --provenance c.sif
	[[ $output == *'"compress":"gzip'* ]]
}

@test "provenance: a signature covers it" {
	expect 0 vial -q pull a.sif "docker://$REG_HOST/apps/tool:1.0"
	expect 0 vial -q key newpair me
	expect 0 vial -q sign --key me.pem a.sif
	expect 0 vial -q verify --key me.pub.pem a.sif
	python3 - <<-'EOT'
		b = bytearray(open("a.sif", "rb").read())
		at = b.index(b'"resolvedDependencies"')
		at = b.index(b'"sha256":"', at) + 10
		b[at] = ord("0") if b[at] != ord("0") else ord("1")
		open("b.sif", "wb").write(b)
	EOT
	expect 255 vial -q verify --key me.pub.pem b.sif
}

@test "provenance: a directory has none, which no digest names" {
	expect 0 vial -q build d.sif "$TREE"
	expect 255 vial inspect --provenance d.sif
	one_fatal_line "no provenance"
}

@test "inspect: who signed, from what, when" {
	expect 0 vial -q pull a.sif "docker://$REG_HOST/apps/tool:1.0"
	expect 0 vial -q key newpair me
	export SOURCE_DATE_EPOCH=1700000000
	expect 0 vial -q sign --key me.pem a.sif
	id=$(vial key show me.pub.pem | cut -d' ' -f1)
	expect 0 vial inspect --origin a.sif
	stdout_has "source: docker://$REG_HOST/apps/tool@$DIGEST"
	stdout_has "source digest: $DIGEST"
	stdout_has "key $id"
	stdout_has "2023-11-14T22:13:20Z (not verified: "
	expect 0 vial -q key import --name jane me.pub.pem
	expect 0 vial inspect --origin a.sif
	stdout_has "(valid, by jane, its signer is not trusted; file systems were not read)"
	expect 0 vial -q key trust jane
	expect 0 vial inspect --origin --json a.sif
	printf '%s' "$output" | python3 -c '
import json, sys
o = json.load(sys.stdin)["origin"]
assert o["sourceDigest"] == sys.argv[1] and o["sourceLayers"] == 2, o
s, = o["signatures"]
assert s["claims"] == [sys.argv[2]] and s["verdict"] == "valid" and s["signers"][0]["trusted"], s' "$DIGEST" "$id"
	expect 0 vial inspect --all a.sif
	printf '%s' "$output" | python3 -c 'import json, sys; assert json.load(sys.stdin)["origin"]["sourceDigest"]'
}

# ---- cosign ------------------------------------------------------------------------------------------------

@test "source key: a signature by each kind of key lets the image in, and another key does not" {
	for key in ec rsa ed; do
		clean_signatures
		cosign_sign "$KEYS/$key.key"
		expect 0 vial pull --force --source-key "$KEYS/$key.pub" a.sif "docker://$REG_HOST/apps/tool:1.0"
		stderr_has "$DIGEST is signed by $(vial key show "$KEYS/$key.pub" | cut -d' ' -f1)"
		expect 255 vial -q pull --source-key "$KEYS/other.pub" b.sif "docker://$REG_HOST/apps/tool:1.0"
		one_fatal_line "another key"
		[ ! -e b.sif ]
	done
	expect 0 vial -q pull --source-key "$KEYS/other.pub" --source-key "$KEYS/ed.pub" b.sif "docker://$REG_HOST/apps/tool:1.0"
	expect 0 vial exec b.sif true
}

@test "source key: refused before a layer is fetched, and nothing is made" {
	clean_signatures
	watch REG
	expect 255 vial -q pull --source-key "$KEYS/ec.pub" a.sif "docker://$PROXY_HOST/apps/tool:1.0"
	one_fatal_line "no cosign signature"
	[ ! -e a.sif ]
	watch PROXY
	[ "$(count_requests '^GET /v2/apps/tool/blobs/')" = 0 ]
	expect 255 vial -q build --source-key "$KEYS/ec.pub" a.sif "docker://$PROXY_HOST/apps/tool:1.0"
	[ ! -e a.sif ]
}

@test "source key: a good signature of something else does not count" {
	clean_signatures
	payload "sha256:$(printf x | sha256sum | cut -d' ' -f1)" >payload.json
	cosign_sign "$KEYS/ec.key" payload.json
	expect 255 vial -q pull --source-key "$KEYS/ec.pub" a.sif "docker://$REG_HOST/apps/tool:1.0"
	one_fatal_line "another image"
	payload "$DIGEST" "something else" >payload.json
	cosign_sign "$KEYS/ec.key" payload.json
	expect 255 vial -q pull --source-key "$KEYS/ec.pub" a.sif "docker://$REG_HOST/apps/tool:1.0"
	one_fatal_line "no signature of an image"
	printf 'no JSON' >payload.json
	cosign_sign "$KEYS/ec.key" payload.json
	expect 255 vial -q pull --source-key "$KEYS/ec.pub" a.sif "docker://$REG_HOST/apps/tool:1.0"
	payload "$DIGEST" >payload.json
	manifest "${DIGEST/:/-}.sig" "" "$(layer "$SIMPLE" payload.json "not base64")" >/dev/null
	expect 255 vial -q pull --source-key "$KEYS/ec.pub" a.sif "docker://$REG_HOST/apps/tool:1.0"
	one_fatal_line "base64"
	[ ! -e a.sif ]
}

@test "source key: an attestation alone is no signature" {
	clean_signatures
	statement https://example.org/predicate "$DIGEST" >statement.json
	envelope "$KEYS/ec.key" statement.json >envelope.json
	manifest "${DIGEST/:/-}.att" "" "$(layer application/vnd.dsse.envelope.v1+json envelope.json)" >/dev/null
	expect 255 vial -q pull --source-key "$KEYS/ec.pub" a.sif "docker://$REG_HOST/apps/tool:1.0"
	one_fatal_line "no signature"
}

@test "source key: a bundle among the referrers of a registry without their list" {
	clean_signatures
	statement https://sigstore.dev/cosign/sign/v1 "$DIGEST" >statement.json
	printf '{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":""}},"dsseEnvelope":%s}' \
		"$(envelope "$KEYS/ec.key" statement.json)" >bundle.json
	type=application/vnd.dev.sigstore.bundle.v0.3+json
	found=$(manifest bundle "\"artifactType\":\"$type\"," "$(layer "$type" bundle.json)")
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%s,"artifactType":"%s"}]}' \
		"$found" "$(stat -c %s manifest.json)" "$type" >index.json
	curl -sS --fail-with-body --noproxy '*' -o /dev/null -X PUT --data-binary @index.json \
		-H 'Content-Type: application/vnd.oci.image.index.v1+json' "http://$REG_HOST/v2/apps/tool/manifests/${DIGEST/:/-}"
	expect 0 vial -q pull --source-key "$KEYS/ec.pub" a.sif "docker://$REG_HOST/apps/tool:1.0"
	expect 255 vial -q pull --source-key "$KEYS/rsa.pub" b.sif "docker://$REG_HOST/apps/tool:1.0"
}

@test "with cosign: signatures and attestations are kept, under their digests, and only good ones with a key" {
	clean_signatures
	cosign_sign "$KEYS/ec.key"
	signature=$(cat signature-digest)
	statement https://example.org/predicate "$DIGEST" >statement.json
	envelope "$KEYS/ec.key" statement.json >good.json
	envelope "$KEYS/other.key" statement.json >bad.json
	type=application/vnd.dsse.envelope.v1+json
	manifest "${DIGEST/:/-}.att" "" "$(layer $type good.json),$(layer $type bad.json)" >/dev/null
	expect 0 vial pull --with-cosign --source-key "$KEYS/ec.pub" a.sif "docker://$REG_HOST/apps/tool:1.0"
	stderr_has "left at the registry"
	vial sif list --json a.sif | python3 -c '
import json, sys
names = [o.get("name", "") for o in json.load(sys.stdin)]
print(*sorted(n for n in names if n.startswith("cosign:")), sep="\n")' >names
	{
		echo "cosign:$signature"
		for f in payload.json good.json manifest.json; do echo "cosign:sha256:$(sha256sum <$f | cut -d' ' -f1)"; done
	} | sort | diff - names
	expect 0 vial inspect --origin a.sif
	stdout_has "cosign: 2 signed documents"
	# a signature of the image covers them
	expect 0 vial -q key newpair me
	expect 0 vial -q sign --key me.pem a.sif
	expect 0 vial -q verify --key me.pub.pem a.sif
	# without a key nothing is verified, and all of it kept
	expect 0 vial pull --with-cosign b.sif "docker://$REG_HOST/apps/tool:1.0"
	stderr_has "1 signatures and 2 attestations"
	stderr_has "not verified"
}

@test "source key: only registries have signatures, and a directory is no image file" {
	make_oci layout image '{}' "$TREE"
	expect 255 vial -q pull --source-key "$KEYS/ec.pub" a.sif oci:layout:image
	one_fatal_line "registries"
	expect 255 vial -q build --source-key "$KEYS/ec.pub" a.sif "$TREE"
	one_fatal_line "registries"
	expect 1 vial build --sandbox --source-key "$KEYS/ec.pub" a "docker://$REG_HOST/apps/tool:1.0"
	expect 255 vial -q pull --source-key "$KEYS/ec.key" a.sif "docker://$REG_HOST/apps/tool:1.0"
	one_fatal_line "private key"
	[ ! -e a.sif ] && [ ! -e a ]
}
