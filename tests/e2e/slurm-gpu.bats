# GPUs of a step's tasks: nodes that are files, two for each node of a cluster on this machine.
load common
load images
load driver
load ../slurm/slurm

setup_file() {
	is_root || return 0
	make_images
	export ENV_SIF=$BATS_FILE_TMPDIR/env.sif
	make_oci "$BATS_FILE_TMPDIR/layout" latest '{"Env":["NVIDIA_VISIBLE_DEVICES=all"]}' "$TREE"
	"$VIAL" -q build "$ENV_SIF" "oci:$BATS_FILE_TMPDIR/layout:latest"
	[ -e "${VIAL%/*}/spank_vial.so" ] || return 0
	start_cluster -n 1
	mv "$SIF" "$ENV_SIF" "$PLACE"
	SIF=$PLACE/test.sif ENV_SIF=$PLACE/env.sif
	make_machine "$PLACE/machine" 560.35.03
	chmod -R go+rX "$PLACE"
}
teardown_file() { stop_cluster; }
setup() {
	common_setup
	need_slurm
	export MARK=$BATS_TEST_NAME VIAL_GPU_ROOT=$PLACE/machine
}
teardown() {
	if [ -n "${PLACE:-}" ] && [ -z "${BATS_TEST_SKIPPED:-}" ]; then nothing_left; fi
	common_teardown
}

@test "two tasks of a step have a device each, and no other opens" {
	# shellcheck disable=SC2016 # the tasks' shell expands it
	expect 0 user srun -n 2 --gpus-per-task=1 --gpu-bind=single:1 --container-image="$ENV_SIF" --container-mounts="$PLACE/machine/dev:/dev" sh -c '
		for d in 0 1; do if (: <>/dev/nvidia$d) 2>&-; then mine="$mine nvidia$d"; fi; done
		echo "$SLURM_PROCID has$mine, CUDA $CUDA_VISIBLE_DEVICES, $(ls /.singularity.d/libs | grep -cx libcuda.so.1), ${VIAL_TASK_DEVICES-none}"'
	[ "$(sort <<<"$output")" = "0 has nvidia0, CUDA 0, 1, none
1 has nvidia1, CUDA 0, 1, none" ] || complain "not a device each"
}

@test "a task that has all devices keeps them and its variables" {
	# shellcheck disable=SC2016 # the tasks' shell expands it
	expect 0 user srun -n 1 --gpus-per-task=2 --container-image="$ENV_SIF" --container-mounts="$PLACE/machine/dev:/dev,/dev/null:/dev/null" sh -c '
		for d in 0 1; do (: <>/dev/nvidia$d) && echo $d; done; echo $CUDA_VISIBLE_DEVICES'
	stdout_is $'0\n1\n0,1'
}

@test "NVIDIA_VISIBLE_DEVICES of the step says what its container has, and tasks count that" {
	# shellcheck disable=SC2016 # the tasks' shell expands it
	local tell='for d in 0 1; do if (: <>/dev/nvidia$d) 2>/dev/null; then echo $d; fi; done; echo "CUDA $CUDA_VISIBLE_DEVICES"'
	NVIDIA_VISIBLE_DEVICES=1 expect 0 user srun -n 1 --gpus-per-task=2 --container-image="$ENV_SIF" --container-mounts="$PLACE/machine/dev:/dev,/dev/null:/dev/null" sh -c "$tell"
	stdout_is $'1\nCUDA 0'
	# a number that means none of them is no way to have all
	NVIDIA_VISIBLE_DEVICES=1 CUDA_VISIBLE_DEVICES=0 expect 1 user srun -n 1 --gpus-per-task=1 --container-image="$ENV_SIF" --container-mounts="$PLACE/machine/dev:/dev,/dev/null:/dev/null" echo ran
	stdout_is ""
	stderr_has 'CUDA_VISIBLE_DEVICES=0: none of these is a device of this container'
}
