# Copies of images on the node, as the Slurm plugin asks for them; without a cluster.
load common
load images
setup_file() { make_images; }
setup() {
	common_setup
	export MARK=$BATS_TEST_NAME STAGE=$BATS_TEST_TMPDIR/stage
	mkdir "$STAGE"
	MINE=$STAGE/vial-$(id -u)
}
teardown() { common_teardown; }

# keep SIZE IMAGE COMMAND...: in a container of the image's copy
keep() {
	local size=$1 image=$2
	shift 2
	HOLD="--stage=$STAGE${size:+:$size} --stage-always" python3 -B "$HERE/keep.py" "$VIAL" "$image" 1 "$@"
}
copies() { find "$MINE" -type f ! -name '*.lock' -printf '%f\n' | sort; }
copy_of() { # IMAGE: its name, of those that are there
	local f
	for f in $(copies); do if cmp -s "$MINE/$f" "$1"; then echo "$f"; fi; done
}
has_copy() { [ -n "$(copy_of "$1")" ]; }
# images that differ, of one size
make_three() {
	local i
	for i in a b c; do
		cp "$SIF" "$i.sif"
		printf %s $i | dd of=$i.sif bs=1 seek=8 conv=notrunc status=none # of the launch line
	done
	SIZE=$(stat -c %s a.sif)
}

@test "an image is copied once, and used from there; another state of it is another image" {
	local pids=() i name
	cp "$SIF" i.sif
	for i in 1 2 3 4; do
		keep '' i.sif cat /etc/file >"out.$i" &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i"; done
	[ "$(cat out.?)" = "$(printf 'in the image\n%.0s' 1 2 3 4)" ]
	name=$(copies)
	[ "$(wc -l <<<"$name")" -eq 1 ]
	cmp "$MINE/$name" i.sif
	[ "$(stat -c '%a %u' "$MINE" "$MINE/$name")" = "$(printf '700 %s\n400 %s' "$(id -u)" "$(id -u)")" ]
	[ "$(find "$MINE" -name '.*' | wc -l)" -eq 0 ]
	# it is the copy that is read
	expect 0 keep '' i.sif cat /etc/file
	chmod 600 "$MINE/$name" && dd if=/dev/zero of="$MINE/$name" bs=4096 count=4 conv=notrunc status=none
	expect 125 keep '' i.sif cat /etc/file
	stdout_has "neither a SIF nor a squashfs"
	touch i.sif
	expect 0 keep '' i.sif cat /etc/file
	stdout_is "in the image"
	[ "$(copies | wc -l)" -eq 2 ]
}

@test "who finds a copy in the making waits, and makes it himself when its maker is killed" {
	local maker step name
	keep '' "$SIF" true
	name=$(copies)
	rm -f "$MINE/$name"
	(exec 3>&- 9>"$MINE/$name.lock" && flock 9 && exec sleep 1000) &
	maker=$!
	eventually bash -c "! flock -n '$MINE/$name.lock' true"
	keep '' "$SIF" cat /etc/file >out 3>&- &
	step=$!
	eventually grep -q -- "-> FLOCK .*:$(stat -c %i "$MINE/$name.lock") " /proc/locks
	[ ! -e "$MINE/$name" ]
	kill -KILL "$maker"
	wait "$step"
	[ "$(cat out)" = "in the image" ]
	cmp "$MINE/$name" "$SIF"
}

@test "the longest unused copies make room, those in use do not" {
	local i pids=()
	make_three
	for i in a b a c; do expect 0 keep $((SIZE * 5 / 2)) $i.sif true; done
	has_copy a.sif && has_copy c.sif
	run ! has_copy b.sif
	[ "$(find "$MINE" -name '*.lock' | wc -l)" -eq 2 ]
	for i in a c; do
		keep $((SIZE * 5 / 2)) $i.sif sh -c "echo >$PWD/up.$i; while [ ! -e $PWD/go ]; do sleep 0.1; done" 3>&- &
		pids+=($!)
	done
	for i in a c; do eventually test -e up.$i; done
	expect 0 keep $((SIZE * 5 / 2)) b.sif cat /etc/file
	stdout_is "in the image"
	stderr_has "not staged: the stage is full of images that are in use"
	has_copy a.sif && has_copy c.sif
	touch go
	for i in "${pids[@]}"; do wait "$i"; done
	expect 0 keep $((SIZE - 1)) b.sif cat /etc/file
	stderr_has "larger than the stage"
}

@test "what cannot be staged is used where it is; a folder of somebody else's is not touched" {
	mkdir -m 755 "$MINE"
	expect 0 keep '' "$SIF" cat /etc/file
	stdout_is "in the image"
	stderr_has "open to others"
	rmdir "$MINE" && ln -s "$BATS_TEST_TMPDIR" "$MINE"
	expect 0 keep '' "$SIF" true
	stderr_has "not staged"
	rm "$MINE"
	STAGE=/none expect 0 keep '' "$SIF" true
	stderr_has "/none"
	expect 0 keep 12x "$SIF" true
	stderr_has "as in /local/stage:200G"
	# nor is a directory, and, unless asked for, what lies there already
	expect 0 keep '' "$TREE" cat /etc/file
	[ ! -e "$MINE" ] || [ -z "$(ls "$MINE")" ]
	HOLD="--stage=$STAGE" expect 0 python3 -B "$HERE/keep.py" "$VIAL" "$SIF" 1 true
	[ -z "$(ls "$MINE")" ]
	expect 1 vial exec --stage "$STAGE" "$SIF" true
}

@test "the policy decides by the path that was named, of a copy too" {
	export XDG_CONFIG_HOME=$PWD/conf
	cp "$SIF" a.sif
	expect 0 keep '' "$PWD/a.sif" true
	mkdir -p conf/vial/policy.d
	printf '[[rule]]\npath = "%s"\naction = "deny"\n' "$PWD/a.sif" >conf/vial/policy.d/a.toml
	expect 125 keep '' "$PWD/a.sif" true
	stdout_has "denied by policy"
}

# ---- from another node of the step: with a real Slurm in slurm_fanout.bats ---------------------------

# on_node N IMAGE COMMAND...: of a step on two nodes. What its `sbcast` is asked for is in ./asked, with what it would send.
on_node() {
	local node=$1
	shift
	cat >sbcast <<-'EOS'
		#!/bin/sh
		echo "$* ${SBCAST_FORCE-} $(stat -Lc %a "$2") $(stat -Lc %s "$2")" >>asked
		[ ! -e says ] || { cat says >&2 && exit 1; }
	EOS
	chmod 755 sbcast
	SLURM_JOB_ID=7 SLURM_STEP_ID=3 SLURM_NODEID=$node SLURM_STEP_NUM_NODES=2 SBCAST_FORCE=1 HOLD="--stage=$STAGE --stage-always \
		--fanout=$PWD/sbcast --fanout-wait=${WAIT:-100}" python3 -B "$HERE/keep.py" "$VIAL" "$1" 1 "${@:2}"
}
no_notes() { [ -z "$(find "$STAGE" -maxdepth 1 -type f)" ]; }
# With its path, of what ./asked ends in: $COMING
coming() { [ -e asked ] && COMING=$(sed -n 's/.* \([^ ]*\)\.want .*/\1/p' asked) && [ -n "$COMING" ]; }

@test "the first node says that it will send its copy, and does, to where nothing is" {
	local to
	expect 0 on_node 0 "$SIF" cat /etc/file
	stdout_is "in the image"
	to="$STAGE/\.vial-$(id -u)\.7\.3-[0-9a-f]{16}"
	[ "$(wc -l <asked)" -eq 2 ]
	grep -Eqx -- "--jobid=7\.3 /proc/self/fd/[0-9]+ $to\.soon  400 4" asked
	grep -Eqx -- "--jobid=7\.3 /proc/self/fd/[0-9]+ $to  400 $(stat -c %s "$SIF")" asked
	has_copy "$SIF"
	# which it has now
	expect 0 on_node 0 "$SIF" true
	[ "$(wc -l <asked)" -eq 2 ]
	printf 'no \033[1m way\nsecond line\n' >says
	touch "$SIF"
	expect 0 on_node 0 "$SIF" true
	stderr_has 'not sent to the other nodes: no \x1b[1m way'
	stderr_lacks "second line"
}

@test "another node takes what is whole and the user's own, and removes what is left over" {
	local step ino
	on_node 1 "$SIF" sh -c "cat /etc/file; until [ -e $PWD/go ]; do sleep 0.1; done" >out 3>&- &
	step=$!
	eventually coming
	head -c 1000 "$SIF" >"$COMING"
	exec 8>>"$COMING"
	tail -c +1001 "$SIF" >&8 # it is not closed yet
	ino=$(stat -c %i "$COMING")
	[ ! -s out ]
	exec 8>&-
	eventually test -s out
	[ "$(cat out)" = "in the image" ]
	[ "$(stat -c '%i %a' "$MINE/$(copy_of "$SIF")")" = "$ino 400" ]
	echo >"$COMING.want"
	eventually test ! -e "$COMING.want"
	touch go
	wait "$step"
	eventually no_notes
}

@test "who is refused, hears nothing or cannot ask reads the image himself, and says why" {
	local step
	on_node 1 "$SIF" cat /etc/file >out 2>err 3>&- &
	step=$!
	eventually coming
	printf 'no \033 room' >"$COMING.no"
	wait "$step"
	grep -qF "read by this node itself: the step's first node cannot send it: no \\x1b room" err
	[ "$(cat out)" = "in the image" ]
	touch "$SIF"
	WAIT=0 expect 0 on_node 1 "$SIF" true
	stderr_has "read by this node itself: nothing comes from the step's first node"
	touch "$SIF"
	echo "no controller" >says
	expect 0 on_node 1 "$SIF" true
	stderr_has "read by this node itself: no controller"
	[ "$(copies | wc -l)" -eq 3 ]
	eventually no_notes
}
