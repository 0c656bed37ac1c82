# The life of steps with a container, where it goes on for long or ends badly: limits, nodes that fail, many, at once.
load common
load images
load ../slurm/slurm

setup_file() { slurm_setup_file -n 4; }
teardown_file() { stop_cluster; }
held=() # what a test has stopped
setup() { slurm_setup; }
teardown() {
	if [ -n "${PLACE:-}" ] && ! nodes_fine; then # one failure is enough
		restart_node n3 >/dev/null 2>&1 || true
		admin update node=n3 state=resume 2>/dev/null || true
	fi
	if [ -n "${PLACE:-}" ]; then devcluster exec scancel -n storm || true; fi
	[ ${#held[@]} -eq 0 ] || kill -KILL "${held[@]}" 2>/dev/null || true
	slurm_teardown
}

# without the test's mark: it stays
restart_node() { env -u MARK "$HERE/../slurm/devcluster" restart-node "$1"; }
# as the cluster's administrator
admin() { devcluster exec scontrol "$@"; }
node_is() { [[ $(user sinfo -hN -n "$1" -o %T) =~ ^($2)$ ]]; }

# long_job SBATCH-OPTION...: a job whose script and step are in containers and wait; *output* is its id.
long_job() {
	local i n=$1
	shift
	printf '#!/bin/sh\nsrun -n %d --container-image=%s --container-name=box --container-writable sh -c %s\n' "$n" "$SIF" \
		"'echo >/etc/x; echo >up.\$SLURM_PROCID; while [ ! -e go ]; do sleep 0.1; done; cat /etc/file'" >"$WORK/job.sh"
	expect 0 user sbatch --parsable -o out -n "$n" "$@" job.sh
	for ((i = 0; i < n; i++)); do eventually test -e "$WORK/up.$i"; done
}

@test "a slurmd that is killed and comes back: the step goes on, and the job is tidied up after" {
	long_job 2 -N 2
	local id=$output
	devcluster kill-node n2
	touch "$WORK/go"
	restart_node n2
	eventually job_ended "$id"
	job_is "$id" COMPLETED
	[ "$(grep -cx 'in the image' "$WORK/out")" -eq 2 ]
}

@test "a node that fails takes its job with it, and the others are as before" {
	long_job 4 -N 4 --no-requeue
	local id=$output
	devcluster crash-node n3
	admin update node=n3 state=down reason=test
	eventually job_ended "$id"
	job_is "$id" NODE_FAIL
	restart_node n3 || admin update node=n3 state=resume
	eventually node_is n3 idle
	# as the boot of such a node would
	rm -rf "$PLACE/names/vial-$VIAL_TEST_UID"
	expect 0 srun -N 4 --container-image="$SIF" cat /etc/file
	[ "$(grep -cx 'in the image' <<<"$output")" -eq 4 ]
}

# job_that_hangs COMMAND...: which asks its image's server, which is stopped, as are keeper and holder (*held*): no signal ends it.
# *output* is the job's id.
job_that_hangs() {
	rm -f "$WORK/up" "$WORK/go"
	printf '#!/bin/sh\ndd if=/etc/file of=/dev/null\necho >up\nuntil [ -e go ]; do sleep 0.1; done\nexec %s\n' "$*" >"$WORK/job.sh"
	expect 0 user sbatch --parsable -o out --container-image="$SIF" job.sh
	eventually test -e "$WORK/up"
	mapfile -t held < <(marked ' hold --fd ')
	[ ${#held[@]} -eq 3 ]
	kill -STOP "${held[@]}"
	touch "$WORK/go"
	eventually is_marked "$hanging"
}
hanging='iflag=direct|aio-read'
hangs() { grep -qs '^State:.D' "/proc/$(marked "$hanging")/status"; }
hung_job_ends() {
	user scancel "$1"
	eventually job_ended "$1"
	job_is "$1" CANCELLED
	eventually not_marked "$hanging"
	kill -CONT "${held[@]}" 2>/dev/null || true # those that are left end when they go on
	held=()
	eventually not_marked .
}

@test "an image's server that its user has stopped: the job can be cancelled all the same, and the node stays" {
	job_that_hangs dd if=/etc/file of=/dev/null bs=4096 iflag=direct
	eventually hangs
	hung_job_ends "$output"
}

@test "the same, of a program that hangs while it ends" {
	cc -static -o "$WORK/aio-read" -x c - <<-'TEXT'
		#define _GNU_SOURCE
		#include <fcntl.h>
		#include <linux/aio_abi.h>
		#include <stdint.h>
		#include <sys/syscall.h>
		#include <unistd.h>

		static char page[4096] __attribute__((aligned(4096)));

		int main(void)
		{
			aio_context_t ctx = 0;
			int fd = open("/etc/file", O_RDONLY | O_DIRECT);
			struct iocb c = { .aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = fd, .aio_buf = (uintptr_t)page, .aio_nbytes = sizeof page };
			struct iocb *list = &c;

			if (fd < 0 || syscall(SYS_io_setup, 1, &ctx) || syscall(SYS_io_submit, ctx, 1, &list) != 1)
				return 1;
			creat("sent", 0600);
			pause();
		}
	TEXT
	job_that_hangs ./aio-read
	eventually test -e "$WORK/sent"
	hung_job_ends "$output"
}

@test "a heterogeneous job has a container on each node of each part" {
	expect 0 user salloc -Q -N 1 -n 1 : -N 2 -n 3 srun --het-group=0,1 --container-image="$SIF" \
		sh -c 'echo "$SLURMD_NODENAME $SLURM_PROCID"; cat /etc/file'
	[ "$(grep -cx 'in the image' <<<"$output")" -eq 4 ]
	[ "$(grep -x 'n.*' <<<"$output" | cut -d' ' -f1 | sort -u | wc -l)" -eq 3 ]
}

# storm N: N steps of two users on all nodes, which would not end; then, again and again, one of them is cancelled, or a task of theirs or
# a keeper killed. (What a killed task leaves is not found by proctrack/linuxproc, with or without containers.) storm_over: the rest is cancelled, and all have ended.
storm() {
	local i n=$1
	RANDOM=$(date +%s)
	echo "a storm with the seed $RANDOM"
	storm=()
	for ((i = 0; i < n; i++)); do
		local as=user
		((i % 2)) || as="devcluster exec"
		# shellcheck disable=SC2086 # two words
		STORM=yes $as srun -J storm -N $((i % 5 ? 1 : 3)) -n 3 -O --container-image="$SIF" sh -c 'echo >>storm; exec sleep 1003' 3>&- >>"$BATS_TEST_TMPDIR/storm" 2>&1 &
		storm+=($!)
	done
	eventually test -s "$WORK/storm"
	for ((i = 0; i < 12; i++)); do
		local p c ps=() js
		if ((RANDOM % 3)); then
			for p in /proc/[0-9]*; do
				grep -qzxF STORM=yes "$p/environ" 2>/dev/null || continue
				c=$(cat "$p/comm" 2>/dev/null) || continue
				case $c in sleep | vial) ps+=("${p#/proc/}") ;; esac
			done
			((!${#ps[@]})) || kill -KILL "${ps[RANDOM % ${#ps[@]}]}" "${ps[RANDOM % ${#ps[@]}]}" 2>/dev/null || true
		else
			mapfile -t js < <(devcluster exec squeue -h -n storm -o %A)
			((!${#js[@]})) || devcluster exec scancel "${js[RANDOM % ${#js[@]}]}" || true
		fi
	done
}
storm_over() {
	local p
	devcluster exec scancel -n storm || true
	for p in "${storm[@]}"; do wait "$p" || true; done
}

@test "a job over its time limit; meanwhile 200 short steps, in rows, and a storm over the steps of two users" {
	local id j rows
	long_job 4 -N 2 -t 1
	id=$output
	admin update job="$id" EndTime=now # else it would have its minute; Slurm looks every 30 seconds
	printf '#!/bin/sh\nfor i in $(seq 50); do srun -QN 1 -n 1 -w $1 --exact --container-image=%s cat /etc/file || exit 9; done\n' "$SIF" >"$WORK/row.sh"
	chmod 755 "$WORK/row.sh"
	user salloc -Q -N 4 -n 4 sh -c 'for k in 1 2 3 4; do ./row.sh n$k >row.$k 2>&1 & p="$p $!"; done; for k in $p; do wait $k || exit 9; done' 3>&- &
	rows=$!
	storm 28
	for j in $(devcluster exec squeue -h -n storm -o %A | head -n 4); do admin update job="$j" EndTime=now || true; done
	ended 0 "$rows"
	[ "$(cat "$WORK"/row.[1-4] | grep -cx 'in the image')" -eq 200 ]
	[ "$(cat "$WORK"/row.[1-4] | wc -l)" -eq 200 ]
	eventually job_ended "$id"
	job_is "$id" TIMEOUT
	has_line "$WORK/out" 'DUE TO TIME LIMIT'
	storm_over
}

@test "jobs of two users on the same nodes, at once" {
	local i pids=()
	for i in 1 2 3; do
		user srun -N 4 -n 16 --container-image="$SIF" cat /etc/file >"$WORK/user.$i" 2>&1 &
		pids+=($!)
		devcluster exec srun -N 4 -n 16 --container-image="$SIF" cat /etc/file >"$BATS_TEST_TMPDIR/root.$i" 2>&1 &
		pids+=($!)
	done
	for i in "${pids[@]}"; do ended 0 "$i"; done
	[ "$(cat "$WORK"/user.* | grep -cx 'in the image')" -eq 48 ]
	[ "$(cat "$BATS_TEST_TMPDIR"/root.* | grep -cx 'in the image')" -eq 48 ]
}
