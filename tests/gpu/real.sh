#!/usr/bin/env bash
# shellcheck disable=SC2317 # the functions are called by name
# What only a machine with a card can prove: run it there. Prints pass, fail or skip for each line of docs/gpu.md that asks for
# hardware, and ends with 1 when something failed.
#
#   tests/gpu/real.sh [IMAGE]      IMAGE: with CUDA or ROCm and Python, or by default one of docker.io
#
# VIAL names the program (default: the build's).
set -u
cd "$(dirname "$0")/../.." || exit 1
VIAL=${VIAL:-$PWD/build/vial}
failed=0

say() { printf '%-5s %s\n' "$1" "$2"; }
# try TEXT COMMAND...: the command's last lines are shown when it fails
try() {
	local what=$1 out
	shift
	if out=$("$@" 2>&1); then
		say pass "$what"
	else
		say fail "$what"
		printf '%s\n' "$out" | tail -n 5 | sed 's/^/      /'
		failed=1
	fi
}
loaded() { "$VIAL" gpu list | grep -q "^$1: driver"; }

try "gpu list" "$VIAL" gpu list

# ---- NVIDIA ----------------------------------------------------------------------------------

nvidia_order() {
	# by number, UUID for UUID
	diff <(nvidia-smi --query-gpu=index,uuid --format=csv,noheader | tr -d ' ') \
		<("$VIAL" gpu list --json | python3 -c '
import json, sys
for d in json.load(sys.stdin)["vendors"][0]["devices"]:
    print("%d,%s" % (d["index"], d["uuid"]))')
}
# shellcheck disable=SC2016 # the container's shell expands it
one_device() { [ "$(NVIDIA_VISIBLE_DEVICES=0 "$VIAL" -q exec "$@" "$IMAGE" sh -c 'nvidia-smi -L | grep -c ^GPU')" = 1 ]; }
loads() { "$VIAL" -q exec --nv "$IMAGE" sh -c 'for l in /.singularity.d/libs/*.so*; do /lib64/ld-linux-x86-64.so.2 --list "$l" >/dev/null || exit 1; done'; }
# a context, memory on the device and back, with nothing but the driver's own interface
cuda_works() {
	"$VIAL" -q exec "$@" "$IMAGE" python3 - <<-'PY'
		import ctypes
		c = ctypes.CDLL("libcuda.so.1")
		def ok(r):
		    assert r == 0, r
		ok(c.cuInit(0))
		n = ctypes.c_int()
		ok(c.cuDeviceGetCount(ctypes.byref(n)))
		assert n.value > 0
		context, memory = ctypes.c_void_p(), ctypes.c_uint64()
		ok(c.cuCtxCreate_v2(ctypes.byref(context), 0, 0))
		data, back = ctypes.create_string_buffer(b"vial" * 1024), ctypes.create_string_buffer(4097)
		ok(c.cuMemAlloc_v2(ctypes.byref(memory), len(data)))
		ok(c.cuMemcpyHtoD_v2(memory, data, len(data)))
		ok(c.cuMemcpyDtoH_v2(back, memory, len(data)))
		assert back.raw == data.raw
	PY
}

if loaded NVIDIA; then
	IMAGE=${1:-docker://docker.io/nvidia/cuda:12.4.1-base-ubuntu22.04}
	try "gpu check" "$VIAL" gpu check "$IMAGE"
	try "devices have the numbers that nvidia-smi gives them" nvidia_order
	try "nvidia-smi runs in the container" "$VIAL" exec --nv "$IMAGE" nvidia-smi
	try "the same with a /dev of its own" "$VIAL" exec --nv --contain "$IMAGE" nvidia-smi
	try "every library of the driver finds what it needs" loads
	try "NVIDIA_VISIBLE_DEVICES=0: one device, with a /dev of its own" one_device --nv --contain
	try "NVIDIA_VISIBLE_DEVICES=0: one device, where the others are shut" one_device --nv
	if "$VIAL" -q exec "$IMAGE" sh -c 'command -v python3' >/dev/null; then
		try "CUDA: a context, and memory there and back" cuda_works --nv
		try "the same with a /dev of its own" cuda_works --nv --contain
	else
		say skip "CUDA itself: the image has no python3; name one that has"
	fi
	if nvidia-smi -L | grep -q MIG; then
		mig=$(nvidia-smi -L | sed -n -e 's/^GPU \([0-9]*\):.*/\1/;t gpu' -e 's/.*MIG.*Device *\([0-9]*\):.*/\1/;T' -e 'G;s/\(.*\)\n\(.*\)/\2:\1/p;q' -e ':gpu' -e h)
		try "a MIG device by its GPU and place" env NVIDIA_VISIBLE_DEVICES="$mig" "$VIAL" exec --nv --contain "$IMAGE" nvidia-smi -L
	else
		say skip "MIG: none is set up"
	fi
else
	say skip "NVIDIA: no driver loaded"
fi

# ---- AMD, Intel ------------------------------------------------------------------------------

if loaded AMD; then
	IMAGE=${1:-docker://docker.io/rocm/rocm-terminal:latest}
	try "rocminfo sees a GPU" "$VIAL" exec --rocm "$IMAGE" sh -c 'rocminfo | grep -q "Device Type: *GPU"'
	try "the same with a /dev of its own" "$VIAL" exec --rocm --contain "$IMAGE" sh -c 'rocminfo | grep -q "Device Type: *GPU"'
	# shellcheck disable=SC2016 # the container's shell expands it
	try "ROCR_VISIBLE_DEVICES=0: one device" env ROCR_VISIBLE_DEVICES=0 "$VIAL" exec --rocm --contain "$IMAGE" \
		sh -c '[ "$(rocminfo | grep -c "Device Type: *GPU")" = 1 ]'
else
	say skip "AMD: no driver loaded"
fi
if loaded Intel; then
	# shellcheck disable=SC2016 # the container's shell expands it
	try "render nodes open" "$VIAL" exec --intel --contain "${1:-docker://docker.io/library/debian:12}" sh -c 'for d in /dev/dri/renderD*; do : <>"$d" || exit 1; done'
else
	say skip "Intel: no driver loaded"
fi
exit $failed
