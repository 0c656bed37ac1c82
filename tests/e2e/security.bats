load common
load images

setup_file() {
	make_images
	copy_program "$TREE" mkdir chmod chown
	chmod -R go+rX "$TREE"
	make_sif "$SIF" "$TREE"
}

# profile REST: allows all but mkdir, for which REST says what happens
profile() {
	printf '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],%s}]}' "$1" >p.json
}
capabilities() { "$VIAL" exec "$@" sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status; }

# ---- setuid ---------------------------------------------------------------------------------

@test "programs can gain nothing" {
	expect 0 vial exec "$SIF" sed -n 's/^NoNewPrivs:[[:space:]]*//p' /proc/self/status
	stdout_is 1
	expect 0 vial exec --fakeroot --ignore-subuid "$SIF" sed -n 's/^NoNewPrivs:[[:space:]]*//p' /proc/self/status
	stdout_is 1
}

@test "a setuid program of an image is an ordinary one" {
	need_root
	cp -a "$TREE" t
	chmod 4755 t/bin/id
	chown 0:0 t/bin/id
	make_sif t.sif t
	for image in t t.sif; do
		expect 0 as_user "$VIAL" exec "$image" id -u
		stdout_is "$VIAL_TEST_UID"
	done
}

@test "--allow-setuid is refused with the reason" {
	expect 125 vial exec --allow-setuid "$SIF" true
	one_fatal_line "gain nothing"
}

# ---- capabilities ---------------------------------------------------------------------------

@test "a user has no capabilities, and those that are added" {
	need_user
	[ "$(capabilities "$SIF")" = 0000000000000000 ]
	[ "$(capabilities --add-caps net_raw,CAP_SYS_PTRACE "$SIF")" = 0000000000082000 ]
	[ "$(capabilities --add-caps all --drop-caps CAP_CHOWN "$SIF")" != 0000000000000000 ]
}

@test "what is added is over the container alone" {
	need_user
	expect 2 vial exec --add-caps all "$SIF" sh -c 'echo x >/proc/sys/kernel/hostname'
	expect 1 vial exec --add-caps all "$SIF" cat /etc/shadow
}

@test "root inside has the usual ones, all, none, or fewer" {
	local usual
	usual=$(capabilities --fakeroot "$SIF")
	[ "$usual" != 0000000000000000 ]
	[ "$(capabilities --fakeroot --keep-privs "$SIF")" != "$usual" ]
	[ "$(capabilities --fakeroot --no-privs "$SIF")" = 0000000000000000 ]
	[ "$(capabilities --fakeroot --drop-caps all "$SIF")" = 0000000000000000 ]
	[ $((0x$(capabilities --fakeroot --drop-caps chown "$SIF"))) = $((0x$usual & ~1)) ]
	[ $((0x$(capabilities --fakeroot --add-caps sys_admin "$SIF"))) = $((0x$usual | 1 << 21)) ]
}

@test "what is dropped stays away" {
	expect 0 vial exec --fakeroot --drop-caps dac_override,dac_read_search "$SIF" sh -c 'mkdir d; chmod 0 d; ls d || echo refused'
	stdout_is refused
}

@test "capabilities that do not exist, or that nobody has, are refused" {
	expect 125 vial exec --add-caps CAP_EVERYTHING "$SIF" true
	one_fatal_line "CAP_EVERYTHING"
	expect 125 vial exec --drop-caps chown,nonsense "$SIF" true
	one_fatal_line "nonsense"
	expect 125 vial exec --keep-privs --no-privs "$SIF" true
	one_fatal_line "contradict"
}

@test "--keep-privs of a user is refused with the way to have some" {
	need_user
	expect 125 vial exec --keep-privs "$SIF" true
	one_fatal_line "--fakeroot"
}

# ---- seccomp --------------------------------------------------------------------------------

@test "a profile forbids calls" {
	profile '"action":"SCMP_ACT_ERRNO","errnoRet":28'
	expect 1 vial exec --security seccomp:p.json "$SIF" mkdir d
	stderr_has "No space left on device"
	[ ! -e d ]
	expect 0 vial exec "$SIF" mkdir d
}

@test "a program under a profile cannot write into who has none" {
	profile '"action":"SCMP_ACT_ERRNO","errnoRet":28'
	expect 0 vial exec --pid "$SIF" sh -c 'exec 3>/proc/1/mem && echo open'
	is_root || stdout_is open
	expect 2 vial exec --pid --security seccomp:p.json "$SIF" sh -c 'exec 3>/proc/1/mem && echo open'
	stderr_has "ermission denied"
	export XDG_RUNTIME_DIR=$PWD/run
	mkdir -m 700 run
	expect 0 vial instance start --security seccomp:p.json "$SIF" one sh -c 'echo up; (exec 3>/proc/1/mem) || echo refused; read -r x'
	expect 0 vial exec instance://one cat /etc/file
	expect 2 vial exec instance://one sh -c 'exec 3>/proc/1/mem && echo open'
	expect 0 vial instance list one
	stdout_has one
	expect 0 vial instance stop one
}

@test "a profile kills" {
	profile '"action":"SCMP_ACT_KILL_PROCESS"'
	expect 159 vial exec --security seccomp:p.json "$SIF" mkdir d
	[ ! -e d ]
}

@test "a profile asks for the container's capabilities" {
	profile '"action":"SCMP_ACT_ERRNO","excludes":{"caps":["CAP_SYS_PTRACE"]}'
	expect 1 vial exec --security seccomp:p.json "$SIF" mkdir d
	expect 0 vial exec --add-caps sys_ptrace --security seccomp:p.json "$SIF" mkdir d
}

@test "a profile is heard before what --fakeroot answers" {
	printf '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chown","fchown","lchown","fchownat"],"action":"SCMP_ACT_ERRNO"}]}' >p.json
	expect 1 vial exec --fakeroot --ignore-subuid --security seccomp:p.json "$SIF" sh -c 'touch f; chown 0 f'
	expect 0 vial exec --fakeroot --ignore-subuid --security seccomp:p.json "$SIF" id -u
	stdout_is 0
}

@test "the environment names a profile" {
	profile '"action":"SCMP_ACT_ERRNO"'
	expect 1 env APPTAINER_SECURITY="seccomp:$PWD/p.json" "$VIAL" exec "$SIF" mkdir d
}

@test "a profile that cannot be read or understood starts nothing" {
	expect 125 vial exec --security seccomp:missing.json "$SIF" touch ran
	one_fatal_line "missing.json"
	local bad
	for bad in '' '{' '[]' '{}' '{"defaultAction":"SCMP_ACT_SOMETIMES"}' '{"defaultAction":"SCMP_ACT_NOTIFY"}' \
		'{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","args":[{"index":9,"value":0,"op":"SCMP_CMP_EQ"}]}]}' \
		$'{"defaultAction":"\e[31m"}'; do
		printf '%s' "$bad" >p.json
		expect 125 vial exec --security seccomp:p.json "$SIF" touch ran
		one_fatal_line p.json
		stderr_lacks $'\e'
	done
	head -c 2000000 /dev/zero | tr '\0' ' ' >p.json
	expect 125 vial exec --security seccomp:p.json "$SIF" touch ran
	one_fatal_line p.json
	[ ! -e ran ]
}

@test "security words that cannot be honoured are refused" {
	local word
	for word in apparmor:unconfined selinux:a:b:c uid:5 gid:5 nonsense seccomp: seccomp; do
		expect 125 vial exec --security "$word" "$SIF" touch ran
		one_fatal_line "$word"
	done
	profile '"action":"SCMP_ACT_ERRNO"'
	expect 125 vial exec --security seccomp:p.json,seccomp:p.json "$SIF" touch ran
	one_fatal_line "two seccomp profiles"
	[ ! -e ran ]
}

@test "a profile is checked and shown" {
	profile '"action":"SCMP_ACT_ERRNO"'
	expect 0 vial seccomp p.json
	stdout_has mkdir
	echo '{"defaultAction":7}' >p.json
	expect 255 vial seccomp p.json
	one_fatal_line p.json
}

@test "a start without a profile loads no library for them" {
	expect 0 ldd "$VIAL"
	stdout_lacks seccomp
}
