# Limits on a cgroup of its own, where the unified hierarchy is delegated; one warning where it is not.
load common
load images
setup_file() { make_images; }

setup() {
	common_setup
	export MARK=$BATS_FILE_TMPDIR/$BATS_TEST_NAME
	base=
}
teardown() {
	if [ -n "$base" ]; then
		find "$base" -depth -type d -exec rmdir {} \; 2>/dev/null || true
		[ -z "$added" ] || echo "-$controller" >"$root/cgroup.subtree_control" || true
	fi
	common_teardown
}
nothing_left() { python3 -B "$HERE/leftovers.py" "MARK=$MARK" "$SIF"; }
warnings() { printf '%s\n' "$stderr" | grep -c . || true; }
in_force() { vial exec "$@" "$SIF" cat /proc/self/cgroup 2>/dev/null | grep -q '^0::.*/vial-'; }

# delegate: a subtree of the unified hierarchy for the test's user: $base. $setting is one it can have, $file its
# file and $value what that file then says.
delegate() {
	local c limit
	need_root
	root=$(sed -n 's/^[^ ]* [^ ]* [^ ]* \/ \([^ ]*\) .* - cgroup2 .*/\1/p' /proc/self/mountinfo | head -n 1)
	[ -n "$root" ] || skip "needs a unified hierarchy of cgroups with a controller"
	for c in pids:pids.max=77 memory:memory.max=268435456 hugetlb:hugetlb.2MB.max=0; do
		controller=${c%%:*} limit=${c#*:}
		if grep -qw "$controller" "$root/cgroup.controllers"; then break; fi
		controller=
	done
	[ -n "$controller" ] || skip "needs a unified hierarchy of cgroups with a controller"
	file=${limit%=*} value=${limit#*=} added=
	if ! grep -qw "$controller" "$root/cgroup.subtree_control"; then
		echo "+$controller" >"$root/cgroup.subtree_control"
		added=1
	fi
	base=$root/vialtest$$
	mkdir "$base"
	echo "+$controller" >"$base/cgroup.subtree_control"
	mkdir "$base/user"
	chown "$VIAL_TEST_UID" "$base/user" "$base"/user/cgroup.{procs,threads,subtree_control}
	printf '[unified]\n"%s" = "%s"\n' "$file" "$value" >limits.toml
	cp "$VIAL" "${VIAL%/*}/vial-image" "${VIAL%/*}/vial-verify" .
	chmod a+x . .. "$BATS_RUN_TMPDIR" "$BATS_FILE_TMPDIR" "$BATS_FILE_TMPDIR/.."
	mkdir -p run && chown -R "$VIAL_TEST_UID" . && chmod 700 run
}
# in_cgroup DIR TEXT: a shell of the user's in that cgroup; TEXT's $1 is vial, $2 the image
in_cgroup() {
	# shellcheck disable=SC2016
	expect 0 sh -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' sh "$1" \
		setpriv --reuid "$VIAL_TEST_UID" --regid "$VIAL_TEST_UID" --clear-groups env XDG_RUNTIME_DIR="$PWD/run" \
		sh -c "$2" sh "$PWD/vial" "$SIF"
}
gone() { [ -z "$(find "$1" -name 'vial-[0-9]*' -type d)" ]; }

@test "limits that cannot be: one warning, and the program runs" {
	local opts
	printf '[memory]\nlimit = 536870912\n[cpu]\nshares = 512\nquota = 20000\n[pids]\nlimit = 100\n' >limits.toml
	for opts in '--memory 512m' '--memory 512m --memory-swap -1 --memory-reservation 256m --pids-limit 200' '--cpus 1.5 --cpu-shares 512' \
		'--cpuset-cpus 0' '--blkio-weight 100' '--apply-cgroups limits.toml' '--memory 512m --pid'; do
		# shellcheck disable=SC2086
		expect 3 vial exec $opts "$SIF" sh -c 'exit 3'
		# shellcheck disable=SC2086
		if [ -z "$stderr" ]; then
			in_force $opts
		else
			[ "$(warnings)" -eq 1 ] || complain "not one warning"
			stderr_has "WARNING: the limits are not in force"
			stderr_has "cgroup"
		fi
	done
	nothing_left
}

@test "what cannot be in version 2 is said" {
	expect 0 vial exec --oom-kill-disable "$SIF" true
	[ "$(warnings)" -eq 1 ] || complain "not one warning"
	stderr_has "--oom-kill-disable"
}

@test "what is no limit is refused, and names the option" {
	local opt
	for opt in --memory=x --memory=0 --memory=-1 --memory=1e9 --memory-swap=-2 --memory-reservation=1x --cpus=0 --cpus=x --cpus=1.5.5 \
		--cpus=-1 --cpus=inf --cpu-shares=1 --cpu-shares=x --cpuset-cpus=all --cpuset-mems=a --pids-limit=0 --pids-limit=-2 \
		--blkio-weight=5 --blkio-weight=1001 --blkio-weight-device=/dev/null --blkio-weight-device=/dev/null:2000; do
		expect 125 vial exec "$opt" "$SIF" true
		one_fatal_line "${opt%%=*}"
	done
	expect 125 vial exec --memory 2g --memory-swap 1g "$SIF" true
	one_fatal_line "--memory-swap"
	expect 125 vial exec --apply-cgroups missing.toml "$SIF" true
	one_fatal_line "missing.toml"
	echo 'memory = [' >bad.toml
	expect 125 vial exec --apply-cgroups bad.toml "$SIF" true
	one_fatal_line "bad.toml"
	printf '[unified]\n"../../x.y" = "1"\n' >bad.toml
	expect 125 vial exec --apply-cgroups bad.toml "$SIF" true
	one_fatal_line "bad.toml"
}

@test "a delegated subtree: the program is under the limit, others are not, and the cgroup goes with it" {
	delegate
	local opts
	for opts in '' --pid --private-mount; do
		# two processes: this one stays, so the place beside it is used
		mkdir -p "$base/user/shell"
		chown "$VIAL_TEST_UID" "$base/user/shell" "$base/user/shell/cgroup.procs"
		echo "+$controller" >"$base/user/cgroup.subtree_control"
		in_cgroup "$base/user/shell" "sleep 1000 & \"\$1\" exec $opts --apply-cgroups limits.toml \"\$2\" sh -c 'cat /proc/self/cgroup; cat $base/user/vial-*/$file; cat $base/user/vial-*/cgroup.procs | wc -l' ; kill \$!"
		stdout_has "0::/vialtest$$/user/vial-"
		stdout_has "$value"
		stderr_is ''
		eventually gone "$base"
	done
	nothing_left
}

@test "alone in a delegated cgroup: room is made" {
	delegate
	in_cgroup "$base/user" "exec \"\$1\" exec --apply-cgroups limits.toml \"\$2\" sh -c 'cat /proc/self/cgroup; cat $base/user/vial-[0-9]*/$file'"
	stdout_has "0::/vialtest$$/user/vial-"
	stdout_has "$value"
	stderr_is ''
	eventually gone "$base"
	nothing_left
}

@test "what the program leaves running keeps the cgroup; kill -9 of all leaves one that the next start removes" {
	delegate
	mkdir "$base/user/shell"
	chown "$VIAL_TEST_UID" "$base/user/shell" "$base/user/shell/cgroup.procs"
	echo "+$controller" >"$base/user/cgroup.subtree_control"
	mkdir "$base/user/vial-4294967295" # as if its watcher had been killed
	chown "$VIAL_TEST_UID" "$base/user/vial-4294967295"
	in_cgroup "$base/user/shell" 'sleep 1000 >/dev/null 2>&1 3>&- & "$1" exec --apply-cgroups limits.toml "$2" sh -c "sleep 1000 >/dev/null 2>&1 & echo \$!"; kill $!'
	local left=$output
	[ ! -e "$base/user/vial-4294967295" ]
	run ! gone "$base"
	kill -9 "$left"
	eventually gone "$base"
	nothing_left
}
