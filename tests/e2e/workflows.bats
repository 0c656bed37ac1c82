# The command lines by which workflow engines and batch systems call singularity or apptainer. The words and their order
# are those of the engines; what they rely on is what is checked.
# shellcheck disable=SC2030,SC2031 # a test is a subshell
load common
load registry
load checklist

setup_file() {
	cd "$BATS_FILE_TMPDIR" || return 1
	registry_setup
	start_registry REG
	checklist_images
	BATS_TEST_TMPDIR=$PWD make_oci plain latest '{"Cmd":["sh"]}' tree # has no entrypoint, as most tools
	"$VIAL" -q build plain.sif oci:plain:latest
	vial_as_apptainer bin
}
teardown_file() { stop_servers; }
setup() {
	common_setup
	registry_setup
	PATH=$BATS_FILE_TMPDIR/bin:$PATH
	mkdir wd
}

# ---- Nextflow: an environment of PATH and variables for the container, the task's script as the program

# task TEXT: .command.run and .command.sh of a task, which the engine writes into its directory
task() {
	printf '%s\n' "$1" >wd/.command.sh
	printf 'cd %q\n/bin/bash -ue %q\n' "$PWD/wd" "$PWD/wd/.command.sh" >wd/.command.run
}

nextflow_task() { # RUNTIME OPTION...
	local runtime=$1
	shift
	(
		set +u
		TMP=/tmp NXF_TASK_WORKDIR=$PWD/wd
		# shellcheck disable=SC2086,SC2030
		env - PATH="$PATH" ${TMP:+SINGULARITYENV_TMP="$TMP"} ${TMP:+APPTAINERENV_TMP="$TMP"} \
			${NXF_TASK_WORKDIR:+SINGULARITYENV_NXF_TASK_WORKDIR="$NXF_TASK_WORKDIR"} SINGULARITYENV_FOO="one two" \
			"$runtime" exec "$@" "$IMAGE" /bin/bash -ue "$NXF_TASK_WORKDIR/.command.run"
	)
}

@test "Nextflow: a task, with and without --pid, binds, and its status" {
	local runtime
	# its output goes to files of that directory, its status is that of the task
	# shellcheck disable=SC2016
	task 'echo "$FOO|$TMP|$A|$PWD"; echo out >result; exit 3'
	for runtime in singularity apptainer; do
		rm -f wd/result
		expect 3 nextflow_task "$runtime" --no-home --pid -B "$PWD/wd"
		stdout_is "one two|/tmp|image|$PWD/wd"
		[ "$(cat wd/result)" = out ]
	done
	expect 3 nextflow_task singularity -B "$PWD/wd"
	mkdir input
	task 'cat input.txt; touch ../input/no'
	echo staged >input/input.txt
	ln -s "$PWD/input/input.txt" wd/input.txt
	expect 1 nextflow_task singularity --no-home -B "$PWD/input:$PWD/input:ro" -B "$PWD/wd"
	stdout_is staged
	stderr_has "Read-only"
	stderr_lacks WARNING
}

@test "Nextflow: an image is pulled under a name of its own, then moved" {
	mkdir images
	expect 0 bash -c 'cd images && singularity pull  --nohttps --name tool-1.0.img.pulling.1700000000000 docker://"$REG_HOST"/apps/tool:1.0 >/dev/null'
	mv images/tool-1.0.img.pulling.1700000000000 images/tool-1.0.img
	IMAGE=$PWD/images/tool-1.0.img
	task 'cat /etc/os-release'
	expect 0 nextflow_task singularity --no-home --pid -B "$PWD/wd"
	stdout_has "ID=vialtest"
	[ -z "$(find images -name '*pulling*')" ]
}

@test "Nextflow: a task that is killed tells by what" {
	# shellcheck disable=SC2016
	task 'kill -TERM $$; exit 1'
	expect 143 nextflow_task singularity --no-home -B "$PWD/wd"
}

# ---- Snakemake: the working directory is the home; the version decides whether it starts at all

@test "Snakemake: a job, its script in quotes, its version check" {
	cd wd
	expect 0 singularity --version
	# the last word is a version that a strict parser takes; a suffix after '+' or '-' must not spoil it
	[[ ${output##* } =~ ^[0-9]+\.[0-9]+(\.[0-9]+)?([-+.a-z0-9]*)$ ]]
	[[ $output == "apptainer version "* ]]
	# shellcheck disable=SC2016
	expect 0 env SINGULARITYENV_X=1 singularity --quiet --silent exec --home "$PWD" --bind "$PWD/..:/up" "$IMAGE" \
		bash -c 'set -euo pipefail;  echo "$HOME|$X|$PWD" >out; ls /up'
	[ "$(cat out)" = "$PWD|1|$PWD" ]
	stdout_has wd
	expect 1 singularity exec --home "$PWD" "$IMAGE" sh -c 'set -e; false; echo no'
	expect 0 singularity exec --home "$PWD" --pwd "$PWD" "$IMAGE" pwd
	stdout_is "$PWD"
	expect 0 singularity pull --no-https --name 0123456789abcdef.simg "docker://$REG_HOST/apps/tool:1.0"
	expect 0 singularity exec --home "$PWD" 0123456789abcdef.simg sh -c 'cat /etc/os-release'
}

# ---- cwltool: contained, no network, home and output in one, inputs read-only

cwl() { # OPTION... -- COMMAND...
	singularity --quiet "$VERB" --contain --ipc --cleanenv "$@"
}

@test "cwltool: a step, by run and by exec" {
	mkdir out tmp
	echo input >in.txt
	local verb common
	common=(--userns --home "$PWD/out:/var/spool/cwl" --mount="type=bind,source=$PWD/tmp,target=/tmp"
		--mount="type=bind,source=$PWD/in.txt,target=/var/lib/cwl/stg1/in.txt,readonly"
		--pwd /var/spool/cwl --net --network none)
	for verb in exec run; do
		VERB=$verb
		[ $verb = exec ] || common=(--no-eval "${common[@]}")
		# shellcheck disable=SC2016
		SINGULARITYENV_TMPDIR=/tmp SECRET=host expect 0 cwl "${common[@]}" "$BATS_FILE_TMPDIR/plain.sif" \
			/bin/sh -c 'cat /var/lib/cwl/stg1/in.txt; echo "$HOME|$PWD|$TMPDIR|$SECRET"; echo made >made; touch /tmp/t; ! touch /var/lib/cwl/stg1/in.txt'
		stdout_is $'input\n/var/spool/cwl|/var/spool/cwl|/tmp|'
		stderr_lacks WARNING
		[ "$(cat out/made)" = made ]
		[ -e tmp/t ]
		rm out/made
	done
	# is it the unprivileged kind? --pid when not
	expect 0 singularity exec --userns "$IMAGE" true
	expect 0 singularity --quiet exec --contain --ipc --cleanenv --pid --home "$PWD/out:/var/spool/cwl" \
		--bind "$PWD/in.txt:/var/lib/cwl/in.txt:ro" --pwd /var/spool/cwl "$IMAGE" cat /var/lib/cwl/in.txt
	stdout_is input
}

@test "cwltool: the version, and a sandbox told by inspect" {
	expect 0 singularity --version
	[[ $output =~ ^(.+)\ version\ ([0-9.]+) ]]
	[ "${BASH_REMATCH[1]}" = apptainer ]
	expect 0 singularity inspect --json "$BATS_FILE_TMPDIR/image.sif"
	python3 -c 'import json,sys; assert json.load(sys.stdin)["data"]["attributes"]' <<<"$output"
	expect 0 singularity pull --force --name debian.sif --no-https "docker://$REG_HOST/apps/tool:1.0"
	expect 0 singularity pull --force --name "$PWD/debian.sif" --no-https "docker://$REG_HOST/apps/tool:1.0"
	tar -C "$LAYOUT" -cf archive.tar .
	expect 0 singularity build loaded.sif "oci-archive:archive.tar"
}

# ---- HTCondor: everything contained, the scratch directory is home and working directory

@test "HTCondor: a job, the test before it, and the job's environment" {
	mkdir dir_1
	echo job >dir_1/input
	local common=(-B "$PWD/dir_1" --home "$PWD/dir_1" -C)
	# the test is the same line with another word; an image without one is fine
	expect 0 env APPTAINER_CACHEDIR="$PWD/dir_1" APPTAINER_TMPDIR="$PWD/dir_1" \
		apptainer -q test --pwd "$PWD/dir_1" "${common[@]}" "$IMAGE"
	# shellcheck disable=SC2016
	expect 0 env APPTAINERENV__CONDOR_SCRATCH_DIR="$PWD/dir_1" APPTAINERENV_PS1='slot1@node$ ' OUTSIDE=1 \
		apptainer exec --pwd "$PWD/dir_1" "${common[@]}" "$IMAGE" sh -c 'cat input; echo "$_CONDOR_SCRATCH_DIR|$HOME|$OUTSIDE"; echo "done" >output'
	stdout_is "job"$'\n'"$PWD/dir_1|$PWD/dir_1|"
	[ "$(cat dir_1/output)" = "done" ]
	# the same without a pid namespace, and with a place of the administrator's choice
	expect 0 apptainer exec -B "$PWD/dir_1:/srv" --pwd /srv --no-home --contain --ipc --cleanenv --nv "$IMAGE" cat input
	stdout_is job
	# can it run, and without setuid? its own user namespace tells
	expect 0 apptainer exec -C "$BATS_FILE_TMPDIR/tree" readlink /proc/self/ns/user
	[ "$output" != "$(readlink /proc/self/ns/user)" ]
}

# ---- Galaxy: contained, no host /tmp, volumes, errors only

@test "Galaxy: a job in the working directory that it names" {
	mkdir job tool
	echo data >tool/dataset
	# shellcheck disable=SC2016
	expect 0 env SINGULARITYENV_GALAXY_SLOTS="1" SINGULARITYENV_HOME="$PWD/job" singularity -s exec --contain --pwd "$PWD/job" \
		--cleanenv --ipc --pid --no-mount tmp -B "$PWD/job:$PWD/job:rw" -B "$PWD/tool:$PWD/tool:ro" \
		--home "$PWD/job:$PWD/job" "$IMAGE" /bin/sh -c "cat '$PWD/tool/dataset'; echo \"\$GALAXY_SLOTS|\$PWD|\$HOME\"; echo x >result"
	stdout_is "data"$'\n'"1|$PWD/job|$PWD/job"
	stderr_is ""
	[ "$(cat job/result)" = x ]
	expect 0 singularity build --no-https image.sif "docker://$REG_HOST/apps/tool:1.0"
}

# ---- plain job scripts

@test "a job script of a batch system: ranks, pipes and signals" {
	# shellcheck disable=SC2016
	cat >job.sh <<-'EOF2'
		set -euo pipefail
		module() { :; }
		module load singularity
		export SINGULARITY_BIND=$PWD/wd:/wd SINGULARITYENV_OMP_NUM_THREADS=4
		for rank in 0 1 2 3; do
			SLURM_PROCID=$rank singularity exec "$IMAGE" sh -c 'echo "$SLURM_PROCID $OMP_NUM_THREADS" >/wd/$SLURM_PROCID' &
		done
		wait
		cat wd/? | singularity exec "$IMAGE" sort | tail -n 1
	EOF2
	expect 0 bash job.sh
	stdout_is "3 4"
}
