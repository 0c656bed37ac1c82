# The check list for "apptainer" being a link to vial: what scripts of years rely on. tests/interop/checklist.bats runs the
# same lines with Apptainer itself.
load common
load registry
load checklist

setup_file() {
	cd "$BATS_FILE_TMPDIR" || return 1
	registry_setup
	start_registry REG
	checklist_images
	vial_as_apptainer bin
}
teardown_file() { stop_servers; }
setup() {
	common_setup
	registry_setup
	PATH=$BATS_FILE_TMPDIR/bin:$PATH
}
# gives LINE: it prints what is on stdin
gives() {
	local want
	want=$(cat)
	# shellcheck disable=SC2034 # complain prints them
	COMMAND="line_$1 of tests/e2e/checklist.bash"
	run --separate-stderr play "$1"
	# shellcheck disable=SC2034 # complain prints it
	stderr=$(cat list.err)
	[ "$output" = "$want" ] || {
		diff <(echo "$want") <(echo "$output") | sed 's/^/# /'
		complain "this is not what Apptainer's users are used to"
	}
}

@test "exec: the program's output, its arguments, the other name" {
	gives exec <<-'EOF'
		ID=vialtest
		VERSION_ID=1
		PRETTY_NAME="vial test image"
		= 0
		<a b><><$HOME><--flag><--><q'q><">
		= 0
		image.sif image.sif exec
		= 0
	EOF
}

@test "run: the image's words, the user's, evaluated once or not at all" {
	gives run <<-'EOF'
		<$HOME><cmd>
		= 0
		<a b><q'q><d"d><>
		= 0
		<$A><image><x>
		= 0
		<\$A><$A><`echo x`><a b>
		= 0
	EOF
}

@test "shell on a terminal" {
	gives shell_on_a_terminal <<-'EOF'
		terminal2
		= 7
	EOF
}

@test "what is piped in" {
	gives stdin <<-'EOF'
		2
		= 0
		from stdin
		= 3
		from stdin
		= 4
		= 0
	EOF
}

@test "exit statuses" {
	gives status <<-'EOF'
		= 0
		= 1
		= 42
		= 255
		= 143
		= 137
		= 255
		= 255
		= 255
		= 1
		= 1
		= 1
	EOF
}

@test "./image.sif" {
	gives image_is_a_program <<-'EOF'
		<$HOME><cmd>
		= 0
		<a b><--flag><image>
		= 0
	EOF
}

@test "-B a:b:ro,c" {
	gives bind <<-'EOF'
		a
		c
		/b
		= 0
		a
		c
		= 0
		f
		made
	EOF
}

@test "a bind to a place the image lacks, and of a source that is missing" {
	gives bind_to_a_missing_place <<-'EOF'
		a
		a
		= 0
		= 255
	EOF
}

@test "APPTAINER_BIND, SINGULARITY_BIND" {
	gives bind_by_variable <<-'EOF'
		a
		c
		= 0
		a
		= 0
		a
		= 0
		a
		c
		= 0
	EOF
}

@test "APPTAINERENV_X, SINGULARITYENV_X, --env, and variables in them" {
	gives variables_for_the_container <<-'EOF'
		1
		= 0
		2
		= 0
		1
		= 0
		user
		= 0
		a imageb image-| $A "c" \n $
		= 0
		image:user
		= 0
		$A:user
		= 0
		2
		= 0
		a,b|1
		= 0
	EOF
}

@test "PREPEND_PATH, APPEND_PATH, PATH" {
	gives path <<-'EOF'
		/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
		= 0
		/pre:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
		= 0
		/pre:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/app
		= 0
		/bin
		= 0
		/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/more
		= 0
		/.singularity.d/libs:/more:/.singularity.d/libs
		= 0
	EOF
}

@test "the image's variables beat the host's" {
	gives image_beats_host <<-'EOF'
		image host
		= 0
		user
		= 0
		a b$HOME`c`"d'e
		= 0
		<image>
		= 0
	EOF
}

@test "-e" {
	gives cleanenv <<-'EOF'
		image||dumb|p|q|C|
		= 0
		1|2
		= 0
	EOF
}

@test "-c, -C" {
	gives contain <<-'EOF'
		home
		B=host
		= 0
		fd mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero B=
		own pids
		= 0
	EOF
}

@test "--compat" {
	gives compat <<-'EOF'
		/new
		0022
		B=
		home
		= 0
		<$A>
		= 0
	EOF
}

@test "--no-home" {
	gives no_home <<-'EOF'
		1
		= 0
		0
		kept
		= 0
		0
		= 1
	EOF
}

@test "-H a:b" {
	gives home <<-'EOF'
		/home/me
		a
		= 0
		a
		there
		= 0
		= 0
		f
		made
	EOF
}

@test "--pwd" {
	gives pwd <<-'EOF'
		/etc
		= 0
		/work
		= 0
		= 255
	EOF
}

@test "where it starts without --pwd" {
	gives where_it_starts <<-'EOF'
		here
		there
		/
		= 0
		/usr
		= 0
		/etc
		= 0
		/var
		= 0
		/proc
		= 0
	EOF
}

@test "--nv and --rocm without a GPU" {
	gives gpu_words <<-'EOF'
		ran
		= 0
		ran
		= 0
		ran
		= 0
		ran
		= 0
	EOF
}

@test "--fakeroot" {
	gives fakeroot <<-'EOF'
		0
		0
		/root
		= 0
		0
		= 0
		0
		= 0
		1
	EOF
}

@test "--writable-tmpfs" {
	gives writable_tmpfs <<-'EOF'
		x
		= 2
		= 2
		= 1
	EOF
}

@test "--overlay of a directory" {
	gives overlay <<-'EOF'
		= 0
		x
		= 2
		= 1
		upper
		work
	EOF
}

@test "a directory image, and -w" {
	gives sandbox <<-'EOF'
		x
		= 0
		x
		= 1
		= 0
	EOF
}

@test "oci:DIR:TAG" {
	gives oci_layout <<-'EOF'
		ID=vialtest
		VERSION_ID=1
		PRETTY_NAME="vial test image"
		= 0
	EOF
}

@test "pull: the file's name, and --force" {
	gives pull <<-'EOF'
		= 0
		= 0
		./tool_1.0.sif
		./tool_latest.sif
		<$HOME><cmd>
		= 0
		= 255 precious
		= 0
		= 0
		<$HOME><cmd>
		= 0
		= 0 tool_1.0.sif
	EOF
}

@test "inspect, and as JSON" {
	gives inspect <<-'EOF'
		org.label-schema.build-arch: ARCH
		who: me
		['data', 'type'] container ['labels'] me
		['environment', 'runscript', 'startscript'] ['dict', 'str', 'str']
	EOF
}

@test "sif list, sif dump" {
	gives sif_list <<-'EOF'
		------------------------------------------------------------------------------
		ID   |GROUP   |LINK    |TYPE
		------------------------------------------------------------------------------
		1    |1       |NONE    |Def.FILE
		2    |1       |NONE    |JSON.Generic
		3    |1       |NONE    |JSON.Generic
		4    |1       |NONE    |JSON.Generic
		5    |1       |NONE    |JSON.Generic
		6    |1       |NONE    |FS (Squashfs/*System/ARCH)
		hsqs
	EOF
}

@test "sign, verify" {
	gives sign_and_verify <<-'EOF'
		= 255
		= 0
		= 0
		1 True [True, True, True, True, True, True]
		= 255
	EOF
}

@test "the user's passwd entry" {
	gives passwd <<-'EOF'
		1
		= 0
		named
		same
	EOF
}

@test "resolv.conf" {
	gives resolv_conf <<-'EOF'
		same
	EOF
}

@test "versions; no test, no help" {
	gives versions <<-'EOF'
		apptainer version 1.4
		1.4
		= 0
		No help sections were defined for this image
		= 0
	EOF
}

# These two need more than Apptainer's root directory has:

@test "a user of a directory service has his passwd entry" {
	local lib
	lib=$(find /usr/lib /usr/lib64 -name libnss_wrapper.so 2>/dev/null | head -n 1)
	[ -n "$lib" ] || skip "needs libnss-wrapper"
	! is_sanitized || skip "a sanitizer's library must be the first"
	echo "ldapuser:*:$(id -u):$(id -g):Some One:/home/ldap/some:/bin/zsh" >users
	printf 'ldapgroup:*:%s:ldapuser\n' "$(id -g)" >groups
	expect 0 env NSS_WRAPPER_PASSWD="$PWD/users" NSS_WRAPPER_GROUP="$PWD/groups" LD_PRELOAD="$lib" \
		apptainer exec --no-env LD_PRELOAD "$IMAGE" sh -c 'grep -c "^ldapuser:x:" /etc/passwd; echo $HOME'
	stdout_is $'1\n/home/ldap/some'
}

@test "a host whose resolv.conf is a link into /run" {
	need_root
	mkdir etc
	cp /etc/passwd /etc/group etc/
	ln -s ../run/vial-test/resolv.conf etc/resolv.conf
	expect 0 unshare --mount sh -c '
		mount --bind etc /etc && mount -t tmpfs none /run && mkdir /run/vial-test
		echo "nameserver 192.0.2.1" >/run/vial-test/resolv.conf
		apptainer exec "$IMAGE" cat /etc/resolv.conf'
	stdout_is "nameserver 192.0.2.1"
}

@test "--nv and --rocm without a GPU: one warning each" {
	[ ! -e /dev/nvidiactl ] && [ ! -e /dev/kfd ] || skip "has a GPU"
	expect 0 apptainer exec --nv "$IMAGE" true
	[[ $stderr == WARNING:*--nv*NVIDIA* && $stderr != *$'\n'* ]] || complain "not one warning"
	expect 0 apptainer exec --rocm "$IMAGE" true
	[[ $stderr == WARNING:*--rocm*AMD* && $stderr != *$'\n'* ]] || complain "not one warning"
	expect 0 apptainer exec --nv --no-nv "$IMAGE" true
	stderr_is ""
	APPTAINER_NV=1 expect 0 apptainer exec --nv=false "$IMAGE" true
	stderr_is ""
	expect 255 apptainer exec --cdi-dirs "$PWD" --device vendor.com/gpu=all "$IMAGE" true
	one_fatal_line "there is no CDI device vendor.com/gpu=all"
}

# Elsewhere the image needs nothing for it; here it takes the two ways of env.c.
@test "variables in variables, for an image whose files need a shell" {
	cp -a "$TREE" t
	mkdir -p t/.singularity.d/env
	printf 'export SH=$(echo sh) A=image\n' >t/.singularity.d/env/90-environment.sh
	expect 0 apptainer exec --env 'X=a ${A}b $SH-$NOPE| \$A "c" $ ${SH' t sh -c 'printf "%s\n" "$X"'
	stdout_is 'a imageb sh-| $A "c" $ ${SH'
	expect 0 env APPTAINERENV_PATH='$PATH:/more' APPTAINERENV_PREPEND_PATH='/$SH' "$BATS_FILE_TMPDIR/bin/apptainer" exec t sh -c 'echo $PATH; env'
	stdout_has "/sh:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/more"
	stdout_lacks VIAL__
	expect 0 apptainer exec --env 'A=$A:user,X=`id`$(id)' t sh -c 'printf "%s\n" "$A" "$X"'
	stdout_is $'image:user\n`id`$(id)'
	expect 0 apptainer exec --env 'LD_LIBRARY_PATH=$LD_LIBRARY_PATH:/more' t sh -c 'echo "$LD_LIBRARY_PATH"'
	stdout_is "/.singularity.d/libs:/more:/.singularity.d/libs"
	# under the name vial a value is what it is
	expect 0 vial exec --env 'A=$A:user' t sh -c 'echo "$A"'
	stdout_is '$A:user'
}
