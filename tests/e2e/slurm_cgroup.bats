# Steps that Slurm tracks by cgroups: it ends what is in them.
load common
load images
load ../slurm/slurm

setup_file() {
	has_cgroups || return 0
	export SLURM_REAPER=1 # who would be found in its cgroup as long as nobody has met it
	slurm_setup_file -n 1 -t cgroup -T cgroup -C IgnoreSystemd=yes -s SlurmdDebug=debug2
}
teardown_file() { stop_cluster; }
setup() {
	need_root
	has_cgroups || skip "needs cgroups that Slurm can use"
	slurm_setup
}
teardown() { slurm_teardown; }

# Of version 1, or of version 2 alone, with the controllers that Slurm asks for.
has_cgroups() {
	[ "$(id -u)" -eq 0 ] || return 1
	[ -w /sys/fs/cgroup/freezer/cgroup.procs ] ||
		{ [ -d /sys/fs/cgroup/system.slice ] && [ -w /sys/fs/cgroup/cgroup.procs ] && grep -q cpuset /sys/fs/cgroup/cgroup.subtree_control; }
}
# The step's cgroup that a process is in.
step_of() { sed -n 's/^\([0-9]*:freezer\|0:\):.*\(\/job_[0-9]*\/step_[^/]*\).*/\2/p' "/proc/$1/cgroup" | head -n 1; }
daemon_log() { has_line "$DEVCLUSTER_DIR/log/slurmd-n1.log" "$1"; }
# wait_in NAME: what a step does until there is the file NAME.
wait_in() { echo "echo >$1.up; while [ ! -e $1 ]; do sleep 0.1; done"; }

@test "the keeper, holder and server are in the step's cgroup, and have left it when Slurm ends what is there" {
	user srun -n 2 --container-image="$SIF" sh -c "$(wait_in go)" &
	local pid=$! p n=0
	eventually test -e "$WORK/go.up"
	for p in $(marked ' hold --fd '); do
		[[ $(step_of "$p") =~ ^/job_[0-9]+/step_0$ ]] || complain "$(cat "/proc/$p/cgroup")"
		n=$((n + 1))
	done
	[ "$n" -ge 3 ]
	touch "$WORK/go"
	ended 0 "$pid"
	eventually daemon_log '\[1.0\] done with'
	run ! daemon_log '\[1.0\].* killing process .* with signal 9'
	expect 0 srun --container-image="$SIF" sh -c 'sleep 1000 & cat /etc/file'
	stdout_is "in the image"
	eventually daemon_log '\[2.0\].* killing process .* with signal 9'
}

@test "a container with a name outlives the step that made it, in the one that has entered it" {
	printf '#!/bin/sh\nexport MARK=%q\n%s\n' "$MARK" "
		srun -Qn 1 --overlap --container-image=$SIF --container-name=box --container-writable sh -c 'echo 1 >/etc/one; $(wait_in first)' &
		first=\$!
		while [ ! -e first.up ]; do sleep 0.1; done
		srun -Qn 1 --overlap --container-name=box sh -c '$(wait_in second); cat /etc/one /etc/file' &
		while [ ! -e second.up ]; do sleep 0.1; done
		touch first
		wait \$first
		touch second
		wait" >"$WORK/job.sh"
	expect 0 user sbatch --parsable -o out -n 2 "$WORK/job.sh"
	eventually job_ended "$output"
	[ "$(cat "$WORK/out")" = "$(printf '1\nin the image')" ] || complain "$(cat "$WORK/out")"
}

@test "after scancel nothing of the step is left" {
	user srun --container-image="$SIF" sh -c "$(wait_in go)" >"$WORK/out" 2>&1 &
	local pid=$!
	eventually test -e "$WORK/go.up"
	user scancel -u "$SLURM_USER"
	eventually not_marked ' hold --fd '
	wait "$pid" || true
	expect 0 srun --container-image="$SIF" cat /etc/file # sweeps the socket of what was killed
	stdout_is "in the image"
}
