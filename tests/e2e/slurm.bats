# The Slurm plugin on a real cluster: four slurmd on this machine, jobs of an unprivileged user.
load common
load images
load registry
load ../slurm/slurm

setup_file() {
	export HANG ENV_CONFIG='{"Env":["COLOR=image","PATH=/usr/bin:/bin"],"WorkingDir":"/usr","Entrypoint":["/bin/entry"]}'
	slurm_setup_file -n 4
	[ -n "${PLACE:-}" ] || return 0
	HANG=$PLACE/hang
	mkdir "$HANG"
	cp -a "$TREE/." "$HANG"
	mkdir -p "$HANG/.singularity.d/env"
	echo 'echo started >&2; sleep 1000' >"$HANG/.singularity.d/env/99-hang.sh"
	chmod -R go+rX "$PLACE"
}
teardown_file() { stop_cluster; }
setup() { slurm_setup; }
teardown() {
	stop_servers
	slurm_teardown
}

# ---- tasks -----------------------------------------------------------------------------------

@test "tasks run in the image: one container per node, one user namespace for its tasks" {
	for n in 1 4 64; do
		# shellcheck disable=SC2016 # the tasks' shell expands it
		expect 0 srun -N "$((n < 4 ? n : 4))" -n "$n" --container-image="$SIF" \
			sh -c 'echo $SLURMD_NODENAME $(stat -Lc %i /proc/self/ns/mnt /proc/self/ns/user) $(cat /etc/file)'
		[ "$(wc -l <<<"$output")" -eq "$n" ]
		[ "$(sort -u <<<"$output" | wc -l)" -eq "$((n < 4 ? n : 4))" ]
		[ "$(grep -c 'in the image$' <<<"$output")" -eq "$n" ]
		[[ $output != *" $(stat -Lc %i /proc/self/ns/mnt) "* ]]
	done
}

@test "without the options nothing is different" {
	expect 0 srun -n 2 stat -Lc %i /proc/self/ns/mnt
	[ "$(sort -u <<<"$output")" = "$(stat -Lc %i /proc/self/ns/mnt)" ]
	not_marked ' hold '
}

@test "--label, standard input and output are Slurm's" {
	expect 0 srun -N 2 -n 4 -l --container-image="$SIF" cat /etc/file
	[ "$(sort <<<"$output")" = "$(printf '%s: in the image\n' 0 1 2 3)" ]
	# shellcheck disable=SC2016
	printf 'to all\n' >"$WORK/in"
	expect 0 srun -n 2 -l -i in --container-image="$SIF" cat
	[ "$(sort <<<"$output")" = "$(printf '%s: to all\n' 0 1)" ]
	expect 0 srun -n 2 -o 'out.%t' --container-image="$SIF" sh -c 'echo "$SLURM_PROCID"; echo oops >&2'
	[ "$(cat "$WORK/out.1")" = "$(printf '1\noops')" ]
}

@test "exit statuses are those of the same step without a container" {
	local c
	for c in 'exit 0' 'exit 7' 'kill -TERM $$' 'kill -KILL $$' 'exit $SLURM_PROCID'; do
		run --separate-stderr srun -n 3 sh -c "$c"
		expect "$status" srun -n 3 --container-image="$SIF" sh -c "$c"
	done
	run srun no-such-program
	expect "$status" srun --container-image="$SIF" no-such-program
}

@test "signals reach the program" {
	user srun --container-image="$SIF" sh -c 'trap "echo caught; exit 5" USR1; echo ready >ready; while :; do sleep 0.1; done' >"$WORK/out" &
	local pid=$!
	eventually test -s "$WORK/ready"
	user scancel -s USR1 -u "$SLURM_USER"
	ended 5 "$pid"
	has_line "$WORK/out" caught
}

@test "a heterogeneous step has a container in each part" {
	expect 0 srun -n 1 --container-image="$ENV_SIF" cat /etc/file : -n 2 --container-image="$ENV_SIF" sh -c 'echo "$COLOR"'
	[ "$(sort <<<"$output")" = "$(printf 'image\nimage\nin the image\n')" ]
	# Slurm would use the last component's options for all
	local other
	for other in "--container-image=$ENV_SIF" "" "--container-image=$SIF --container-writable"; do
		# shellcheck disable=SC2086
		expect 1 srun -n 1 --container-image="$SIF" touch "$WORK/ran" : -n 1 $other touch "$WORK/ran"
		stderr_has "components"
	done
	[ ! -e "$WORK/ran" ]
	# what salloc was told is the same for all of them
	expect 0 user salloc -Q -N 2 -n 2 --container-image="$SIF" --container-writable srun -N 1 -n 1 cat /etc/file : -N 1 -n 1 cat /etc/file
	stdout_is "$(printf 'in the image\nin the image')"
	expect 0 user salloc -Q -n 1 --container-image="$SIF" : -n 1 --container-image="$SIF" srun --het-group=0,1 cat /etc/file
	stdout_is "$(printf 'in the image\nin the image')"
}

# ---- options ---------------------------------------------------------------------------------

@test "--container-mounts" {
	echo data >"$WORK/data"
	expect 0 srun --container-image="$SIF" --container-mounts="$WORK:/mnt/a:ro,$WORK/data:/file" sh -c 'cat /mnt/a/data /file; touch /mnt/a/x 2>/dev/null || echo ro'
	stdout_is "$(printf 'data\ndata\nro')"
	# twice, and as Pyxis writes them
	mkdir "$WORK/bin" && cp "$TREE/bin/cat" "$WORK/bin"
	expect 0 srun --container-image="$SIF" --container-mounts="$PLACE,$WORK/bin:/mnt/bin:noexec+ro+rprivate" --container-mounts="tmpfs:/new:size=1M,umount:/var/tmp" sh -c \
		'ls "$0/test.sif"; /mnt/bin/cat /etc/file 2>/dev/null || echo noexec; touch /new/file && grep -c " /var/tmp " /proc/self/mountinfo || :' "$PLACE"
	stdout_is "$(printf '%s\nnoexec\n0' "$PLACE/test.sif")"
	expect 1 srun --container-image="$SIF" --container-mounts="$WORK:/a:strange" true
	stderr_has "'strange' is not known"
}

@test "--container-workdir, else the job's, else a place that is there" {
	expect 0 srun --container-image="$SIF" --container-workdir=/etc sh -c 'pwd; echo "$PWD"'
	stdout_is "$(printf '/etc\n/etc')"
	expect 0 srun --container-image="$SIF" pwd
	stdout_is "$WORK"
	expect 0 srun -D "$DEVCLUSTER_DIR/etc" --container-image="$SIF" sh -c 'cd / && pwd'
	expect 0 srun -D /opt --container-image="$ENV_SIF" sh -c 'pwd; env | grep VIAL_IMAGE || :' # that is not in the image, whose WORKDIR is
	stdout_is /usr
	expect 1 srun -n 3 --container-image="$SIF" --container-workdir=/nowhere pwd
	stderr_has "/nowhere"
	[ "$(grep -c 'vial: ' <<<"$stderr")" -eq 1 ]
	expect 1 srun --container-image="$SIF" --container-workdir=etc pwd
	stderr_has "absolute"
}

@test "--container-writable, --container-readonly" {
	expect 0 srun -n 2 --container-image="$SIF" --container-writable sh -c 'echo new >"/etc/new$SLURM_PROCID" && cat "/etc/new$SLURM_PROCID"'
	stdout_is "$(printf 'new\nnew')"
	expect 1 srun --container-image="$SIF" --container-readonly touch /etc/new
	expect 1 srun --container-image="$SIF" touch /etc/new
	expect 1 srun --container-image="$SIF" --container-readonly --container-writable true
	stderr_has "exclude each other"
}

@test "--container-mount-home, --no-container-mount-home" {
	local home
	home=$(getent passwd "$SLURM_USER" | cut -d: -f6)
	expect 0 srun --container-image="$SIF" --container-workdir=/ --container-mount-home sh -c 'echo "$HOME"; cat /proc/self/mountinfo'
	stdout_has " $home "
	[ "${lines[0]}" = "$home" ]
	expect 0 srun -D "$home" --container-image="$SIF" --no-container-mount-home cat /proc/self/mountinfo
	stdout_lacks " $home "
	expect 0 user env VIAL_CONTAINER_MOUNT_HOME=0 srun -D / --container-image="$SIF" cat /proc/self/mountinfo
	stdout_lacks " $home "
	expect 1 srun --container-image="$SIF" --container-mount-home --no-container-mount-home true
	stderr_has "exclude each other"
}

@test "--container-env: the image's variables beat the job's, but for those named" {
	expect 0 env COLOR=job SHADE=job "$HERE/../slurm/devcluster" exec -u "$SLURM_USER" srun -D / --container-image="$ENV_SIF" sh -c 'echo "$COLOR $SHADE"'
	stdout_is "image job"
	expect 0 env COLOR=job "$HERE/../slurm/devcluster" exec -u "$SLURM_USER" srun -D / --container-image="$ENV_SIF" --container-env=COLOR,NONE sh -c 'echo "$COLOR"'
	stdout_is "job"
}

@test "what salloc is told holds for its steps, whose own options beat it" {
	mkdir "$WORK/sub"
	cp "$SIF" "$WORK/app.sif"
	chmod 644 "$WORK/app.sif"
	expect 0 user salloc -Q --container-image=app.sif --container-mounts="$PLACE:/mnt/a" --container-mounts="$WORK:/mnt/b" --container-readonly sh -c '
		cd sub
		srun sh -c "cat /mnt/b/sub/../app.sif >/dev/null && ls /mnt/a/test.sif; touch /etc/new 2>/dev/null || echo readonly"
		srun --container-writable --container-mounts=$PWD:/mnt/c sh -c "touch /etc/new; ls /mnt"
		srun --container-image=$0 sh -c "echo \$COLOR"' "$ENV_SIF"
	stdout_is "$(printf '/mnt/a/test.sif\nreadonly\nc\nimage')"
	# a path is one from where it is written, not from the job's directory
	expect 0 srun -D / --container-image=app.sif cat /etc/file
	stdout_is "in the image"
	expect 0 user sbatch --wait -D / -o "$WORK/out" --container-image=./app.sif --wrap 'cat /etc/file'
	has_line "$WORK/out" "in the image"
}

@test "an image of a registry is fetched once, before the step" {
	start_registry REG
	start_proxy PROXY REG
	push_image "$REG_HOST/lab/app:1" "$TREE"
	with_store() { user env VIAL_CACHEDIR="$WORK/store" VIAL_NO_HTTPS=1 "$@"; }
	expect 0 with_store srun -N 2 -n 4 --container-image="$PROXY_HOST#lab/app:1" cat /etc/file
	stdout_is "$(printf 'in the image\n%.0s' 1 2 3 4)"
	[ "$(count_requests '^GET .*/blobs/')" -ge 1 ]
	forget_requests
	expect 0 with_store srun --container-image="docker://$PROXY_HOST#lab/app:1" cat /etc/file
	stdout_is "in the image"
	[ "$(count_requests '^GET .*/blobs/')" -eq 0 ]
}

@test "the environment's twins of the options" {
	echo data >"$WORK/data"
	expect 0 user env VIAL_CONTAINER_IMAGE="$SIF" VIAL_CONTAINER_MOUNTS="$WORK:/mnt" VIAL_CONTAINER_WRITABLE=1 srun sh -c 'cat /etc/file /mnt/data; touch /etc/new'
	stdout_is "$(printf 'in the image\ndata')"
	# whatever the job is left of the environment, and what it starts
	for left in NONE HOME; do
		expect 0 user env VIAL_CONTAINER_IMAGE="$SIF" VIAL_CONTAINER_MOUNTS="$WORK:/mnt" VIAL_CONTAINER_WRITABLE=1 srun --export="$left" /bin/sh -c 'cat /etc/file /mnt/data; >/etc/new'
		stdout_is "$(printf 'in the image\ndata')"
	done
	expect 1 user env VIAL_CONTAINER_IMAGE="$SIF" salloc -Q env -u VIAL_CONTAINER_IMAGE srun -Q /bin/cat /etc/file
	expect 0 user env VIAL_CONTAINER_IMAGE="$SIF" sbatch --wait --export=NONE -o out --wrap '/bin/cat /etc/file; echo "kept $SLURM_SPANK_VIAL_TWINS"'
	[ "$(cat "$WORK/out")" = "$(printf 'in the image\nkept 1')" ]
	expect 0 user env VIAL_CONTAINER_IMAGE="$SIF" sbatch --wait -o out --wrap 'echo "kept $SLURM_SPANK_VIAL_TWINS"; [ -z "$VIAL_CONTAINER_IMAGE" ] || echo there'
	[ "$(cat "$WORK/out")" = "$(printf 'kept \nthere')" ]
	expect 0 user env VIAL_CONTAINER_IMAGE=/none VIAL_CONTAINER_READONLY=1 srun --container-image="$SIF" --container-writable sh -c 'touch /etc/new; cat /etc/file'
	stdout_is "in the image"
	expect 1 user env VIAL_CONTAINER_WRITABLE=maybe srun --container-image="$SIF" true
	stderr_has "VIAL_CONTAINER_WRITABLE=maybe"
	expect 0 user env PYXIS_CONTAINER_IMAGE="$SIF" PYXIS_CONTAINER_MOUNTS=/none:/none VIAL_CONTAINER_MOUNTS="$WORK:/mnt" srun cat /etc/file /mnt/data
	stdout_is "$(printf 'in the image\ndata')"
}

@test "what the environment says to vial exec is not said to a step" {
	# shellcheck disable=SC2016 # the tasks' shell expands it
	MINE=1 expect 0 user env APPTAINER_FAKEROOT=1 APPTAINER_WRITABLE_TMPFS=1 SINGULARITY_BINDPATH=/nowhere VIAL_CLEANENV=1 VIAL_NO_HOME=1 \
		srun --container-image="$SIF" sh -c 'id -u; touch /etc/new 2>/dev/null || echo readonly; echo "$MINE"'
	stdout_is "$(printf '%s\nreadonly\n1' "$VIAL_TEST_UID")"
}

@test "the prefix of the options is the site's choice" {
	site prefix=vial
	expect 0 srun --vial-image="$SIF" cat /etc/file
	expect 255 srun --container-image="$SIF" true
	site prefix
	expect 1 srun true
	stderr_has "'prefix' is not known"
}

@test "a squashfs file and a directory are images too" {
	cp "$SQUASHFS" "$PLACE/t.sqfs"
	chmod go+r "$PLACE/t.sqfs"
	expect 0 srun --container-image="$PLACE/t.sqfs" cat /etc/file
	rm "$HANG/.singularity.d/env/99-hang.sh"
	expect 0 srun --container-image="$HANG" cat /etc/file
	echo 'echo started >&2; sleep 1000' >"$HANG/.singularity.d/env/99-hang.sh"
}

@test "mounts of the site are in every container" {
	mkdir "$PLACE/site"
	echo of the site >"$PLACE/site/f"
	site mounts="$PLACE/site:/opt/site:ro"
	expect 0 srun --container-image="$SIF" cat /opt/site/f
	stdout_is "of the site"
	site mounts=/none:/opt/site
	expect 1 srun --container-image="$SIF" true
	stderr_has "bind source /none"
}

@test "srun within a batch script that runs in an image, where the site shows Slurm's files" {
	local real lib mounts
	real=$(readlink -f "$(type -P srun)")
	mounts=$real:/usr/bin/srun,$DEVCLUSTER_DIR
	# what it loads, also by its plugins and by ours; a site's images bring most of it
	for lib in $(ldd "$real" "$(dirname "$(ldd "$real" | grep -o '/[^ ]*libslurm[^ ]*')")"/auth_munge.so "$PLUGIN" | grep -o ' /[^ ]*'; ldd "$real" | grep -o '/[^ ]*libslurm[^ ]*'); do
		case $lib in
		*/slurm*) lib=$(dirname "$lib") ;;
		*) [ ! -e "$TREE$lib" ] || continue ;;
		esac
		[[ ,$mounts, == *",$lib,"* ]] || mounts=$mounts,$lib
	done
	site mounts="$mounts"
	cat >"$WORK/job.sh" <<-'EOF'
		#!/bin/sh
		cat /etc/file
		srun -n 2 -l cat /etc/file
		srun -n 2 sh -c 'exit 6' 2>/dev/null
	EOF
	# what the script's own container has, also its name, is not asked of the others'
	mkdir "$WORK/data"
	expect 6 user sbatch --wait -N 2 -o out --container-image="$SIF" --container-mounts="$WORK/data:/there/alone" --container-name=box --container-writable job.sh
	[ "$(sort "$WORK/out")" = "$(printf '%s\n' '0: in the image' '1: in the image' 'in the image')" ] || { cat "$WORK/out"; return 1; }
}

# ---- MPI -------------------------------------------------------------------------------------

# make_mpi_tree DIR: Debian's Open MPI, with what it loads at run time, and ring.c.
make_mpi_tree() {
	local lib so
	make_rootfs "$1"
	mpicc.openmpi -o "$BATS_TEST_TMPDIR/ring" "$HERE/../slurm/ring.c"
	copy_program "$1" "$BATS_TEST_TMPDIR/ring"
	lib=$(dirname "$(ldd "$BATS_TEST_TMPDIR/ring" | sed -n 's/.*libmpi.so[^ ]* => \([^ ]*\).*/\1/p')")
	for so in openmpi pmix2; do
		mkdir -p "$1/usr$lib"
		cp -a "/usr$lib/$so" "$1/usr$lib/"
	done
	mkdir -p "$1/usr/share" "$1/etc"
	cp -a /usr/share/openmpi "$1/usr/share/"
	cp -aL /etc/openmpi "$1/etc/"
	find "$1/usr$lib/openmpi" "$1/usr$lib/pmix2" -name '*.so*' -type f -exec ldd {} + 2>/dev/null | grep -o ' /[^ ]*' | sort -u | while read -r so; do
		[ -e "$1$so" ] || install -D "$so" "$1$so"
	done
	chmod -R go+rX "$1"
}

@test "an Open MPI ring inside of an image, across nodes" {
	command -v mpicc.openmpi >/dev/null || skip "needs Open MPI"
	make_mpi_tree "$BATS_TEST_TMPDIR/tree"
	make_sif "$PLACE/mpi.sif" "$BATS_TEST_TMPDIR/tree"
	site mounts="$DEVCLUSTER_DIR/tmp" # TmpFS, where most sites have /tmp
	expect 0 srun --mpi=pmix -N 4 -n 8 --container-image="$PLACE/mpi.sif" ring
	stdout_is "ranks 8, sum 28"
	expect 0 srun --mpi=pmix -N 1 -n 2 --container-image="$PLACE/mpi.sif" ring
	stdout_is "ranks 2, sum 1"
}

# make_mpich DIR: Debian's MPICH with what it is linked to, ring.c, and the linker's cache of that.
make_mpich() {
	mkdir -p "$1/bin" "$1/etc" "$1/lib64"
	mpicc.mpich -o "$1/bin/ring" "$HERE/../slurm/ring.c"
	cp /bin/busybox "$1/bin/sh" 2>/dev/null || cp -L /bin/sh "$1/bin/sh"
	{ ldd "$1/bin/ring"; ldd /bin/sh || true; } | grep -o '/[^ ]*' | sort -u | while read -r so; do
		install -D "$so" "$1$so"
	done
	echo /lib/x86_64-linux-gnu >"$1/etc/ld.so.conf"
	ldconfig -r "$1"
	chmod -R go+rX "$1"
}
need_mpich() {
	command -v mpicc.mpich >/dev/null || skip "needs MPICH"
	MPI_SIF=$PLACE/mpich.sif
	[ ! -e "$MPI_SIF" ] || return 0
	make_mpich "$BATS_TEST_TMPDIR/mpich"
	make_sif "$MPI_SIF" "$BATS_TEST_TMPDIR/mpich"
	chmod go+r "$MPI_SIF"
}
@test "an MPICH ring inside of an image, across nodes, by PMI-2" {
	need_mpich
	expect 0 srun --mpi=pmi2 -N 2 -n 4 --container-image="$MPI_SIF" ring
	stdout_is "ranks 4, sum 6"
	expect 0 "$VIAL" mpi check --mpi pmi2 "$MPI_SIF"
}

@test "--container-mpi: the ring with the host's MPICH, which each rank has mapped" {
	need_mpich
	local host=$PLACE/host/libmpich.so.12.2.2
	install -D -m 644 "$(find /usr/lib -name 'libmpich.so.12.*' | head -n 1)" "$host" # another file than what the image is made of
	export VIAL_MPI_LIBS=$host
	expect 0 srun --mpi=pmi2 -N 2 -n 4 --container-mpi=host --container-image="$MPI_SIF" ring libmpich
	[[ $output == *"ranks 4, sum 6"* ]]
	[ "$(grep -c " $(stat -c %i "$host") .*/libmpich.so.12" <<<"$output")" -eq 4 ] || { stat "$host" && return 1; }
	VIAL_CONTAINER_MPI=none expect 0 srun --mpi=pmi2 -n 1 --container-image="$MPI_SIF" ring libmpich
	[[ $output != *" $(stat -c %i "$host") "* && $output == *libmpich* ]]
	# the submit side knows the words, the node whether the libraries fit
	expect 1 srun --container-mpi=pmix --container-image="$MPI_SIF" ring
	[[ $output$stderr == *"mpi 'pmix' is not known; host, libfabric and none are"* ]]
	export VIAL_MPI_LIBS=$VIAL
	expect 1 srun -n 1 --container-mpi=host --container-image="$MPI_SIF" ring
	[[ $output$stderr == *"vial: --mpi=host: of the host's libraries that were named none is an MPI's"* ]]
}

@test "ranks that would be alone: one line says so" {
	need_mpich
	expect 0 srun --mpi=none -N 2 -n 4 --container-image="$MPI_SIF" ring
	[ "$(grep -c 'srun was not told of it: each of the 4 tasks would be a world of its own' <<<"$output$stderr")" -eq 1 ]
	has_line <(echo "$output") 'ranks 1, sum 0'
	# one task is nothing to warn about, and neither is an image without MPI
	expect 0 srun --mpi=none -N 1 -n 1 --container-image="$MPI_SIF" ring
	[[ $output$stderr != *'would be a world'* ]]
	expect 0 srun --mpi=none -N 2 -n 2 --container-image="$SIF" /bin/true
	[[ $output$stderr != *'would be a world'* ]]
}

# ---- jobs ------------------------------------------------------------------------------------

@test "a batch script runs inside, each task of an array in its own" {
	printf '#!/bin/sh\n#SBATCH --container-image=%s\n%s\n' "$SIF" 'cat /etc/file; echo "$SLURM_ARRAY_TASK_ID"; exit 4' >"$WORK/job.sh"
	expect 4 user sbatch --wait -o 'out.%a' -a 1-3 job.sh
	for i in 1 2 3; do [ "$(cat "$WORK/out.$i")" = "$(printf 'in the image\n%s' "$i")" ]; done
}

@test "steps of a job, one after the other and at once (--overlap)" {
	cat >"$WORK/job.sh" <<-EOF
		#!/bin/sh
		srun -n 1 --overlap --container-image=$SIF sh -c 'echo up >up; while [ ! -e over ]; do sleep 0.1; done; cat /etc/file' &
		while [ ! -s up ]; do sleep 0.1; done
		srun -n 1 --overlap --container-image=$SIF sh -c 'cat /etc/file; echo >over'
		wait
		for i in 1 2 3; do srun -n 2 --container-image=$SIF cat /etc/file || exit 9; done
	EOF
	expect 0 user sbatch --wait -N 1 -n 2 -o out job.sh
	[ "$(grep -cx 'in the image' "$WORK/out")" -eq 8 ]
}

@test "requeue: the script runs inside again" {
	printf '#!/bin/sh\n%s\n' 'cat /etc/file; [ -n "$SLURM_RESTART_COUNT" ] && exit 0; echo >up; sleep 1000' >"$WORK/job.sh"
	expect 0 user sbatch --parsable --requeue --open-mode=append -o out --container-image="$SIF" job.sh
	local id=$output
	eventually test -s "$WORK/up"
	user scontrol requeue "$id"
	# It would wait for two minutes now, for a reason: a start in the second in which the first run was ended has a
	# credential that counts as revoked, and the job fails. So not before that run is over, and some seconds later.
	eventually job_is "$id" PENDING
	user scontrol update job="$id" StartTime=now+3
	eventually job_ended "$id"
	job_is "$id" COMPLETED
	[ "$(grep -cx 'in the image' "$WORK/out")" -eq 2 ]
}

@test "suspend and resume" {
	expect 0 user sbatch --parsable -o out --container-image="$SIF" --wrap 'echo >up; while [ ! -e go ]; do sleep 0.1; done; cat /etc/file'
	local id=$output p
	eventually test -s "$WORK/up"
	SLURM_CONF=$DEVCLUSTER_DIR/etc/slurm.conf scontrol suspend "$id"
	eventually job_is "$id" SUSPENDED
	for p in $(marked 'while'); do eventually grep -q '^State:.T' "/proc/$p/status"; done
	touch "$WORK/go"
	SLURM_CONF=$DEVCLUSTER_DIR/etc/slurm.conf scontrol resume "$id"
	eventually job_is "$id" COMPLETED
	has_line "$WORK/out" 'in the image'
}

# ---- ends ------------------------------------------------------------------------------------

# starts a step whose tasks write their number, and waits for all; its status goes to $WORK/status
start_step() { # TASKS SRUN-OPTION...
	local n=$1 i
	shift
	# shellcheck disable=SC2016
	(
		s=0
		user srun -n "$n" --container-image="$SIF" "$@" sh -c 'echo >"up.$SLURM_PROCID"; while [ ! -e go ]; do sleep 0.1; done; cat /etc/file' >"$WORK/out" 2>"$WORK/err" || s=$?
		echo $s >"$WORK/status"
	) 3>&- &
	for ((i = 0; i < n; i++)); do eventually test -s "$WORK/up.$i"; done
}

@test "scancel of a running step" {
	start_step 4 -N 2
	user scancel -u "$SLURM_USER"
	eventually test -s "$WORK/status"
	[ "$(cat "$WORK/status")" -ne 0 ]
}

@test "scancel while the container is prepared" {
	user srun -N 2 -n 4 --container-image="$HANG" true >"$WORK/out" 2>&1 &
	local pid=$!
	eventually has_line "$WORK/out" started
	user scancel -u "$SLURM_USER"
	if wait "$pid"; then return 1; fi
}

@test "a task that is killed ends the step as it would without a container" {
	start_step 2 -N 1
	kill -KILL "$(marked '^[^ ]*sh -c echo' | head -n 1)"
	touch "$WORK/go"
	eventually test -s "$WORK/status"
	[ "$(cat "$WORK/status")" -eq 137 ]
}

@test "a keeper that is killed takes no running task with it" {
	start_step 2 -N 1
	local keeper
	keeper=$(keepers)
	kill -KILL "$keeper"
	touch "$WORK/go"
	eventually test -s "$WORK/status"
	[ "$(cat "$WORK/status")" -eq 0 ]
	[ "$(cat "$WORK/out")" = "$(printf 'in the image\nin the image')" ]
}

@test "a keeper that is killed while it prepares fails the step at once" {
	user srun -n 4 --container-image="$HANG" true >"$WORK/out" 2>&1 &
	local pid=$!
	eventually has_line "$WORK/out" started
	kill -KILL "$(keepers)"
	ended 1 "$pid"
	[ "$(grep -c 'vial: ' "$WORK/out")" -eq 1 ]
	has_line "$WORK/out" "the container is gone"
}

# stepd_of REGEX: the slurmstepd whose task has that command line
stepd_of() {
	local p
	p=$(awk '/^PPid/ { print $2 }' "/proc/$(marked "$1" | head -n 1)/status")
	[[ $(tr '\0' ' ' <"/proc/$p/cmdline") == slurmstepd* ]] && echo "$p"
}

@test "a slurmstepd that is killed takes all of its step with it: tasks, what these have left, keeper, image server" {
	# of the sleepers one is a child of its task, one of nobody any more
	printf '#!/bin/sh\n%s\n' 'sleep 1001 & (sleep 1002 &); echo >up; wait' >"$WORK/job.sh"
	expect 0 user sbatch --parsable -o out --container-image="$SIF" job.sh
	eventually test -s "$WORK/up"
	[ "$(marked '^sleep 100[12]' | wc -l)" -eq 2 ]
	kill -KILL "$(stepd_of 'sh [^ ]*slurm_script')"
	eventually not_marked '.'
	eventually no_sockets
	user scancel "$output"
}

# the slurmstepd of this cluster that has tasks which wait
waiting_stepd() {
	local p
	for p in /proc/[0-9]*; do
		if [ "$(cat "$p/comm" 2>/dev/null)" = vial-waits ] && [ -n "$(find "$p/fd" -lname "$DEVCLUSTER_DIR/log/slurmd-*.log" -print -quit)" ]; then
			awk '/^PPid/ { print $2 }' "$p/status"
			return
		fi
	done
}

@test "a slurmstepd that is killed while the container is prepared leaves nothing either" {
	expect 0 user sbatch --parsable -o out --container-image="$HANG" --wrap true
	eventually has_line "$WORK/out" started
	kill -KILL "$(waiting_stepd)"
	eventually not_marked '.'
	user scancel "$output"
}

# ---- what users do wrong ----------------------------------------------------------------------

# wrong TEXT SRUN-ARG...: the step fails, says why once a node, and the node is none the worse (teardown looks).
wrong() {
	local text=$1
	shift
	expect 1 srun -N 1 -n 3 "$@" true
	stderr_has "$text"
	[ "$(grep -c 'vial: ' <<<"$stderr")" -eq 1 ] || complain "not told once"
	stderr_lacks FATAL
}

@test "what is wrong with an image is said on the submit host" {
	wrong "there is no such file" --container-image=/none.sif
	wrong "there is no such file" --container-image=ap.sif
	wrong "which one" --container-image=
	expect 255 srun --container-image="$SIF" --container-image="$ENV_SIF" true
	stderr_has "given twice"
	install -m 600 "$SIF" "$PLACE/secret.sif"
	wrong "Permission denied" --container-image="$PLACE/secret.sif"
	python3 - "$SIF" "$PLACE/other.sif" <<-'EOF'
		import struct, sys
		b = bytearray(open(sys.argv[1], "rb").read())
		at = b.index(struct.pack("<ii", 1, 2))  # squashfs, the system partition
		b[at + 8:at + 10] = b"11"  # s390x
		open(sys.argv[2], "wb").write(b)
	EOF
	wrong "the image is for s390x" --container-image="$PLACE/other.sif"
	expect 1 user env SLURM_JOB_ID=1 sbatch --container-image="$PLACE/other.sif" --wrap true
	stderr_has "the image is for s390x"
	expect 1 user sbatch --container-image=/none.sif --wrap true
	stderr_has "there is no such file"
	eventually no_jobs
}

@test "what only the node can know fails the step, once, and not the node" {
	site check=no
	wrong "No such file" --container-image=/none.sif
	install -m 600 "$SIF" "$PLACE/secret.sif"
	wrong "Permission denied" --container-image="$PLACE/secret.sif"
	# what is known without a job is told by vial itself too
	expect 125 vial hold --check "$PLACE/none.sif"
	one_fatal_line none.sif
	expect 0 vial hold --check "$SIF"
	wrong "bind source /none" --container-image="$SIF" --container-mounts=/none:/mnt
	head -c 100000 "$SIF" >"$PLACE/cut.sif"
	chmod 644 "$PLACE/cut.sif"
	wrong cut.sif --container-image="$PLACE/cut.sif"
	echo text >"$PLACE/text.sif"
	wrong "neither a SIF nor a squashfs" --container-image="$PLACE/text.sif"
	stderr_lacks "failed with rc"
	run ! user sbatch --wait -o out --container-image=/none.sif --wrap true
	has_line "$WORK/out" 'vial: .*No such file'
	# nor does a plugin that Slurm would pass over let the program run on the host
	sed -i 's/^required/optional/' "$DEVCLUSTER_DIR/etc/plugstack.conf"
	wrong "No such file" --container-image=/none.sif
	run ! user sbatch --wait -o out --container-image=/none.sif --wrap 'echo on the host'
	run ! has_line "$WORK/out" 'on the host'
	# the user's policy, on the submit host and on the node
	mkdir -p "$WORK/conf/vial/policy.d"
	echo 'default = "deny"' >"$WORK/conf/vial/policy.d/10.toml"
	chmod -R go-w "$WORK/conf" && chown -R "$SLURM_USER" "$WORK/conf"
	XDG_CONFIG_HOME=$WORK/conf wrong "policy" --container-image="$SIF"
	site
	XDG_CONFIG_HOME=$WORK/conf wrong "policy" --container-image="$SIF"
}

@test "a program that is not there, and a site whose vial is not, fail the step" {
	site check=no vial=/none/vial
	wrong "cannot run /none/vial" --container-image="$SIF"
}

@test "a container that does not get ready in time" {
	site timeout=2
	wrong "not ready within 2 seconds" --container-image="$HANG"
}

@test "nonsense in plugstack.conf fails containers on the node, and nothing else" {
	expect 0 user "$VIAL" doctor
	stdout_has "srun has the options of vial's plugin"
	user sbatch --parsable -H -o out --container-image="$SIF" --wrap 'cat /etc/file' >"$WORK/id"
	user sbatch --parsable -H -o plain --wrap 'echo fine' >"$WORK/plain-id"
	site timeout=nonsense
	user scontrol release "$(cat "$WORK/id")" "$(cat "$WORK/plain-id")"
	eventually job_is "$(cat "$WORK/plain-id")" COMPLETED
	eventually job_is "$(cat "$WORK/id")" FAILED
	has_line "$WORK/out" timeout=nonsense
}

@test "what loads code into the job's programs is not loaded into what keeps the container" {
	local keeper step
	LD_OF_TEST=1 srun --container-image="$SIF" sh -c 'echo "$LD_OF_TEST" >up; while [ ! -e go ]; do sleep 0.1; done' &
	step=$!
	eventually test -s "$WORK/up"
	[ "$(cat "$WORK/up")" = 1 ]
	keeper=$(keepers)
	[ -n "$keeper" ]
	grep -qz '^VIAL_OF_JOB_LD_OF_TEST=1$' "/proc/$keeper/environ"
	! grep -qz '^LD_' "/proc/$keeper/environ" || complain "the keeper has it"
	touch "$WORK/go"
	ended 0 "$step"
}
