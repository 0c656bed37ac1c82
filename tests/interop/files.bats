# The same command line, given to Apptainer and to vial under its name: same output, same status.
load ../e2e/common

apptainer() { "$HERE/../interop/run" --exec apptainer "$@"; }

setup_file() {
	cd "$BATS_FILE_TMPDIR" || return 1
	export HOME=$PWD LC_ALL=C
	BATS_TEST_TMPDIR=$PWD make_rootfs tree
	mkdir -p tree/scif/apps/foo/{bin,lib,scif/env} tree/scif/apps/bar tree/work
	printf '#!/bin/sh\necho "foo $SCIF_APPROOT $FOO" "$@"\n' >tree/scif/apps/foo/scif/runscript
	printf 'export FOO="at $SCIF_APPROOT"\n' >tree/scif/apps/foo/scif/env/90-environment.sh
	printf '#!/bin/sh\nexit 6\n' >tree/scif/apps/foo/scif/test
	chmod +x tree/scif/apps/foo/scif/{runscript,test}
	BATS_TEST_TMPDIR=$PWD make_oci layout latest '{"Env":["FROM_IMAGE=image"],"WorkingDir":"/work"}' tree
	"$VIAL" build image.sif oci:layout:latest
	apptainer build theirs.sif tree # has the files that make an app's environment there
	ln -s "$VIAL" apptainer
}

setup() {
	common_setup
	IMAGE=$BATS_FILE_TMPDIR/image.sif
	mkdir a b
	echo a >a/f
	echo b >b/f
}

# same ARG...: of apptainer
same() {
	run --separate-stderr apptainer "$@"
	local out=$output code=$status
	[ "$code" -ne 255 ] || [ -n "$stderr" ]
	expect "$code" "$BATS_FILE_TMPDIR/apptainer" "$@"
	stdout_is "$out"
}

@test "binds" {
	same exec -B "$PWD/a:/x:ro,$PWD/b" -B b:/y "$IMAGE" sh -c 'cat /x/f /y/f; echo "$APPTAINER_BIND $SINGULARITY_BIND"; touch /x/no'
	same exec --mount "type=bind,source=$PWD/a,target=/x,readonly" --mount "\"src=$PWD/b\",dst=/y" "$IMAGE" sh -c 'cat /x/f /y/f; touch /x/no'
	same exec -B "$PWD/a:/x" -B "$PWD/b:/x" "$IMAGE" cat /x/f
	same exec -B "$PWD/a:/x:shiny" "$IMAGE" true
	same exec -B /no/such:/x "$IMAGE" true
	same exec --mount "src=$PWD/a" "$IMAGE" true
	same exec --mount "src=$PWD/a,dst=/x,shiny" "$IMAGE" true
	APPTAINER_BIND="$PWD/a:/x" same exec -B "$PWD/b:/y" "$IMAGE" cat /x/f /y/f
	same exec -c -B /dev/null:/dev/other "$IMAGE" ls /dev/other
}

@test "home, scratch, workdir and where it starts" {
	mkdir wd wd2
	same exec -c "$IMAGE" sh -c 'ls ~ /tmp /var/tmp; [ "$(pwd)" = "$HOME" ] && echo home'
	same exec -H "$PWD/a:/home/me" "$IMAGE" sh -c 'echo $HOME; cat ~/f'
	same exec --no-home "$IMAGE" sh -c 'echo $HOME'
	same exec -S /scr "$IMAGE" sh -c 'touch /scr/f; ls /scr'
	same exec -S relative "$IMAGE" true
	same exec -c -W no/such "$IMAGE" true
	apptainer exec -c -W wd -S /scr "$IMAGE" sh -c 'touch /tmp/t /var/tmp/v /scr/s'
	"$BATS_FILE_TMPDIR/apptainer" exec -c -W wd2 -S /scr "$IMAGE" sh -c 'touch /tmp/t /var/tmp/v /scr/s'
	# a home below /tmp is made in there by one and not by the other
	expect 0 diff <(cd wd && find . | grep -v /vial-tests | sort) <(cd wd2 && find . | grep -v /vial-tests | sort)
	same exec --pwd /etc "$IMAGE" pwd
	same exec --pwd /no/such "$IMAGE" pwd
	same exec "$IMAGE" pwd
	cd /
	same exec "$IMAGE" pwd
	cd /usr
	same exec "$IMAGE" pwd
}

@test "files of variables" {
	cat >vars <<-"EOF2"
		A=1
		B="x $HOME $A"
		f() { echo "in $1"; }
		if [ "$A" = 1 ]; then C=$(f it); fi
		FROM_IMAGE=file
		PATH=$PATH:/added
	EOF2
	same exec --env-file vars "$IMAGE" sh -c 'echo "$A|$B|$C|$FROM_IMAGE|$PATH"'
	same exec --env-file vars --env A=2 "$IMAGE" sh -c 'echo $A'
	echo 'exit 3' >vars
	same exec --env-file vars "$IMAGE" true
	echo 'A=$(' >vars
	same exec --env-file vars "$IMAGE" true
	same exec --env-file no-such-file "$IMAGE" true
	same exec --env =1 "$IMAGE" true
	expect 1 apptainer exec --env nothing "$IMAGE" true
	expect 1 "$BATS_FILE_TMPDIR/apptainer" exec --env nothing "$IMAGE" true
	SINGULARITYENV_V=1 APPTAINERENV_V=2 same exec "$IMAGE" sh -c 'echo $V'
}

@test "apps" {
	IMAGE=$BATS_FILE_TMPDIR/theirs.sif
	same run --app foo "$IMAGE" 'a b' c
	same test --app foo "$IMAGE"
	same exec --app foo "$IMAGE" sh -c 'echo "$FOO $PATH $SCIF_APPS $APPTAINER_APPNAME"'
	same run --app bar "$IMAGE"
	expect 1 apptainer exec --app none "$IMAGE" true
	expect 1 "$BATS_FILE_TMPDIR/apptainer" exec --app none "$IMAGE" true
	same run-help "$IMAGE"
}
