# What must be the same for one who types `apptainer` and gets vial: a function line_NAME for each line of the check
# list. compat.bats runs them with vial under that name and knows what they print; tests/interop/checklist.bats runs
# them with Apptainer as well and compares. They run in an empty directory and use $IMAGE, $TREE and $LAYOUT.

checklist_images() { # in the current directory; with a registry at $REG_HOST also there
	TREE=$PWD/tree IMAGE=$PWD/image.sif LAYOUT=$PWD/layout
	export TREE IMAGE LAYOUT
	BATS_TEST_TMPDIR=$PWD make_rootfs tree
	copy_program tree bash sort tr
	mkdir tree/work
	chmod -R go+rX tree
	BATS_TEST_TMPDIR=$PWD make_oci layout latest '{"Env":["A=image","LIT=a b$HOME`c`\"d'"'"'e"],"WorkingDir":"/work","Labels":{"who":"me"},"Entrypoint":["/bin/sh","-c","printf \"<%s>\" \"$@\"; echo","sh"],"Cmd":["$HOME","cmd"]}' tree
	"$VIAL" -q build image.sif oci:layout:latest
	[ -z "${REG_HOST:-}" ] || BATS_TEST_TMPDIR=$PWD copy_image oci:layout:latest "docker://$REG_HOST/apps/tool:1.0"
	[ -z "${REG_HOST:-}" ] || BATS_TEST_TMPDIR=$PWD copy_image oci:layout:latest "docker://$REG_HOST/apps/tool:latest"
}

# vial_as_apptainer DIR: that name, in DIR
vial_as_apptainer() {
	mkdir -p "$1"
	ln -sf "$VIAL" "$1/apptainer"
	ln -sf "$VIAL" "$1/singularity"
	ln -sf "$VIAL" "$1/run-singularity"
}

# play LINE: in a directory of its own, which has the same name every time. Its output is the result.
play() {
	rm -rf list
	mkdir list
	(cd list && "line_$1") 2>list.err
}

# st CMD...: its output, then its status
st() {
	local code=0
	"$@" || code=$?
	echo "= $code"
}

# in_image SCRIPT [OPTION...]
in_image() {
	local script=$1
	shift
	st apptainer exec "$@" "$IMAGE" sh -c "$script"
}

line_exec() {
	st apptainer exec "$IMAGE" cat /etc/os-release
	st apptainer exec "$IMAGE" sh -c 'printf "<%s>" "$@"; echo' sh 'a b' '' '$HOME' --flag -- "q'q" '"'
	st singularity exec "$IMAGE" sh -c 'echo "$SINGULARITY_NAME $APPTAINER_NAME $APPTAINER_COMMAND"'
}

line_run() {
	st apptainer run "$IMAGE"
	st apptainer run "$IMAGE" 'a b' "q'q" 'd"d' ''
	HOME=/ st apptainer run "$IMAGE" '\$A' '$A' '`echo x`' # user arguments are evaluated once
	st apptainer run --no-eval "$IMAGE" '\$A' '$A' '`echo x`' 'a b'
}

line_shell_on_a_terminal() {
	local code=0
	printf 'test -t 0 && test -t 1 && echo terminal$((1 + 1))\nexit 7\n' |
		script -qec "apptainer shell $IMAGE" /dev/null >typescript || code=$?
	grep -ao 'terminal2' typescript
	echo "= $code"
}

line_stdin() {
	printf 'one\ntwo\n' | st apptainer exec "$IMAGE" wc -l
	echo 'echo from stdin; exit 3' | st apptainer exec "$IMAGE" sh
	echo 'echo from stdin; exit 4' | st apptainer shell "$IMAGE"
	st apptainer exec "$IMAGE" cat </dev/null
}

line_status() {
	local n
	for n in 0 1 42 255; do in_image "exit $n"; done
	in_image 'kill -TERM $$'
	in_image 'kill -KILL $$'
	st apptainer exec no-such.sif true
	st apptainer exec "$IMAGE" no-such-program
	st apptainer exec "$IMAGE" /etc/os-release
	apptainer exec --no-such-option "$IMAGE" true >out
	echo "= $?"
	apptainer exec "$IMAGE" >out
	echo "= $?"
	apptainer no-such-command >out
	echo "= $?"
}

line_image_is_a_program() {
	cp "$IMAGE" app.sif
	chmod +x app.sif
	st ./app.sif
	st ./app.sif 'a b' --flag '$A'
}

line_bind() {
	mkdir a c
	echo a >a/f
	echo c >c/f
	in_image "cat /b/f '$PWD/c/f'; touch /b/no; echo \${APPTAINER_BIND%%,*}" -B "$PWD/a:/b:ro,$PWD/c"
	in_image 'cat /x /y/f; touch /y/made' --bind "$PWD/a/f:/x" -B c:/y
	ls c
}

line_bind_to_a_missing_place() {
	mkdir a
	echo a >a/f
	in_image 'cat /no/such/place/f /no/such/file' -B "$PWD/a:/no/such/place" -B "$PWD/a/f:/no/such/file"
	in_image true -B "$PWD/missing:/x"
}

line_bind_by_variable() {
	mkdir a c
	echo a >a/f
	echo c >c/f
	APPTAINER_BIND="$PWD/a:/x,$PWD/c:/y" in_image 'cat /x/f /y/f'
	SINGULARITY_BIND="$PWD/a:/x" in_image 'cat /x/f'
	APPTAINER_BINDPATH="$PWD/a:/x" in_image 'cat /x/f'
	APPTAINER_BIND="$PWD/a:/x" in_image 'cat /x/f /y/f' -B "$PWD/c:/y"
}

line_variables_for_the_container() {
	APPTAINERENV_X=1 in_image 'echo $X'
	SINGULARITYENV_X=2 in_image 'echo $X'
	APPTAINERENV_X=1 SINGULARITYENV_X=2 in_image 'echo $X'
	APPTAINERENV_A=user in_image 'echo $A'
	in_image 'printf "%s\n" "$X"' --env 'X=a ${A}b $A-$NOPE| \$A "c" \n $'
	APPTAINERENV_A='$A:user' in_image 'echo "$A"'
	APPTAINERENV_A='$A:user' in_image 'echo "$A"' --no-eval
	APPTAINERENV_X=1 in_image 'echo $X' -e --env X=2
	in_image 'echo "$V|$W"' --env 'V=a,b' --env W=1,X=2
}

line_path() {
	PATH=$PATH:/of/the/host in_image 'echo $PATH'
	APPTAINERENV_PREPEND_PATH=/pre in_image 'echo $PATH'
	APPTAINERENV_APPEND_PATH=/app SINGULARITYENV_PREPEND_PATH=/pre in_image 'echo $PATH'
	APPTAINERENV_PATH=/bin in_image 'echo $PATH'
	APPTAINERENV_PATH='$PATH:/more' in_image 'echo $PATH'
	APPTAINERENV_LD_LIBRARY_PATH='$LD_LIBRARY_PATH:/more' in_image 'echo $LD_LIBRARY_PATH'
}

line_image_beats_host() {
	A=host B=host in_image 'echo "$A $B"'
	A=host in_image 'echo $A' --env A=user
	in_image 'echo "$LIT"'
	A=host st apptainer run "$IMAGE" '$A'
}

line_cleanenv() {
	A=host B=host TERM=dumb http_proxy=p HTTPS_PROXY=q LANG=de_DE.UTF-8 SLURM_JOB_ID=1 \
		in_image 'echo "$A|$B|$TERM|$http_proxy|$HTTPS_PROXY|$LANG|$SLURM_JOB_ID"' -e
	SLURM_JOB_ID=1 OMP_NUM_THREADS=2 in_image 'echo "$SLURM_JOB_ID|$OMP_NUM_THREADS"'
}

line_contain() {
	# the way to a home below /tmp is there with one of them only
	B=host in_image 'ls -A ~ /tmp /var/tmp | grep -v -e : -e "^$" -e vial-tests; [ "$(pwd)" = "$HOME" ] && echo home; echo "B=$B"' -c
	B=host in_image 'ls /dev | grep -vx full | sort | tr "\n" " "; echo "B=$B"; ls /dev/shm; [ $$ -lt 100 ] && echo own pids' -C </dev/null
}

line_compat() {
	umask 027
	B=host in_image 'touch /new && ls /new; umask; echo "B=$B"; [ "$(pwd)" = "$HOME" ] && echo home' --compat
	st apptainer run --compat "$IMAGE" '$A'
}

line_no_home() {
	local home
	home=$(apptainer exec "$IMAGE" sh -c 'echo $HOME')
	in_image "grep -c ' $home ' /proc/self/mountinfo"
	in_image "grep -c ' $home ' /proc/self/mountinfo; [ \$HOME = $home ] && echo kept" --no-home
	APPTAINER_NO_HOME=1 in_image "grep -c ' $home ' /proc/self/mountinfo"
}

line_home() {
	mkdir a
	echo a >a/f
	in_image 'echo $HOME; cat ~/f' -H "$PWD/a:/home/me"
	in_image 'cat ~/f; [ "$HOME" = "'"$PWD/a"'" ] && echo there' --home "$PWD/a"
	in_image 'touch ~/made' -H a:/home/me
	ls a
}

line_pwd() {
	in_image pwd --pwd /etc
	in_image pwd --cwd /work
	in_image pwd --pwd /no/such
}

line_where_it_starts() {
	local d
	[ "$(apptainer exec "$IMAGE" pwd)" = "$PWD" ] && echo here
	mkdir sub
	cd sub || return
	[ "$(apptainer exec "$IMAGE" pwd)" = "$PWD" ] && echo there
	for d in / /usr /etc /var /proc; do
		cd "$d" || return
		in_image pwd
	done
}

line_gpu_words() {
	in_image 'echo ran' --nv
	in_image 'echo ran' --rocm
	APPTAINER_NV=1 SINGULARITY_ROCM=1 in_image 'echo ran'
	in_image 'echo ran' --nv --rocm --contain
}

line_fakeroot() {
	in_image 'id -u; id -g; echo $HOME' --fakeroot
	in_image 'touch made; stat -c %u made' --fakeroot
	APPTAINER_FAKEROOT=1 in_image 'id -u'
	stat -c %u made | grep -cx "$(id -u)"
}

line_writable_tmpfs() {
	in_image 'echo x >/new && cat /new; rm /etc/os-release && ls /etc/os-release' --writable-tmpfs
	in_image 'ls /new'
	in_image 'touch /new'
}

line_overlay() {
	mkdir ov
	in_image 'echo x >/new; rm /etc/os-release' --overlay ov
	in_image 'cat /new; ls /etc/os-release' --overlay ov
	in_image 'touch /no' --overlay ov:ro
	ls ov
}

line_sandbox() {
	cp -a "$TREE" box
	st apptainer exec -w box sh -c 'echo x >/new; cat /new'
	cat box/new
	st apptainer exec box touch /no
	st apptainer exec --writable box rm /new
	ls box/new
}

line_oci_layout() {
	st apptainer exec "oci:$LAYOUT:latest" cat /etc/os-release
}

line_pull() {
	export APPTAINER_CACHEDIR=$PWD/cache
	apptainer -q pull --no-https "docker://$REG_HOST/apps/tool:1.0" >out
	echo "= $?"
	apptainer -q pull --no-https "docker://$REG_HOST/apps/tool" >out
	echo "= $?"
	ls ./*.sif
	st apptainer run tool_1.0.sif
	echo precious >tool_1.0.sif
	apptainer -q pull --no-https "docker://$REG_HOST/apps/tool:1.0" >out
	echo "= $? $(head -c 8 tool_1.0.sif)"
	apptainer -q pull -F --no-https "docker://$REG_HOST/apps/tool:1.0" >out
	echo "= $?"
	apptainer -q pull --name mine.img --no-https "docker://$REG_HOST/apps/tool:1.0" >out
	echo "= $?"
	st apptainer run mine.img
	mkdir dir
	apptainer -q pull --no-https --dir dir "docker://$REG_HOST/apps/tool:1.0" >out
	echo "= $? $(ls dir)"
}

line_inspect() {
	apptainer inspect "$IMAGE" | grep -e who -e build-arch | sed "s/a[mr][dm]64/ARCH/"
	apptainer inspect -j "$IMAGE" | python3 -c '
import json, sys
j = json.load(sys.stdin)
a = j["data"]["attributes"]
print(sorted(j), j["type"], sorted(a), a["labels"]["who"])'
	apptainer inspect -j -r -e -s "$IMAGE" | python3 -c '
import json, sys
a = json.load(sys.stdin)["data"]["attributes"]
print(sorted(a), [type(a[k]).__name__ for k in sorted(a)])'
}

line_sif_list() {
	apptainer sif list "$IMAGE" | cut -d'|' -f1-3,5 | sed "s/ *\$//; s/a[mr][dm]64/ARCH/"
	apptainer sif dump 6 "$IMAGE" | head -c 4
	echo
}

line_sign_and_verify() {
	cp "$IMAGE" app.sif
	st apptainer verify app.sif
	"$VIAL" -q key newpair pair >out
	apptainer sign --key pair.pem app.sif >out
	echo "= $?"
	apptainer verify --key pair.pub.pem app.sif >out
	echo "= $?"
	apptainer verify --json --key pair.pub.pem app.sif | python3 -c '
import json, sys
j = json.load(sys.stdin)
names = ["DataCheck", "Fingerprint", "KeyCheck", "KeyLocal", "Name", "Partition"]
print(j["Signatures"], len(j["SignerKeys"]) >= 6, [n in j["SignerKeys"][0]["Signer"] for n in names])'
	"$VIAL" -q key newpair other >out
	apptainer verify --key other.pub.pem app.sif >out
	echo "= $?"
}

line_passwd() {
	in_image 'grep -c "^[^:]*:[^:]*:$(id -u):$(id -g):" /etc/passwd'
	[ "$(apptainer exec "$IMAGE" id -un)" = "$(id -un)" ] && echo named
	[ "$(apptainer exec "$IMAGE" id -u):$(apptainer exec "$IMAGE" id -g)" = "$(id -u):$(id -g)" ] && echo same
}

line_resolv_conf() {
	apptainer exec "$IMAGE" cat /etc/resolv.conf >inside
	cmp inside /etc/resolv.conf && echo same
}

line_versions() {
	apptainer --version | grep -oE '^apptainer version 1\.[4-9]'
	apptainer version | grep -oE '^1\.[4-9]'
	apptainer test "$IMAGE" >out
	echo "= $?"
	st apptainer run-help "$IMAGE"
}
