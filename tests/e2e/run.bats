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
