# A network namespace: nothing but loopback, or pasta.
load common
load images
setup_file() { make_images; }

setup() {
	common_setup
	export MARK=$BATS_FILE_TMPDIR/$BATS_TEST_NAME
	PYTHON=$(readlink -f "$(type -P python3)")
	local dir
	binds=()
	for dir in /usr /lib /lib64 /bin; do [ ! -e "$dir" ] || binds+=(-B "$dir"); done
}
nothing_left() { python3 -B "$HERE/leftovers.py" "MARK=$MARK" "$SIF"; }
named() { pgrep -u "$(id -u)" -x "$1" | while read -r p; do
	if tr '\0' '\n' 2>/dev/null <"/proc/$p/environ" | grep -qx "MARK=$MARK"; then echo "$p"; fi
done 2>/dev/null; }
pasta_of() { pgrep -P "$(named vial-net)" -f '^pasta'; }
need_pasta() {
	type -P pasta >/dev/null || skip "needs pasta"
	[ -w /dev/net/tun ] || skip "needs /dev/net/tun for this user"
}
# python's text with the host's python, which /usr has
inside_python() {
	local text=$1
	shift
	vial exec "${binds[@]}" "$@" "$SIF" "$PYTHON" -S -c "$text"
}

@test "--network none: loopback, up, and nothing else" {
	local opts
	for opts in '--net --network none' '--network=none' '-n --network none --pid' '--net --network none --private-mount'; do
		# shellcheck disable=SC2086
		expect 0 vial exec $opts "$SIF" sh -c 'sed -n "s/^ *\([a-z0-9]*\):.*/\1/p" /proc/net/dev'
		stdout_is lo
	done
	expect 0 inside_python 'import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
c = socket.create_connection(s.getsockname()); print("connected")' --net --network none
	stdout_is connected
	expect 0 vial exec --network none "$SIF" readlink /proc/self/ns/net
	[ "$output" != "$(readlink /proc/self/ns/net)" ]
	nothing_left
}

@test "--network host is no namespace, and contradicts --net" {
	expect 0 vial exec --network host "$SIF" readlink /proc/self/ns/net
	stdout_is "$(readlink /proc/self/ns/net)"
	expect 125 vial exec --net --network host "$SIF" true
	one_fatal_line "--network host"
}

@test "without pasta: an error that names the package" {
	mkdir bin
	expect 125 env PATH="$PWD/bin" "$VIAL" exec --net "$SIF" true
	one_fatal_line "passt"
	stderr_has "--network none"
	nothing_left
}

@test "a pasta that fails: its words, and no network that is not there" {
	mkdir bin
	printf '#!/bin/sh\necho no luck today >&2\nexit 3\n' >bin/pasta
	chmod +x bin/pasta
	expect 125 env PATH="$PWD/bin:$PATH" "$VIAL" exec --net "$SIF" true
	one_fatal_line "no luck today"
	stderr_has "status 3"
	nothing_left
}

@test "what is no network, port or server is refused" {
	local arg
	expect 125 vial exec --network '' "$SIF" true
	one_fatal_line "--network"
	for arg in portmap=80 portmap=0:80/tcp portmap=80:65536/tcp portmap=80:80/sctp portmap=a:b/tcp portmap=:/ portmap=80:80/tcp/x IP=10.0.0.1 x; do
		expect 125 vial exec --net --network-args "$arg" "$SIF" true
		one_fatal_line "--network-args"
	done
	expect 125 vial exec --net --network none --network-args portmap=8080:80/tcp "$SIF" true
	one_fatal_line "--network-args"
	expect 125 vial exec --network-args portmap=8080:80/tcp "$SIF" true
	one_fatal_line "--network-args"
	for arg in nonsense 1.2.3 1.2.3.4.5 'fe80::1%eth0' '1.2.3.4 evil'; do
		expect 125 vial exec --dns "$arg" "$SIF" true
		one_fatal_line "--dns"
	done
}

@test "--dns: the file has these servers, with and without a namespace" {
	expect 0 vial exec --dns 192.0.2.1,2001:db8::1 "$SIF" cat /etc/resolv.conf
	stdout_is $'nameserver 192.0.2.1\nnameserver 2001:db8::1'
	expect 0 vial exec --dns 192.0.2.1 --dns 192.0.2.2 --network none "$TREE" cat /etc/resolv.conf
	stdout_is $'nameserver 192.0.2.1\nnameserver 192.0.2.2'
	APPTAINER_DNS=192.0.2.3 expect 0 vial exec "$SIF" cat /etc/resolv.conf
	stdout_is 'nameserver 192.0.2.3'
	expect 0 vial exec --dns 192.0.2.1 "$SIF" sh -c 'echo x >>/etc/resolv.conf 2>/dev/null || echo read-only'
	stdout_is read-only
	echo mine >file
	expect 0 vial exec -B file:/etc/resolv.conf --dns 192.0.2.1 "$SIF" cat /etc/resolv.conf
	stdout_is mine
	stderr_has WARNING
}

@test "--net: an interface with an address, a server of names, and statuses come through" {
	need_pasta
	local opts
	for opts in --net '--net --network bridge' '--network slirp4netns' '--net --pid' '--net --private-mount'; do
		# shellcheck disable=SC2086
		expect 42 vial exec $opts "$SIF" sh -c 'grep -c : /proc/net/dev; grep 169.254.1.1 /etc/resolv.conf; exit 42'
		stdout_is $'2\nnameserver 169.254.1.1'
		stderr_is ''
		nothing_left
	done
	expect 0 vial exec --net --network macvlan "$SIF" true
	stderr_has "WARNING"
	stderr_has macvlan
	# same process as without
	# shellcheck disable=SC2016
	expect 0 sh -c 'echo $$; exec "$0" exec --net "$1" sh -c "echo \$\$"' "$VIAL" "$SIF"
	[ "${lines[0]}" = "${lines[1]}" ]
	nothing_left
}

@test "portmap: a port of the host leads into the container, others do not" {
	need_pasta
	local port
	port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
	inside_python 'import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("", 7777)); s.listen()
print("up", flush=True)
c, _ = s.accept(); c.sendall(b"from inside"); c.close()' --net --network-args "portmap=$port:7777/tcp" >out 2>err 3>&- &
	eventually grep -q up out || { cat err && false; }
	expect 0 python3 -c "import socket
s = socket.create_connection(('127.0.0.1', $port), 30); print(s.recv(100).decode())"
	stdout_is "from inside"
	wait $!
	nothing_left
}

@test "the host's loopback is not the container's" {
	need_pasta
	expect 0 python3 - "$VIAL" "$SIF" "$PYTHON" "${binds[@]}" <<-'EOF'
		import socket, subprocess, sys
		s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
		text = "import socket\ntry: socket.create_connection(('127.0.0.1', %d), 5); print('reached')\nexcept OSError: print('refused')" % s.getsockname()[1]
		r = subprocess.run([sys.argv[1], "exec", "--net"] + sys.argv[4:] + [sys.argv[2], sys.argv[3], "-S", "-c", text], stdout=subprocess.PIPE)
		assert r.stdout == b"refused\n", r.stdout
	EOF
}

@test "kill -9 of the program, pasta, its guard or the init: nothing is left" {
	need_pasta
	local who opt victim pid
	for opt in --private-mount --pid; do
		for who in program pasta guard init; do
			[ "$who$opt" != init--private-mount ] || continue
			: >out
			"$VIAL" exec --net "$opt" "$SIF" sh -c 'echo up; exec sleep 1000' >out 2>err 3>&- &
			pid=$!
			eventually grep -q up out || { cat err && false; }
			case $who in
			program) victim=$pid ;;
			pasta) victim=$(pasta_of) ;;
			guard) victim=$(named vial-net) ;;
			init) victim=$(named vial-init) ;;
			esac
			local pasta
			pasta=$(pasta_of)
			kill -9 "$victim"
			timeout 30 tail --pid="$pasta" -f /dev/null # without it there is no network, but the program goes on
			if [ "$who" = pasta ] || [ "$who" = guard ]; then kill -9 "$pid"; fi
			wait "$pid" || true
			nothing_left
		done
	done
}
