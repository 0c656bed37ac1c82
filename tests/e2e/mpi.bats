# MPI in images: what `vial mpi check` says of one. Ranks that find each other, or do not, are in slurm.bats.
load common
load images

setup_file() {
	export LIBS=$BATS_FILE_TMPDIR/libs
	make_libraries
}

# Libraries by name and the words that tell them apart: what the rest of them does is not looked at.
make_libraries() {
	mkdir -p "$LIBS"/{ompi,ompi3,mpich,pmix,intel,odd,none}/usr/lib/openmpi3
	printf 'xx\0Open MPI v%%d.%%d\0xx' >"$LIBS/ompi/usr/lib/libmpi.so.40.40.1"
	ln -s libmpi.so.40.40.1 "$LIBS/ompi/usr/lib/libmpi.so.40"
	printf 'xx\0Open MPI v%%d.%%d\0xx' >"$LIBS/ompi3/usr/lib/libmpi.so.40.10.4"
	touch "$LIBS/ompi3/usr/lib/openmpi3/mca_pmix_s2.so" "$LIBS/ompi3/usr/lib/openmpi3/mca_pmix_isolated.so"
	# the words lie across the seam of two pieces that are read
	{ head -c $((131072 - 5)) /dev/zero && printf 'MPICH Version: 4\0PMI_FD\0'; } >"$LIBS/mpich/usr/lib/libmpi.so.12.2.2"
	printf 'MPICH Version\0libpmix.so.2\0' >"$LIBS/pmix/usr/lib/libmpi.so.12.3.0"
	printf 'Intel(R) MPI Library\0PMI_FD\0MPICH Version\0' >"$LIBS/intel/usr/lib/libmpi.so.12.0.0"
	printf 'nothing known' >"$LIBS/odd/usr/lib/libmpi.so.99"
	printf 'Open MPI v' >"$LIBS/none/usr/lib/libmpi_cxx.so.40.30.1"
}

# says DIR FAMILY ABI PMI
says() {
	expect 1 "$VIAL" mpi check --mpi none --json "$LIBS/$1"
	[ "$(json 'd["mpi"][0]["family"], d["mpi"][0].get("series", ""), d["mpi"][0]["abi"], *d["mpi"][0]["pmi"]')" = "$2" ]
}
json() { python3 -c 'import json, sys; d = json.loads(sys.argv[1]); print(*('"$1"'), sep="|")' "$output"; }

@test "mpi check: family, ABI and the servers that serve it" {
	says ompi 'Open MPI|5.0|libmpi.so.40|pmix'
	says ompi3 'Open MPI|3.1|libmpi.so.40|pmi2'
	says mpich 'MPICH||libmpi.so.12|pmi2'
	says pmix 'MPICH||libmpi.so.12|pmix'
	says intel 'Intel MPI||libmpi.so.12|pmi2'
	says odd 'MPI||libmpi.so.99'
}

@test "mpi check: the status says whether srun would do, and the text how" {
	expect 0 "$VIAL" mpi check --mpi pmix "$LIBS/ompi"
	stdout_has 'start  srun --mpi=pmix'
	stdout_has 'ranks find each other'
	expect 0 "$VIAL" mpi check --mpi pmix_v4 "$LIBS/ompi"
	expect 1 "$VIAL" mpi check --mpi pmi2 "$LIBS/ompi"
	stdout_has 'each rank would start alone'
	expect 1 "$VIAL" mpi check --mpi foo "$LIBS/ompi"
	stderr_has "not 'foo'"
	expect 0 env SLURM_MPI_TYPE=pmi2 "$VIAL" mpi check "$LIBS/mpich"
	stdout_has 'SLURM_MPI_TYPE'
	expect 1 "$VIAL" mpi check --mpi pmix "$LIBS/odd"
	expect 1 "$VIAL" mpi check "$LIBS/none"
	stdout_has 'has no MPI library'
}

@test "mpi check: what this host's Slurm does by default is read in slurm.conf" {
	printf 'ClusterName=x\n#MpiDefault=pmi2\nmpidefault=pmix # of all\n' >"$BATS_TEST_TMPDIR/slurm.conf"
	expect 0 env -u SLURM_MPI_TYPE SLURM_CONF="$BATS_TEST_TMPDIR/slurm.conf" "$VIAL" mpi check "$LIBS/ompi"
	stdout_has 'pmix (MpiDefault)'
	expect 1 env -u SLURM_MPI_TYPE SLURM_CONF="$BATS_TEST_TMPDIR/slurm.conf" "$VIAL" mpi check "$LIBS/mpich"
	printf 'MpiDefault=none\n  MpiDefault = pmi2\n' >"$BATS_TEST_TMPDIR/slurm.conf"
	expect 0 env -u SLURM_MPI_TYPE SLURM_CONF="$BATS_TEST_TMPDIR/slurm.conf" "$VIAL" mpi check "$LIBS/mpich"
	echo 'ClusterName=x' >"$BATS_TEST_TMPDIR/slurm.conf" # Slurm's own default
	expect 1 env -u SLURM_MPI_TYPE SLURM_CONF="$BATS_TEST_TMPDIR/slurm.conf" "$VIAL" mpi check "$LIBS/mpich"
	stdout_has '--mpi=none (MpiDefault)'
	expect 0 env -u SLURM_MPI_TYPE SLURM_CONF=/nowhere "$VIAL" mpi check "$LIBS/mpich" # not known: only what to say
	stdout_lacks 'here'
}

@test "mpi check: of a SIF as of a directory; what is no image is one error" {
	make_sif "$BATS_TEST_TMPDIR/x.sif" "$LIBS/intel"
	expect 0 "$VIAL" mpi check --mpi pmi2 "$BATS_TEST_TMPDIR/x.sif"
	stdout_has 'Intel MPI'
	expect 255 "$VIAL" mpi check /dev/null
	expect 255 "$VIAL" mpi check "$BATS_TEST_TMPDIR/nothing"
}

# ---- the host's in place of the image's ---------------------------------------------------------

# so OUT SONAME TEXT [CC-OPTION...]: a library of that C text.
so() {
	mkdir -p "$(dirname "$1")"
	echo "$3" | cc -shared -fPIC -nostdlib -x c - -x none -Wl,-soname,"$2" -o "$1" "${@:4}"
}

# What an MPI comes to here: a word of its maker, and two functions.
mpi_text() { # MAKER WHO
	echo "const char *const maker = \"$1\"; const char *MPI_Who(void) { return \"$2\"; } int MPI_Init(void) { return 0; }"
}

# An image with an MPI and a libfabric, and a program that says whose they are; the host's are in $HOST, where $HOST/libmpi.so.12
# needs what the image has not. Once for all tests.
make_both() {
	BOTH=$BATS_FILE_TMPDIR/both HOST=$BATS_FILE_TMPDIR/host
	[ ! -e "$BOTH.sif" ] || return 0
	local lib=$BOTH/usr/lib version
	make_rootfs "$BOTH"
	so "$lib/libmpi.so.12.1.5" libmpi.so.12 "$(mpi_text 'MPICH Version' image)"
	ln -s libmpi.so.12.1.5 "$lib/libmpi.so.12"
	printf 'FABRIC_1.0 { global: fi_who; local: *; };\nFABRIC_1.1 { global: fi_more; } FABRIC_1.0;\n' >"$BATS_FILE_TMPDIR/1.1"
	printf 'FABRIC_1.0 { global: fi_who; local: *; };\n' >"$BATS_FILE_TMPDIR/1.0"
	so "$lib/libfabric.so.1.9.0" libfabric.so.1 'const char *fi_who(void) { return "image"; } int fi_more(void) { return 0; }' \
		-Wl,--version-script="$BATS_FILE_TMPDIR/1.1"
	ln -s libfabric.so.1.9.0 "$lib/libfabric.so.1"
	cc -o "$BATS_FILE_TMPDIR/who" -x c - -x none "$lib/libmpi.so.12.1.5" "$lib/libfabric.so.1.9.0" <<-'TEXT'
		#include <stdio.h>
		const char *MPI_Who(void), *fi_who(void);
		int main(void) { printf("mpi %s, fabric %s\n", MPI_Who(), fi_who()); return 0; }
	TEXT
	LD_LIBRARY_PATH=$lib copy_program "$BOTH" "$BATS_FILE_TMPDIR/who"
	rm -rf "$BOTH$BOTH"
	so "$HOST/own/libneeded.so.3" libneeded.so.3 'const char *needed(void) { return "host"; }'
	so "$HOST/libmpi.so.12.2.0" libmpi.so.12 'const char *const maker = "MPICH Version", *needed(void);
		const char *MPI_Who(void) { return needed(); } int MPI_Init(void) { return 0; } int MPI_New(void) { return 0; }' \
		"$HOST/own/libneeded.so.3" -Wl,-rpath,'$ORIGIN/own'
	ln -s libmpi.so.12.2.0 "$HOST/libmpi.so.12"
	for version in 1.0 1.1; do
		so "$HOST/$version/libfabric.so.1" libfabric.so.1 \
			'const char *fi_who(void) { return "host"; } int fi_more(void) { return 0; }' \
			-Wl,--version-script="$BATS_FILE_TMPDIR/$version"
	done
	chmod -R go+rX "$BATS_FILE_TMPDIR"
	make_sif "$BOTH.sif" "$BOTH"
}

# with LIBS WORD...: the program, with these libraries of the host.
with() { VIAL_MPI_LIBS=$1 "$VIAL" exec --mpi host "${@:2}" "$BOTH.sif" who; }

@test "--mpi=host: the host's MPI in place of the image's, with what it needs, by the site's word" {
	make_both
	mkdir "$BATS_TEST_TMPDIR/more"
	touch "$BATS_TEST_TMPDIR/more/here"
	printf 'mpi = host\nmpi-libs = %s\nmpi-bind = %s:/opt/more\nmpi-env = OF_SITE=yes\n' \
		"$HOST" "$BATS_TEST_TMPDIR/more" >"$BATS_TEST_TMPDIR/vial.conf"
	export VIAL_CONFIG_FILE=$BATS_TEST_TMPDIR/vial.conf
	for image in "$BOTH.sif" "$BOTH"; do
		expect 0 "$VIAL" exec "$image" sh -c 'who; ls /opt/more; echo $OF_SITE; ls /.singularity.d/libs; ls /usr/lib | grep mpi'
		stdout_is "$(printf '%s\n' 'mpi host, fabric image' here yes libneeded.so.3 libmpi.so.12 libmpi.so.12.1.5)"
		expect 0 "$VIAL" exec --mpi none "$image" sh -c 'who; test ! -e /opt/more/here'
		stdout_has 'mpi image, fabric image'
	done
	# nothing of it stays in a directory that is changed in place
	cp -a "$BOTH" "$BATS_TEST_TMPDIR/box"
	expect 0 "$VIAL" exec --writable --no-mount bind-paths --mpi-bind '' "$BATS_TEST_TMPDIR/box" who
	stdout_is 'mpi host, fabric image'
	[ ! -e "$BATS_TEST_TMPDIR/box/.singularity.d/libs/libneeded.so.3" ]
	expect 0 "$VIAL" exec --explain "$BOTH.sif" who
	stdout_has "/usr/lib/libmpi.so.12.1.5 <- $HOST/libmpi.so.12.2.0  (--mpi=host)"
	make_rootfs "$BATS_TEST_TMPDIR/plain"
	expect 0 "$VIAL" exec "$BATS_TEST_TMPDIR/plain" true
	stderr_has 'the image has no MPI library'
}

@test "--mpi=host: what does not fit is refused in one line, and nothing starts" {
	make_both
	local d=$BATS_TEST_TMPDIR
	no() { # LIBRARY WHY
		expect 125 with "$1"
		one_fatal_line "--mpi=host: the host's $1 "
		stderr_has "$2"
		stderr_has "; --mpi=none runs with the image's own"
	}
	so "$d/a/libmpi.so.12.1.0" libmpi.so.12 "$(mpi_text 'Open MPI v' host)"
	no "$d/a/libmpi.so.12.1.0" "it is Open MPI, and the image's is MPICH"
	so "$d/libmpi.so.13.0.0" libmpi.so.13 "$(mpi_text 'MPICH Version' host)"
	no "$d/libmpi.so.13.0.0" "its interface is number 13, the image's is 12"
	so "$d/libmpi.so.12.0.9" libmpi.so.12 "$(mpi_text 'MPICH Version' host)"
	no "$d/libmpi.so.12.0.9" "it is older, 12.0, and the image's is 12.1"
	so "$d/libmpi.so.12.3.0" libmpi.so.12 'const char *const maker = "MPICH Version"; const char *MPI_Who(void) { return ""; }'
	no "$d/libmpi.so.12.3.0" 'it lacks MPI_Init'
	so "$d/libmpi.so.12.4.0" libmpi.so.12 "$(mpi_text 'MPICH Version' host) int needed(void); int MPI_X(void) { return needed(); }" \
		"$HOST/own/libneeded.so.3"
	no "$d/libmpi.so.12.4.0" 'needs libneeded.so.3, which is neither on the host nor in the image'
	echo 'GLIBC_9.9 { global: newer; };' >"$d/map"
	so "$d/libc.so" libc.so.6 'int newer(void) { return 0; }' -Wl,--version-script="$d/map"
	so "$d/libmpi.so.12.5.0" libmpi.so.12 "$(mpi_text 'MPICH Version' host) int newer(void); int MPI_X(void) { return newer(); }" "$d/libc.so"
	no "$d/libmpi.so.12.5.0" "needs GLIBC_9.9, which the image's C library has not"
	# a maker counts for himself: the numbers of two say nothing
	so "$d/b/libmpi.so.12.0.0" libmpi.so.12 "$(mpi_text 'CRAY MPICH' host)"
	expect 0 with "$d/b/libmpi.so.12.0.0"
	stdout_is 'mpi host, fabric image'
	# the image's own library, which is of the name that the host's one needs, but older
	so "$d/libfabric.so.1" libfabric.so.1 'int fi_newest(void) { return 0; }'
	so "$d/libmpi.so.12.6.0" libmpi.so.12 "$(mpi_text 'MPICH Version' host) int fi_newest(void); int MPI_X(void) { return fi_newest(); }" \
		"$d/libfabric.so.1" -Wl,-rpath,"$d"
	no "$d/libmpi.so.12.6.0" "needs fi_newest of libfabric.so.1, which the image's own /usr/lib/libfabric.so.1 has not"
	expect 125 "$VIAL" exec --mpi host "$BOTH.sif" who
	stderr_has "which are the host's libraries?"
	expect 125 with "$d/nothing"
	expect 125 with "$d/map"
	expect 125 "$VIAL" exec --mpi pmix "$BOTH.sif" who
	stderr_has "not 'pmix'"
}

@test "--mpi=libfabric: the host's, if it has every version of the image's" {
	make_both
	expect 0 env VIAL_MPI_LIBS="$HOST,$HOST/1.1" "$VIAL" exec --mpi libfabric "$BOTH.sif" who
	stdout_is 'mpi image, fabric host'
	expect 125 "$VIAL" exec --mpi libfabric --mpi-libs "$HOST/1.0" "$BOTH.sif" who
	stderr_has "$HOST/1.0/libfabric.so.1 cannot take the place of /usr/lib/libfabric.so.1.9.0: it lacks FABRIC_1.1"
	expect 0 with "$HOST,$HOST/1.1"
	stdout_is 'mpi host, fabric host'
}
