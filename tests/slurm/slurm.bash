# A Slurm cluster of four nodes on this machine, for a file's tests: `load ../slurm/slurm` after `load images`. Root starts it,
# the unprivileged user of the run submits.

need_slurm() {
	need_root
	if [ ! -e "${VIAL%/*}/spank_vial.so" ] || ! command -v slurmctld slurmd munged >/dev/null; then skip "needs Slurm"; fi
}

# What every file does: images and a cluster; before and after each test.
slurm_setup_file() { # CLUSTER-OPTION...
	is_root || return 0
	make_images
	export ENV_SIF=$BATS_FILE_TMPDIR/env.sif
	make_oci "$BATS_FILE_TMPDIR/layout" latest "${ENV_CONFIG:-{\}}" "$TREE"
	"$VIAL" -q build "$ENV_SIF" "oci:$BATS_FILE_TMPDIR/layout:latest"
	[ -e "${VIAL%/*}/spank_vial.so" ] || return 0
	# shellcheck disable=SC2086 # words: other settings for a whole run, as -t cgroup
	start_cluster "$@" ${VIAL_TEST_CLUSTER:-}
	mv "$SIF" "$ENV_SIF" "$PLACE"
	SIF=$PLACE/test.sif ENV_SIF=$PLACE/env.sif
	chmod -R go+rX "$PLACE"
}
slurm_setup() {
	common_setup
	need_slurm
	export MARK=$BATS_TEST_NAME-${PLACE##*/} # of this run: another one of the suite may be at the same test
	rm -rf "${WORK:?}"/*
}
slurm_teardown() {
	if [ -n "${PLACE:-}" ] && [ -z "${BATS_TEST_SKIPPED:-}" ]; then
		# shellcheck disable=SC2119
		site
		if [ -z "${BATS_TEST_COMPLETED:-}" ]; then
			cluster_story
			user scancel -s KILL -u "$SLURM_USER"
		fi
		nothing_left || return 1 # bats looks at the last status only
	fi
	common_teardown
}
srun() { user srun "$@"; }
# ended STATUS PID: a child of this shell, which `run` could not wait for.
ended() {
	local s=0
	wait "$2" || s=$?
	[ "$s" -eq "$1" ] || { echo "status $s, not $1" && return 1; }
}

# start_cluster ARG...: of devcluster. The programs are copied to where the user may read them.
start_cluster() {
	export PLACE PLUGIN WORK DEVCLUSTER_DIR SLURM_USER
	PLACE=$(mktemp -d "${VIAL_TEST_RUN:-/tmp}/slurm.XXXXXX")
	# not below /tmp, which a container shows: what it needs of Slurm must come in by itself
	DEVCLUSTER_DIR=$(mktemp -d /run/vial-slurm.XXXXXX)
	PLUGIN=$PLACE/spank_vial.so WORK=$PLACE/work SLURM_USER=$(id -nu "$VIAL_TEST_UID")
	chmod 755 "$PLACE"
	cp "$VIAL" "${VIAL%/*}/vial-image" "${VIAL%/*}/vial-verify" "${VIAL%/*}/spank_vial.so" "$PLACE"
	install -d -o "$VIAL_TEST_UID" "$WORK"
	VIAL=$PLACE/vial
	mkdir -m 1777 "$PLACE/names"
	set -- start -q -p "$PLUGIN vial=$VIAL names=$PLACE/names" "$@"
	if [ -z "${SLURM_REAPER:-}" ]; then devcluster "$@" 3>&- && return; fi
	"$HERE/../slurm/reaper" "$PLACE/started" "$HERE/../slurm/devcluster" "$@" 3>&- &
	eventually test -e "$PLACE/started"
	[ "$(cat "$PLACE/started")" = 0 ]
}

stop_cluster() {
	[ -n "${PLACE:-}" ] || return 0
	devcluster stop -q 3>&-
	rm -rf "$PLACE" "$DEVCLUSTER_DIR"
}

devcluster() { "$HERE/../slurm/devcluster" "$@"; }
# user CMD...: as the user, on the submit host, in $WORK.
user() { (cd "$WORK" && TMPDIR=/tmp exec timeout 120 "$HERE/../slurm/devcluster" exec -u "$SLURM_USER" "$@"); }
# site [WORD...]: what plugstack.conf says after the plugin's name.
# shellcheck disable=SC2120 # tests pass them
site() { echo "required $PLUGIN vial=$VIAL names=$PLACE/names $*" >"$DEVCLUSTER_DIR/etc/plugstack.conf"; }

# ---- looking ---------------------------------------------------------------------------------

# Processes with this test's mark whose command line matches REGEX.
marked() {
	local p
	for p in /proc/[0-9]*; do
		if grep -qzxF "MARK=$MARK" "$p/environ" && tr '\0' ' ' <"$p/cmdline" | grep -qE -- "$1"; then echo "${p#/proc/}"; fi
	done 2>/dev/null
}
# The keeper, without its image's server.
keepers() {
	local p
	for p in $(marked ' hold --fd '); do [ "$(cat "/proc/$p/comm")" != vial ] || echo "$p"; done
}
is_marked() { [ -n "$(marked "$1")" ]; }
not_marked() { [ -z "$(marked "$1")" ]; }
job_state() { user scontrol show job "$1" | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p' | head -n 1; }
job_is() { [ "$(job_state "$1")" = "$2" ]; }
job_ended() { [[ $(job_state "$1") =~ ^(COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL|OUT_OF_MEMORY)$ ]]; }
no_jobs() { [ -z "$(user squeue -h)" ]; }
has_line() { grep -qs -- "$2" "$1"; }
nodes_fine() { [ -z "$(user sinfo -hN -t down,drain,fail -o '%N %E')" ]; }
no_names() { [ -z "$(ls -A "$PLACE/names")" ]; }
no_sockets() { [ -z "$(find "/run/user/$VIAL_TEST_UID" "/dev/shm/vial-$VIAL_TEST_UID" "/tmp/vial-$VIAL_TEST_UID" -maxdepth 1 -type s 2>/dev/null)" ]; }

# What a test that failed leaves for who reads of it: its jobs, their output, what the daemons say of them.
cluster_story() {
	local f
	echo "-- jobs"
	user scontrol -o show job | tail -n 3 | tr ' ' '\n' | grep -E '^(JobId|UserId|JobState|ExitCode|Restarts|Reason|.*Time|NodeList)=' | paste -sd' ' | sed 's/ JobId=/\n&/g'
	for f in "$WORK"/*; do [ ! -f "$f" ] || { echo "-- ${f##*/}" && head -c 2000 "$f"; }; done
	echo "-- nodes" && user sinfo -N -o '%N %T %E'
	for f in "$DEVCLUSTER_DIR"/log/slurm*.log; do echo "-- ${f##*/}" && grep -v "debug:" "$f" | tail -n 15; done
}

# After each test: no process, socket, mount or directory of it, and every node takes jobs.
nothing_left() {
	eventually no_jobs || { user squeue; return 1; }
	python3 -B "$HERE/leftovers.py" "MARK=$MARK" "$SIF" "$ENV_SIF" || return 1
	devcluster strays || return 1
	eventually no_sockets || { echo "a holder's socket is left"; return 1; }
	if grep -F "$PLACE/" /proc/self/mounts; then echo "a mount is left" && return 1; fi
	no_names || { echo "a container's directory is left" && ls -R "$PLACE/names" && return 1; }
	nodes_fine || { user sinfo -N -o '%N %T %E'; return 1; }
}
