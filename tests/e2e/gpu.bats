# --nv and its kin, gpu list, gpu check: on a machine that is a tree of files, see driver.bash.
load common
load images
load driver

setup_file() {
	make_images
	export GPU_MACHINE=$BATS_FILE_TMPDIR/machine
	make_machine "$GPU_MACHINE" 560.35.03
	chmod -R go+rX "$GPU_MACHINE"
}

setup() {
	common_setup
	unset "${!SLURM_@}" "${!NVIDIA_@}" "${!CUDA_@}" "${!ROCR_@}" "${!HABANA_@}"
	export VIAL_GPU_ROOT=$GPU_MACHINE
}

# with_env NAME ENV TREE: an image with that OCI environment.
with_env() {
	make_oci "layout.$1" app "{\"Env\":[$2]}" "$3"
	"$VIAL" -q build "$1" "oci:layout.$1:app"
}

# What of the GPUs opens in the container that the words after it make.
# shellcheck disable=SC2016 # the container's shell expands it
opens() { expect 0 vial -q "$@" sh -c 'for d in /dev/nvidia?; do if [ -e $d ] && (: <>$d); then echo ${d#/dev/}; fi; done 2>/dev/null'; }

@test "the driver's libraries and programs are in the container, after what the image names" {
	local image lib
	for image in "$SIF" "$SQUASHFS" "$TREE"; do
		expect 0 vial exec --nv --contain "$image" ls /.singularity.d/libs
		for lib in libcuda.so libcuda.so.1 libnvidia-ml.so.1 libGLX_nvidia.so.0 libnvidia-later.so.560.35.03 libGL.so.1; do
			stdout_has "$lib"
		done
		if is_root; then stderr_is ""; else stderr_is "WARNING: --nv: missing in /dev: /dev/nvidia0, /dev/nvidia1, /dev/nvidia-uvm; as root: nvidia-modprobe -c 0 -u"; fi
	done
	expect 0 vial exec --nv "$SIF" nvidia-smi
	expect 0 vial exec --nv "$SIF" cat /usr/share/glvnd/egl_vendor.d/10_nvidia.json
	stdout_is '{}'
	expect 0 vial exec --nv "$SIF" sh -c 'echo $LD_LIBRARY_PATH'
	stdout_is /.singularity.d/libs # nothing of the image, which would beat a program's RUNPATH
	expect 0 vial exec --nv --env LD_LIBRARY_PATH=/mine "$SIF" sh -c 'echo $LD_LIBRARY_PATH'
	stdout_is /mine:/.singularity.d/libs
	with_env dirs.sif '"LD_LIBRARY_PATH=/opt/own"' "$TREE"
	expect 0 vial exec --nv dirs.sif sh -c 'echo $LD_LIBRARY_PATH'
	stdout_is /opt/own:/.singularity.d/libs
	expect 0 vial exec "$SIF" sh -c 'echo "$LD_LIBRARY_PATH"; ls /.singularity.d/libs'
	stdout_is ""
	expect 0 env VIAL_NV=1 "$VIAL" exec "$SIF" nvidia-smi
	expect 0 vial exec --explain --nv "$SQUASHFS" true
	stdout_has libcuda.so.560.35.03
}

@test "a library that needs a newer C library stays outside, said in one line, and the image starts" {
	cp -a "$GPU_MACHINE" machine
	make_lib machine/usr/lib64/libnvidia-opencl.so.560.35.03 libnvidia-opencl.so.1 GLIBC_2.99
	make_lib machine/usr/lib64/libnvidia-nvvm.so.560.35.03 libnvidia-nvvm.so.4 GLIBC_2.99
	export VIAL_GPU_ROOT=$PWD/machine
	expect 0 vial exec --nv "$SIF" ls /.singularity.d/libs
	stdout_has libcuda.so.1
	stdout_lacks libnvidia-opencl
	[ "$(grep -c "left out" <<<"$stderr")" -eq 1 ]
	stderr_has "lacks GLIBC_2.99; left out: "
	stderr_has libnvidia-opencl.so.1
	stderr_has libnvidia-nvvm.so.4
	# an image of the other C library
	cp -a "$TREE" musl
	find musl -name 'libc.so.6' -delete
	touch musl/lib/ld-musl-x86_64.so.1
	expect 0 vial exec --explain --nv musl /bin/true
	stderr_has "the image has musl"
	stdout_lacks libcuda
}

@test "--verify: what is not signed decides nothing about libraries" {
	local at
	cp -a "$TREE" signed
	head -c 1000000 /dev/urandom >signed/etc/ld.so.cache # does not pack: a byte of it is a byte of the image
	make_sif signed.sif signed
	vial -q key newpair me >/dev/null
	vial -q sign --key me.pem signed.sif
	expect 0 vial exec --explain --verify --verify-key me.pub.pem --verify-log log --nv signed.sif true
	stderr_lacks "not known"
	at=$(python3 -c 'print(open("signed.sif", "rb").read().find(open("signed/etc/ld.so.cache", "rb").read(4096)))')
	[ "$at" -gt 0 ]
	flip_byte signed.sif $((at + 900000))
	expect 0 vial exec --explain --verify --verify-key me.pub.pem --verify-log log --nv signed.sif true
	stderr_has "which libraries fit to $PWD/signed.sif is not known: it is not what its hash tree says"
}

@test "vendor-neutral libraries of the image win" {
	cp -a "$TREE" own
	mkdir -p own/usr/lib64
	make_lib own/usr/lib64/libGLdispatch.so.0 libGLdispatch.so.0
	expect 0 vial exec --nv own ls /.singularity.d/libs
	stdout_has libGLX_nvidia.so.0
	stdout_lacks libGL.so.1
}

@test "a writable sandbox has the driver, and no empty files of it afterwards" {
	cp -a "$TREE" box
	mkdir -p box/usr/bin box/.singularity.d/libs
	expect 0 vial exec --writable box true # which makes what every start needs
	(cd box && find . | sort) >before
	expect 0 vial exec --nv --writable box sh -c 'ls /.singularity.d/libs; echo changed >/new'
	stdout_has libcuda.so.1
	stderr_has '--writable would leave empty files in the sandbox: /usr/bin/nvidia-smi, /usr/share/glvnd/egl_vendor.d/10_nvidia.json; they stay outside'
	rm box/new
	(cd box && find . | sort) >after
	diff before after
	: >box/usr/bin/nvidia-smi # a place for it
	expect 0 vial exec --nv --writable box nvidia-smi
}

@test "NVIDIA_VISIBLE_DEVICES: only these devices, and numbers that count them" {
	need_root # who makes nodes
	local row want list
	for row in 'nvidia0 nvidia1|all' 'nvidia0|0' 'nvidia1|1' 'nvidia1|GPU-11111111' '|none' '|void'; do
		want=${row%|*} list=${row#*|}
		NVIDIA_VISIBLE_DEVICES=$list opens exec --nv --contain "$SIF"
		stdout_is "${want// /$'\n'}"
	done
	# where all of /dev is there, the others do not open
	mknod -m 666 "$GPU_MACHINE/dev/fuse" c 10 229
	# shellcheck disable=SC2016 # the container's shell expands it
	expect 0 env NVIDIA_VISIBLE_DEVICES=1 unshare -m sh -c 'mount --bind "$0/dev" /dev && exec "$@"' "$GPU_MACHINE" \
		"$VIAL" exec --nv "$SIF" sh -c 'for d in /dev/nvidia[01]; do if (: <>$d) 2>/dev/null; then echo $d opens; else echo $d; fi; done'
	stdout_is $'/dev/nvidia0\n/dev/nvidia1 opens'
	expect 0 env NVIDIA_VISIBLE_DEVICES=1 CUDA_VISIBLE_DEVICES=1 "$VIAL" exec --nv --contain "$SIF" sh -c 'echo $CUDA_VISIBLE_DEVICES'
	stdout_is 0
	expect 0 env CUDA_VISIBLE_DEVICES=1 "$VIAL" exec --nv --contain "$SIF" sh -c 'echo $CUDA_VISIBLE_DEVICES'
	stdout_is 1
	# one that is not in the container is not silently another
	expect 0 env NVIDIA_VISIBLE_DEVICES=1 CUDA_VISIBLE_DEVICES=0 "$VIAL" exec --nv --contain "$SIF" sh -c 'echo $CUDA_VISIBLE_DEVICES'
	stdout_is -1
	stderr_is 'WARNING: --nv: CUDA_VISIBLE_DEVICES=0 names no device that is in the container'
	expect 0 env NVIDIA_VISIBLE_DEVICES=00000000:1B:00.0 CUDA_VISIBLE_DEVICES=1 "$VIAL" exec --nv --contain "$SIF" sh -c 'ls /dev | grep nvidia.$; echo $CUDA_VISIBLE_DEVICES'
	stdout_is $'nvidia1\n0'
}

@test "variables of AMD and Intel count what a job leaves, too" {
	local i
	for i in 128 129; do
		mkdir -p "machine/sys/class/kfd/kfd/topology/nodes/$i" "machine/sys/class/drm/renderD$i/device" machine/sys/module/amdgpu
		printf 'simd_count 304\ndrm_render_minor %d\n' $i >"machine/sys/class/kfd/kfd/topology/nodes/$i/properties"
		echo 0x8086 >"machine/sys/class/drm/renderD$i/device/vendor"
	done
	# the variables of the row, as they are in the container
	local row
	# shellcheck disable=SC2016 # the container's shell expands it
	for row in 'ROCR_VISIBLE_DEVICES=1 HIP_VISIBLE_DEVICES=1 GPU_DEVICE_ORDINAL=1 ZE_AFFINITY_MASK=1.0|0 0 0 0.0' \
		'ROCR_VISIBLE_DEVICES=1 HIP_VISIBLE_DEVICES=0 ZE_AFFINITY_MASK=0|0 0 - -1' 'HIP_VISIBLE_DEVICES=0,1|- 0 - -'; do
		# shellcheck disable=SC2086 # words
		expect 0 env VIAL_GPU_ROOT="$PWD/machine" SLURM_JOB_ID=1 SLURM_JOB_GPUS=1 ${row%|*} "$VIAL" exec --rocm --intel "$SIF" \
			sh -c 'echo ${ROCR_VISIBLE_DEVICES--} ${HIP_VISIBLE_DEVICES--} ${GPU_DEVICE_ORDINAL--} ${ZE_AFFINITY_MASK--}'
		stdout_is "${row#*|}"
	done
}

@test "a device that is not there is refused, a machine without a driver is not" {
	expect 125 env NVIDIA_VISIBLE_DEVICES=7 "$VIAL" exec --nv "$SIF" true
	one_fatal_line "there is no NVIDIA device '7'"
	mkdir empty
	expect 0 env VIAL_GPU_ROOT="$PWD/empty" "$VIAL" exec --nv --rocm --intel --intel-hpu "$SIF" true
	[ "$(grep -c 'going on without' <<<"$stderr")" -eq 4 ]
}

@test "under Slurm: the job's devices, without a word if the image asks for them" {
	with_env asks.sif '"NVIDIA_VISIBLE_DEVICES=all","NVIDIA_DRIVER_CAPABILITIES=compute"' "$TREE"
	expect 0 env SLURM_JOB_ID=1 SLURM_JOB_GPUS=1 "$VIAL" exec asks.sif ls /.singularity.d/libs
	stdout_has libcuda.so.1
	stdout_lacks libnvidia-ml
	expect 0 env SLURM_JOB_ID=1 SLURM_JOB_GPUS=1 "$VIAL" exec --no-nv asks.sif ls /.singularity.d/libs
	stdout_is ""
	expect 0 env SLURM_JOB_ID=1 SLURM_JOB_GPUS=1 "$VIAL" exec "$SIF" ls /.singularity.d/libs
	stdout_is ""
	expect 0 vial exec asks.sif ls /.singularity.d/libs
	stdout_is ""
	is_root || return 0
	SLURM_JOB_ID=1 SLURM_JOB_GPUS=0,1 SLURM_STEP_GPUS=1 opens exec --contain asks.sif
	stdout_is nvidia1
	SLURM_JOB_ID=1 SLURM_JOB_GPUS=0 opens exec --nv --contain "$SIF"
	stdout_is nvidia0
}

@test "gpu list tells what is there" {
	expect 0 vial gpu list --json
	python3 - "$output" <<-'EOF'
		import json, sys
		nv = json.loads(sys.argv[1])["vendors"][0]
		assert nv["vendor"] == "NVIDIA" and nv["loaded"] and nv["driver"] == "560.35.03" and nv["cuda"] == "12.6", nv
		assert [d["pci"] for d in nv["devices"]] == ["0000:0b:00.0", "0000:1b:00.0"], nv
		cuda = [f for f in nv["files"] if f["name"] == "libcuda.so.1"]
		assert cuda[0]["source"].endswith("libcuda.so.560.35.03"), cuda
	EOF
	expect 0 vial gpu list
	stdout_has "GPU-11111111-2222-3333-4444-555555555555"
	stdout_has "AMD: no driver loaded"
	expect 0 vial gpu list --files
	stdout_has libnvidia-later.so.560.35.03
}

@test "gpu check: what will work, and why not" {
	need_root # who makes nodes
	mkdir small
	copy_program small true
	with_env new.sif '"CUDA_VERSION=12.4.1","NVIDIA_VISIBLE_DEVICES=all","NVIDIA_REQUIRE_CUDA=cuda>=12.4 driver>=600"' small
	expect 0 vial gpu check new.sif
	stdout_has "CUDA 12.4.1: CUDA_VERSION; driver 560.35.03 supports up to 12.6"
	stdout_has "NVIDIA_REQUIRE_CUDA: cuda>=12.4 driver>=600: holds"
	# it starts nothing, and no policy is asked
	mkdir -p "$HOME/.config/vial/policy.d"
	echo 'default = "deny"' >"$HOME/.config/vial/policy.d/10.toml"
	XDG_CONFIG_HOME=$HOME/.config expect 0 vial gpu check new.sif
	XDG_CONFIG_HOME=$HOME/.config expect 125 vial exec new.sif true
	rm -r "$HOME/.config"
	with_env newer.sif '"CUDA_VERSION=13.0.0","NVIDIA_REQUIRE_CUDA=cuda>=13.0"' small
	expect 1 vial gpu check newer.sif
	stdout_has "PROBLEM  CUDA 13.0.0"
	stdout_has "580.65.06 or newer"
	stdout_has "PROBLEM  NVIDIA_REQUIRE_CUDA"
	mkdir -p small/usr/local/cuda/compat
	touch small/usr/local/cuda/compat/libcuda.so.580.65.06
	with_env compat.sif '"CUDA_VERSION=13.0.0"' small
	expect 0 vial gpu check compat.sif
	stdout_has "libraries of driver 580.65.06"
	mkdir empty
	expect 1 env VIAL_GPU_ROOT="$PWD/empty" "$VIAL" gpu check --json new.sif
	[ "$(python3 -c 'import json,sys; print(json.loads(sys.argv[1])["works"])' "$output")" = False ]
}
