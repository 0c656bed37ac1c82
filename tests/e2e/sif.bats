#!/usr/bin/env bats
load common

DATA=$HERE/../data/sif

@test "sif list: the columns that scripts cut" {
	expect 0 vial sif list "$DATA/valid/signed-p256.sif"
	stdout_is "------------------------------------------------------------------------------
ID   |GROUP   |LINK    |SIF POSITION (start-end)  |TYPE
------------------------------------------------------------------------------
1    |1       |NONE    |8776-8808                 |Def.FILE
2    |1       |NONE    |8808-8945                 |JSON.Generic
3    |1       |NONE    |12288-16384               |FS (Squashfs/*System/amd64)
4    |NONE    |1   (G) |16384-17594               |Signature (SHA-256)"
	expect 0 vial sif list --json "$DATA/valid/signed-p256.sif"
	echo "$output" | python3 -c '
import json, sys
j = json.load(sys.stdin)
assert [o["id"] for o in j] == [1, 2, 3, 4] and j[3]["linkedGroup"] == 1 and j[2]["partition"] == "*System"'
}

@test "sif header and info" {
	expect 0 vial sif header "$DATA/valid/signed-p256.sif"
	stdout_has "Launch Script:        #!/usr/bin/env run-singularity"
	stdout_has "Primary Architecture: amd64"
	stdout_has "Created At:           2023-11-14 22:13:20 +0000 UTC"
	stdout_has "Descriptors Total:    8"
	expect 0 vial sif header "$DATA/valid/deterministic-signed-p256.sif"
	stdout_lacks "Created At"
	stdout_lacks "ID:"
	expect 0 vial sif info 3 "$DATA/valid/signed-p256.sif"
	stdout_has "  Filesystem Type:  Squashfs"
	expect 255 vial sif info 9 "$DATA/valid/signed-p256.sif"
	one_fatal_line "no object 9"
	expect 1 vial sif info x "$DATA/valid/signed-p256.sif"
}

@test "sif: new, add, dump, del, setprim" {
	vial sif new i.sif
	[ "$(stat -c %s i.sif)" -eq 32176 ]
	expect 255 vial sif new i.sif
	one_fatal_line i.sif
	head -c 5000 /dev/urandom >a
	expect 0 vial sif add i.sif a --datatype 4 --parttype 2 --partfs 1 --partarch 4 --groupid 1
	expect 0 vial sif add i.sif a --datatype 4 --parttype 1 --partfs 1 --partarch 2 --groupid 1
	expect 255 vial sif add i.sif a --datatype 4 --parttype 2 --partfs 1 --partarch 2
	one_fatal_line primary
	expect 0 vial sif add i.sif a --datatype 7 --filename other --link 2 --alignment 512
	vial sif dump 3 i.sif | cmp - a
	expect 0 vial sif info 3 i.sif
	stdout_has "Name:"
	stdout_has "other"
	[ $(($(vial sif list --json i.sif | python3 -c 'import json,sys; print(json.load(sys.stdin)[2]["offset"])') % 512)) -eq 0 ]
	expect 0 vial sif header i.sif
	stdout_has "arm64"
	expect 0 vial sif setprim 2 i.sif
	expect 0 vial sif header i.sif
	stdout_has "amd64"
	expect 255 vial sif setprim 3 i.sif
	expect 0 vial sif del 2 i.sif
	expect 0 vial sif header i.sif
	stdout_lacks "Primary"
	stdout_has "Descriptors Free:   46"
	expect 255 vial sif del 2 i.sif
}

@test "sif add: refusals leave the file as it was" {
	vial sif new --slots 1 i.sif
	echo x >x
	vial sif add i.sif x --datatype 7
	cp i.sif before
	expect 255 vial sif add i.sif x --datatype 7
	one_fatal_line "no free descriptor"
	expect 1 vial sif add i.sif x
	expect 255 vial sif add i.sif i.sif --datatype 7
	expect 255 vial sif add i.sif x --datatype 4
	expect 255 vial sif add i.sif . --datatype 7
	expect 255 vial sif add i.sif x --datatype 9 --sbomformat nonsense
	cmp i.sif before
}

@test "sif add: all data types, as others list them" {
	local n
	vial sif new i.sif
	echo text >f
	for n in 1 2 3 6 7 8; do vial sif add i.sif f --datatype $n --groupid 1; done
	vial sif add i.sif f --datatype 9 --sbomformat spdx-json
	vial sif add i.sif f --datatype 10
	vial sif add i.sif f --datatype 11
	vial sif add i.sif f --datatype 5 --signhash 1 --signentity 433FE984155206BD962725E20E8713472A879943
	expect 0 vial sif list i.sif
	for n in Def.FILE Env.Vars JSON.Labels JSON.Generic Generic/Raw "Cryptographic Message" "SBOM (spdx-json)" OCI.RootIndex \
		OCI.Blob "Signature (SHA-256)"; do stdout_has "|$n"; done
	expect 0 vial sif info 9 i.sif
	stdout_has "sha256:$(sha256sum <f | cut -d' ' -f1)"
	expect 0 vial sif info 10 i.sif
	stdout_has 433FE984155206BD962725E20E8713472A879943
}

@test "sif: what is no image" {
	mkfifo fifo
	for f in /dev/null fifo . "$DATA/manifest.tsv"; do
		expect 255 timeout 100 "$VIAL" sif list "$f"
		one_fatal_line
	done
}
