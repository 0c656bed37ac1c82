# shellcheck disable=SC2153
# vial gpu cdi: what it writes of a machine is what --device then gives.
load common
load images
load driver
setup_file() {
	make_images
	export MACHINE=$BATS_FILE_TMPDIR/machine
	make_machine "$MACHINE" 550.54.14
}

setup() {
	common_setup
	unset "${!SLURM_@}" "${!NVIDIA_@}" "${!CUDA_@}" "${!ROCR_@}" "${!HABANA_@}"
	export VIAL_GPU_ROOT=$MACHINE
}

@test "a machine's devices are described, and taken again" {
	need_root
	mkdir specs
	expect 0 vial gpu cdi
	stdout_has 'kind: "nvidia.com/gpu"'
	stdout_has 'name: "GPU-01111111-2222-3333-4444-555555555555"'
	printf '%s\n' "$output" >specs/one.yaml
	expect 0 vial exec --contain --cdi-dirs specs --device nvidia.com/gpu=1 "$SIF" \
		sh -c 'ls /dev; echo "$LD_LIBRARY_PATH" "$NVIDIA_VISIBLE_DEVICES"; ls /.singularity.d/libs'
	stdout_has nvidia1
	stdout_has nvidiactl
	stdout_lacks nvidia0
	stdout_has '/.singularity.d/libs void'
	stdout_has libcuda.so.1
	expect 0 vial exec --contain --cdi-dirs specs --device nvidia.com/gpu=all "$SIF" ls /dev
	stdout_has nvidia0
	stdout_has nvidia1
	expect 0 vial gpu cdi --format json --output specs/one.json
	stdout_is ''
	python3 -m json.tool specs/one.json >/dev/null
	rm specs/one.yaml
	expect 0 vial exec --contain --cdi-dirs specs --device nvidia.com/gpu=GPU-01111111-2222-3333-4444-555555555555 "$SIF" ls /dev
	stdout_has nvidia0
	stdout_lacks nvidia1
}

@test "an id that several devices share is no name" {
	need_root
	cp -a "$MACHINE" twins
	sed -i 's/GPU-.*/GPU-same/' twins/proc/driver/nvidia/gpus/*/information
	VIAL_GPU_ROOT=$PWD/twins expect 0 vial gpu cdi
	stdout_has 'name: "1"'
	stdout_lacks GPU-same
}

@test "where there is nothing to describe it says so" {
	VIAL_GPU_ROOT=$PWD expect 255 vial gpu cdi
	one_fatal_line 'no devices are found on this machine; vial gpu list tells more'
	expect 255 vial gpu cdi --vendor amd
	one_fatal_line 'no amd devices are found'
	expect 255 vial gpu cdi --vendor matrox
	one_fatal_line "not 'matrox'"
	expect 1 vial gpu cdi --format xml
	stderr_has "--format is yaml or json, not 'xml'"
	is_root || {
		expect 255 vial gpu cdi
		one_fatal_line 'have no nodes in /dev'
	}
}
