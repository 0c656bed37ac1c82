# vial attach: a program in a container that runs.
load common
load images
setup_file() { make_images; }

setup() {
	common_setup
	export XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR/run
	mkdir -m 700 "$XDG_RUNTIME_DIR"
	mkfifo hold
	exec 8<>hold # the containers read it
	PIDS=()
}
teardown() {
	exec 8>&-
	[ ${#PIDS[@]} -eq 0 ] || kill -9 "${PIDS[@]}" 2>/dev/null || true
	"$VIAL" -s instance stop --force --all 2>/dev/null || true
	common_teardown
}

# run_there [OPTION...]: a container that stays, in $PID
run_there() {
	rm -f up
	"$VIAL" exec "$@" "$SIF" sh -c 'echo up >up; read -r x' <&8 8>&- 3>&- &
	PID=$!
	PIDS+=("$PID")
	eventually test -s up
}
# the program itself, which is not its starter where there is a pid namespace
program_of() {
	local p=$1 child
	while child=$(cat "/proc/$p/task/$p/children") && [ -n "$child" ]; do p=${child%% *}; done
	echo "$p"
}

@test "a process: its files, namespaces, environment, directory" {
	mkdir there
	run_there --env MINE=1 --bind "$PWD/there:/mnt"
	expect 0 vial attach "$PID" sh -c 'cat /etc/file; echo $MINE $APPTAINER_NAME; readlink /proc/self/ns/mnt; touch /mnt/x'
	stdout_is "$(printf 'in the image\n1 test.sif\n%s' "$(readlink "/proc/$PID/ns/mnt")")"
	[ -e there/x ]
	OURS=no expect 0 vial attach "$PID" sh -c 'echo "[$OURS]"'
	stdout_is "[]"
	expect 0 vial attach "$PID" pwd
	stdout_is "$(readlink "/proc/$PID/cwd")"
}

@test "status and signals are the program's" {
	run_there
	expect 42 vial attach "$PID" sh -c 'exit 42'
	expect 143 vial attach "$PID" sh -c 'kill -TERM $$'
	expect 127 vial attach "$PID" nothing-of-that-name
	[ "$(echo 'cat /etc/file' | vial attach "$PID")" = "in the image" ] # a shell
}

@test "with a pid namespace" {
	run_there --pid
	local p
	p=$(program_of "$PID")
	expect 42 vial attach "$p" sh -c 'readlink /proc/self/ns/pid; exit 42'
	stdout_is "$(readlink "/proc/$p/ns/pid")"
	expect 0 vial attach "$p" sh -c 'tr "\0" " " </proc/1/cmdline >/dev/null; ls -d /proc/1'
}

@test "no capability comes along" {
	run_there
	expect 0 vial attach "$PID" sh -c 'grep -E "^(CapEff|CapBnd|NoNewPrivs)" /proc/self/status'
	local attached=$output
	expect 0 vial exec "$SIF" sh -c 'grep -E "^(CapEff|CapBnd|NoNewPrivs)" /proc/self/status'
	[[ $attached == *"NoNewPrivs:	1"* ]]
	if ! is_root; then [ "$attached" = "$output" ] || complain "in place of: $attached"; fi
}

@test "what is no container, or not there, or not one's own" {
	expect 125 vial attach $$ true
	one_fatal_line "process $$ is in no container"
	local dead
	sh -c 'exit 0' &
	dead=$!
	wait "$dead"
	expect 125 vial attach "$dead" true
	stderr_has "$dead"
	expect 1 vial attach nonsense true
	expect 1 vial attach instance
	expect 125 vial attach instance none true
	stderr_has "no instance is called none"
	if ! is_root; then
		expect 125 vial attach 1 true
		stderr_has "process 1 is not yours"
	fi
}

@test "root becomes the user whose container it is" {
	need_root
	local open
	open=$(mktemp -d /tmp/vial-attach-XXXXXX)
	cp "$SIF" "$open/test.sif"
	mkdir "$open/shared"
	chmod 755 "$open"
	chown "$VIAL_TEST_UID" "$open/shared"
	(
		cd "$open/shared" || exit
		unset XDG_RUNTIME_DIR
		exec setpriv --reuid "$VIAL_TEST_UID" --regid "$VIAL_TEST_UID" --clear-groups env HOME=/ SLURM_JOB_ID=99999911 \
			"$VIAL" exec --bind "$open/shared:/mnt" "$open/test.sif" sh -c 'echo up >/mnt/up; read -r x'
	) <&8 8>&- 3>&- &
	PID=$!
	PIDS+=("$PID")
	eventually test -s "$open/shared/up"
	expect 0 vial attach "$PID" sh -c 'id -u; touch /mnt/made; grep -E "^(Uid|CapEff)" /proc/self/status'
	stdout_has "$VIAL_TEST_UID"
	[[ $output == "$VIAL_TEST_UID"* ]] || complain "it is not the user"
	stdout_has "CapEff:	0000000000000000"
	[ "$(stat -c %u "$open/shared/made")" = "$VIAL_TEST_UID" ] || complain "outside it is somebody else"
	expect 0 vial attach job:99999911 touch /mnt/by-job
	[ "$(stat -c %u "$open/shared/by-job")" = "$VIAL_TEST_UID" ] || complain "by its job it is somebody else"
	rm -rf "$open"
}

@test "an instance" {
	expect 0 vial instance start "$SIF" one
	expect 0 vial attach instance one cat /etc/file
	stdout_is "in the image"
	expect 3 vial attach instance one sh -c 'exit 3'
	[ "$(echo 'cat /etc/file' | vial attach instance one)" = "in the image" ]
}

@test "a job, and a step of it" {
	# numbers that no job here has
	export SLURM_JOB_ID=99999901 SLURM_STEP_ID=0
	run_there --env STEP=0
	SLURM_STEP_ID=1
	run_there --env STEP=1
	unset SLURM_JOB_ID SLURM_STEP_ID
	expect 0 vial attach 99999901.1 sh -c 'echo $STEP'
	stdout_is 1
	expect 0 vial attach job:99999901.0 sh -c 'echo $STEP'
	stdout_is 0
	expect 0 vial attach 99999901 cat /etc/file
	stdout_is "in the image"
	expect 125 vial attach 99999901.7 true
	one_fatal_line "no process of job 99999901.7 on this node"
	expect 125 vial attach job:99999902 true
}
