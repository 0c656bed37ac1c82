#!/usr/bin/env bats
# Hash trees: what sign adds, what exec --verify refuses, and what becomes of an image that is changed while it runs.
load common
load images

setup_file() {
	SIGNED=$BATS_FILE_TMPDIR/signed.sif PLAIN=$BATS_FILE_TMPDIR/plain.sif KEY=$BATS_FILE_TMPDIR/me
	export SIGNED PLAIN KEY
	make_rootfs "$BATS_FILE_TMPDIR/tree"
	for name in a b; do # do not pack: a byte of these is a byte of the image
		head -c 1000000 /dev/urandom >"$BATS_FILE_TMPDIR/tree/etc/$name"
	done
	chmod -R go+rX "$BATS_FILE_TMPDIR/tree"
	BATS_TEST_TMPDIR=$BATS_FILE_TMPDIR make_oci "$BATS_FILE_TMPDIR/oci" latest '{"WorkingDir":"/etc","Env":["FROM_CONFIG=yes"]}' "$BATS_FILE_TMPDIR/tree"
	"$VIAL" -q build "$PLAIN" "oci:$BATS_FILE_TMPDIR/oci:latest"
	"$VIAL" -q key newpair "$KEY" >/dev/null
	cp "$PLAIN" "$SIGNED"
	"$VIAL" -q sign --key "$KEY.pem" "$SIGNED"
}

setup() {
	common_setup
	export XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR/run
	mkdir -m 700 "$XDG_RUNTIME_DIR"
	cp "$SIGNED" app.sif
}

verified() { vial exec --verify --verify-key "$KEY.pub.pem" --verify-log log "$@"; }
# id_of WORDS IMAGE: of the object that `sif list` describes so
id_of() { vial sif list "$2" | grep -F "$1" | head -n 1 | cut -d' ' -f1; }
# place_of ID IMAGE: its first byte in the file
place_of() { vial sif list "$2" | awk -F'|' -v id="$1" '$1 + 0 == id { print $4 + 0 }'; }
# where FILE: its first byte in the image
where() { python3 -c '
import sys
print(open(sys.argv[2], "rb").read().find(open(sys.argv[1], "rb").read(4096)))' "$BATS_FILE_TMPDIR/tree$1" app.sif; }

@test "tree: sign adds it, and other tools make the same" {
	expect 0 vial sif list app.sif
	stdout_has "hash tree, root"
	vial sif dump "$(id_of Squashfs app.sif)" app.sif >part
	vial sif dump "$(id_of 'hash tree, root' app.sif)" app.sif >descriptor
	vial sif dump "$(id_of 'hash tree)' app.sif)" app.sif >levels
	fsverity digest --block-size=16384 --out-descriptor=d --out-merkle-tree=l part >/dev/null
	cmp d descriptor
	cmp l levels
	[ "$(fsverity digest --compact --block-size=16384 part)" = "$(sha256sum <descriptor | cut -d' ' -f1)" ]
	expect 0 vial verify --key "$KEY.pub.pem" app.sif
}

@test "tree: sign keeps one, and makes none where one is not wanted" {
	vial sif list app.sif >before
	expect 0 vial sign --key "$KEY.pem" app.sif
	vial sif list app.sif | head -n "$(wc -l <before)" | cmp - before
	expect 0 vial verify --key "$KEY.pub.pem" app.sif
	cp "$PLAIN" app.sif
	expect 0 vial sign --no-tree --key "$KEY.pem" app.sif
	expect 0 vial sif list app.sif
	stdout_lacks "hash tree"
	expect 125 verified app.sif true
	one_fatal_line "no hash tree"
	expect 0 vial sign --key "$KEY.pem" app.sif # the first signature would not cover it
	stderr_has "no hash tree"
	expect 0 vial verify --key "$KEY.pub.pem" app.sif
	cp "$PLAIN" app.sif
	expect 255 vial sign --tree-block 5000 --key "$KEY.pem" app.sif
	one_fatal_line "--tree-block"
	cmp app.sif "$PLAIN"
	for size in 4K 128K; do
		cp "$PLAIN" app.sif
		expect 0 vial sign --tree-block $size --key "$KEY.pem" app.sif
		expect 0 verified app.sif cat /etc/a
	done
}

@test "tree: a verified start runs as any other" {
	expect 0 verified app.sif sh -c 'cat /etc/a /etc/b; ls -R / >/dev/null 2>&1; true'
	[ "$(vial exec --verify --verify-key "$KEY.pub.pem" app.sif cat /etc/a | sha256sum)" = "$(sha256sum <"$BATS_FILE_TMPDIR/tree/etc/a")" ]
	expect 0 verified app.sif sh -c 'echo $FROM_CONFIG'
	stdout_is yes
	expect 7 verified --pid app.sif sh -c 'exit 7'
	expect 0 verified --writable-tmpfs app.sif sh -c 'echo new >/etc/a; cat /etc/a'
	stdout_is new
	VIAL_VERIFY=1 VIAL_VERIFY_KEY=$KEY.pub.pem expect 0 vial exec app.sif true
	expect 0 verified --explain app.sif true
	[ ! -s log ]
}

@test "tree: who did not sign it does not vouch for it" {
	vial -q key newpair other >/dev/null
	expect 125 vial exec --verify --verify-key other.pub.pem app.sif true
	one_fatal_line "another key"
	VIAL_VERIFY_KEY=$KEY.pub.pem expect 125 vial exec --verify --verify-key other.pub.pem app.sif true
	VIAL_VERIFY_KEY=$KEY.pub.pem expect 0 vial exec --verify app.sif true
	expect 0 vial exec --verify --verify-key other.pub.pem --verify-key "$KEY.pub.pem" app.sif true
	expect 125 vial exec --verify --verify-key none.pem app.sif true
	one_fatal_line "none.pem"
	expect 125 verified "$PLAIN" true
	one_fatal_line "not verified"
	vial sif dump "$(id_of Squashfs app.sif)" app.sif >image.sqfs
	expect 125 verified image.sqfs true
	one_fatal_line "cannot be signed"
	expect 125 verified "$BATS_FILE_TMPDIR/tree" true
	one_fatal_line "cannot be signed"
}

@test "tree: without a named key the keyrings say whom to trust, the user's and the site's" {
	expect 125 vial exec --verify app.sif true
	one_fatal_line "the signer is unknown (name the public key with --verify-key"
	vial -q key import --name me "$KEY.pub.pem"
	expect 125 vial exec --verify app.sif true
	one_fatal_line "its signer is not trusted: SHA256:"
	vial -q key trust me
	expect 0 vial exec --verify app.sif true
	vial -q key newpair other >/dev/null
	expect 125 vial exec --verify --verify-key other.pub.pem app.sif true
	mkdir -p etc/vial
	mv "$HOME/.config/vial/keys" etc/vial/keys
	chmod -R go+rX,go-w etc
	expect 125 vial exec --verify app.sif true
	expect 0 with_site "$PWD/etc" "$VIAL" exec --verify app.sif true
}

@test "tree: a policy that asks for a signer gets its image checked while it is read" {
	local at
	make_policy() {
		mkdir -p "$HOME/.config/vial/policy.d" "$HOME/.config/vial/keys"
		cp "$KEY.pub.pem" "$HOME/.config/vial/keys/me.pub"
		printf 'default = "deny"\n[[rule]]\naction = "allow"\nsigner = "%s"\n%s\n' \
			"$(vial key show "$KEY.pub.pem" | cut -d' ' -f1)" "$1" >"$HOME/.config/vial/policy.d/10.toml"
		chmod -R go-w "$HOME/.config"
	}
	make_policy "tree = true"
	expect 0 vial exec app.sif cat /etc/a
	expect 125 vial exec "$PLAIN" true
	one_fatal_line "denied by policy"
	expect 1 vial policy check "$PLAIN"
	expect 0 vial policy check app.sif
	stdout_has "only while every block is checked"
	cp "$PLAIN" old.sif
	vial -q sign --no-tree --key "$KEY.pem" old.sif
	expect 125 vial exec old.sif true
	one_fatal_line "denied by policy"
	# two checks of one start
	expect 0 verified app.sif true
	at=$(where /etc/b)
	flip_byte app.sif $((at + 500000))
	for how in "" "tree = true"; do
		make_policy "$how"
		expect 1 vial exec --verify-log log app.sif cat /etc/b
		stderr_has "Input/output error"
		expect 1 vial mount app.sif "$PWD" -- cat "$PWD/etc/b"
		stderr_has "Input/output error"
		expect 0 vial exec app.sif cat /etc/a
	done
	grep -q "is not what was signed" log
	# what has no tree is read before the start
	flip_byte old.sif "$(($(grep -obUaP 'hsqs' old.sif | head -1 | cut -d: -f1) + 5000))"
	make_policy ""
	expect 125 vial exec old.sif true
	one_fatal_line "denied by policy"
	# a root that nobody signed
	flip_byte app.sif $((32 + $(place_of "$(id_of 'hash tree, root' app.sif)" app.sif)))
	expect 125 vial exec app.sif true
	one_fatal_line "denied by policy"
}

@test "tree: mount and hold are verified as well" {
	expect 255 vial mount --verify --verify-key "$KEY.pub.pem" "$PLAIN" "$PWD" -- true
	one_fatal_line "not verified"
	expect 125 vial hold --check --verify --verify-key "$KEY.pub.pem" "$PLAIN"
	one_fatal_line "not verified"
	expect 0 vial hold --check --verify --verify-key "$KEY.pub.pem" app.sif
	flip_byte app.sif $(($(where /etc/b) + 500000))
	expect 0 vial mount --verify --verify-key "$KEY.pub.pem" app.sif "$PWD" -- cat "$PWD/etc/a"
	expect 1 vial mount --verify --verify-key "$KEY.pub.pem" --verify-log log app.sif "$PWD" -- cat "$PWD/etc/b"
	stderr_has "Input/output error"
	grep -q "is not what was signed" log
}

@test "tree: what a start goes by is refused when it was changed" {
	local id at
	for what in 'hash tree, root' 'hash tree)' Squashfs; do
		id=$(id_of "$what" app.sif)
		at=$((32 + $(place_of "$id" app.sif)))
		flip_byte app.sif "$at"
		expect 125 verified app.sif cat /etc/a /etc/b
		one_fatal_line app.sif
		flip_byte app.sif "$at"
		at=$((4096 + 585 * (id - 1) + 73)) # its name
		flip_byte app.sif "$at"
		expect 125 verified app.sif true
		one_fatal_line "not verified"
		flip_byte app.sif "$at"
	done
	# its configuration, before the squashfs
	python3 - <<-'EOT'
		b = open("app.sif", "rb").read()
		at = b.index(b'"WorkingDir":"/etc"')
		open("changed.sif", "wb").write(b[:at] + b'"WorkingDir":"/tmp"' + b[at + 19:])
	EOT
	expect 125 verified changed.sif true
	one_fatal_line "data was changed"
	expect 0 verified app.sif true
}

@test "tree: a block that was changed after the start is an error, and one line tells of it" {
	local a b
	a=$(where /etc/a) b=$(where /etc/b)
	[ "$a" -gt 0 ] && [ "$b" -gt 0 ]
	mkfifo in
	exec 8<>in
	verified app.sif sh -c 'head -c 1000 /etc/a | wc -c; read -r line; cat /etc/b | wc -c; cat /etc/a >/dev/null; head -c 1000 /etc/a | wc -c; cat /etc/passwd' \
		<in >out 2>err 8>&- &
	local pid=$!
	eventually test -s out
	flip_byte app.sif $((b + 500000))
	flip_byte app.sif $((a + 900000))
	echo go >&8
	wait "$pid"
	exec 8>&-
	grep -q "cat: /etc/b: Input/output error" err
	grep -q "cat: /etc/a: Input/output error" err
	[ "$(grep -c '^1000$' out)" -eq 2 ]
	grep -q root: out
	[ "$(wc -l <log)" -eq 2 ]
	[ "$(grep -c "is not what was signed" log)" -eq 2 ]
	grep -q "app.sif: block " log
}

@test "tree: an unverified mount is not given to a verified start, nor the other way round" {
	mkfifo in
	exec 8<>in
	local i pids=()
	for i in plain verified verified plain; do
		if [ $i = plain ]; then set -- vial exec; else set -- verified; fi
		"$@" app.sif sh -c 'echo up; read -r line' <in >"out${#pids[@]}" 8>&- &
		eventually test -s "out${#pids[@]}"
		pids+=($!)
	done
	expect 0 vial holders --json --stats
	echo "$output" >list
	printf '\n\n\n\n' >&8
	wait "${pids[@]}"
	exec 8>&-
	python3 - <<-'EOT'
		import json, os
		l = json.load(open("list"))
		l = l if isinstance(l, list) else l["holders"]
		l = [h for h in l if h["image"] == os.path.realpath("app.sif")] # other tests have theirs
		assert sorted(len(h["users"]) for h in l) == [2, 2], l
		assert sorted("tree" in h["stats"] for h in l) == [False, True], l
	EOT
}

@test "tree: an instance may be verified" {
	expect 255 vial instance start --verify --verify-key "$KEY.pub.pem" "$PLAIN" web
	one_fatal_line "not verified"
	expect 0 vial instance start --verify --verify-key "$KEY.pub.pem" app.sif web
	expect 0 vial exec instance://web sh -c 'cat /etc/a | wc -c'
	stdout_is 1000000
	expect 0 vial exec --verify --verify-key "$KEY.pub.pem" instance://web true
	stderr_is ''
	vial -q key newpair other >/dev/null
	expect 125 vial exec --verify --verify-key other.pub.pem instance://web true
	one_fatal_line "was started with the keys of $KEY.pub.pem"
	expect 0 vial instance stop web
	expect 0 vial instance start app.sif web
	expect 125 vial exec --verify --verify-key "$KEY.pub.pem" instance://web true
	one_fatal_line "instance web was started without it"
	VIAL_VERIFY=1 expect 125 vial exec instance://web true
	expect 0 vial instance stop web
}

@test "tree: optimize leaves out the tree of the old squashfs" {
	expect 0 vial optimize --output new.sif app.sif sh -c 'cat /etc/a >/dev/null'
	expect 0 vial sif list new.sif
	stdout_lacks "hash tree"
	expect 125 verified new.sif true
	expect 0 vial sign --key "$KEY.pem" new.sif
	expect 0 verified new.sif cat /etc/a
}
