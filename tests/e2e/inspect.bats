#!/usr/bin/env bats
# shellcheck disable=SC2034 # columns of a manifest; COMMAND is complain's
load common

DATA=$HERE/../data/sif

@test "inspect: the whole corpus, without crash or change" {
	local file verify inspect made why
	need_user # what a file holds has nothing to do with who asks
	cp -r "$DATA"/*/ .
	sha256sum -b -- */*.sif >before
	while IFS=$'\t' read -r file verify inspect made why; do
		COMMAND="vial inspect $file  # $why"
		run --separate-stderr timeout 100 "$VIAL" inspect "$file"
		case $inspect:$status in
		0:0 | any:0) ;;
		nz:255 | any:255) one_fatal_line "$file" ;;
		*) complain "expected $inspect, got $status" ;;
		esac
		run --separate-stderr timeout 100 "$VIAL" inspect --all --digests "$file"
		[ "$status" -eq 0 ] || [ "$status" -eq 255 ] || complain "--all gives $status"
	done < <(tail -n +2 "$DATA/manifest.tsv")
	sha256sum --quiet -c before
}

# image_with METADATA-JSON: app.sif with that metadata object
image_with() {
	printf '%s' "$1" >inspect-metadata.json
	vial sif new app.sif
	vial sif add app.sif inspect-metadata.json --datatype 6 --groupid 1
}

META='{"data":{"attributes":{"labels":{"b":"2","a":"1"},"runscript":"#!/bin/sh\necho run","deffile":"bootstrap: x",
"environment":{"/.singularity.d/env/90.sh":"export A=1"},"apps":{"foo":{"runscript":"foo run","labels":{"x":"y"}}}}},"type":"container"}'

@test "inspect: labels are key: value lines, sorted" {
	image_with "$META"
	expect 0 vial inspect app.sif
	stdout_is $'a: 1\nb: 2'
}

@test "inspect: single parts" {
	image_with "$META"
	expect 0 vial inspect -r app.sif
	stdout_is $'#!/bin/sh\necho run'
	expect 0 vial inspect --deffile app.sif
	stdout_is 'bootstrap: x'
	expect 0 vial inspect -e app.sif
	stdout_has '=== /.singularity.d/env/90.sh ==='
	stdout_has 'export A=1'
	expect 0 vial inspect --list-apps app.sif
	stdout_is foo
	expect 0 vial inspect --app foo -r app.sif
	stdout_is 'foo run'
	expect 255 vial inspect --app bar app.sif
	one_fatal_line bar
	expect 0 vial inspect -H app.sif
	stdout_is ''
}

@test "inspect: JSON has the known shape, absent parts are left out" {
	image_with "$META"
	expect 0 vial inspect --json app.sif
	echo "$output" | python3 -c '
import json, sys
assert json.load(sys.stdin) == {"data": {"attributes": {"labels": {"a": "1", "b": "2"}}}, "type": "container"}'
	expect 0 vial inspect --all app.sif
	echo "$output" | python3 -c '
import json, sys
a = json.load(sys.stdin)["data"]["attributes"]
assert sorted(a) == ["apps", "deffile", "environment", "labels", "runscript"], a'
}

@test "inspect: labels of the OCI configuration when there is no metadata" {
	printf '{"Labels":{"k":"v"}}' >oci-config.json
	vial sif new app.sif
	vial sif add app.sif oci-config.json --datatype 6 --groupid 1
	expect 0 vial inspect app.sif
	stdout_is 'k: v'
}

@test "inspect: an image that says nothing is described by its descriptors" {
	vial sif new app.sif
	expect 0 vial inspect app.sif
	stdout_has "sif.objects: 0"
	expect 0 vial inspect "$DATA/valid/luks-labelled-signed-p256.sif"
	stderr_has "encrypted"
}

@test "inspect: control bytes do not reach the terminal's line" {
	image_with '{"data":{"attributes":{"labels":{"a":"x\u001b[2J\ny"}}}}'
	expect 0 vial inspect app.sif
	[ "$(printf '%s\n' "$output" | wc -l)" -eq 1 ]
	[[ $output != *$'\e'* ]]
}

@test "inspect: digests of objects are those of their data" {
	image_with "$META"
	expect 0 vial inspect --digests app.sif
	stdout_has "object 1: sha256:$(sha256sum <inspect-metadata.json | cut -d' ' -f1)"
}
