#!/usr/bin/env bats
# Configuration: the site's file, its drop-ins, the user's file, the environment.
load common

site() { # TEXT: makes the site's configuration
	mkdir -p etc/vial.conf.d
	printf '%s\n' "$@" >etc/vial.conf
	export VIAL_CONFIG_FILE=$PWD/etc/vial.conf
}

@test "config --show tells each value and where it comes from" {
	site 'compress = gzip' 'bind = /site'
	echo 'block-size = 64K' >etc/vial.conf.d/10-blocks.conf
	mkdir -p "$HOME/.config/vial"
	echo 'compress = xz' >"$HOME/.config/vial/vial.conf"
	export VIAL_BIND=/env APPTAINER_CACHEDIR=$PWD/cache
	expect 0 vial config --show
	grep -qE "^compress = xz +# $HOME/.config/vial/vial.conf:1$" <<<"$output" || complain "no compress"
	grep -qE "^block-size = 64K +# $PWD/etc/vial.conf.d/10-blocks.conf:1$" <<<"$output" || complain "no block-size"
	grep -qE "^bind = /env +# VIAL_BIND$" <<<"$output" || complain "no bind of the environment"
	grep -qE "^bind = /site +# $PWD/etc/vial.conf:2$" <<<"$output" || complain "no bind of the site"
	grep -qE "^cachedir = $PWD/cache +# APPTAINER_CACHEDIR$" <<<"$output" || complain "no cachedir"
	expect 0 vial config --json
	[ "$(python3 -c 'import json,sys; print([x["value"] for x in json.load(sys.stdin) if x["key"] == "compress"])' <<<"$output")" = "['xz']" ]
}

@test "a key that does not exist is named, with the nearest one" {
	site 'compres = gzip'
	expect 0 vial config --show
	stderr_has "etc/vial.conf:1: unknown key 'compres'; did you mean 'compress'?"
}

@test "a broken line stops every command and says where" {
	site 'compress = gzip' 'what is this'
	expect 255 vial config
	one_fatal_line "etc/vial.conf:2"
	expect 255 vial exec nothing.sif true
	one_fatal_line "etc/vial.conf:2"
	expect 0 vial --version
	expect 0 vial help
}

@test "a configuration that was asked for must exist" {
	expect 255 vial --config "$PWD/none.conf" config
	one_fatal_line "none.conf"
}

@test "a setting does what its option does" {
	make_rootfs tree
	make_oci layout latest '{}' tree
	site 'compress = gzip'
	expect 0 vial build gz.sif oci:layout:latest
	expect 0 vial build --compress zstd:3 zst.sif oci:layout:latest
	unset VIAL_CONFIG_FILE
	expect 0 vial build default.sif oci:layout:latest
	[ "$(stat -c %s zst.sif)" -eq "$(stat -c %s default.sif)" ]
	[ "$(stat -c %s gz.sif)" -ne "$(stat -c %s default.sif)" ]
	expect 0 vial -c "$PWD/etc/vial.conf" build gz2.sif oci:layout:latest
	cmp gz.sif gz2.sif
}

@test "binds of the site are there in every container" {
	make_rootfs tree
	mkdir shared
	echo data >shared/file
	site "bind = $PWD/shared:/mnt"
	expect 0 vial exec tree cat /mnt/file
	stdout_is data
}

@test "every key of --keys can be set" {
	expect 0 vial config --keys
	local keys
	keys=$(cut -d' ' -f1 <<<"$output")
	for k in $keys; do echo "$k = 1"; done >all.conf
	expect 0 vial -c "$PWD/all.conf" config --show
	stderr_lacks unknown
}
