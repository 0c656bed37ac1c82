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
	stdout_has "# $HOME/.config/vial/vial.conf:1"$'\n'"compress = xz"
	stdout_has "# $PWD/etc/vial.conf.d/10-blocks.conf:1"$'\n'"block-size = 64K"
	stdout_has "# VIAL_BIND"$'\n'"bind = /env"
	stdout_has "# $PWD/etc/vial.conf:2"$'\n'"bind = /site"
	stdout_has "# APPTAINER_CACHEDIR"$'\n'"cachedir = $PWD/cache"
	stdout_lacks "compress = gzip"
	# what is printed is such a file again
	echo "$output" >again.conf
	unset VIAL_BIND APPTAINER_CACHEDIR VIAL_CONFIG_FILE
	rm -r "$HOME/.config"
	expect 0 vial -c "$PWD/again.conf" config
	for line in "compress = xz" "block-size = 64K" "bind = /env" "bind = /site" "cachedir = $PWD/cache"; do
		grep -qx "$line" <<<"$output" || complain "no $line"
	done
	mkdir -p "$HOME/.config/vial"
	echo 'compress = xz' >"$HOME/.config/vial/vial.conf"
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

@test "every key of --keys can be set, and shows" {
	expect 0 vial config --keys
	local keys
	keys=$(cut -d' ' -f1 <<<"$output")
	for k in $keys; do echo "$k = 1"; done >all.conf
	expect 0 vial -c "$PWD/all.conf" config --show
	stderr_lacks unknown
	for k in $keys; do grep -qx "$k = 1" <<<"$output" || complain "$k is not shown"; done
}

@test "no password can be configured or is shown" {
	site 'login-password = secret-in-file' 'docker-password = secret-in-file'
	export VIAL_LOGIN_PASSWORD=secret-in-env VIAL_DOCKER_PASSWORD=secret-in-env
	expect 0 vial config
	stdout_lacks secret
	stderr_has "unknown key 'login-password'"
	expect 0 vial config --json
	stdout_lacks secret
	expect 0 vial config --keys
	[ "$(grep -c "^[a-z-]*password" <<<"$output")" -eq 0 ]
}

@test "lists in files may have blanks after their commas" {
	make_rootfs tree
	mkdir one two
	site "bind = $PWD/one:/mnt , $PWD/two:/srv:ro"
	expect 0 vial exec tree test -d /mnt -a -d /srv
}

@test "a user's file that cannot be read stops nobody" {
	need_user
	make_rootfs tree
	mkdir -p "$HOME/.config/vial"
	echo 'compress = xz' >"$HOME/.config/vial/vial.conf"
	chmod 000 "$HOME/.config"
	vial exec tree true && vial -v config >out 2>err && ok=yes
	chmod 700 "$HOME/.config" # or nobody could remove it
	[ "${ok:-}" = yes ]
	grep -q "cannot read $HOME/.config/vial/vial.conf" err
	[ "$(grep -c xz out)" -eq 0 ]
}

@test "another program's configuration is not taken for ours" {
	printf '[section]\nallow setuid = yes\n' >apptainer.conf
	export APPTAINER_CONFIG_FILE=$PWD/apptainer.conf
	expect 0 vial config
	expect 0 vial -c /dev/null config
	expect 255 vial -c "$PWD/apptainer.conf" config
}

@test "the command line beats the environment, whatever the spelling" {
	make_rootfs tree
	make_oci layout latest '{}' tree
	local arch other=arm64
	arch=$(uname -m | sed 's/x86_64/amd64/;s/aarch64/arm64/')
	[ "$arch" != arm64 ] || other=amd64
	export VIAL_PLATFORM=linux/$other
	expect 0 vial build --arch "$arch" a.sif oci:layout:latest
	expect 255 vial build b.sif oci:layout:latest
	unset VIAL_PLATFORM
	export VIAL_ARCH=$other
	expect 0 vial build --platform "linux/$arch" c.sif oci:layout:latest
	unset VIAL_ARCH
	export VIAL_PWD=/etc
	expect 0 vial exec --pwd /tmp tree pwd
	stdout_is /tmp
	export VIAL_MKSQUASHFS_ARGS='-comp xz -b 256K'
	expect 0 vial build --mksquashfs-args '-comp gzip' d.sif oci:layout:latest
	unset VIAL_MKSQUASHFS_ARGS
	expect 0 vial build --compress gzip --block-size 256K e.sif oci:layout:latest
	[ "$(stat -c %s d.sif)" -eq "$(stat -c %s e.sif)" ]
}
