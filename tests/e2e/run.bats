load common
load images
setup_file() {
	make_images
	BATS_TEST_TMPDIR=$BATS_FILE_TMPDIR make_oci "$BATS_FILE_TMPDIR/oci" latest '{"Entrypoint":["/bin/sh","-c","printf \"<%s>\" \"$@\"","sh"],"Cmd":["default"]}' "$TREE"
	APP=$BATS_FILE_TMPDIR/app.sif
	export APP
	"$VIAL" -q build "$APP" "oci:$BATS_FILE_TMPDIR/oci:latest"
}

@test "run: the runscript with arguments, or with the image's own" {
	expect 0 vial run "$APP"
	stdout_is "<default>"
	expect 0 vial run "$APP" 'a b' c
	stdout_is "<a b><c>"
}

@test "run: /bin/sh when there is no runscript" {
	expect 3 bash -c 'echo "exit 3" | "$VIAL" run "$1"' - "$SQUASHFS"
	expect 0 vial run "$TREE" -c 'echo sh'
	stdout_is sh
}

@test "./image.sif and run-singularity are run" {
	mkdir bin
	ln -s "$VIAL" bin/run-singularity
	chmod +x "$APP"
	PATH=$PWD/bin:$PATH expect 0 "$APP" one two
	stdout_is "<one><two>"
}

@test "shell takes its program from --shell" {
	expect 0 vial shell --shell /bin/cat "$TREE" </dev/null
	expect 0 bash -c 'echo "echo from \$0" | "$VIAL" shell "$1"' - "$TREE"
	stdout_has "from /bin/bash"
}

@test "test: the image's own, or a word that there is none" {
	expect 0 vial test "$SIF"
	stderr_has "no test"
	cp -a "$TREE" t
	mkdir -p t/.singularity.d
	printf '#!/bin/sh\nexit 5\n' >t/.singularity.d/test
	chmod +x t/.singularity.d/test
	expect 5 vial test t
}

# apps: foo has everything, bar is empty
app_image() {
	cp -a "$TREE" t
	mkdir -p t/scif/apps/foo/{bin,lib,scif/env} t/scif/apps/bar
	printf '#!/bin/sh\nprintf "run<%%s>" "$@"\n' >t/scif/apps/foo/scif/runscript
	printf '#!/bin/sh\nexit 6\n' >t/scif/apps/foo/scif/test
	printf 'help of foo\n' >t/scif/apps/foo/scif/runscript.help
	printf 'export FOO="at $SCIF_APPROOT"\n' >t/scif/apps/foo/scif/env/90-environment.sh
	chmod +x t/scif/apps/foo/scif/{runscript,test}
	if [ "${1:-}" = shell ]; then echo 'export NEEDS=$(echo a shell)' >>t/scif/apps/foo/scif/env/90-environment.sh; fi
	make_sif apps.sif t
}

@test "--app: program, test, help and environment of one app" {
	local kind
	for kind in plain shell; do
		rm -rf t
		app_image "$kind"
		expect 0 vial run --app foo apps.sif 'a b' c
		stdout_is "run<a b>run<c>"
		expect 6 vial test --app foo apps.sif
		expect 0 vial exec --app foo apps.sif sh -c 'echo "$FOO|$PATH|$SCIF_APPS|$APPTAINER_APPNAME|$SINGULARITY_APPNAME|$LD_LIBRARY_PATH"'
		stdout_is "at /scif/apps/foo|/scif/apps/foo/bin:/scif/apps/foo:/scif/apps/singularity:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin|/scif/apps|foo|foo|/scif/apps/foo/lib"
		APPTAINER_APPNAME=foo expect 0 vial run apps.sif x
		stdout_is "run<x>"
		expect 0 vial run-help --app foo apps.sif
		stdout_is "help of foo"
	done
	expect 1 vial run --app bar apps.sif
	one_fatal_line "'bar' of $PWD/apps.sif has no runscript"
	expect 1 vial test --app bar apps.sif
	expect 1 vial exec --app none apps.sif true
	one_fatal_line "no app 'none'"
	expect 125 vial exec --app 'a/../b' apps.sif true
	one_fatal_line "--app"
}

@test "run-help prints the image's help, or says that there is none" {
	expect 0 vial run-help "$SIF"
	stdout_has "No help sections"
	cp -a "$TREE" t
	mkdir -p t/.singularity.d
	printf 'how to\nuse it\n' >t/.singularity.d/runscript.help
	expect 0 vial run-help t
	stdout_is $'how to\nuse it'
}

@test "WORKDIR: where the program starts when the container does not show the host's directory" {
	cp -a "$TREE" t
	mkdir t/work
	make_oci layout latest '{"WorkingDir":"/work"}' t
	"$VIAL" -q build work.sif oci:layout:latest
	image=$PWD/work.sif
	ln -s "$VIAL" apptainer
	old=$PWD/apptainer
	expect 0 vial exec work.sif pwd
	stdout_is "$PWD"
	expect 0 vial exec --contain work.sif pwd
	stdout_is /work
	expect 0 vial exec --oci-defaults work.sif pwd
	stdout_is /work
	expect 0 vial exec --contain --cwd /etc work.sif pwd
	stdout_is /etc
	expect 0 "$old" exec --contain work.sif sh -c '[ "$(pwd)" = "$HOME" ]'
	cd /usr
	expect 0 vial exec "$image" pwd
	stdout_is /work
	expect 0 "$old" exec "$image" pwd
	stdout_is /usr
}
