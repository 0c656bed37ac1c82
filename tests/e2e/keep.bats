# `vial hold`: containers that stay, for those who enter them.
load common
load images
setup_file() { make_images; }
setup() {
	common_setup
	export MARK=$BATS_TEST_NAME
}
teardown() { common_teardown; }

keep() { python3 -B "$HERE/keep.py" "$VIAL" "$@"; }
nothing_left() { python3 -B "$HERE/leftovers.py" "MARK=$MARK" "$SIF"; }

@test "who asks is let in, again and again, and its end is the container's" {
	run -0 keep "$SIF" 3 sh -c 'cat /etc/file; cat /proc/1/comm >/dev/null; touch /etc/new 2>/dev/null || echo read-only'
	[ "$output" = "$(printf 'in the image\nread-only\n%.0s' 1 2 3)" ]
	eventually nothing_left
}

@test "all who enter are in one container" {
	run -0 keep "$SIF" 4 sh -c 'stat -Lc %i /proc/self/ns/mnt /proc/self/ns/user'
	[ "$(sort -u <<<"$output" | wc -l)" -eq 2 ]
	[ "$(head -n 1 <<<"$output")" != "$(stat -Lc %i /proc/self/ns/mnt)" ]
}

@test "a home that is not wanted is not shown for being the working directory" {
	run -0 "$VIAL" exec "$SIF" sh -c 'echo "$HOME"'
	cd "$output"
	HOLD="--no-home --no-mount=tmp" run -0 keep "$SIF" 1 cat /proc/self/mountinfo
	[[ $output != *" $PWD "* ]]
	HOLD="--no-mount=tmp" run -0 keep "$SIF" 1 cat /proc/self/mountinfo
	[[ $output == *" $PWD "* ]]
}

@test "who asks is told why there is no container" {
	run -125 keep "$BATS_TEST_TMPDIR/none.sif" 1 true
	[[ $output == *"keeper: cannot open image $BATS_TEST_TMPDIR/none.sif: No such file or directory"* ]]
}

@test "a keeper needs a socket" {
	expect 1 vial hold "$SIF"
	stderr_has "--fd"
	expect 1 vial hold --fd 99 "$SIF"
	expect 125 vial hold --fd 7 "$SIF" 7</dev/null
	stderr_has "keeper's descriptor 7"
}
