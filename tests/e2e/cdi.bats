# shellcheck disable=SC2153
# --device VENDOR/CLASS=NAME: what a specification says is what the container has.
load common
load images
setup_file() { make_images; }

setup() {
	common_setup
	unset "${!SLURM_@}" "${!NVIDIA_@}" "${!CUDA_@}" "${!ROCR_@}" "${!HABANA_@}"
	mkdir specs
	export VIAL_CDI_DIRS=$PWD/specs
	echo library >lib.so
	chmod 755 "$PWD"
}

# spec NAME KIND EDITS DEVICE EDITS...: in the flow style, one line each
spec() {
	local file=specs/$1
	printf 'cdiVersion: 0.7.0\nkind: %s\ncontainerEdits: {%s}\ndevices:\n' "$2" "$3" >"$file"
	shift 3
	while [ $# -gt 0 ]; do
		printf -- '- {name: "%s", containerEdits: {%s}}\n' "$1" "$2" >>"$file"
		shift 2
	done
}

# hook FILE: a program from standard input; its arguments and state are kept beside it
hook() {
	printf '#!/bin/sh\nhere=%s\n' "$PWD" >"$1"
	cat >>"$1"
	chmod 755 "$1"
}

@test "a device brings its nodes, files and variables" {
	spec a.yaml v.com/c "env: [ALL=1], mounts: [{hostPath: $PWD/lib.so, containerPath: /usr/lib/v/lib.so, options: [ro, noexec]}]" \
		one 'env: [ONE=1], deviceNodes: [{path: /dev/null, type: c, major: 1, minor: 3}]' two 'env: [TWO=2]'
	expect 0 vial exec --device v.com/c=one "$SIF" sh -c 'echo "$ALL $ONE $TWO."; cat /usr/lib/v/lib.so; echo x >/dev/null'
	stdout_is $'1 1 .\nlibrary'
	expect 0 vial exec --device v.com/c=one,v.com/c=two "$SIF" sh -c 'echo "$ALL $ONE $TWO."'
	stdout_is '1 1 2.'
	expect 0 vial exec --device v.com/c=one --device v.com/c=two "$SIF" sh -c 'echo "$ALL $ONE $TWO."'
	stdout_is '1 1 2.'
	expect 0 vial exec --device v.com/c=all "$SIF" sh -c 'echo "$ALL $ONE $TWO."'
	stdout_is '1 1 2.'
	[ -z "$stderr" ] || complain "it says something"
	# the mount keeps its options
	expect 0 vial exec --device v.com/c=one "$SIF" sh -c 'grep /usr/lib/v/lib.so /proc/self/mountinfo'
	stdout_has ' ro,nosuid,nodev,noexec'
}

@test "the user's words beat those of a device, and a device beats the image" {
	spec a.yaml v.com/c '' one 'env: [A=device, B=device, "LD_LIBRARY_PATH=/from/device"]'
	expect 0 vial exec --device v.com/c=one --env A=user "$SIF" sh -c 'echo "$A $B"; echo "$LD_LIBRARY_PATH"'
	stdout_has 'user device'
	stdout_has /from/device
	# a vendor's text is no template, under whatever name
	ln -s "$VIAL" apptainer
	spec c.yaml v.com/e '' one "env: ['D=\$HOME and \${A}']"
	expect 0 vial exec --device v.com/e=one "$SIF" sh -c 'echo "$D"'
	stdout_is '$HOME and ${A}'
	expect 0 ./apptainer exec --device v.com/e=one "$SIF" sh -c 'echo "$D"'
	stdout_is '$HOME and ${A}'
	echo mine >mine
	spec b.yaml v.com/d "mounts: [{hostPath: $PWD/lib.so, containerPath: /opt/x}]" one 'env: [C=1]'
	expect 0 vial exec --device v.com/d=one --bind "$PWD/mine:/opt/x" "$SIF" cat /opt/x
	stdout_is mine
	stderr_has "two mounts on /opt/x: $PWD/mine is used"
}

@test "with --contain /dev has the devices that were asked for, under the names they are given" {
	spec a.json.yaml v.com/c '' one 'deviceNodes: [{path: /dev/v/mine, hostPath: /dev/zero}, {path: /dev/shut, hostPath: /dev/full, permissions: none}]'
	expect 0 vial exec --contain --device v.com/c=one "$SIF" sh -c 'ls /dev/v; head -c 3 /dev/v/mine | wc -c; ls /dev'
	[ "${output:0:7}" = $'mine\n3\n' ] || complain "the device is not there"
	stdout_lacks kmsg
	stdout_lacks mem
	expect 0 vial exec --contain --device v.com/c=one "$SIF" sh -c '(: >/dev/shut) || echo shut'
	stdout_is shut
	# the host's own /dev has no place for another name
	expect 125 vial exec --device v.com/c=one "$SIF" true
	one_fatal_line "/dev/zero is to be seen as /dev/v/mine, which the host's /dev has not; with --contain"
}

@test "other devices of the kind do not open" {
	spec a.yaml v.com/c '' one 'deviceNodes: [{path: /dev/null}]' two 'deviceNodes: [{path: /dev/zero}]'
	# shellcheck disable=SC2016 # the container's shell expands it
	local tell='for d in null zero full; do if (: <>/dev/$d) 2>/dev/null; then echo $d; fi; done'
	expect 0 vial exec --device v.com/c=one "$SIF" sh -c "$tell"
	stdout_is $'null\nfull'
	expect 0 vial exec --device v.com/c=all "$SIF" sh -c "$tell"
	stdout_is $'null\nzero\nfull'
	local empty
	for empty in '' ','; do
		expect 1 vial exec "--device=$empty" "$SIF" echo ran
		stderr_has "--device takes VENDOR/CLASS=NAME, not '$empty'"
	done
}

@test "a createContainer hook changes the container's files, once, and the program cannot" {
	hook hook.sh <<-'EOT'
		cat >"$here/state"
		echo "$@" >"$here/args"
		env >"$here/env"
		root=$(sed 's/.*"path":"\([^"]*\)".*/\1/' config.json)
		ln -s lib.so "$root/usr/lib/v/link.so" && echo cache >"$root/etc/cache"
	EOT
	spec a.yaml v.com/c "mounts: [{hostPath: $PWD/lib.so, containerPath: /usr/lib/v/lib.so}], hooks: [{hookName: createContainer, path: $PWD/hook.sh, args: [hook, update, --folder, /usr/lib/v], env: [WHO=hook], timeout: 300}]" one 'env: [A=1]'
	MARK=caller expect 0 vial exec --device v.com/c=one "$SIF" sh -c 'cat /etc/cache /usr/lib/v/link.so; echo x >/etc/cache || echo "read-only as ever"'
	stdout_is $'cache\nlibrary\nread-only as ever'
	[ "$(cat args)" = 'update --folder /usr/lib/v' ]
	grep -q '"status":"creating"' state
	grep -q '"bundle":"/' state
	# nothing of the caller's, nor of the image's, environment
	grep -qx WHO=hook env
	run ! grep -q MARK env
	# a layer that the user has asked for takes the changes, and more
	expect 0 vial exec --writable-tmpfs --device v.com/c=one "$SIF" sh -c 'cat /etc/cache; rm /usr/lib/v/link.so; echo x >/etc/cache; cat /etc/cache'
	stdout_is $'cache\nx'
	expect 0 vial exec --pid --device v.com/c=one "$SIF" cat /etc/cache
	stdout_is cache
}

@test "a startContainer hook is a program of the container" {
	spec a.yaml v.com/c 'hooks: [{hookName: startContainer, path: /bin/sh, args: [sh, -c, "cat >/tmp/state; pwd >/tmp/pwd"]}]' one 'env: [A=1]'
	expect 0 vial exec --contain --device v.com/c=one "$SIF" sh -c 'cat /tmp/state; echo; cat /tmp/pwd'
	stdout_has '"status":"created"'
	stdout_has $'\n/'
}

@test "a hook that fails or does not end is the end of the start" {
	hook bad.sh <<<'echo "words of the hook" >&2; exit 3'
	hook slow.sh <<<'exec sleep 1000'
	echo '#!/bin/sh' >noexec.sh
	spec a.yaml v.com/c '' bad "hooks: [{hookName: createContainer, path: $PWD/bad.sh}]" \
		slow "hooks: [{hookName: createContainer, path: $PWD/slow.sh, timeout: 1}]" \
		none "hooks: [{hookName: createContainer, path: /nowhere/hook}]" \
		noexec "hooks: [{hookName: createContainer, path: $PWD/noexec.sh}]" \
		late "hooks: [{hookName: poststop, path: $PWD/bad.sh}]"
	expect 125 vial exec --device v.com/c=bad "$SIF" echo ran
	stderr_has 'words of the hook'
	stderr_has "FATAL:   hook $PWD/bad.sh (--device v.com/c=bad of $PWD/specs/a.yaml) has ended with status 3"
	stdout_is ''
	expect 125 vial exec --device v.com/c=slow "$SIF" echo ran
	one_fatal_line "hook $PWD/slow.sh (--device v.com/c=slow of $PWD/specs/a.yaml) has not ended within 1 s"
	expect 125 vial exec --device v.com/c=none "$SIF" echo ran
	one_fatal_line 'hook /nowhere/hook (--device v.com/c=none'
	expect 125 vial exec --device v.com/c=noexec "$SIF" echo ran
	one_fatal_line 'Permission denied'
	expect 125 vial exec --device v.com/c=late "$SIF" echo ran
	one_fatal_line 'of kind poststop cannot be run: it is meant for outside of the container'
}

@test "what is wrong is said before anything starts" {
	expect 125 vial exec --device v.com/c=one "$SIF" echo ran
	one_fatal_line "there is no CDI device v.com/c=one: no device is described in $PWD/specs"
	spec a.yaml v.com/c '' one 'env: [A=1]'
	spec b.yaml v.com/c '' one 'env: [A=2]' two 'deviceNodes: [{path: /dev/vial-none}]'
	expect 125 vial exec --device v.com/c=one "$SIF" echo ran
	one_fatal_line "v.com/c=one is described by $PWD/specs/a.yaml and by $PWD/specs/b.yaml"
	expect 125 vial exec --device v.com/c=two "$SIF" echo ran
	one_fatal_line 'the device node /dev/vial-none: No such file or directory'
	expect 125 vial exec --device /dev/fuse "$SIF" echo ran
	one_fatal_line '--bind /dev/fuse'
	# a broken file beside a good one is a warning, and tells nothing of what is not asked for
	rm specs/b.yaml
	echo '{' >specs/c.json
	expect 0 vial exec --device v.com/c=one "$SIF" sh -c 'echo $A'
	stdout_is 1
	stderr_has "WARNING: CDI: $PWD/specs/c.json: bad JSON"
	expect 0 vial exec "$SIF" true
	stderr_is ''
}

@test "directories come from the command line, the environment and the configuration" {
	mkdir more "$HOME/.config" "$HOME/.config/vial" 2>/dev/null || mkdir -p more "$HOME/.config/vial"
	spec a.yaml v.com/c '' one 'env: [FROM=environment]'
	sed s/environment/line/ specs/a.yaml >more/a.yaml
	expect 0 vial exec --cdi-dirs more --device v.com/c=one "$SIF" sh -c 'echo $FROM'
	stdout_is line
	unset VIAL_CDI_DIRS
	echo "cdi-dirs = $PWD/specs" >vial.conf
	expect 0 vial --config vial.conf exec --device v.com/c=one "$SIF" sh -c 'echo $FROM'
	stdout_is environment
}

@test "groups that the caller lacks are named" {
	need_user
	spec a.yaml v.com/c '' one 'additionalGids: [0, 4242424]'
	expect 0 vial exec --device v.com/c=one "$SIF" true
	stderr_has 'group 4242424 is not among yours'
}

@test "--explain tells the file and the device of each change" {
	hook hook.sh <<<'touch "$here/ran"'
	spec a.yaml v.com/c "env: [ALL=1], mounts: [{hostPath: $PWD/lib.so, containerPath: /v/lib.so, options: [noexec]}]" \
		one "env: [ONE=1], hooks: [{hookName: createContainer, path: $PWD/hook.sh}]"
	expect 0 vial exec --explain --device v.com/c=one "$SIF" true
	stdout_has "/v/lib.so <- $PWD/lib.so  (--device $PWD/specs/a.yaml)  noexec"
	stdout_has "ALL=1  (--device $PWD/specs/a.yaml)"
	stdout_has "ONE=1  (--device v.com/c=one of $PWD/specs/a.yaml)"
	stdout_has "$PWD/hook.sh: createContainer  (--device v.com/c=one of $PWD/specs/a.yaml)"
	stdout_has 'refused, once hooks of devices have made theirs in memory'
	[ ! -e ran ] || complain "a hook was run"
	expect 0 vial exec --explain --json --device v.com/c=one "$SIF" true
	stdout_has '"kind": "createContainer"'
}
