load common
load images
setup_file() {
	make_images
	local config='{"Env":["FROM_IMAGE=image","BOTH=image","PATH=/opt/app/bin:/usr/bin:/bin","QUOTED=a \"b\" $HOME `x` \\\\"]}'
	BATS_TEST_TMPDIR=$BATS_FILE_TMPDIR make_oci "$BATS_FILE_TMPDIR/oci" latest "$config" "$TREE"
	APP=$BATS_FILE_TMPDIR/app.sif
	export APP
	"$VIAL" -q build "$APP" "oci:$BATS_FILE_TMPDIR/oci:latest"
}

# show VAR... in the image
show() { vial exec "${options[@]}" "$APP" sh -c 'for v; do eval "echo $v=\${$v-unset}"; done' sh "$@"; }
options=()

@test "the image beats the host, the user beats the image" {
	BOTH=host ONLY_HOST=1 expect 0 show FROM_IMAGE BOTH ONLY_HOST
	stdout_is $'FROM_IMAGE=image\nBOTH=image\nONLY_HOST=1'
	APPTAINERENV_BOTH=user SINGULARITYENV_BOTH=old SINGULARITYENV_MORE=2 expect 0 show BOTH MORE
	stdout_is $'BOTH=user\nMORE=2'
	options=(--env 'BOTH=option,MORE=3' --env 'COMMA=a,b')
	APPTAINERENV_BOTH=user expect 0 show BOTH MORE COMMA
	stdout_is $'BOTH=option\nMORE=3\nCOMMA=a,b'
}

@test "values of the image are literal" {
	expect 0 vial exec "$APP" sh -c 'printf "%s\n" "$QUOTED"'
	# shellcheck disable=SC1003 # backslashes
	stdout_is 'a "b" $HOME `x` \\'
}

@test "PATH: the image's, then what is missing of the default; replaced and extended on request" {
	expect 0 show PATH
	stdout_is PATH=/opt/app/bin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin
	APPTAINERENV_PREPEND_PATH=/first APPTAINERENV_APPEND_PATH=/last expect 0 show PATH
	stdout_is PATH=/first:/opt/app/bin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/last
	SINGULARITYENV_PREPEND_PATH=/old APPTAINERENV_PREPEND_PATH=/first expect 0 show PATH
	stdout_has PATH=/first:/opt
	stdout_lacks /old
	APPTAINERENV_PATH=/bin expect 0 show PATH
	stdout_is PATH=/bin
	PATH=/host/only:$PATH expect 0 show USER_PATH
	stdout_has /host/only
}

@test "--cleanenv keeps TERM and proxies only" {
	options=(-e)
	TERM=vt100 http_proxy=http://p:1 OTHER=x expect 0 show TERM http_proxy OTHER LANG FROM_IMAGE
	stdout_is $'TERM=vt100\nhttp_proxy=http://p:1\nOTHER=unset\nLANG=C\nFROM_IMAGE=image'
	options=(-e --env OTHER=y)
	OTHER=x expect 0 show OTHER
	stdout_is OTHER=y
}

@test "--no-env, and what steers the tool, stay outside" {
	options=(--no-env 'SECRET,TOKEN')
	SECRET=1 TOKEN=2 APPTAINER_CACHEDIR=/x SINGULARITY_DEBUG=0 VIAL_X=1 LD_LIBRARY_PATH=/host/lib expect 0 \
		show SECRET TOKEN APPTAINER_CACHEDIR SINGULARITY_DEBUG VIAL_X LD_LIBRARY_PATH
	stdout_is $'SECRET=unset\nTOKEN=unset\nAPPTAINER_CACHEDIR=unset\nSINGULARITY_DEBUG=unset\nVIAL_X=unset\nLD_LIBRARY_PATH=unset'
}

@test "scheduler variables pass" {
	SLURM_JOB_ID=7 PMI_RANK=3 OMP_NUM_THREADS=4 CUDA_VISIBLE_DEVICES=0,1 expect 0 show SLURM_JOB_ID PMI_RANK OMP_NUM_THREADS CUDA_VISIBLE_DEVICES
	stdout_is $'SLURM_JOB_ID=7\nPMI_RANK=3\nOMP_NUM_THREADS=4\nCUDA_VISIBLE_DEVICES=0,1'
}

@test "--env-file: quotes and variables, and --env wins" {
	cat >vars <<-"EOF2"
		# comment
		A=1
		export B="x $HOME $A"
		C='literal $A'
		D=${NOT_THERE:-fallback}
	EOF2
	options=(--env-file vars --env A=2)
	NOT_THERE='' HOME=/h expect 0 show A B C D
	stdout_is $'A=2\nB=x /h 1\nC=literal $A\nD=fallback'
	echo FROM_IMAGE=asked >vars
	options=(--env-file vars)
	FROM_IMAGE=asked expect 0 show FROM_IMAGE
	stdout_is FROM_IMAGE=asked
	expect 0 bash -c '"$VIAL" exec --env-file <(echo Z=1) "$1" sh -c "echo \$Z"' - "$APP"
	stdout_is 1
	options=(--env-file /dev/zero)
	expect 125 show A
	one_fatal_line "at most"
}

@test "--env-file: more than assignments is read by the shell, which starts no program" {
	cat >vars <<-"EOF2"
		greet() { echo "hello $1"; }
		if [ -n "$WHO" ]; then A="$(greet "$WHO")"; fi
		for i in 1 2; do B=$B$i; done
		PATH=$PATH:/added
	EOF2
	options=(--env-file vars)
	WHO=me expect 0 show A B FROM_IMAGE
	stdout_is $'A=hello me\nB=12\nFROM_IMAGE=image'
	expect 0 show PATH
	stdout_is "PATH=$PATH:/added"
	echo 'A=$(touch ran; /bin/touch ran)nothing' >vars
	expect 0 show A
	stdout_is A=nothing
	[ ! -e ran ]
	echo 'exit 3' >vars
	expect 125 show A
	one_fatal_line "vars: /bin/sh ended with status 3"
	expect 125 vial exec --env-file no-such-file "$APP" true
	one_fatal_line no-such-file
	ln -sf "$VIAL" apptainer
	expect 255 ./apptainer exec --env-file no-such-file "$APP" true
}

@test "--env that is no assignment is wrong usage; one without a name is left out" {
	expect 1 vial exec --env nothing "$APP" true
	stderr_has "'nothing' is not of the form KEY=VALUE"
	expect 0 vial exec --env =1 "$APP" true
	stderr_has "WARNING:"
}

@test "--clean: four levels" {
	export PYTHONPATH=/host SLURM_JOB_ID=7 OTHER=x
	options=(--clean none)
	expect 0 show PYTHONPATH SLURM_JOB_ID OTHER
	stdout_is $'PYTHONPATH=/host\nSLURM_JOB_ID=7\nOTHER=x'
	options=(--clean host-dev)
	expect 0 show PYTHONPATH SLURM_JOB_ID OTHER PYTHONNOUSERSITE FROM_IMAGE
	stdout_is $'PYTHONPATH=unset\nSLURM_JOB_ID=7\nOTHER=x\nPYTHONNOUSERSITE=1\nFROM_IMAGE=image'
	options=(--clean all-but-scheduler)
	expect 0 show PYTHONPATH SLURM_JOB_ID OTHER FROM_IMAGE
	stdout_is $'PYTHONPATH=unset\nSLURM_JOB_ID=7\nOTHER=unset\nFROM_IMAGE=image'
	options=(-e --clean all-but-scheduler)
	expect 0 show SLURM_JOB_ID OTHER
	stdout_is $'SLURM_JOB_ID=7\nOTHER=unset'
	options=(--clean all)
	expect 0 show SLURM_JOB_ID OTHER
	stdout_is $'SLURM_JOB_ID=unset\nOTHER=unset'
	options=(-e --clean host-dev)
	expect 0 show SLURM_JOB_ID
	stdout_is SLURM_JOB_ID=unset
	options=(--clean spotless)
	expect 125 show A
	one_fatal_line "spotless"
}

@test "two old prefixes that differ: one warning, the newer counts; one alone: none" {
	mkdir a b
	SINGULARITY_BIND="$PWD/a:/x" APPTAINER_BIND="$PWD/b:/x" SINGULARITYENV_V=1 APPTAINERENV_V=2 expect 0 show V
	stdout_is V=2
	[ "$(grep -c WARNING: <<<"$stderr")" -eq 1 ] || complain "not one warning"
	stderr_has APPTAINER_BIND
	stderr_has APPTAINERENV_V
	SINGULARITY_BIND="$PWD/a:/x" SINGULARITYENV_V=1 expect 0 show V
	stderr_is ""
	SINGULARITYENV_V=2 APPTAINERENV_V=2 expect 0 show V
	stderr_is ""
}

@test "libraries of the host in /.singularity.d/libs come after the image's own" {
	mkdir libs t
	echo x >libs/libother.so
	ln -s "$VIAL" apptainer
	expect 0 ./apptainer exec "$APP" sh -c 'echo $LD_LIBRARY_PATH'
	stdout_is /.singularity.d/libs
	expect 0 ./apptainer exec --env LD_LIBRARY_PATH=/mine "$APP" sh -c 'echo $LD_LIBRARY_PATH'
	stdout_is /mine:/.singularity.d/libs
	expect 0 ./apptainer exec -B "$PWD/libs/libother.so:/.singularity.d/libs/libother.so" "$APP" sh -c 'echo $LD_LIBRARY_PATH'
	[[ $output == /*:/.singularity.d/libs ]] || complain "no directory of the image comes first"
	stdout_has lib
	first=${output%%:*}
	expect 0 vial exec "$APP" ls -d "$first"
}

@test "the container's facts, in both spellings" {
	expect 0 vial exec --bind "$PWD:/x" "$APP" sh -c 'echo "$APPTAINER_CONTAINER $SINGULARITY_CONTAINER $APPTAINER_NAME $SINGULARITY_NAME $APPTAINER_COMMAND $APPTAINER_BIND"'
	stdout_is "$APP $APP app.sif app.sif exec /x"
	cd /
	expect 0 show PWD HOME
	stdout_has "PWD=/"
}

@test "HOME cannot be set as a variable" {
	options=(--env HOME=/elsewhere)
	expect 0 show HOME
	stderr_has "--home"
	stdout_lacks elsewhere
}

# With files that need a shell, the same rules by the other way.
shell_image() {
	cp -a "$TREE" t
	mkdir -p t/.singularity.d/env
	printf 'export A="${A:-1}"\nexport X.Y=bad\nexport B=2\n' >t/.singularity.d/env/10-docker2singularity.sh
	cat >t/.singularity.d/env/90-environment.sh <<-'EOF2'
		if true; then export C="$(echo computed)"; fi
		export COMPOSED="$BASE/sub"
		export ADDED=1
		export ADDED+=2
		export PATH="/image/bin:$PATH"
	EOF2
	make_sif shell.sif t
	APP=$PWD/shell.sif
}

@test "files that are programs are run by the image's shell, with the same rules" {
	shell_image
	A=host B=host BASE=/user expect 0 show A B C ADDED
	stdout_is $'A=1\nB=2\nC=computed\nADDED=12'
	APPTAINERENV_A="it's \"me\"" APPTAINERENV_BASE=/base expect 0 show A COMPOSED
	stdout_is "A=it's \"me\"
COMPOSED=/base/sub"
	expect 0 show PATH
	stdout_is PATH=/image/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	APPTAINERENV_PATH=/bin:/x APPTAINERENV_PREPEND_PATH=/p expect 0 show PATH
	stdout_is PATH=/p:/bin:/x
}

@test "with a shell in between: statuses, no shell left, nothing of ours in the environment" {
	shell_image
	expect 42 vial exec "$APP" sh -c 'exit 42'
	expect 127 vial exec "$APP" no-such-program
	one_fatal_line "no-such-program: not found"
	expect 126 vial exec "$APP" /etc/passwd
	one_fatal_line "not executable"
	ln -s "$VIAL" apptainer
	expect 255 ./apptainer exec "$APP" no-such-program
	expect 0 bash -c '"$VIAL" exec "$1" sh -c "echo \$\$" & wait; echo $!' - "$APP"
	[ "${lines[0]}" = "${lines[1]}" ] || complain "pids differ"
	A=1 APPTAINERENV_A=2 expect 0 vial exec "$APP" env
	stdout_lacks VIAL_
	expect 0 vial exec "$APP" sh -c 'printf "<%s>" "$@"' sh 'a b' '$HOME' ''
	stdout_is '<a b><$HOME><>'
}

@test "an image without any files of ours, and one with /environment only" {
	expect 0 vial exec "$TREE" env
	stdout_has PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	cp -a "$TREE" old
	echo 'export OLD=yes' >old/environment
	expect 0 vial exec old sh -c 'echo $OLD'
	stdout_is yes
}

@test "an image without a shell keeps its variables, and run starts its entrypoint" {
	mkdir -p bare/bin
	copy_program bare env cat
	make_oci oci-bare latest '{"Env":["K=from image"],"Entrypoint":["/bin/env"],"Cmd":["-0"]}' bare
	"$VIAL" -q build bare.sif oci:oci-bare:latest
	expect 0 vial exec bare.sif env
	stdout_has "K=from image"
	expect 0 bash -c '"$VIAL" run bare.sif | tr "\0" "\n"'
	stdout_has "K=from image"
	expect 0 vial run bare.sif cat /proc/self/comm
	stdout_is cat
}
