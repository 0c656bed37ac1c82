# MPI in images: what `vial mpi check` says of one, and ranks that find each other under Slurm, or do not.
load common
load images
load ../slurm/slurm

setup_file() {
	make_images
	export ENV_SIF=$SIF MPI_SIF LIBS=$BATS_FILE_TMPDIR/libs
	make_libraries
	is_root && [ -e "${VIAL%/*}/spank_vial.so" ] && command -v mpicc.mpich >/dev/null || return 0
	start_cluster -n 2
	mv "$SIF" "$PLACE"
	SIF=$PLACE/test.sif ENV_SIF=$PLACE/test.sif MPI_SIF=$PLACE/mpich.sif
	make_mpich "$BATS_FILE_TMPDIR/mpich"
	make_sif "$MPI_SIF" "$BATS_FILE_TMPDIR/mpich"
	chmod -R go+rX "$PLACE"
}
teardown_file() { stop_cluster; }
setup() {
	common_setup
	export MARK=$BATS_TEST_NAME
}
teardown() {
	if [ -n "${PLACE:-}" ] && [ -z "${BATS_TEST_SKIPPED:-}" ]; then nothing_left; fi
	common_teardown
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

# ---- on a cluster ----------------------------------------------------------------------------

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
	need_slurm
	command -v mpicc.mpich >/dev/null || skip "needs MPICH"
}
srun() { user srun "$@"; }

@test "an MPICH ring inside of an image, across nodes, by PMI-2" {
	need_mpich
	expect 0 srun --mpi=pmi2 -N 2 -n 4 --container-image="$MPI_SIF" ring
	stdout_is "ranks 4, sum 6"
	expect 0 "$VIAL" mpi check --mpi pmi2 "$MPI_SIF"
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
