# vial sbom: bills of materials made, attached and shown.
load common

setup_file() {
	export TREE=$BATS_FILE_TMPDIR/tree
	mkdir -p "$TREE"/{bin,etc,usr/lib,lib/apk/db,var/lib/dpkg/status.d,usr/lib/python3/dist-packages/{numpy-1.24.2.dist-info,six.egg-info}} \
		"$TREE/var/lib/rpm"
	printf 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12"\n' >"$TREE/usr/lib/os-release"
	ln -s ../usr/lib/os-release "$TREE/etc/os-release"
	cat >"$TREE/var/lib/dpkg/status" <<-'EOT'
		Package: libc6
		Status: install ok installed
		Architecture: amd64
		Source: glibc
		Version: 2.36-9+deb12u1

		Package: removed
		Status: deinstall ok config-files
		Architecture: amd64
		Version: 1
	EOT
	printf 'Package: distroless\nVersion: 1\nArchitecture: all\n' >"$TREE/var/lib/dpkg/status.d/distroless"
	printf '0123  ./usr/bin/x\n' >"$TREE/var/lib/dpkg/status.d/distroless.md5sums"
	printf 'P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\n\n' >"$TREE/lib/apk/db/installed"
	printf 'Name: numpy\nVersion: 1.24.2\nLicense: BSD-3-Clause\n\nName: not this\n' \
		>"$TREE/usr/lib/python3/dist-packages/numpy-1.24.2.dist-info/METADATA"
	printf 'Name: six\nVersion: 1.16\n' >"$TREE/usr/lib/python3/dist-packages/six.egg-info/PKG-INFO"
	printf 'Name: Under_Score\nVersion: 2\n' >"$TREE/usr/lib/python3/dist-packages/under.egg-info"
	python3 - "$TREE/var/lib/rpm/rpmdb.sqlite" <<-'EOT'
		import sqlite3, struct, sys
		index = data = b""
		for tag, kind, value in ((1000, 6, "bash"), (1001, 6, "5.1"), (1002, 6, "9.el9"), (1003, 4, 3), (1022, 6, "x86_64"),
		                         (1014, 6, "GPLv3+"), (1044, 6, "bash-5.1-9.el9.src.rpm")):
		    index += struct.pack(">IIII", tag, kind, len(data), 1)
		    data += value.encode() + b"\0" if kind == 6 else struct.pack(">I", value)
		c = sqlite3.connect(sys.argv[1])
		c.execute("PRAGMA journal_mode=WAL")
		c.execute("CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
		c.execute("INSERT INTO Packages (blob) VALUES (?)", (struct.pack(">II", 7, len(data)) + index + data,))
		c.commit()
		c.close()
	EOT
	chmod -R go+rX "$TREE"
	export SIF=$BATS_FILE_TMPDIR/test.sif
	"$VIAL" -q build "$SIF" "$TREE"
}
setup() {
	common_setup
	export SOURCE_DATE_EPOCH=1700000000
}
teardown() { common_teardown; }

# The packages of an SPDX or CycloneDX document, by their URLs.
purls() {
	python3 -c '
import json, sys
d = json.load(open(sys.argv[1]))
if "spdxVersion" in d:
    found = [r["referenceLocator"] for p in d["packages"] for r in p.get("externalRefs", [])]
else:
    found = [c["purl"] for c in d["components"] if "purl" in c]
print(*sorted(found), sep="\n")' "$1"
}

wanted() {
	cat <<-'EOT'
		pkg:apk/debian/musl@1.2.5-r0?arch=x86_64&distro=debian-12
		pkg:deb/debian/distroless@1?arch=all&distro=debian-12
		pkg:deb/debian/libc6@2.36-9%2Bdeb12u1?arch=amd64&distro=debian-12&upstream=glibc
		pkg:pypi/numpy@1.24.2
		pkg:pypi/six@1.16
		pkg:pypi/under-score@2
		pkg:rpm/debian/bash@5.1-9.el9?arch=x86_64&distro=debian-12&epoch=3
	EOT
}

@test "sbom create: every kind of package, as SPDX 2.3" {
	expect 0 vial sbom create "$SIF"
	stderr_is ""
	printf '%s' "$output" >out.json
	diff <(purls out.json) <(wanted)
	python3 - <<-'EOT'
		import json, re
		d = json.load(open("out.json"))
		assert d["spdxVersion"] == "SPDX-2.3" and d["dataLicense"] == "CC0-1.0" and d["SPDXID"] == "SPDXRef-DOCUMENT"
		assert d["name"] and re.match(r"urn:uuid:[0-9a-f-]{36}$", d["documentNamespace"])
		assert d["creationInfo"]["created"] == "2023-11-14T22:13:20Z"
		assert re.match(r"Tool: vial-", d["creationInfo"]["creators"][0])
		ids = [p["SPDXID"] for p in d["packages"]]
		assert len(ids) == len(set(ids)) and all(re.match(r"SPDXRef-[A-Za-z0-9.-]+$", i) for i in ids)
		for p in d["packages"]:
		    assert p["name"] and p["downloadLocation"] == "NOASSERTION" and p["filesAnalyzed"] is False
		related = {(r["spdxElementId"], r["relationshipType"], r["relatedSpdxElement"]) for r in d["relationships"]}
		assert ("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image") in related
		assert {("SPDXRef-image", "CONTAINS", i) for i in ids if i != "SPDXRef-image"} <= related
		assert "comment" not in d
	EOT
}

@test "sbom create: the same packages as CycloneDX 1.5" {
	expect 0 vial sbom create --format cyclonedx-json "$SIF"
	printf '%s' "$output" >out.json
	diff <(purls out.json) <(wanted)
	python3 - <<-'EOT'
		import json, re
		d = json.load(open("out.json"))
		assert d["bomFormat"] == "CycloneDX" and d["specVersion"] == "1.5" and d["version"] == 1
		assert re.match(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", d["serialNumber"])
		m = d["metadata"]
		assert m["timestamp"] == "2023-11-14T22:13:20Z" and m["component"]["type"] == "container"
		assert m["tools"]["components"][0]["name"] == "vial"
		refs = [c["bom-ref"] for c in d["components"]] + [m["component"]["bom-ref"]]
		assert len(refs) == len(set(refs))
		by = {c["name"]: c for c in d["components"]}
		assert by["debian"]["type"] == "operating-system" and by["debian"]["version"] == "12"
		assert by["musl"]["licenses"] == [{"license": {"name": "MIT"}}]
		assert by["numpy"]["properties"] == [{"name": "vial:path",
		    "value": "usr/lib/python3/dist-packages/numpy-1.24.2.dist-info/METADATA"}]
		assert d["compositions"] == [{"aggregate": "unknown", "assemblies": ["image"]}]
	EOT
}

@test "sbom create: of a directory and of a squashfs file as of a SIF" {
	vial sbom create --format cyclonedx-json "$SIF" >a
	expect 0 vial sbom create --format cyclonedx-json "$TREE"
	diff <(purls a) <(purls <(printf '%s' "$output"))
	vial sif dump 4 "$SIF" >a.squashfs
	expect 0 vial sbom create --format cyclonedx-json a.squashfs
	diff <(purls a) <(purls <(printf '%s' "$output"))
}

@test "sbom create: a database that is not read is named on stderr and in the document" {
	mkdir -p t/var/lib/rpm t/usr/lib/sysimage/rpm
	printf 'old' >t/var/lib/rpm/Packages
	head -c 9000 /dev/zero >t/usr/lib/sysimage/rpm/Packages.db
	expect 0 vial -q build t.sif t
	expect 0 vial sbom create t.sif
	stderr_has "var/lib/rpm/Packages: it is no Berkeley DB"
	stderr_has "usr/lib/sysimage/rpm/Packages.db: "
	printf '%s' "$output" | python3 -c '
import json, sys
c = json.load(sys.stdin)["comment"]
assert "var/lib/rpm/Packages" in c and "Packages.db" in c, c'
	expect 0 vial -q sbom create --format cyclonedx-json t.sif
	printf '%s' "$output" | python3 -c '
import json, sys
d = json.load(sys.stdin)
assert d["compositions"][0]["aggregate"] == "incomplete"
assert len(d["metadata"]["properties"]) == 2'
}

@test "sbom attach, show: in the group that a signature covers, and found again byte for byte" {
	cp "$SIF" a.sif
	vial sbom create a.sif >spdx.json
	expect 0 vial sbom attach a.sif spdx.json
	expect 0 vial sbom show a.sif
	vial sbom show a.sif | cmp - spdx.json
	vial inspect --sbom a.sif | cmp - spdx.json
	expect 0 vial sif list a.sif
	stdout_has "SBOM (spdx-json)"
	expect 255 vial sbom attach a.sif spdx.json
	one_fatal_line "--force"
	vial sbom create --format cyclonedx-json a.sif >cdx.json
	expect 0 vial sbom attach a.sif - <cdx.json
	vial sbom show --format cyclonedx-json a.sif | cmp - cdx.json
	vial sbom show a.sif | cmp - spdx.json
	expect 0 vial -q key newpair me
	expect 0 vial -q sign --key me.pem a.sif
	expect 0 vial -q verify --key me.pub.pem a.sif
	echo '{"spdxVersion":"SPDX-2.3"}' >other.json
	expect 0 vial sbom attach --force a.sif other.json
	stderr_has "sign it again"
	vial sbom show --format spdx-json a.sif | cmp - other.json
	expect 255 vial -q verify --key me.pub.pem a.sif
	expect 0 vial inspect --origin a.sif
	stdout_has "sbom: cyclonedx-json"
}

@test "sbom create --attach: makes and attaches, and the image still runs" {
	cp "$SIF" a.sif
	expect 0 vial sbom create --attach a.sif
	stdout_is ""
	diff <(purls <(vial sbom show a.sif)) <(wanted)
	expect 255 vial sbom create --attach a.sif
	one_fatal_line "--force"
	expect 0 vial -q sbom create --attach --force a.sif
	expect 0 vial cat a.sif:/usr/lib/os-release
}

@test "sbom attach: what is no bill of materials is refused, and a format may be named" {
	cp "$SIF" a.sif
	echo 'name: value' >a.yaml
	expect 255 vial sbom attach a.sif a.yaml
	one_fatal_line "--format"
	echo '{}' >b.json
	expect 255 vial sbom attach a.sif b.json
	one_fatal_line "neither CycloneDX nor SPDX"
	expect 1 vial sbom attach --format word a.sif a.yaml
	expect 255 vial sbom attach a.sif missing.json
	cmp a.sif "$SIF"
	expect 0 vial sbom attach --format spdx-yaml a.sif a.yaml
	vial sbom show a.sif | cmp - a.yaml
	expect 255 vial sbom show "$SIF"
	one_fatal_line "sbom create"
	expect 255 vial sbom show --format syft-json a.sif
	expect 255 vial inspect --sbom "$SIF"
	one_fatal_line "no bill of materials"
}
