# Images to run, made once per file: `load images` after `load common`, and in setup_file
# `make_images`. $SIF, $SQUASHFS and $TREE are the same root.

make_images() {
	TREE=$BATS_FILE_TMPDIR/tree SIF=$BATS_FILE_TMPDIR/test.sif SQUASHFS=$BATS_FILE_TMPDIR/test.sqfs
	export TREE SIF SQUASHFS
	make_rootfs "$TREE"
	copy_program "$TREE" bash sort tty stty ps dd
	ln -s usr/bin "$TREE/linked"
	mkdir "$TREE/etc/dir"
	printf 'in the image\n' >"$TREE/etc/file"
	chmod -R go+rX "$TREE"
	make_sif "$SIF" "$TREE"
	"$VIAL" sif dump 4 "$SIF" >"$SQUASHFS"
}

# make_sif OUT TREE
make_sif() { "$VIAL" -q build --force "$1" "$2"; }

# inside TEXT [ARG...]: runs a shell text in the image.
inside() { "$VIAL" exec "$SIF" sh -c "$@"; }

# Waits until CMD succeeds, for at most a minute, however slow the machine; the poll is the test's, not the program's.
eventually() {
	local i
	for ((i = 0; i < 1200; i++)); do
		if "$@"; then return 0; fi
		sleep 0.05
	done
	return 1
}
