# What the Slurm plugin keeps, saves and runs beside the tasks: containers with names, saved ones, entrypoints, root.
load common
load images
load driver
load ../slurm/slurm

setup_file() {
	export ENTRY_SIF
	slurm_setup_file -n 2 -t pgid # what that tracker does not find must end by itself
	[ -n "${PLACE:-}" ] || return 0
	copy_program "$TREE" chown
	make_sif "$PLACE/chown.sif" "$TREE"
	cp -a "$TREE" "$BATS_FILE_TMPDIR/entry"
	cat >"$BATS_FILE_TMPDIR/entry/bin/entry" <<-'EOF'
		#!/bin/sh
		echo "of entry: $1"
		echo "of entry, once" >>"${ENTRY_LOG:-/dev/null}"
		case ${HOW:-} in
		fail) exit 3 ;;
		alone) exit 0 ;;
		daemon) sleep 1000 & ;;
		hang) sleep 1000 ;;
		esac
		export FROM_ENTRY="$1 and more"
		shift
		exec "$@"
	EOF
	chmod 755 "$BATS_FILE_TMPDIR/entry/bin/entry"
	make_oci "$BATS_FILE_TMPDIR/entry-layout" latest '{"Env":["COLOR=image","PATH=/usr/bin:/bin"],"Entrypoint":["/bin/entry","first"],"Cmd":["last"]}' "$BATS_FILE_TMPDIR/entry"
	ENTRY_SIF=$PLACE/entry.sif
	"$VIAL" -q build "$ENTRY_SIF" "oci:$BATS_FILE_TMPDIR/entry-layout:latest"
	chmod go+r "$ENTRY_SIF"
}
teardown_file() { stop_cluster; }
setup() { slurm_setup; }
teardown() {
	if [ -n "${hang_pid:-}" ]; then # of a test that failed
		kill "$hang_pid" 2>/dev/null || true
		umount -l "$PLACE/records" 2>/dev/null || true
	fi
	slurm_teardown
}

# batch TEXT [SBATCH-OPTION...]: runs it as a job's script on one node; its output is in $WORK/out.
batch() {
	local text=$1
	shift
	printf '#!/bin/sh\n%s\n' "$text" >"$WORK/job.sh"
	user sbatch --wait -o out "$@" job.sh || { cat "$WORK/out" && return 1; }
}

# ---- names -------------------------------------------------------------------------------------

@test "a container with a name keeps its changes for the next steps, which need not name the image" {
	batch "srun -QN 2 --container-image=$SIF --container-name=box --container-writable sh -c 'echo \$SLURMD_NODENAME >/etc/mine'
		srun -QN 2 --container-name=box sh -c 'cat /etc/mine /etc/file' | sort
		srun -QN 1 -w n1 --container-name=box touch /etc/x 2>/dev/null && echo writable
		srun -QN 1 -w n1 --container-name=box --container-writable sh -c 'echo more >>/etc/mine; cat /etc/mine'
		ls -d $PLACE/names/vial-*/slurm-*" -N 2
	[ "$(sed -n '1,4p' "$WORK/out")" = "$(printf 'in the image\nin the image\nn1\nn2')" ] || { cat "$WORK/out" && return 1; }
	[ "$(sed -n '5,6p' "$WORK/out")" = "$(printf 'n1\nmore')" ] || { cat "$WORK/out" && return 1; }
	[ "$(grep -c '/slurm-' "$WORK/out")" -eq 2 ]
	eventually no_names
}

@test "steps at the same time are in one container, and the second outlives the first" {
	batch "srun -Qn 1 --overlap --container-image=$SIF --container-name=box --container-writable sh -c 'echo >up1; echo 1 >/etc/one; while [ ! -e up2 ]; do sleep 0.1; done' &
		while [ ! -e up1 ]; do sleep 0.1; done
		srun -Qn 1 --overlap --container-name=box --container-readonly true
		srun -Qn 1 --overlap --container-name=box --container-mounts=/usr:/mnt true
		srun -Qn 1 --overlap --container-name=box --container-image=$ENV_SIF true
		srun -Qn 1 --overlap --container-name=box:no_exec true
		srun -Qn 2 --overlap --container-name=box:exec --container-writable --no-container-remap-root sh -c 'stat -Lc %i /proc/self/ns/user; echo >up2; while [ ! -e up3 ]; do sleep 0.1; done; cat /etc/one; echo 2 >/etc/two' &
		wait %1 2>/dev/null || wait \$!
		srun -Qn 1 --overlap --container-name=box --container-writable sh -c 'stat -Lc %i /proc/self/ns/user; echo >up3'
		wait
		srun -Qn 1 --container-name=box cat /etc/two" -n 4
	[ "$(grep -cx '1' "$WORK/out")" -eq 2 ] || { cat "$WORK/out" && return 1; }
	local want
	for want in 'readonly: the container box is in use by another step' 'mounts=/usr:/mnt: the container box is in use' 'is made of' \
		'box/changes is in use: it is being changed by'; do
		has_line "$WORK/out" "$want" || { echo "no line: $want" && cat "$WORK/out" && return 1; }
	done
	[ "$(tail -n 1 "$WORK/out")" = 2 ]
	[ "$(grep -x '[0-9]\{3,\}' "$WORK/out" | sort -u | wc -l)" -eq 1 ]
}

# hold_changes: as a container that ends, which answers nobody any more and has its changes still. Until $WORK/free.
hold_changes() {
	python3 -B - "$PLACE"/names/vial-*/slurm-*/box/changes/.vial.lock "$WORK/held" "$WORK/free" 3>&- <<-'EOF' &
		import fcntl, os, struct, sys, time
		lock = open(sys.argv[1], "r+")
		fcntl.fcntl(lock, fcntl.F_OFD_SETLKW, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
		since = open("/proc/self/stat").read().rsplit(")")[-1].split()[19]
		lock.truncate(0)
		lock.write(f"host {os.uname().nodename}\npid {os.getpid()}\nsince {since}\nprogram ending\n")
		lock.flush()
		open(sys.argv[2], "w")
		while not os.path.exists(sys.argv[3]):
		    time.sleep(0.01)
	EOF
	eventually test -e "$WORK/held"
}
wants_changes() {
	local p
	for p in $(keepers); do readlink "/proc/$p/fd/"* | grep -q '/changes/.vial.lock$' && return; done
	has_line "$WORK/out" 'is in use'
}

@test "who finds a container with a name about to end waits for it" {
	batch "srun -Qn 1 --container-image=$SIF --container-name=box --container-writable sh -c 'echo 1 >/etc/one'
		for how in readonly writable; do
			echo >up; while [ ! -e go ]; do sleep 0.1; done; rm go
			srun -Qn 1 --container-name=box --container-\$how cat /etc/one
		done" &
	local job=$!
	for _ in readonly writable; do
		eventually test -e "$WORK/up"
		rm "$WORK/up"
		hold_changes
		touch "$WORK/go"
		eventually wants_changes
		touch "$WORK/free"
		wait $! # that has the changes
		rm "$WORK/free" "$WORK/held"
	done
	wait "$job"
	[ "$(cat "$WORK/out")" = "$(printf '1\n1')" ] || { cat "$WORK/out" && return 1; }
}

@test "steps of one name that begin while others end: each has the container" {
	batch "for i in 1 2 3 4 5 6 7 8 9 10; do
			for k in 1 2; do
				srun -Qn 1 --overlap --container-image=$SIF --container-name=box --container-writable true || echo no &
				srun -Qn 1 --overlap --container-image=$SIF --container-name=box --container-writable true || echo no &
			done
			wait
		done" -n 4
	[ ! -s "$WORK/out" ] || { cat "$WORK/out" && return 1; }
}

# in_box OPTION: a step that has the container, until $WORK/go
in_box() { echo "srun -Qn 1 --overlap $1 --container-image=$SIF --container-name=box sh -c 'echo >up; while [ ! -e go ]; do sleep 0.1; done' &
		while [ ! -e up ]; do sleep 0.1; done"; }

@test "who enters a container with a name has the files of its own PMIx server, or is told that they are not there" {
	local inside="srun -Qn 2 --overlap --mpi=pmix --container-name=box sh -c 'cd \$PMIX_SERVER_TMPDIR && echo there'"
	user srun --mpi=list 2>&1 | grep -qw pmix || skip "needs Slurm's PMIx"
	batch "$(in_box --mpi=pmix)
		$inside
		echo >go; wait" -n 4
	[ "$(cat "$WORK/out")" = "$(printf 'there\nthere')" ] || { cat "$WORK/out" && return 1; }
	rm "$WORK/up" "$WORK/go"
	batch "$(in_box --mpi=none)
		$inside || true
		srun -Qn 2 --overlap --mpi=none --container-name=box true
		echo >go; wait" -n 4
	[ "$(grep -c '^WARNING: .*/pmix\.[^ ]* are not shown .* or take another name' "$WORK/out")" -eq 1 ] || { cat "$WORK/out" && return 1; }
	! has_line "$WORK/out" there$ || { cat "$WORK/out" && return 1; }
}

@test "create, exec and no_exec; a name with another image" {
	batch "srun --container-name=box cat /etc/file
		srun --container-name=box:exec --container-image=$SIF true
		srun --container-name=box:create --container-image=/none true
		srun --container-name=box:create --container-image=$SIF true && echo made
		srun --container-name=box:create --container-image=$SIF true
		srun --container-name=box --container-image=$ENV_SIF true
		srun --container-name=box:no_exec cat /etc/file
		cp $SIF mine.sif
		srun --container-name=mine --container-image=./mine.sif --container-writable touch /etc/new
		cp $SIF new.sif; mv new.sif mine.sif # the same bytes: another file nevertheless
		srun --container-name=mine true
		rm mine.sif
		srun --container-name=mine true; true"
	local want
	for want in 'there is no container box' 'no step of this job' 'there is no such file' '^made' 'exists already' 'is made of' '^in the image' \
		'mine.sif is not the image any more that the container mine' 'mine.sif, which the container mine .* is not there any more'; do
		has_line "$WORK/out" "$want" || { echo "no line: $want" && cat "$WORK/out" && return 1; }
	done
	expect 1 srun --container-image="$SIF" --container-name=box:some true
	stderr_has "'some' is not known"
	expect 1 srun --container-image="$SIF" --container-name=../box true
	stderr_has "no dot in front"
}

@test "what a user has made of the place of his containers with names does not outlive the job" {
	local mine=$PLACE/names/vial-$VIAL_TEST_UID
	batch "srun --container-name=box --container-image=$SIF true
		rm $mine/*/box/identity && mkfifo $mine/*/box/new
		srun --container-name=box cat /etc/file
		chmod 755 $mine
		srun --container-name=box true
		chmod 0 $mine
		srun --container-name=box true || true"
	has_line "$WORK/out" '^in the image'
	has_line "$WORK/out" 'chmod 700 it'
	has_line "$WORK/out" 'Permission denied'
	eventually no_names
}

@test "names of two jobs and of two users do not meet" {
	batch "srun --container-image=$SIF --container-name=box --container-writable sh -c 'echo 1 >/etc/one; echo >up; while [ ! -e go ]; do sleep 0.1; done'" &
	eventually test -e "$WORK/up"
	expect 1 srun --container-name=box true
	expect 0 srun --container-image="$SIF" --container-name=box sh -c 'ls /etc/one 2>/dev/null; cat /etc/file'
	stdout_is "in the image"
	expect 0 devcluster exec srun --container-image="$SIF" --container-name=box cat /etc/file
	touch "$WORK/go"
	wait $!
	eventually no_names
}

# A job that has kept changes and is in a step, at $WORK/up
named_job() {
	printf '#!/bin/sh\n%s\n' "srun --container-image=$SIF --container-name=box --container-writable sh -c 'mkdir -m 0 /etc/closed; echo >up; exec sleep 1000'" >"$WORK/job.sh"
	expect 0 user sbatch --parsable -o out job.sh
	eventually test -e "$WORK/up"
	! no_names
}

@test "nothing of a name is left after scancel, nor after kill -9 of its keeper and of slurmstepd" {
	named_job
	user scancel "$output"
	eventually no_jobs
	eventually no_names
	rm "$WORK/up"
	named_job
	local id=$output stepd
	kill -KILL "$(keepers)"
	stepd=$(awk '/^PPid/ { print $2 }' "/proc/$(marked '^sleep 1000' | head -n 1)/status")
	[[ $(tr '\0' ' ' <"/proc/$stepd/cmdline") == slurmstepd* ]]
	kill -KILL "$stepd"
	for stepd in $(marked '^sleep 1000'); do kill -KILL "$stepd"; done
	user scancel "$id"
	eventually no_jobs
	eventually no_names
}

# ---- saving ------------------------------------------------------------------------------------

@test "--container-save writes what the container has, and nothing of the host's" {
	expect 0 srun -n 2 --container-image="$SIF" --container-mounts="$WORK:/vmount/deep" --container-writable --container-save=new.sif sh -c 'echo "$SLURM_PROCID" >"/etc/new$SLURM_PROCID"'
	[ -s "$WORK/new.sif" ]
	[ "$(stat -c %U "$WORK/new.sif")" = "$SLURM_USER" ]
	expect 0 srun --container-image=./new.sif cat /etc/new0 /etc/new1 /etc/file
	stdout_is "$(printf '0\n1\nin the image')"
	# without what was mounted, and what was there only for that
	expect 0 user "$VIAL" ls new.sif:/
	stdout_lacks vmount
	expect 0 user "$VIAL" ls new.sif:/etc
	stdout_has new1
	# again, of a read-only one, over the old one; places that only the host's files need are left out
	expect 0 srun --container-image="$SIF" --container-mounts="$WORK:/vmount/deep" --container-save="$WORK/new.sif" true
	expect 0 user "$VIAL" ls new.sif:/
	stdout_lacks vmount
	stdout_has etc
	expect 0 user "$VIAL" inspect new.sif
	stdout_has "$SIF"
	stdout_lacks /proc/self
	expect 1 srun --container-image=./new.sif cat /etc/new0
	[ "$(find "$WORK" -name '*.sif*' -o -name '.*new*' | wc -l)" -eq 1 ]
}

@test "--container-save of what cannot be saved is told and leaves nothing" {
	expect 1 srun -n 2 --container-image="$SIF" --container-save=/none/new.sif touch ran
	stderr_has "save: cannot write to the directory of /none/new.sif: No such file"
	expect 1 srun --container-image="$SIF" --container-save="$(printf '%0300d' 0)" touch ran
	stderr_has "0: File name too long"
	expect 1 srun --container-image="$SIF" --container-record= touch ran
	stderr_has "record: to which file"
	expect 1 srun --container-image="$SIF" --container-save="$WORK" touch ran
	stderr_has "save: $WORK is there, and is not a file"
	[ ! -e "$WORK/ran" ]
	expect 0 srun --container-image="$SIF" --container-save=taken.sif mkdir taken.sif # which nobody could foresee
	stderr_has "the container is not saved to taken.sif"
	run srun --container-image="$SIF" --container-save=new.sif sh -c 'kill -KILL $$'
	expect 1 srun -N 2 --container-image="$SIF" --container-save=new.sif true
	stderr_has "2 nodes"
	[ -z "$(find "$WORK" -name '*new.sif*')" ]
}

# ---- the image's entrypoint --------------------------------------------------------------------

@test "--container-entrypoint: once for all tasks, which are in the environment it makes" {
	expect 0 srun -n 3 --container-image="$ENTRY_SIF" sh -c 'echo "$FROM_ENTRY, $COLOR"'
	stdout_is "$(printf ', image\n, image\n, image')"
	expect 0 user env ENTRY_LOG="$WORK/log" srun -n 3 --container-image="$ENTRY_SIF" --container-entrypoint sh -c 'echo "$FROM_ENTRY, $COLOR"'
	stdout_is "$(printf 'first and more, image\nfirst and more, image\nfirst and more, image')"
	stderr_lacks "of entry"
	[ "$(wc -l <"$WORK/log")" -eq 1 ]
	expect 0 srun -n 3 --container-image="$ENTRY_SIF" --container-entrypoint --container-entrypoint-log true
	stderr_has "of entry: first"
	# an image without one
	expect 0 srun --container-image="$SIF" --container-entrypoint cat /etc/file
	expect 1 srun --container-image="$SIF" --container-entrypoint --no-container-entrypoint true
	stderr_has "exclude each other"
}

@test "an entrypoint that fails, or does not start its command, fails the step; what it leaves behind ends with it" {
	expect 1 user env HOW=fail srun -n 2 --container-image="$ENTRY_SIF" --container-entrypoint true
	stderr_has "entrypoint ends with status 3 and has not started its command"
	expect 1 user env HOW=alone srun --container-image="$ENTRY_SIF" --container-entrypoint true
	stderr_has "entrypoint ends with status 0 and has not started its command"
	expect 0 user env HOW=daemon srun --container-image="$ENTRY_SIF" --container-entrypoint sh -c 'echo "$FROM_ENTRY"'
	stdout_is "first and more"
	site timeout=2
	expect 1 user env HOW=hang srun --container-image="$ENTRY_SIF" --container-entrypoint true
	stderr_has "not ready within 2 seconds"
}

# ---- root and namespaces -----------------------------------------------------------------------

@test "--container-remap-root: root in the container, oneself outside" {
	expect 0 srun -n 2 --container-image="$PLACE/chown.sif" --container-remap-root --container-writable sh -c 'id -u; touch mine.$SLURM_PROCID; echo x >"/etc/f$SLURM_PROCID"; chown 12:12 "/etc/f$SLURM_PROCID" && echo fine'
	[ "$(sort <<<"$output")" = "$(printf '0\n0\nfine\nfine')" ]
	[ "$(stat -c %U "$WORK/mine.0" "$WORK/mine.1" | sort -u)" = "$SLURM_USER" ]
	expect 0 srun --container-image="$SIF" --container-remap-root --no-container-mount-home id -u
	expect 0 srun --container-image="$SIF" --no-container-remap-root id -un
	stdout_is "$SLURM_USER"
	expect 1 srun --container-image="$SIF" --container-remap-root --no-container-remap-root true
	stderr_has "exclude each other"
}

@test "--container-remap-root and a name: who comes when the step that made it is over gets in" {
	batch "srun -Qn 1 --overlap --container-image=$SIF --container-name=box --container-remap-root sh -c 'echo >up1; while [ ! -e up2 ]; do sleep 0.1; done' &
		first=\$!
		while [ ! -e up1 ]; do sleep 0.1; done
		srun -Qn 1 --overlap --container-name=box:exec sh -c 'echo >up2; while [ ! -e up3 ]; do sleep 0.1; done; id -u' &
		wait \$first
		srun -Qn 1 --overlap --container-name=box:exec sh -c 'id -u; echo >up3'
		echo >up3
		wait" -n 3
	[ "$(cat "$WORK/out")" = $'0\n0' ] || { cat "$WORK/out" && return 1; }
}

@test "--container-remap-root without subordinate ids: what root expects to work is answered as done" {
	expect 4 user env VIAL_IGNORE_SUBUID=1 srun -n 3 --container-image="$PLACE/chown.sif" --container-remap-root --container-writable \
		sh -c 'id -u; cat /proc/self/uid_map; echo x >"/etc/f$SLURM_PROCID"; chown 12:12 "/etc/f$SLURM_PROCID" && echo fine; exit 4'
	[ "$(grep -cx 0 <<<"$output")" -eq 3 ]
	[ "$(grep -cx fine <<<"$output")" -eq 3 ]
	[ "$(grep -cx ' *0 *[0-9]* *1' <<<"$output")" -eq 3 ] # one id, and nobody else's
}

@test "--container-unshare: namespaces of its own, the same for all tasks" {
	local ns
	for ns in ipc uts net; do
		expect 0 srun -n 2 --container-image="$SIF" --container-unshare="$ns" stat -Lc %i "/proc/self/ns/$ns"
		[ "$(sort -u <<<"$output" | wc -l)" -eq 1 ]
		[[ $output != *"$(stat -Lc %i "/proc/self/ns/$ns")"* ]]
	done
	expect 0 srun --container-image="$SIF" --container-unshare=ipc,net cat /proc/net/dev
	[ "$(grep -c : <<<"$output")" -eq 1 ]
	stdout_has " lo:"
	expect 1 srun --container-image="$SIF" --container-unshare=pid true
	stderr_has "cannot unshare 'pid'"
}

# ---- records -----------------------------------------------------------------------------------

records() { cat "$PLACE"/records/*.jsonl 2>/dev/null || true; }
n_records() { [ "$(records | wc -l)" -eq "$1" ]; }

@test "a record of each step and node: the site's, which the user cannot reach, and the user's own" {
	mkdir -m 700 "$PLACE/records"
	site records="$PLACE/records" mounts="$PLACE"
	expect 0 srun -N 2 -n 3 --container-image="$SIF" --container-mounts="$WORK:/mnt:ro" --container-record=mine.jsonl cat /etc/file
	eventually n_records 2
	eventually test -s "$WORK/mine.jsonl"
	# the others on one node: which has ended its steps earlier is not known
	"$VIAL" -q key newpair "$WORK/key"
	cp "$ENV_SIF" "$WORK/signed.sif"
	"$VIAL" -q sign --key "$WORK/key.pem" "$WORK/signed.sif"
	expect 5 srun -w n1 --container-image="$WORK/signed.sif" sh -c 'env | grep CLAIMS; exit 5'
	stdout_is ""
	eventually n_records 3
	run srun -w n1 --container-image="$SIF" sh -c 'kill -KILL $$'
	eventually n_records 4
	expect 0 srun true
	expect 1 srun -w n1 --container-image="$SIF" --container-mounts=/none:/none true
	eventually n_records 5
	python3 - "$WORK/mine.jsonl" "$PLACE"/records/*.jsonl "$SIF" "$VIAL_TEST_UID" "$WORK" "$BATS_FILE_TMPDIR/layout" "$("$VIAL" key show "$WORK/key.pub.pem" | grep -o 'SHA256:[^ ]*' | head -n 1)" <<-'EOP'
		import json, os, sys
		mine, n1, n2, sif, uid, work, layout, key = sys.argv[1:]
		load = lambda f: [json.loads(l) for l in open(f)]
		m, a, b = load(mine), load(n1), load(n2)
		assert len(m) == 1 and len(b) == 1 and len(a) == 4, (m, a, b)
		for r in m + a[:1] + b:
		    assert r["image"] == sif and r["image_size"] == os.stat(sif).st_size, r
		    assert r["uid"] == int(uid) and r["nodes"] == "n[1-2]" and r["step"] == "0", r
		    assert r["command"] == ["cat", "/etc/file"] and r["exit"] == 0 and r["signal"] == 0, r
		    assert work + ":/mnt:ro" in r["mounts"] and r["start"] <= r["end"], r
		assert a[0]["node"] == "n1" and b[0]["node"] == "n2" and a[0]["tasks"] + b[0]["tasks"] == 3
		assert a[1]["digest"] == json.load(open(layout + "/index.json"))["manifests"][0]["digest"], a[1]
		assert a[1]["claimed_signers"] == [key] and "digest" not in a[0], a[1]
		assert a[1]["exit"] == 5 and a[2]["signal"] == 9 and a[3]["exit"] == 1
	EOP
	[ "$(stat -c '%u %a' "$PLACE/records/n1.jsonl")" = "0 600" ]
	[ "$(stat -c %U "$WORK/mine.jsonl")" = "$SLURM_USER" ]
	expect 0 vial record show --dir "$PLACE/records"
	stdout_has "signal 9"
	stdout_has "signers  'SHA256:"
	# a directory that is not there is told to the administrator, and takes nothing from the step
	run ! has_line "$DEVCLUSTER_DIR/log/slurmd-n1.log" 'no record is added to /none/n1.jsonl'
	site records=/none
	expect 0 srun --container-image="$SIF" cat /etc/file
	stdout_is "in the image"
	eventually has_line "$DEVCLUSTER_DIR/log/slurmd-n1.log" 'no record is added to /none/n1.jsonl'
	rm -r "$PLACE/records"
}

# hang DIR: a file system there whose server answers nothing; *hang_pid*.
hang() {
	python3 - "$1" 3>&- <<-'EOP' &
		import ctypes, os, signal, sys
		fuse = os.open("/dev/fuse", os.O_RDWR)
		data = b"fd=%d,rootmode=40000,user_id=0,group_id=0" % fuse
		if ctypes.CDLL(None, use_errno=True).mount(b"hang", sys.argv[1].encode(), b"fuse", 6, data) == 0:
		    signal.pause()
	EOP
	hang_pid=$!
	eventually grep -qF " $1 fuse " /proc/self/mounts
}

@test "records on a file system that hangs: the step ends without, which the log tells" {
	mkdir "$PLACE/records"
	hang "$PLACE/records"
	site records="$PLACE/records" record-timeout=1
	expect 0 srun -w n1 --container-image="$SIF" cat /etc/file
	stdout_is "in the image"
	eventually has_line "$DEVCLUSTER_DIR/log/slurmd-n1.log" "no record is added to $PLACE/records/n1.jsonl: it takes longer than 1 seconds"
	eventually no_jobs
	grep -qF " $PLACE/records fuse " /proc/self/mounts
	kill "$hang_pid"
	wait "$hang_pid" || true
	umount "$PLACE/records"
	rmdir "$PLACE/records"
}

@test "what a name has kept and takes too long to remove keeps no job and no node" {
	printf '#!/bin/sh\ncase "$*" in *--forget*) exec sleep 1000 ;; esac\nexec %s "$@"\n' "$VIAL" >"$PLACE/slow"
	chmod 755 "$PLACE/slow"
	printf '#!/bin/sh\nsrun -Q --container-image=%s --container-name=box true\necho >up; while [ ! -e go ]; do sleep 0.1; done\n' "$SIF" >"$WORK/job.sh"
	expect 0 user sbatch --parsable -w n1 -o out job.sh
	eventually test -e "$WORK/up"
	site vial="$PLACE/slow" timeout=1
	touch "$WORK/go"
	eventually has_line "$DEVCLUSTER_DIR/log/slurmd-n1.log" "slurm-$output.n1 is not removed: that takes longer than 1 seconds"
	eventually no_jobs
	rm -r "$PLACE/names/vial-$VIAL_TEST_UID"
}

# ---- staging: the rest of it is in slurm_stage.bats ----------------------------------------------

@test "--container-stage, where the site has a place for it" {
	expect 1 srun --container-image="$SIF" --container-stage true
	stderr_has "this site has no place for it"
	mkdir -m 1777 "$PLACE/stage"
	site stage="$PLACE/stage:1G"
	expect 0 srun -N 2 -n 4 --container-image="$SIF" --no-container-stage cat /etc/file
	[ -z "$(ls -A "$PLACE/stage")" ]
	expect 0 srun -N 2 -n 4 --container-image="$SIF" --container-stage cat /etc/file
	[ "$(sort -u <<<"$output")" = "in the image" ]
	cmp "$SIF" "$PLACE/stage/vial-$VIAL_TEST_UID/"*[!k]
	[ "$(find "$PLACE/stage" -type f -user "$SLURM_USER" | wc -l)" -eq 2 ] # and its lock
	site stage=relative
	expect 1 srun true
	stderr_has "'stage=relative' is not known"
	rm -r "$PLACE/stage"
}

# ---- GPUs: nodes that are files ------------------------------------------------------------------

# wants_gpu: an image that does, and where its devices are
wants_gpu() {
	export VIAL_GPU_ROOT=$PLACE/machine GPU_SIF=$PLACE/gpu.sif
	[ ! -e "$GPU_SIF" ] || return 0
	make_machine "$VIAL_GPU_ROOT" 560.35.03
	make_oci "$BATS_TEST_TMPDIR/layout" latest '{"Env":["NVIDIA_VISIBLE_DEVICES=all"]}' "$TREE"
	"$VIAL" -q build "$GPU_SIF" "oci:$BATS_TEST_TMPDIR/layout:latest"
	chmod -R go+rX "$PLACE/machine" "$GPU_SIF"
}

@test "two tasks of a step have a device each, and no other opens" {
	wants_gpu
	# shellcheck disable=SC2016 # the tasks' shell expands it
	expect 0 user srun -n 2 --gpus-per-task=1 --gpu-bind=single:1 --container-image="$GPU_SIF" --container-mounts="$PLACE/machine/dev:/dev" sh -c '
		for d in 0 1; do if (: <>/dev/nvidia$d) 2>&-; then mine="$mine nvidia$d"; fi; done
		echo "$SLURM_PROCID has$mine, CUDA $CUDA_VISIBLE_DEVICES, $(ls /.singularity.d/libs | grep -cx libcuda.so.1), ${VIAL_TASK_DEVICES-none}"'
	[ "$(sort <<<"$output")" = "0 has nvidia0, CUDA 0, 1, none
1 has nvidia1, CUDA 0, 1, none" ] || complain "not a device each"
}

@test "a task that has all devices keeps them and its variables" {
	wants_gpu
	# shellcheck disable=SC2016 # the tasks' shell expands it
	expect 0 user srun -n 1 --gpus-per-task=2 --container-image="$GPU_SIF" --container-mounts="$PLACE/machine/dev:/dev,/dev/null:/dev/null" sh -c '
		for d in 0 1; do (: <>/dev/nvidia$d) && echo $d; done; echo $CUDA_VISIBLE_DEVICES'
	stdout_is $'0\n1\n0,1'
	# of a job's devices, a step has those that it is given: none, it may be
	cat >"$WORK/job.sh" <<-'EOF'
		#!/bin/sh
		srun -Qn 1 --gres=none --container-image="$GPU_SIF" --container-record=record --container-mounts="$PLACE/machine/dev:/dev,/dev/null:/dev/null" sh -c '
			for d in 0 1; do if (: <>/dev/nvidia$d) 2>/dev/null; then echo $d; fi; done; echo none'
	EOF
	expect 0 user sbatch --wait -n 1 --gres=gpu:2 -o out job.sh
	[ "$(cat "$WORK/out")" = none ] || { cat "$WORK/out"; return 1; }
	has_line "$WORK/record" '"image"'
	run ! has_line "$WORK/record" '"gpus"'
}

@test "NVIDIA_VISIBLE_DEVICES of the step says what its container has, and tasks count that" {
	wants_gpu
	# shellcheck disable=SC2016 # the tasks' shell expands it
	local tell='for d in 0 1; do if (: <>/dev/nvidia$d) 2>&-; then echo $d; fi; done; echo "CUDA $CUDA_VISIBLE_DEVICES"'
	NVIDIA_VISIBLE_DEVICES=1 expect 0 user srun -n 1 --gpus-per-task=2 --container-image="$GPU_SIF" --container-mounts="$PLACE/machine/dev:/dev" sh -c "$tell"
	stdout_is $'1\nCUDA 0'
	# a number that means none of them is no way to have all
	NVIDIA_VISIBLE_DEVICES=1 CUDA_VISIBLE_DEVICES=0 expect 1 user srun -n 1 --gpus-per-task=1 --container-image="$GPU_SIF" --container-mounts="$PLACE/machine/dev:/dev" echo ran
	stdout_is ""
	stderr_has 'CUDA_VISIBLE_DEVICES=0: none of these is a device of this container'
}

# ---- what a user could make last ------------------------------------------------------------------

@test "a record is written while somebody has a lock on the file; one that cannot be is told before the program runs" {
	: >"$WORK/mine.jsonl"
	chown "$VIAL_TEST_UID" "$WORK/mine.jsonl"
	exec {lock}<"$WORK/mine.jsonl"
	flock -x "$lock"
	expect 0 srun --container-image="$SIF" --container-record=mine.jsonl cat /etc/file
	eventually test -s "$WORK/mine.jsonl"
	exec {lock}<&-
	# where the user may write as one of a group
	mkdir "$WORK/group" && chgrp users "$WORK/group" && chmod 2770 "$WORK/group"
	expect 0 srun --container-image="$SIF" --container-record=group/ours.jsonl cat /etc/file
	eventually test -s "$WORK/group/ours.jsonl"
	expect 1 srun -n 2 --container-image="$SIF" --container-record=/none/mine.jsonl touch ran
	stderr_has "cannot write the record /none/mine.jsonl"
	[ ! -e "$WORK/ran" ]
}

@test "a step that is cancelled while its container is saved ends, and the save with it" {
	printf '#!/bin/sh\ncase "$*" in *--save=*) echo $$ >saving.new; mv saving.new saving; exec sleep 1000 ;; esac\nexec %s "$@"\n' "$VIAL" >"$PLACE/slow"
	chmod 755 "$PLACE/slow"
	site vial="$PLACE/slow"
	printf '#!/bin/sh\nsrun --container-image=%s --container-save=new.sif cat /etc/file\n' "$SIF" >"$WORK/job.sh"
	expect 0 user sbatch --parsable -o out job.sh
	eventually test -e "$WORK/saving"
	user scancel "$output"
	eventually test ! -e "/proc/$(cat "$WORK/saving")"
	eventually no_jobs
	has_line "$WORK/out" "in the image"
	[ ! -e "$WORK/new.sif" ]
}

@test "words about a container without an image are an error, but not those of the environment" {
	expect 1 srun --container-mounts=/etc:/mnt true
	stderr_has "container-mounts without container-image"
	expect 1 srun --container-save=new.sif true
	stderr_has "container-save without container-image"
	expect 0 user env VIAL_CONTAINER_MOUNTS=/etc:/mnt srun true
	expect 0 user env VIAL_CONTAINER_IMAGE="$SIF" srun --container-mounts="$WORK:/mnt" cat /etc/file
	stdout_is "in the image"
}
