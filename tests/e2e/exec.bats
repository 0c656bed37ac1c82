load common
load images
setup_file() { make_images; }

@test "a SIF, a bare squashfs and a directory run the same program" {
	local image
	for image in "$SIF" "$SQUASHFS" "$TREE"; do
		expect 0 vial exec "$image" cat /etc/file
		stdout_is "in the image"
		stderr_is ""
	done
}

@test "an image is found through a symlink, a descriptor and a read-only file" {
	ln -s "$SIF" link.sif
	expect 0 vial exec link.sif true
	expect 0 vial exec /dev/fd/9 true 9<"$SIF"
	cp "$SIF" mine.sif
	chmod 0444 mine.sif
	expect 0 vial exec ./mine.sif true
}

@test "an image runs from a path of any length" {
	local long
	long=$(printf 'd%.0s' {1..200})
	mkdir -p "$long/$long/with space"
	cp "$SIF" "$long/$long/with space/app.sif"
	expect 0 vial exec "$long/$long/with space/app.sif" cat /etc/file
	stdout_is "in the image"
}

@test "a partition of no bytes is not taken for all that follows" {
	cp "$SIF" empty.sif
	slot=$((4096 + 585 * ($(vial sif list "$SIF" | awk -F'|' '/System/ { print $1 + 0 }') - 1)))
	printf '\0\0\0\0\0\0\0\0' | dd of=empty.sif bs=1 seek=$((slot + 25)) conv=notrunc status=none
	expect 125 vial exec empty.sif true
	one_fatal_line "empty"
}

@test "an overlay partition of another group means nothing to an image" {
	cp "$SIF" other.sif
	vial sif add --datatype 4 --parttype 4 --partfs 1 --partarch 2 --groupid 2 other.sif "$SQUASHFS"
	expect 0 vial exec other.sif true
}

@test "exit statuses are the program's own" {
	local n
	for n in 0 1 42 125 126 127 255; do
		expect "$n" inside "exit $n"
		stderr_is ""
	done
	expect 143 inside 'kill -TERM $$'
	expect 137 inside 'kill -KILL $$'
}

@test "a program that is missing is 127, one that may not run is 126; 255 under the old names" {
	expect 127 vial exec "$SIF" no-such-program
	one_fatal_line "no-such-program: not found"
	expect 127 vial exec "$SIF" /no/such/program
	expect 126 vial exec "$SIF" /etc/passwd
	one_fatal_line "/etc/passwd: not executable"
	expect 126 vial exec "$SIF" /etc
	ln -s "$VIAL" apptainer
	expect 255 ./apptainer exec "$SIF" no-such-program
	one_fatal_line "no-such-program: not found"
}

@test "failures of our own are 125, 255 under the old names, and one line" {
	local image
	ln -s "$VIAL" singularity
	expect 125 vial exec no-such-image true
	one_fatal_line "no-such-image: No such file or directory"
	expect 125 vial exec dockerd://no/such echo
	one_fatal_line "docker://, oras://"
	expect 255 ./singularity exec no-such-image true
	one_fatal_line "no-such-image"
	printf 'neither\n' >text
	head -c 3000 "$SQUASHFS" >short
	for image in text short /dev/null; do
		expect 125 vial exec "$image" true
		one_fatal_line "$image"
	done
}

@test "usage errors are 1" {
	expect 1 vial exec
	expect 1 vial exec "$SIF"
	expect 1 vial exec --no-such-option "$SIF" true
	stderr_has "unknown option --no-such-option"
}

@test "options after the image belong to the program" {
	expect 0 vial exec "$SIF" sh -c 'echo "$@"' sh --bind -x --env
	stdout_is "--bind -x --env"
}

@test "arguments arrive byte by byte" {
	expect 0 vial exec "$SIF" sh -c 'for a; do printf "<%s>" "$a"; done' sh 'a b' "q'q" 'd"d' '$HOME' '`x`' '' '*' $'n\nn'
	stdout_is $'<a b><q\'q><d"d><$HOME><`x`><><*><n\nn>'
}

@test "stdin, stdout and stderr are the caller's" {
	expect 0 bash -c 'echo through | "$VIAL" exec "$1" cat' - "$SIF"
	stdout_is "through"
	expect 0 inside 'echo out; echo err >&2'
	stdout_is "out"
	stderr_is "err"
}

@test "a pipe behind the program ends with the program" {
	expect 0 timeout 100 bash -c '"$VIAL" exec "$1" sh -c "echo done" | cat' - "$SIF"
	stdout_is "done"
	expect 0 timeout 100 bash -c 'x=$("$VIAL" exec "$1" sh -c "echo done" 2>&1); echo "$x"' - "$SIF"
	stdout_is "done"
}

@test "other open descriptors are passed on, and none of ours" {
	local list='for f in /proc/self/fd/*; do readlink "$f"; done | sed "s/:.*//" | sort' want
	echo seven >seven
	expect 0 inside 'cat <&7' 7<seven
	stdout_is seven
	want=$(sh -c "$list" 7<seven)
	expect 0 bash -c 'exec "$VIAL" exec "$@"' - "$SIF" sh -c "$list" 7<seven
	[ "$(wc -l <<<"$output")" -le "$(wc -l <<<"$want")" ] || complain "more than: $want"
	stdout_lacks test.sif
	stdout_lacks fuse
}

@test "the program has the launcher's pid and no child it did not start" {
	expect 0 bash -c '"$VIAL" exec "$1" sh -c "echo \$\$; ps -o comm= --ppid \$\$; :" & wait $!; echo $!' - "$SIF"
	# shellcheck disable=SC2154 # run sets it
	[ "${lines[0]}" = "${lines[2]}" ] || complain "pids differ"
	[ "${lines[1]}" = ps ] || complain "there is another child than ps itself"
}

@test "signals to the launcher reach the program, which may exit its own way" {
	local sig code ten_seconds='i=0; while [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done'
	for sig in TERM HUP USR1 USR2; do
		# under nohup or as a background job some are ignored, and a shell cannot trap those
		env --default-signal "$VIAL" exec "$SIF" sh -c "trap 'exit 7' $sig; echo ready; $ten_seconds" >"out-$sig" 2>err 3>&- &
		eventually grep -q ready "out-$sig"
		kill -"$sig" $!
		code=0
		wait $! || code=$?
		[ "$code" -eq 7 ]
	done
}

@test "the image cannot be changed, and says so" {
	expect 2 inside 'echo x >/etc/new'
	stderr_has "Read-only file system"
}

@test "--writable-tmpfs: changes are seen and then gone" {
	expect 0 vial exec --writable-tmpfs "$SIF" sh -c 'echo x >/etc/file && cat /etc/file && mkdir /top && rm /bin/grep'
	stdout_is "x"
	expect 0 vial exec "$SIF" cat /etc/file
	stdout_is "in the image"
}

@test "--writable changes a directory, and is refused for a file" {
	cp -r "$TREE" own
	expect 0 vial exec --writable own sh -c 'echo new >/etc/file'
	[ "$(cat own/etc/file)" = new ]
	expect 125 vial exec --writable "$SIF" true
	one_fatal_line "--writable-tmpfs"
}

@test "/proc, /sys, /dev and /tmp are there; the host's root is not" {
	echo here >/tmp/vial-e2e-$$
	expect 0 inside "cat /tmp/vial-e2e-$$; rm /tmp/vial-e2e-$$; test -e /proc/self/exe && test -d /sys/class && test -c /dev/null && echo all"
	stdout_is "here
all"
	[ ! -e /tmp/vial-e2e-$$ ]
	expect 0 vial exec "$SIF" sh -c 'test "$(stat -c %d:%i /..)" = "$(stat -c %d:%i /)" && grep -c "^[^ ]* [^ ]* [^ ]* / / " /proc/self/mountinfo'
	stdout_is 1
}

@test "no privilege is left: no new ones, none but over files" {
	expect 0 inside 'grep NoNewPrivs /proc/self/status'
	stdout_is $'NoNewPrivs:\t1'
	is_root || {
		expect 0 inside 'grep -h CapEff /proc/self/status; grep -h CapBnd /proc/self/status'
		stdout_is $'CapEff:\t0000000000000000\nCapBnd:\t0000000000000000'
	}
}

@test "the kernel lists and reads what the tree has" {
	mkdir -p big/many big/bin
	cp -a "$TREE/." big/
	local i
	for ((i = 0; i < 3000; i++)); do : >"big/many/file-with-a-longer-name-$i"; done
	head -c 5000000 /dev/urandom >big/random
	head -c 300000 /dev/zero >big/zero
	truncate -s 40000000 big/sparse
	printf x | dd of=big/sparse bs=1 seek=30000000 conv=notrunc status=none
	ln -s "$(printf 'x%.0s' {1..200})" big/long-link
	chmod -R go+rX big
	make_sif big.sif big
	# shellcheck disable=SC2012 # the same ls on both sides
	(cd big && ls -R many random zero sparse | sort && sha256sum random zero sparse && readlink long-link) >want
	cp "$(type -P sha256sum)" big-sum
	expect 0 vial exec --bind big-sum:/bin/sha256sum big.sif sh -c 'cd / && ls -R many random zero sparse | sort && sha256sum random zero sparse && readlink long-link'
	printf '%s\n' "$output" | diff - want
}

@test "the file descriptors of the caller survive a closed stdin" {
	expect 0 bash -c '"$VIAL" exec "$1" sh -c "echo ok" <&-' - "$SIF"
	stdout_is ok
}

@test "words of other tools: the reason or the equivalent, and status 1" {
	local words
	while read -r want words; do
		# shellcheck disable=SC2086 # several words
		expect 1 vial exec $words "$SIF" true
		stderr_has "$want"
	done <<-'EOF'
		--bind -v a:b
		--bind --volume=a:b
		--nv --gpus all
		--fakeroot --user root
		leave --rm
		leave --tty
		supported --fusemount container:x /y
		supported --dmtcp-launch x
		virtual --vm
		timeout --runscript-timeout 5
		before -q
	EOF
	expect 125 vial exec -e A=1 "$SIF" true
	one_fatal_line "--env A=1"
	expect 125 vial exec -w /no/such/dir "$SIF" true
	one_fatal_line "--cwd /no/such/dir"
	expect 125 vial exec -u 1000:1000 "$SIF" true
	one_fatal_line "run as the caller"
}

@test "options of other commands are refused, not passed over; their variables are for others" {
	local option
	for option in "--restart always" "--pid-file pid" --check "--fd 9" "--wanted 9"; do
		# shellcheck disable=SC2086 # words
		expect 1 vial exec $option "$SIF" true
		stderr_has "${option%% *} goes with"
		# shellcheck disable=SC2086
		expect 1 vial run $option instance://none
	done
	expect 1 vial hold --pid-file pid --check "$SIF"
	expect 1 vial hold --pid-file pid --fd 9 "$SIF"
	[ ! -e pid ]
	for option in --check "--fd 9" "--wanted 9" --explain --json "--stats -"; do
		# shellcheck disable=SC2086
		expect 1 vial instance start $option "$SIF" none
		stderr_has "${option%% *} "
	done
	expect 0 env VIAL_RESTART=always VIAL_PID_FILE=pid VIAL_TMPFS_SIZE=64M "$VIAL" exec "$SIF" true
	stderr_is ""
	expect 0 vial exec --tmpfs-size 64M "$SIF" true
	stderr_has "--tmpfs-size does nothing without --writable-tmpfs"
	expect 0 vial exec --tmpfs-size 64M --writable-tmpfs "$SIF" true
	stderr_is ""
}

@test "what is so anyway is accepted" {
	expect 0 vial exec -u --userns=true --sharens --no-tmp-sandbox --underlay --unsquash "$SIF" true
	stderr_is ""
	expect 0 vial -v exec --underlay "$SIF" true
	stderr_has "--underlay is not needed"
	expect 0 vial exec --no-home=false --contain=false --cleanenv=false "$SIF" true
}
