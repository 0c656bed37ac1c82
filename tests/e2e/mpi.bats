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
