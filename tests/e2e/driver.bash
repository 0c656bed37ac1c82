# A machine with a driver, as a tree: `load driver`, then make_machine ROOT VERSION. Its libraries are real ELF files with the
# SONAMEs of real ones and the symbol versions they are told to need; its devices, made by root only, are nodes of /dev/null.

# make_lib FILE SONAME [GLIBC_VERSION]: a library, which needs that version of the C library.
make_lib() {
	local dir
	mkdir -p "$(dirname "$1")"
	dir=$(mktemp -d)
	if [ -z "${3:-}" ]; then
		echo 'int vial_test(void) { return 42; }' | cc -shared -fPIC -nostdlib -x c - -Wl,-soname,"$2" -o "$1"
	else
		echo "$3 { global: vial_needs; local: *; };" >"$dir/map"
		echo 'int vial_needs(void) { return 0; }' |
			cc -shared -fPIC -nostdlib -x c - -Wl,-soname,libc.so.6 -Wl,--version-script="$dir/map" -o "$dir/libc.so"
		echo 'int vial_needs(void); int vial_test(void) { return vial_needs(); }' |
			cc -shared -fPIC -nostdlib -x c - -x none "$dir/libc.so" -Wl,-soname,"$2" -o "$1"
	fi
	rm -rf "$dir"
}

# make_machine ROOT VERSION [LIBDIR]: two NVIDIA devices and a driver. For root with nodes.
make_machine() {
	local root=$1 version=$2 dir=$1${3:-/usr/lib64} i
	mkdir -p "$dir" "$root"/{etc,dev,usr/bin,usr/share/glvnd/egl_vendor.d} "$root/proc/driver/nvidia"
	printf 'NVRM version: NVIDIA UNIX x86_64 Kernel Module  %s  Wed Oct 16 08:00:00 UTC 2024\nGCC version:  gcc 12\n' \
		"$version" >"$root/proc/driver/nvidia/version"
	for i in 0 1; do
		mkdir -p "$root/proc/driver/nvidia/gpus/0000:${i}b:00.0"
		printf 'Model: \t\t Test %d\nGPU UUID: \t GPU-%d1111111-2222-3333-4444-555555555555\nBus Location: \t 0000:%db:00.0\nDevice Minor: \t %d\n' \
			$i $i $i $i >"$root/proc/driver/nvidia/gpus/0000:${i}b:00.0/information"
	done
	make_lib "$dir/libcuda.so.$version" libcuda.so.1
	ln -s "libcuda.so.$version" "$dir/libcuda.so.1"
	cp "$dir/libcuda.so.$version" "$dir/libcuda.so.1.2.3" # of another driver
	make_lib "$dir/libnvidia-ml.so.$version" libnvidia-ml.so.1
	make_lib "$dir/libnvidia-later.so.$version" "libnvidia-later.so.$version" # in no list
	make_lib "$dir/libGLX_nvidia.so.$version" libGLX_nvidia.so.0
	make_lib "$dir/libGL.so.1.7.0" libGL.so.1
	cp "$(type -P true)" "$root/usr/bin/nvidia-smi"
	echo '{}' >"$root/usr/share/glvnd/egl_vendor.d/10_nvidia.json"
	is_root || return 0
	for i in nvidia0 nvidia1 nvidiactl nvidia-uvm null; do
		mknod -m 666 "$root/dev/$i" c 1 3
	done
}
