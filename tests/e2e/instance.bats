# Containers that stay under a name: `vial instance`, and programs in them.
load common
load images

setup_file() {
	export TREE=$BATS_FILE_TMPDIR/tree SIF=$BATS_FILE_TMPDIR/inst.sif
	make_rootfs "$TREE"
	copy_program "$TREE" bash ps kill cut tr mkfifo
	mkdir -p "$TREE/.singularity.d"
	# what a test wants is in its arguments
	printf '#!/bin/sh\necho "started $*"\necho "errors" >&2\nif [ $# -gt 0 ]; then exec sh -c "$@"; fi\n' >"$TREE/.singularity.d/startscript"
	printf '#!/bin/sh\necho "runscript $*"\nexec sleep 1000000\n' >"$TREE/.singularity.d/runscript"
	chmod 755 "$TREE"/.singularity.d/*script
	chmod -R go+rX "$TREE"
	make_sif "$SIF" "$TREE"
}

setup() {
	common_setup
	export XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR/run
	mkdir -m 700 "$XDG_RUNTIME_DIR"
}

teardown() {
	"$VIAL" -s instance stop --force --all 2>/dev/null || true
	common_teardown
}

files_left() { find "$XDG_RUNTIME_DIR/vial" -mindepth 1 ! -name instances 2>/dev/null; }
nothing_left() {
	python3 -B "$HERE/leftovers.py" "WHO=$BATS_TEST_NAME"
	[ -z "$(files_left)" ]
}
# start NAME [OPTION...] [-- ARG...]
start() { # the variable is in the processes of the instance alone
	WHO=$BATS_TEST_NAME expect 0 vial instance start "$@"
}
pid_of() { "$VIAL" instance list --json "$1" | python3 -c 'import json,sys; print(json.load(sys.stdin)["instances"][0]["pid"])'; }
is_gone() { [ -z "$("$VIAL" instance list --json "$1" | python3 -c 'import json,sys; print(*json.load(sys.stdin)["instances"])')" ]; }
log_has() { grep -qF "$2" "$(logs_of "$1")"; }
logs_of() { "$VIAL" instance list --json "$1" | python3 -c 'import json,sys; print(json.load(sys.stdin)["instances"][0]["logOutPath"])'; }

@test "secrets of who starts it are neither in its keeper nor in its record" {
	VIAL_ENCRYPTION_PASSPHRASE=hush VIAL_DOCKER_USERNAME=told start "$SIF" one 'exec sleep 1000000'
	expect 0 cat "/proc/$(pid_of one)/environ"
	stdout_has VIAL_DOCKER_USERNAME=told
	stdout_lacks hush
	expect 1 grep -r hush "$XDG_RUNTIME_DIR"
	expect 0 grep -r told "$XDG_RUNTIME_DIR"
	expect 0 vial instance stop one
}

@test "start, list, exec, logs, stop" {
	start "$SIF" one 'exec sleep 1000000'
	stderr_has "INFO:    instance started successfully"
	expect 0 vial instance list
	[[ ${lines[0]} =~ ^"INSTANCE NAME    PID      IP    IMAGE"$ ]]
	[[ ${lines[1]} =~ ^"one              "[0-9]+" "+"$SIF"$ ]]
	[ "${#lines[@]}" -eq 2 ]
	expect 0 vial exec instance://one sh -c 'echo $APPTAINER_INSTANCE $SINGULARITY_INSTANCE $APPTAINER_COMMAND; cat /etc/os-release; exit 0'
	stdout_has "one one exec"
	stdout_has "ID=vialtest"
	eventually log_has one "started exec sleep"
	expect 0 vial instance logs one
	stdout_is "started exec sleep 1000000"
	stderr_is "errors"
	expect 0 vial instance stop one
	stderr_has "INFO:    Stopping one instance of $SIF (PID="
	expect 0 vial instance list
	stdout_is "INSTANCE NAME    PID      IP    IMAGE"
	nothing_left
	expect 0 vial instance logs one # the files stay
	stdout_is "started exec sleep 1000000"
}

@test "the list as JSON, its logs, its patterns" {
	start "$SIF" web1
	start "$TREE" web2
	start "$SIF" other
	expect 0 vial instance list -j 'web*'
	python3 -c '
import json, sys
l = json.loads(sys.argv[3])["instances"]
assert [i["instance"] for i in l] == ["web1", "web2"], l
assert [i["img"] for i in l] == sys.argv[1:3], l
for i in l:
    assert set(i) == {"instance", "pid", "img", "ip", "logErrPath", "logOutPath"}, i
    open(i["logErrPath"]), open(i["logOutPath"])' "$SIF" "$TREE" "$output"
	expect 0 vial instance list --logs other
	stdout_has "$HOME/.local/state/vial/instances/$(uname -n)/other.err"
	expect 0 vial instance stop 'web*'
	is_gone 'web*'
	[ -n "$(pid_of other)" ]
	expect 0 vial instance stop --all
	nothing_left
}

@test "the program is the startscript of start, the runscript of run" {
	expect 0 vial instance run "$SIF" r a 'b c'
	eventually log_has r "runscript a b c"
	expect 0 vial exec instance://r sh -c 'tr "\0" " " </proc/1/cmdline; echo; ps -o comm= -p 1; ps -o args='
	stdout_has "sleep 1000000"
	stdout_has "vial-keeper"
}

@test "an instance stays when its program has ended, or there is none" {
	start "$SIF" a 'exit 3'
	eventually log_has a "started exit 3"
	expect 0 vial exec instance://a true
	rm -rf plain && mkdir plain && cp -a "$TREE/." plain/ && rm plain/.singularity.d/startscript
	start "$PWD/plain" b
	expect 0 vial exec instance://b true
	expect 0 vial instance stop a
	expect 0 vial instance stop b
	nothing_left
}

@test "programs inside: status, signal, input, directory, environment" {
	start "$SIF" one
	expect 42 vial exec instance://one sh -c 'exit 42'
	expect 143 vial exec instance://one sh -c 'kill -TERM $$'
	expect 127 vial exec instance://one nothing-of-that-name
	expect 126 vial exec instance://one /etc/passwd
	[ "$(echo hello | vial exec instance://one cat)" = hello ]
	mkdir here && cd here
	expect 0 vial exec instance://one pwd
	stdout_is "$PWD"
	expect 0 vial exec --cwd / --env A=1 instance://one sh -c 'pwd; echo $A'
	stdout_is "$(printf '/\n1')"
	HOSTS=yes expect 0 vial exec -e instance://one sh -c 'echo "[$HOSTS]"'
	stdout_is "[]"
	"$VIAL" run instance://one x </dev/null >/dev/null 3>&- & # the runscript sleeps
	local p=$!
	eventually sh -c "\"$VIAL\" exec instance://one ps -o args= | grep -q 'sleep 1000000'"
	expect 0 vial instance stop one
	wait "$p" || true
	nothing_left
}

@test "a program inside gets its caller's signals" {
	start "$SIF" one
	mkfifo ready
	"$VIAL" exec instance://one sh -c 'trap "exit 7" TERM; echo ready; while :; do sleep 0.1; done' >ready &
	local p=$! word status=0
	read -r word <ready
	[ "$word" = ready ]
	kill -TERM "$p"
	wait "$p" || status=$?
	[ "$status" -eq 7 ]
}

@test "options of a container's making are not passed over in silence" {
	start "$SIF" one
	expect 0 vial exec --bind /usr instance://one true
	stderr_has "--bind has no effect"
	[ "$(wc -l <<<"$stderr")" -eq 1 ]
	VIAL_BIND=/usr expect 0 vial exec instance://one true
	stderr_is ""
	expect 1 vial exec --rm instance://one true
	expect 1 vial instance start --restart sometimes "$SIF" two
	stderr_has "--restart"
}

@test "all programs see one container, with processes of its own" {
	start "$SIF" one --  'exec sleep 1000000'
	expect 0 vial exec instance://one sh -c 'readlink /proc/self/ns/mnt /proc/self/ns/pid /proc/self/ns/user'
	local first=$output
	expect 0 vial exec instance://one sh -c 'readlink /proc/self/ns/mnt /proc/self/ns/pid /proc/self/ns/user'
	[ "$output" = "$first" ]
	[[ $output != *"$(readlink /proc/self/ns/pid)"* ]]
	start --no-pid "$SIF" two
	expect 0 vial exec instance://two readlink /proc/self/ns/pid
	stdout_is "$(readlink /proc/self/ns/pid)"
}

@test "names: taken, impossible, unknown" {
	start "$SIF" one
	expect 255 vial instance start "$SIF" one
	one_fatal_line "instance one already exists: pid $(pid_of one), image $SIF"
	for name in '' . .. a/b ../a '-x' 'a b' $'a\nb' 'ü' "$(printf 'x%.0s' {1..65})"; do
		expect 255 vial instance start -- "$SIF" "$name"
		stderr_has "cannot be the name of an instance"
	done
	expect 125 vial exec instance://none true
	one_fatal_line "no instance is called none"
	expect 125 vial exec instance://../one true
	expect 1 vial instance stop none
	stderr_has "no instance found"
	expect 1 vial instance stop
	expect 1 vial instance stop --signal NONE one
	expect 255 vial instance stats none
	expect 255 vial instance logs none
	expect 255 vial instance unit none
	start "$SIF" "$(printf 'x%.0s' {1..64})"
}

@test "what cannot start is no instance" {
	expect 255 vial instance start "$PWD/none.sif" one
	stderr_has "none.sif"
	expect 255 vial instance start --bind "$PWD/none" "$SIF" one
	stderr_has "$PWD/none"
	rm -rf bad && cp -a "$TREE" bad
	printf '#!/bin/none\n' >bad/.singularity.d/startscript
	expect 255 vial instance start "$PWD/bad" one
	stderr_has "startscript"
	is_gone one
	nothing_left
}

@test "two starts of a name: one wins, the other says who holds it" {
	local i won=0 pids=() status
	for i in 1 2 3 4; do
		WHO=$BATS_TEST_NAME vial instance start "$SIF" one >"out.$i" 2>&1 3>&- &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		status=0
		wait "$i" || status=$?
		[ "$status" -eq 0 ] || [ "$status" -eq 255 ]
		[ "$status" -ne 0 ] || won=$((won + 1))
	done
	cat out.*
	[ "$won" -eq 1 ]
	[ "$(cat out.* | grep -c -e "already exists: pid $(pid_of one)" -e "is being started")" -eq 3 ]
	expect 0 vial instance stop one
	nothing_left
}

@test "the keeper is killed: nothing is left, the name is free" {
	start "$SIF" one '(setsid sleep 1000000 &) ; exec sleep 1000000'
	eventually log_has one started
	kill -9 "$(pid_of one)"
	eventually is_gone one
	eventually nothing_left
	start "$SIF" one
	expect 0 vial exec instance://one true
}

@test "who waits outside of the pid namespace is killed: nothing is left" {
	start "$SIF" one 'exec sleep 1000000'
	kill -9 "$(cut -d' ' -f4 "/proc/$(pid_of one)/stat")"
	eventually is_gone one
	eventually nothing_left
}

@test "the keeper is killed, without a pid namespace" {
	start --no-pid "$SIF" one '(setsid sleep 1000000 &) ; exec sleep 1000000'
	eventually log_has one started
	kill -9 "$(pid_of one)"
	eventually is_gone one
	eventually nothing_left
}

guard_of() { python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["guard"])' "$XDG_RUNTIME_DIR/vial/instances/$1.json"; }

@test "the guard is killed: so ends the instance" {
	for how in --pid --no-pid; do
		start $how "$SIF" one 'exec sleep 1000000'
		kill -9 "$(guard_of one)"
		eventually is_gone one
		eventually nothing_left
	done
}

@test "the program is killed: the instance stays" {
	start "$SIF" one 'exec sleep 1000000'
	eventually sh -c "\"$VIAL\" exec instance://one ps -o args= | grep -q '^sleep'"
	expect 0 vial exec instance://one sh -c 'kill -9 $(ps -o pid=,args= | grep "sleep 1000000$" | { read -r p _; echo $p; })'
	expect 0 vial exec instance://one true
}

@test "the starter is killed: it is there or it is not, and the name can be used" {
	local i
	for i in 1 2 3 4 5; do
		WHO=$BATS_TEST_NAME "$VIAL" instance start "$SIF" one >/dev/null 2>&1 3>&- &
		eventually sh -c "[ -e '$XDG_RUNTIME_DIR/vial/instances/one.sock' ] || ! kill -0 $!" 2>/dev/null
		kill -9 $! 2>/dev/null || true
		wait $! || true
		"$VIAL" instance stop one 2>/dev/null || true
		eventually nothing_left
	done
	start "$SIF" one
}

@test "what a restart of the machine leaves is swept" {
	start "$SIF" one
	cp "$XDG_RUNTIME_DIR/vial/instances/one.json" old.json
	expect 0 vial instance stop one
	cp old.json "$XDG_RUNTIME_DIR/vial/instances/one.json"
	python3 -c 'import socket,sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind("s"); s.listen()'
	mv s "$XDG_RUNTIME_DIR/vial/instances/one.sock"
	is_gone one
	nothing_left
	echo '{"name":' >"$XDG_RUNTIME_DIR/vial/instances/two.json"
	expect 0 vial instance list
	start "$SIF" two
}

@test "stop: by signal, by timeout, by force" {
	start "$SIF" one 'trap "echo bye; exit" INT; echo up; while :; do sleep 0.1; done'
	eventually log_has one up
	expect 0 vial instance stop one
	expect 0 vial instance logs one
	stdout_has bye
	start "$SIF" two 'trap "echo usr; exit" USR1; echo up; while :; do sleep 0.1; done'
	eventually log_has two up
	expect 0 vial instance stop -s SIGUSR1 two
	expect 0 vial instance logs two
	stdout_has usr
	start "$SIF" three 'trap "" INT TERM; echo up; while :; do sleep 0.1; done'
	eventually log_has three up
	expect 0 vial instance stop -t 1 three
	start "$SIF" four 'trap "" INT TERM; echo up; while :; do sleep 0.1; done'
	eventually log_has four up
	expect 0 vial instance stop -F four
	nothing_left
}

@test "SIGTERM to the pid of the list ends it in order" {
	start "$SIF" one 'trap "echo bye; exit" TERM; echo up; while :; do sleep 0.1; done'
	eventually log_has one up
	kill -TERM "$(pid_of one)"
	eventually is_gone one
	expect 0 vial instance logs one
	stdout_has bye
	eventually nothing_left
}

@test "a program is started again when that was asked for" {
	start --restart always "$SIF" one 'echo again >>count'
	eventually sh -c '[ "$(wc -l <count)" -ge 2 ]'
	expect 0 vial instance stop one
	start --restart on-failure "$SIF" two 'echo again >>count2; [ "$(wc -l <count2)" -ge 2 ]'
	eventually sh -c '[ "$(wc -l <count2)" -eq 2 ]'
	expect 0 vial exec instance://two true
	expect 0 vial instance stop two
	[ "$(wc -l <count2)" -eq 2 ]
	nothing_left
}

@test "logs are followed to the end" {
	start "$SIF" one 'echo first; while [ ! -e go ]; do sleep 0.1; done; echo last'
	"$VIAL" instance logs --follow one >followed 2>/dev/null 3>&- &
	local p=$!
	eventually grep -qx first followed
	touch go
	eventually grep -qx last followed
	expect 0 vial instance stop one
	wait "$p"
}

@test "statistics" {
	start "$SIF" one 'exec sleep 1000000'
	expect 0 vial instance stats --json one
	python3 -c 'import json,sys; s = json.loads(sys.argv[1]); assert s["processes"] >= 1 and s["memory"] > 0 and s["instance"] == "one", s' "$output"
	expect 0 vial instance stats --no-stream one
	stdout_has "one"
}

@test "a unit starts it as it was started" {
	mkdir 'a b' && cd 'a b'
	export VIALENV_WORD='x "y" 50% $z\'
	start --env 'B=1' "$SIF" one 'echo "$B$WORD" >out'
	eventually test -s out
	rm out
	expect 0 vial instance unit one
	stdout_has "WorkingDirectory=$PWD"
	stdout_has 'Environment="VIALENV_WORD=x \"y\" 50%% $z\\"'
	stdout_has '"--env" "B=1"'
	stdout_has '"echo \"$$B$$WORD\" >out"'
	stdout_has "instance stop one"
	if type -P systemd-analyze >/dev/null; then
		printf '%s\n' "$output" >"$BATS_TEST_TMPDIR/one.service"
		expect 0 systemd-analyze --user verify "$BATS_TEST_TMPDIR/one.service"
	fi
}

@test "the pid file" {
	start --pid-file pid "$SIF" one
	[ "$(<pid)" = "$(pid_of one)" ]
}

@test "nothing of the starter's stays open: its pipes end" {
	WHO=$BATS_TEST_NAME "$VIAL" instance start "$SIF" one 2>&1 9>&1 | cat >out # ends when all writers have
	grep -q "started successfully" out
	expect 0 vial exec instance://one true
}

@test "nor with an ext3 overlay" {
	expect 0 vial overlay create --sparse over.img
	WHO=$BATS_TEST_NAME "$VIAL" instance start --overlay over.img "$SIF" one 2>&1 9>&1 | cat >out
	grep -q "started successfully" out
	expect 0 vial exec instance://one touch /made
	expect 0 vial instance stop one
}

@test "a large environment is in the record, one that is too large is refused" {
	local i long
	long=$(printf '%0100000d' 0)
	APPTAINERENV_LONG=$long expect 0 vial instance start "$SIF" one
	expect 0 vial exec instance://one true
	for i in 1 2 3 4 5 6 7 8 9 10 11; do export "APPTAINERENV_LONG$i=$long"; done
	expect 255 vial instance start "$SIF" two
	one_fatal_line "the record of instance two would be larger than 1048576 bytes"
	is_gone two
}

@test "the keeper is stopped and goes on: so does the instance" {
	local keeper outside
	start "$SIF" one 'echo up; exec sleep 1000000'
	eventually log_has one up
	keeper=$(pid_of one)
	outside=$(sed -n 's/^PPid:\t//p' "/proc/$keeper/status")
	kill -STOP "$keeper"
	eventually grep -q '^State:.T' "/proc/$keeper/status"
	kill -CONT "$keeper"
	kill -TERM "$outside" # is passed on, by one that was not stopped with it
	eventually is_gone one
}

@test "root in an instance is root for who comes in" {
	start --fakeroot "$SIF" one
	expect 0 vial exec instance://one id -u
	stdout_is 0
	expect 0 vial exec instance://one sh -c 'echo $HOME'
	stdout_is /root
	expect 0 vial instance stop one
	nothing_left
}

@test "root in an instance stays root when a program signals all others" {
	start --fakeroot "$SIF" one 'trap "" USR1 TERM; echo up; until [ -e "$0/go" ]; do sleep 0.1; done; mkdir "$0/made"; echo "is $(id -u)"' "$PWD"
	eventually log_has one up
	expect 0 vial exec instance://one sh -c 'kill -s USR1 -- -1'
	expect 0 vial exec instance://one id -u
	stdout_is 0
	touch go
	eventually log_has one "is 0"
	expect 0 vial instance stop one
	nothing_left
}

@test "the instances of a user, looked at by root" {
	need_root
	local user dir
	user=$(getent passwd "$VIAL_TEST_UID" | cut -d: -f1)
	dir=$(mktemp -d /tmp/vial-instance.XXXXXX) # the test's own is root's alone
	cp "$SIF" theirs.sif
	chown "$VIAL_TEST_UID" "$dir"
	expect 0 as_user env "HOME=$dir" XDG_RUNTIME_DIR= "$VIAL" instance start theirs.sif theirs
	expect 0 vial instance list
	stdout_lacks theirs
	expect 0 vial instance list -u "$user"
	stdout_has theirs
	expect 0 vial instance stop -u "$user" theirs
	rm -rf "$dir"
}

@test "the instances of others are nobody's business" {
	need_user
	expect 255 vial instance list -u root
	stderr_has "only root"
	expect 255 vial instance list -u nobody-of-that-name
}

# The number of a namespace that is gone is given to the next one.
@test "what ends with an instance is its own, not what starts at that moment" {
	python3 - "$VIAL" "$SIF" <<-'EOF'
		import ctypes, os, subprocess, sys, time
		vial, sif = sys.argv[1:]
		libc = ctypes.CDLL(None, use_errno=True)
		flags = 0x20000 | (0 if os.geteuid() == 0 else 0x10000000)  # mount namespaces; of a user: and user namespaces
		def namespace():
		    pid = os.fork()
		    if pid == 0:
		        libc.unshare(flags)
		        time.sleep(0.002)
		        os._exit(0)
		    return pid
		for i in range(25):
		    subprocess.run([vial, "instance", "start", sif, "one"], check=True, stderr=subprocess.DEVNULL)
		    stop = subprocess.Popen([vial, "instance", "stop", "one"], stderr=subprocess.DEVNULL)
		    while True:
		        over = stop.poll() is not None
		        ends = [os.waitpid(p, 0)[1] for p in [namespace() for _ in range(8)]]
		        assert ends == [0] * 8, ends
		        if over:
		            break
		    assert stop.returncode == 0
	EOF
}
