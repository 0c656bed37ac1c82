# shellcheck disable=SC2153
load common
load images
setup_file() {
	make_images
	mkdir -p "$BATS_FILE_TMPDIR/env"
	local tree=$BATS_FILE_TMPDIR/env/tree
	cp -a "$TREE" "$tree"
	mkdir -p "$tree/.singularity.d/env"
	printf 'export FROM_IMAGE=one\nexport KEPT=${KEPT:-image}\n' >"$tree/.singularity.d/env/10-plain.sh"
	printf 'if true; then export LATER=$(echo x); fi\n' >"$tree/.singularity.d/env/20-code.sh"
	printf '#!/bin/sh\necho ran\n' >"$tree/.singularity.d/runscript"
	chmod 755 "$tree/.singularity.d/runscript"
	export ENV_TREE=$tree ENV_SIF=$BATS_FILE_TMPDIR/env.sif
	make_sif "$ENV_SIF" "$tree"
}

# field EXPRESSION: of the JSON in $output, by python; d is all of it
field() { python3 -c 'import json, sys; d = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1" <<<"$output"; }
is() {
	local got
	got=$(field "$1")
	[ "$got" = "$2" ] || complain "$1 is '$got', not '$2'"
}
variable() { echo "[v for v in d['environment'] if v['name'] == '$1'][0]$2"; }

@test "it starts nothing and makes nothing" {
	mkdir over work
	expect 0 strace -f -o calls -e trace=mount,fsopen,open_tree,move_mount,unshare,setns,mkdir,mkdirat,openat \
		"$VIAL" exec --explain --overlay over --contain --workdir work --pid --net --memory 64m --stats stats.json "$SIF" touch ran
	! grep -E '(^|[0-9] )(mount|fsopen|open_tree|move_mount|unshare|setns)\(' calls || complain "a namespace or a mount was made"
	! grep -E 'O_CREAT' calls || complain "a file was made"
	! grep -E 'mkdir' calls || complain "a directory was made"
	[ ! -e stats.json ] && [ ! -e ran ]
	[ -z "$(find over work -mindepth 1)" ] || complain "something was made in over or work"
	expect 0 vial holders --json
	stdout_lacks "$SIF"
}

@test "the process that reads the image has no file of the caller's" {
	echo secret >secret
	exec 7<>secret
	expect 0 strace -ff -o calls -y -e trace=close_range,close,seccomp,dup3 "$VIAL" exec --explain "$SIF" true
	exec 7>&-
	# the one that goes behind a filter of system calls
	local f
	f=$(grep -lE '^seccomp\(SECCOMP_SET_MODE_FILTER' calls.*)
	[ "$(wc -l <<<"$f")" -eq 1 ] && [ -n "$f" ]
	sed '/^seccomp(SECCOMP_SET/,$d' "$f" >before
	grep -qE '^close_range\([0-9]+[^,]*, 4294967295,' before
	[ "$(grep -cE '^dup3\([^,]*/dev/null>, [012]' before)" -eq 3 ]
}

@test "it needs no namespaces at all" {
	expect 0 "$HERE/deny.py" unshare=EPERM,fsopen=EPERM,mount=EPERM "$VIAL" exec --explain "$SIF" true
	stdout_has "$SIF"
}

@test "every mount has an origin, whatever asks for it" {
	mkdir work data
	local all=(--bind data:/mnt --mount "type=tmpfs,dst=/opt/t" --scratch /scr --home "$HOME":/home/me --pid --ipc --hostname node --dns 192.0.2.1 --net)
	for more in "" --contain "--contain --workdir work" --compat --fakeroot "--no-mount devpts --contain" "--bind $SQUASHFS:/x:image-src=/etc"; do
		# shellcheck disable=SC2086 # words
		expect 0 vial exec --explain --json "${all[@]}" $more "$SIF" true
		is "[m['destination'] for m in d['mounts'] if not m.get('origin')]" "[]"
	done
	is "[m['origin'] for m in d['mounts'] if m['destination'] == '/mnt'][0]" --bind
	is "[m['origin'] for m in d['mounts'] if m['destination'] == '/opt/t'][0]" --mount
	is "[m['origin'] for m in d['mounts'] if m['destination'] == '/scr'][0]" --scratch
	is "[m['origin'] for m in d['mounts'] if m['destination'] == '/proc'][0]" --pid
	is "[m['origin'] for m in d['mounts'] if m['destination'] == '/x'][0]" --bind
	is "[m['origin'] for m in d['mounts'] if m['destination'] == '/etc/resolv.conf'][0]" --dns
	is "d['hostname']" node
	is "d['namespaces']" "['user', 'mount', 'pid', 'ipc', 'uts', 'net']"
}

@test "the mounts are those of the start" {
	mkdir data
	local m
	expect 0 vial exec --explain --json --bind data:/mnt:ro "$SIF" true
	mapfile -t m < <(field '"\n".join(m["destination"] for m in d["mounts"] if m["kind"] == "bind" and not m.get("note"))')
	expect 0 vial exec --bind data:/mnt:ro "$SIF" cat /proc/self/mountinfo
	for m in "${m[@]}"; do stdout_has " $m "; done
}

@test "every variable of the start is there, with its value and its origin" {
	printf 'IN_FILE=f\n' >vars
	export FROM_HOST=h KEPT=host APPTAINERENV_PREFIXED=p
	for image in "$ENV_SIF" "$ENV_TREE"; do
		expect 0 vial exec --explain --json --env GIVEN=g --env-file vars --env APPEND_PATH=/end "$image" true
		is "$(variable GIVEN "['origin']")" --env
		is "$(variable IN_FILE "['origin']")" --env-file
		is "$(variable PREFIXED "['origin']")" APPTAINERENV_PREFIXED
		is "$(variable FROM_HOST "['origin']")" host
		is "$(variable FROM_IMAGE "['value']")" one
		is "$(variable FROM_IMAGE "['origin']")" "image /.singularity.d/env/10-plain.sh"
		is "$(variable APPTAINER_CONTAINER "['origin']")" fact
		is "$(variable HOME "['origin']")" "user database"
		is "d['program']['through_shell_files']" "['/.singularity.d/env/20-code.sh']"
		is "[v['name'] for v in d['environment'] if not v['origin']]" "[]"
	done
	expect 0 vial exec --explain --json --env GIVEN=g --env APPEND_PATH=/end "$SIF" true
	field '"\n".join(v["name"] + "=" + v.get("value", "") for v in d["environment"] if v["name"] != "PWD")' | sort >told
	expect 0 vial exec --env GIVEN=g --env APPEND_PATH=/end "$SIF" env
	printf '%s\n' "$output" | grep -v '^PWD=' | sort >real
	diff told real
}

@test "what stays outside is there with the reason" {
	export SECRET=s PYTHONPATH=/host
	expect 0 vial exec --explain --json --no-env SECRET --clean host-dev "$SIF" true
	is "[v['why'] for v in d['left_out'] if v['name'] == 'SECRET'][0]" --no-env
	is "[v['why'] for v in d['left_out'] if v['name'] == 'PYTHONPATH'][0]" "--clean host-dev: it is for programs of the host"
	is "$(variable PYTHONNOUSERSITE "['origin']")" --clean
	expect 0 vial exec --explain --json --cleanenv "$SIF" true
	is "[v['why'] for v in d['left_out'] if v['name'] == 'SECRET'][0]" --cleanenv
}

@test "program, overlays, limits, capabilities and the kind of mount" {
	mkdir over
	expect 0 vial run --explain --json "$ENV_SIF" a b
	is "d['program']['argv']" "['/.singularity.d/runscript', 'a', 'b']"
	is "d['image']['mount']" shared
	expect 0 vial shell --explain --json --private-mount "$SIF"
	is "d['program']['argv']" "['/bin/bash', '--norc']"
	is "d['image']['mount']" private
	expect 0 vial exec --explain --json --overlay over --memory 64m --drop-caps all --cwd /etc "$SIF" true
	is "d['overlays'][0]['writable'], d['changes']" "(True, 'kept in an overlay')"
	is "d['limits']" "['memory.max=67108864']"
	is "d['security']['capabilities']" ""
	is "d['program']['directories']" "['/etc']"
	expect 0 vial exec --explain --json "$TREE" true
	is "d['image']['mount']" bind
}

@test "ids and their maps" {
	expect 0 vial exec --explain --json "$SIF" true
	is "d['ids']['uid']" "$(id -u)"
	if is_root; then
		is "d['ids']['all_ids']" True
	else
		is "d['ids']['uid_map']" "['$(id -u) $(id -u) 1']"
		expect 0 vial exec --explain --json --fakeroot --ignore-subuid "$SIF" true
		is "d['ids']['uid_map']" "['0 $(id -u) 1']"
	fi
}

@test "for people, and what would fail fails" {
	expect 0 vial exec --explain --bind /usr:/mnt:ro "$SIF" true
	stdout_has "/mnt <- /usr  (--bind)  ro"
	expect 125 vial exec --explain --bind /missing "$SIF" true
	one_fatal_line /missing
	expect 125 vial exec --explain missing.sif true
	one_fatal_line missing.sif
	expect 1 vial exec --explain --app none "$SIF" true
	one_fatal_line "no app 'none'"
	expect 0 vial test --explain "$SIF"
	stderr_has "no test script"
	expect 1 vial exec --json "$SIF" true
	stderr_has "--json goes with --explain"
	head -c 5000 "$SQUASHFS" >cut.sqfs
	expect 125 vial exec --explain cut.sqfs true
	one_fatal_line cut.sqfs
}
