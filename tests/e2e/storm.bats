# Many starts, many at once, and violence: nothing is left of them, and the next start works.
load common
load images

setup_file() {
	make_images
	mkdir -p "$TREE/data"
	for i in 1 2 3 4 5 6 7 8; do seq "$i" 3 700000 >"$TREE/data/$i"; done
	mksquashfs "$TREE" "$BATS_FILE_TMPDIR/data.sqfs" -noappend -quiet -no-progress -comp zstd >/dev/null
}

setup() {
	common_setup
	export MARK=$BATS_FILE_TMPDIR/$BATS_TEST_NAME XDG_RUNTIME_DIR=$PWD/run
	mkdir -m 700 run tmp
	export TMPDIR=$PWD/tmp
	expect 0 vial exec "$SIF" true # whatever a first start makes once is made
	nothing_left
	before=$(state)
}

# what could be left besides processes and what they hold: mounts and files
state() {
	grep -vc ' /tmp/vial-.* fuse\.vial ' /proc/self/mountinfo # but for those of mountcmd.bats
	find "$HOME" run tmp ! -name 'tsan.rodata.*' | sort # a sanitizer's, killed as it began
	find /tmp /run /dev/shm -maxdepth 1 -user "$(id -u)" -name '*vial*' ! -name 'vial-tests.*' ! -name 'vial-unit-*' \
		! -name vial-fuse-mode ! -name 'vial-slurm.*' ! -name 'vial-[0-9]*' 2>/dev/null | sort # but for those of tests that run meanwhile
}
nothing_left() { python3 -B "$HERE/leftovers.py" "MARK=$MARK" "$SIF" "$SQUASHFS"; }
same_as_before() {
	nothing_left
	diff <(echo "$before") <(state)
	expect 0 vial exec "$SIF" cat /etc/file
	stdout_is 'in the image'
	nothing_left
}

@test "1,000 starts and stops leave nothing" {
	# four rows of them, so that starts and ends of one image meet
	local row pids=()
	for row in 1 2 3 4; do
		(
			for ((i = 0; i < 250; i++)); do "$VIAL" exec "$SIF" true || echo "start $i of row $row: $?"; done
		) >failed."$row" 2>&1 3>&- &
		pids+=($!)
	done
	wait "${pids[@]}"
	[ ! -s failed.1 ] && [ ! -s failed.2 ] && [ ! -s failed.3 ] && [ ! -s failed.4 ] || { head failed.* && false; }
	same_as_before
}

@test "64 starts at once: each gets its own, and nothing is left" {
	local i image pids=()
	for ((i = 0; i < 64; i++)); do
		image=$SIF
		[ $((i % 4)) -ne 0 ] || image=$SQUASHFS
		"$VIAL" exec "$image" sh -c 'cat /etc/file; read -r x; echo "$1 $x"' sh "$i" <<<"in $i" >out."$i" 2>err."$i" 3>&- &
		pids+=($!)
	done
	wait "${pids[@]}" || true # what each said tells more
	for ((i = 0; i < 64; i++)); do
		[ "$(cat out."$i")" = "in the image
$i in $i" ] || { echo "start $i:" && cat out."$i" err."$i" && false; }
	done
	same_as_before
}

@test "kill -9 of anything at any moment: all ends, and nothing is left" {
	local seed
	for seed in 1 2 3; do
		run timeout 500 python3 -B "$HERE/storm.py" "$seed" 60 "$SIF" "$SQUASHFS"
		echo "# seed $seed: $output"
		[ "$status" -eq 0 ]
	done
	nothing_left
	expect 0 vial exec "$SIF" true # a killed holder leaves its socket, which the next one takes away
	same_as_before
}

# under_load FUNCTION: eight readers of data.sqfs' copy in a container, and FUNCTION while they are at it
under_load() {
	cp "$BATS_FILE_TMPDIR/data.sqfs" image.sqfs
	# shellcheck disable=SC2016 # expanded inside
	"$VIAL" exec image.sqfs sh -c 'cat /data/1 >/dev/null; head -c 1 /etc/file; echo up; read -r x
		for i in 1 2 3 4 5 6 7 8; do
			( for k in 1 2 3 4 5 6 7 8; do cat /data/$k; done >/dev/null; echo "$?" ) &
		done; wait; echo all' <go >out 2>err 3>&- &
	exec 9>go
	eventually grep -q up out
	"$@"
	echo >&9
	exec 9>&-
	timeout 100 tail --pid=$! -f /dev/null
	grep -qx all out || { cat out err && false; }
	grep -q 'Input/output error' err || { cat out err && false; }
	python3 -B "$HERE/leftovers.py" "MARK=$MARK" image.sqfs
}
damage() {
	local size
	size=$(stat -c %s image.sqfs)
	head -c $((size / 2)) /dev/urandom | dd of=image.sqfs bs=64k seek=4 conv=notrunc status=none
}

@test "an image cut short under load gives errors, not a hang" {
	mkfifo go
	under_load truncate -s 100000 image.sqfs
	same_as_before
}

@test "an image overwritten under load gives errors, not a hang" {
	mkfifo go
	under_load damage
	same_as_before
}
