load common
load images

# A small SIF with provenance, the same signed, its parts; and a key.
setup_file() {
	TREE=$BATS_FILE_TMPDIR/tree SIF=$BATS_FILE_TMPDIR/plain.sif SIGNED=$BATS_FILE_TMPDIR/images/signed.sif
	SQUASHFS=$BATS_FILE_TMPDIR/plain.sqfs
	mkdir -p "$TREE/bin" "$TREE/.singularity.d" "$BATS_FILE_TMPDIR/images" "$BATS_FILE_TMPDIR/oci"
	copy_program "$TREE" sh cat true
	printf '#!/bin/sh\ntrue\n' | tee "$TREE/.singularity.d/runscript" >"$TREE/.singularity.d/test"
	chmod -R go+rX "$TREE"
	chmod 755 "$TREE"/.singularity.d/*
	BATS_TEST_TMPDIR=$BATS_FILE_TMPDIR make_oci "$BATS_FILE_TMPDIR/oci" latest '{"Cmd":["/bin/true"]}' "$TREE"
	"$VIAL" -q build "$SIF" "oci:$BATS_FILE_TMPDIR/oci:latest"
	make_sif "$BATS_FILE_TMPDIR/tree.sif" "$TREE"
	"$VIAL" sif dump "$("$VIAL" sif list --json "$SIF" | python3 -c '
import json, sys
d = json.load(sys.stdin)
print([o["id"] for o in (d["objects"] if isinstance(d, dict) else d) if "artition" in str(o)][0])')" "$SIF" >"$SQUASHFS"
	(cd "$BATS_FILE_TMPDIR" && "$VIAL" -q key newpair jane && "$VIAL" -q key newpair eve)
	cp "$SIF" "$SIGNED"
	"$VIAL" -q sign --key "$BATS_FILE_TMPDIR/jane.pem" "$SIGNED"
	JANE=$("$VIAL" key show "$BATS_FILE_TMPDIR/jane.pub.pem" | grep -o 'SHA256:[^ ]*' | head -1)
	export TREE SIF SIGNED SQUASHFS JANE
}

setup() {
	common_setup
	export XDG_CONFIG_HOME=$PWD/config
	RULES=$XDG_CONFIG_HOME/vial/policy.d KEYS=$XDG_CONFIG_HOME/vial/keys
	mkdir -p "$RULES" "$KEYS"
	chmod -R go-w "$XDG_CONFIG_HOME"
	chmod 700 "$KEYS"
	cp "$BATS_FILE_TMPDIR/jane.pub.pem" "$KEYS/jane.pub"
	chmod 644 "$KEYS/jane.pub"
}

# policy NAME: a file of the user's, of what comes in
policy() {
	cat >"$RULES/$1.toml"
	chmod 644 "$RULES/$1.toml"
}
deny_all() { policy 10 <<<'default = "deny"'; }

# denied CMD...: by the policy, in one line, by vial exec's own exit status
denied() {
	expect 125 "$@"
	one_fatal_line 'denied by policy'
}

@test "without files of a policy nothing is asked and no other program is started" {
	rmdir "$RULES"
	expect 0 strace -f -o calls -e trace=execve,open,openat,stat,newfstatat,lstat "$VIAL" exec "$SIF" true
	[ "$(grep -c 'policy\.d.*ENOENT' calls)" -ge 1 ] || complain "the user's rules are not looked for"
	[ "$(grep -c 'policy\.d' calls)" -le 4 ] || complain "more is done than to look for two directories"
	! grep 'execve("[^"]*/vial-[a-z]*"' calls || complain "another program was started"
}

@test "allow, warn and deny" {
	policy 10 <<-'EOF2'
		[[rule]]
		action = "warn"
		kind = "directory"
		message = "directories are for tests"

		[[rule]]
		name = "no squashfs"
		action = "deny"
		kind = "squashfs"
	EOF2
	expect 0 vial exec "$SIF" true
	stderr_is ''
	expect 0 vial exec "$TREE" true
	stderr_is "WARNING: $TREE: policy: $RULES/10.toml:1: directories are for tests"
	expect 0 vial -s exec "$TREE" true
	stderr_is ''
	denied vial exec "$SQUASHFS" true
	stderr_has "$RULES/10.toml:6: no squashfs"
	stderr_has "vial policy check $SQUASHFS"
}

@test "every way to start an image is asked" {
	local cmd image=$SIF
	deny_all
	for cmd in "exec $image true" "run $image" "shell $image" "test $image" "run-help $image" "hold --check $image" \
		"exec --private-mount $image true" "exec --explain $image true" "exec --fakeroot $image true"; do
		# shellcheck disable=SC2086 # words
		denied "$VIAL" $cmd
	done
	mkdir at
	cp "$SIF" own.sif
	for cmd in "instance start $image no" "instance run $image no" "mount $image at" "mount $image at -- true" \
		"optimize own.sif true"; do
		# shellcheck disable=SC2086 # words
		expect 255 "$VIAL" $cmd
		one_fatal_line 'denied by policy'
	done
	# what only reads is not a start
	expect 0 vial cat "$image:/.singularity.d/runscript"
}

@test "overlays and binds out of images are asked for themselves" {
	policy 10 <<-'EOF2'
		[[rule]]
		action = "allow"
		use = "image"
		[[rule]]
		action = "deny"
	EOF2
	mkdir over
	truncate -s 4M over.img
	mke2fs -q -t ext3 over.img
	expect 0 vial exec "$SIF" true
	denied vial exec --overlay over:ro "$SIF" true
	stderr_has "$PWD/over is denied"
	denied vial exec --overlay over.img:ro "$SIF" true
	denied vial exec --overlay "$SQUASHFS" "$SIF" true
	denied vial exec --bind "$SQUASHFS:/mnt:image-src=/" "$SIF" true
	denied vial exec --bind "$SIF:/mnt:image-src=/" "$SIF" true
	expect 1 vial policy check --use overlay over.img
	stdout_has 'kind     ext3, used as overlay'
	expect 1 vial policy check --use bind "$SIF"
	stdout_has 'kind     sif, used as bind'
	policy 05 <<-'EOF2'
		[[rule]]
		action = "allow"
		use = "overlay"
		kind = "directory"
	EOF2
	expect 0 vial exec --overlay over:ro "$SIF" true
	denied vial exec --overlay "$SQUASHFS" "$SIF" true
}

@test "the path is that of the open file, not what was typed" {
	policy 10 <<-EOF2
		default = "deny"
		[[rule]]
		action = "allow"
		path = "$(realpath "$BATS_FILE_TMPDIR")/images/**"
	EOF2
	expect 0 vial exec "$SIGNED" true
	ln -s "$SIGNED" in.sif
	expect 0 vial exec in.sif true
	denied vial exec "$BATS_FILE_TMPDIR/images/../plain.sif" true
	denied vial exec "$SIF" true
	exec 7<"$SIF"
	denied vial exec /proc/self/fd/7 true
	exec 7<&-
}

@test "by signer: nothing but what a signature of his covers" {
	local size
	policy 10 <<-EOF2
		default = "deny"
		[[rule]]
		action = "allow"
		signer = "$JANE"
	EOF2
	expect 0 vial exec "$SIGNED" true
	denied vial exec "$SIF" true
	denied vial exec "$TREE" true
	denied vial exec "$SQUASHFS" true
	cp "$SIF" eve.sif
	vial -q sign --key "$BATS_FILE_TMPDIR/eve.pem" eve.sif
	denied vial exec eve.sif true
	cp "$BATS_FILE_TMPDIR/eve.pub.pem" "$KEYS/eve.pub" # known, and still not named by the rule
	denied vial exec eve.sif true
	cp "$SIGNED" both.sif
	vial -q sign --key "$BATS_FILE_TMPDIR/eve.pem" both.sif
	expect 0 vial exec both.sif true
	cp "$SIF" changed.sif
	vial -q sign --no-tree --key "$BATS_FILE_TMPDIR/jane.pem" changed.sif
	expect 0 vial exec changed.sif true
	size=$(stat -c %s "$SQUASHFS")
	flip_byte changed.sif $(($(grep -obUaP 'hsqs' changed.sif | head -1 | cut -d: -f1) + size / 2))
	denied vial exec changed.sif true
	rm "$KEYS/jane.pub" # an id alone proves nothing
	denied vial exec "$SIGNED" true
}

@test "what a start reads beside the signed objects is no back door" {
	cp "$BATS_FILE_TMPDIR/tree.sif" t.sif
	vial -q sign --key "$BATS_FILE_TMPDIR/jane.pem" t.sif
	policy 10 <<-EOF2
		default = "deny"
		[[rule]]
		action = "allow"
		signer = "$JANE"
	EOF2
	expect 0 vial run t.sif
	echo '{"config":{"Entrypoint":["/bin/cat","/etc/passwd"]}}' >oci.json
	vial sif add t.sif oci.json --datatype 6 --filename oci-config.json
	denied vial run t.sif
	expect 1 vial policy check t.sif
	stdout_has 'not all of the image'
}

# What who looks is asked: is it about the partition that a start has read of?
@test "a table that was exchanged between the start's look and the policy's is refused" {
	local at size
	read -r at size < <(vial sif list "$SIGNED" | awk -F'|' '/Squashfs/ { split($4, p, "-"); print p[1] + 0, p[2] - p[1]; exit }')
	[ "$size" -gt 0 ]
	cat >ask.py <<-'EOF2'
		import os, socket, subprocess, sys
		program, image, off, size = sys.argv[1:]
		mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		fd = os.open(image, os.O_RDONLY)
		sock = theirs.fileno()
		subprocess.run([program, str(sock), str(fd), "facts", "1", off, size, "0"], pass_fds=[sock, fd])
		theirs.close()
		answer = mine.recv(1 << 18)
		print(answer[0], answer[1:].decode(errors="replace"))
	EOF2
	expect 0 python3 ask.py "${VIAL%/*}/vial-verify" "$SIGNED" "$at" "$size"
	stdout_has '"signatures"'
	expect 0 python3 ask.py "${VIAL%/*}/vial-verify" "$SIGNED" "$at" $((size - 1))
	stdout_has 'it was changed while it was looked at'
	expect 0 python3 ask.py "${VIAL%/*}/vial-verify" "$SIGNED" $((at + 4096)) "$size"
	stdout_has 'it was changed while it was looked at'
}

@test "by source and objects: what is said and signed allows, what is only said denies" {
	policy 10 <<-EOF2
		default = "deny"
		[[rule]]
		action = "allow"
		signer = "$JANE"
		source = "oci:$BATS_FILE_TMPDIR/**"
		objects = "provenance"
	EOF2
	expect 0 vial exec "$SIGNED" true
	denied vial exec "$SIF" true
	cp "$BATS_FILE_TMPDIR/tree.sif" t.sif
	vial -q sign --key "$BATS_FILE_TMPDIR/jane.pem" t.sif
	denied vial exec t.sif true
	sed -i 's/"provenance"/["provenance", "sbom"]/' "$RULES/10.toml"
	denied vial exec "$SIGNED" true
	policy 10 <<-EOF2
		[[rule]]
		action = "deny"
		source = "oci:$BATS_FILE_TMPDIR/**"
	EOF2
	denied vial exec "$SIF" true
	expect 0 vial exec t.sif true
}

@test "an image that runs already is not joined where it is denied" {
	local pid
	mkfifo in
	exec 8<>in # what reads it runs until this is closed
	"$VIAL" exec "$SIF" sh -c 'echo up; cat' <in >up 2>err 3>&- 8>&- &
	pid=$!
	eventually grep -q up up
	expect 0 vial holders --json
	stdout_has plain.sif
	deny_all
	denied vial exec "$SIF" true
	exec 8>&-
	wait "$pid"
}

@test "a policy that cannot be trusted or understood lets nothing start" {
	policy 10 <<-'EOF2'
		[[rule]]
		action = "deny"

		pth = "/x"
	EOF2
	expect 125 vial exec "$SIF" true
	one_fatal_line "$RULES/10.toml:4: pth is no word of a rule"
	expect 2 vial policy check "$SIF"
	one_fatal_line "$RULES/10.toml:4"
	echo 'default = "allow' | policy 10
	expect 125 vial exec "$SIF" true
	one_fatal_line "$RULES/10.toml: line 1"
	echo 'default = "allow"' | policy 10
	expect 0 vial exec "$SIF" true
	chmod g+w "$RULES/10.toml"
	expect 125 vial exec "$SIF" true
	one_fatal_line "$RULES/10.toml can be written to by others; first: chmod go-w"
}

@test "the site's rules: no word of the user's makes them weaker" {
	mkdir -p etc/vial/policy.d etc/vial/keys
	chmod -R go-w etc
	printf 'default = "deny"\n[[rule]]\naction = "allow"\nsigner = "%s"\n' "$JANE" >etc/vial/policy.d/10.toml
	chmod 644 etc/vial/policy.d/10.toml
	policy 10 <<<'default = "allow"'
	export VIAL_CONFIG_FILE=/dev/null VIAL_POLICY=allow VIAL_SILENT=1 VIAL_SITE_KEYSDIR=$PWD/none VIAL_KEYSDIR=$PWD/none
	export VIAL_VERIFY=0 APPTAINER_CONFDIR=$PWD APPTAINER_ALLOW_ROOT=1
	denied with_site "$PWD/etc" "$VIAL" exec "$SIF" true
	stderr_has '/etc/vial/policy.d/10.toml:1'
	denied with_site "$PWD/etc" "$VIAL" -c /dev/null exec "$SIF" true
	denied with_site "$PWD/etc" env XDG_CONFIG_HOME="$PWD/none" HOME="$PWD" "$VIAL" exec "$SIF" true
	denied with_site "$PWD/etc" env -i "$VIAL" hold --check "$SIF"
	denied with_site "$PWD/etc" "$VIAL" exec "$SIGNED" true # nobody has the key
	cp "$KEYS/jane.pub" etc/vial/keys
	expect 0 with_site "$PWD/etc" "$VIAL" exec "$SIGNED" true
	# of the user's own, what is stricter counts
	deny_all
	denied with_site "$PWD/etc" "$VIAL" exec "$SIGNED" true
	stderr_has "$RULES/10.toml"
	expect 1 with_site "$PWD/etc" "$VIAL" policy check "$SIGNED"
	stdout_has 'site: allow'
	stdout_has 'user: deny'
}

# certificate CA NAME: of eve's key, by that authority
certificate() {
	openssl req -new -key "$BATS_FILE_TMPDIR/eve.pem" -subj "/CN=$2" -out "$2.csr"
	openssl x509 -req -in "$2.csr" -CA "$1.pem" -CAkey "$1.key" -CAcreateserial -days 30 -out "$KEYS/$1-$2.crt" \
		-extfile <(printf 'keyUsage=digitalSignature\nextendedKeyUsage=codeSigning\n') 2>/dev/null
	chmod 644 "$KEYS/$1-$2.crt"
}

@test "by certificate: a subject is worth what its own roots are" {
	local ca
	for ca in own site; do
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $ca.key -out $ca.pem -days 30 \
			-subj "/CN=$ca" 2>/dev/null
	done
	cp "$SIF" eve.sif
	vial -q sign --key "$BATS_FILE_TMPDIR/eve.pem" eve.sif
	mkdir -p etc/vial/policy.d etc/vial/keys
	chmod -R go-w etc
	cat >etc/vial/policy.d/10.toml <<-EOF2
		default = "deny"
		[[rule]]
		action = "allow"
		signer = { subject = "CN=release", roots = "$PWD/site.pem" }
	EOF2
	chmod 644 etc/vial/policy.d/10.toml
	policy 10 <<-EOF2
		[[rule]]
		action = "allow"
		signer = { subject = "CN=release", roots = "$PWD/own.pem" }
	EOF2
	certificate own release
	certificate site eve
	denied with_site "$PWD/etc" "$VIAL" exec eve.sif true
	expect 1 with_site "$PWD/etc" "$VIAL" policy check eve.sif
	stdout_has 'user: allow'
	certificate site release
	expect 0 with_site "$PWD/etc" "$VIAL" exec eve.sif true
}

@test "check explains, line by line" {
	policy 10 <<-EOF2
		default = "deny"

		[[rule]]
		name = "ours"
		action = "allow"
		path = "/apps/**"
		signer = "$JANE"
	EOF2
	expect 1 vial policy check "$SIGNED"
	stdout_has "$SIGNED: denied"
	stdout_has "source   oci:"
	stdout_has "signed   by key $JANE"
	stdout_has "covers the image, the source, provenance"
	stdout_has "$RULES/10.toml:3: allow, ours"
	stdout_has "no   line 6: path /apps/**: it is $(realpath "$SIGNED")"
	stdout_has "yes  line 7: signer $JANE"
	stdout_has "$RULES/10.toml:1: default deny   <-- decides"
	[ "$(wc -l <<<"$output")" -le 24 ] || complain "it does not fit on a screen"
	expect 1 vial policy check "$SIF"
	stdout_has 'signed   by nobody known'
	cp "$HERE/../data/sif/keys/pgp.pub.asc" "$KEYS/pgp.asc"
	chmod 644 "$KEYS/pgp.asc"
	expect 0 vial policy facts "$HERE/../data/sif/valid/pgp-signed.sif"
	stdout_has '"by": "pgp"'
	stdout_has '"image": true'
	expect 1 vial policy check --json "$SIGNED"
	python3 -c '
import json, sys
d = json.load(sys.stdin)
assert d["decision"] == "deny" and d["facts"]["kind"] == "sif"
r = d["user"]["rules"]
assert [x["decides"] for x in r] == [False, True] and r[0]["line"] == 3
assert [c["holds"] for c in r[0]["conditions"]] == [False, True]' <<<"$output"
	expect 0 vial policy show
	stdout_has "$RULES/10.toml:3: allow, ours"
	stdout_has "    path /apps/**"
	rm "$RULES/10.toml"
	expect 0 vial policy check "$SIF"
	stdout_has 'user: no policy'
	expect 2 vial policy check nowhere.sif
	expect 2 vial policy check --use other "$SIF"
}

@test "the example is a policy" {
	need_root # who has the documents beside the tests
	policy 10 <"$HERE/../../docs/policy-example.toml"
	expect 0 vial policy show
	stdout_has 'default deny'
	expect 1 vial policy check "$SIF"
	stdout_has 'site: no policy'
}
