# ls, cat, cp and diff: what is in an image, without running or mounting it; and build --sandbox.
# shellcheck disable=SC2012,SC2044 # ls is what is compared with; the names found here are plain
load common
load images

setup_file() {
	export TREE=$BATS_FILE_TMPDIR/tree SIF=$BATS_FILE_TMPDIR/test.sif SQUASHFS=$BATS_FILE_TMPDIR/test.sqfs
	make_rootfs "$TREE"
	printf 'in the image\n' >"$TREE/etc/file"
	ln "$TREE/etc/file" "$TREE/etc/hard"
	ln -s file "$TREE/etc/soft"
	ln -s /etc "$TREE/abs"
	ln -s ../../../../etc/dir/.. "$TREE/etc/up"
	ln -s loop "$TREE/etc/loop"
	ln -s /nowhere/at/all "$TREE/etc/dangling"
	mkdir "$TREE/etc/dir" "$TREE/etc/empty"
	printf 'deep\n' >"$TREE/etc/dir/a:b"
	mkfifo "$TREE/etc/fifo"
	printf 'x' >"$TREE/etc/"$'new\nline\e[31m'
	truncate -s 3000000 "$TREE/etc/holes"
	printf 'end' >>"$TREE/etc/holes"
	head -c 700000 /dev/urandom >"$TREE/etc/random"
	chmod 0555 "$TREE/etc/dir"
	chmod 4750 "$TREE/etc/file"
	make_sif "$SIF" "$TREE"
	"$VIAL" sif dump 4 "$SIF" >"$SQUASHFS"
	export UNPACKED=$BATS_FILE_TMPDIR/unpacked # with what a build adds
	unsquashfs -q -n -d "$UNPACKED" "$SQUASHFS" >/dev/null
	chmod 4750 "$UNPACKED/etc/file"
}
teardown_file() { chmod -R u+rwx "$BATS_FILE_TMPDIR"; }
teardown() {
	chmod -R u+rwX . # or nobody can remove what was copied
	common_teardown
}

# tell DIR: each name with type, mode, size, target and content, but times.
tell() {
	(cd "$1" && find . -printf '%p %y %m %l ' \( -type f -printf '%s ' -o -printf '' \) -print0 | tr '\0' '\n' | sort &&
		find . -type f -readable -print0 | sort -z | xargs -0 sha256sum)
}

@test "tools: IMAGE is a SIF, a squashfs or a directory, PATH begins with a slash" {
	for image in "$SIF" "$SQUASHFS" "$TREE"; do
		expect 0 vial cat "$image:/etc/file"
		stdout_is "in the image"
		expect 0 vial ls "$image:/etc/dir"
		stdout_is "a:b"
		expect 0 vial cat "$image:/etc/dir/a:b" "$image:/etc/soft" "$image:/abs/up/hard"
		stdout_is $'deep\nin the image\nin the image'
	done
	ln -s "$SIF" "odd:name:/x.sif" 2>/dev/null || { mkdir odd:name: && ln -s "$SIF" odd:name:/x.sif; }
	expect 0 vial cat odd:name:/x.sif:/etc/file
	stdout_is "in the image"
	expect 255 vial cat "$SIF:etc/file"
	one_fatal_line "begins with '/'"
}

@test "tools: links stay in the image, and what is not there is said" {
	expect 255 vial cat "$SIF:/etc/loop"
	one_fatal_line "links"
	expect 255 vial cat "$SIF:/etc/dangling"
	one_fatal_line "has no /nowhere"
	expect 255 vial cat "$SIF:/etc/file/x"
	one_fatal_line "not a directory"
	expect 255 vial cat "$SIF:/etc"
	one_fatal_line "is a directory"
	expect 255 vial cat "$SIF:/etc/fifo"
	one_fatal_line "no regular file"
	expect 255 vial ls "$SIF:/etc/none"
	one_fatal_line "has no /etc/none"
	expect 0 vial cat "$SIF:/../../etc/./dir/../file"
	stdout_is "in the image"
}

@test "tools: ls shows what ls shows" {
	for image in "$SIF" "$UNPACKED"; do
		vial ls -R "$image:/etc" >got
		(cd "$TREE" && ls -1R /"$PWD"/etc | sed "s|^/*$PWD||; s|^/etc|/etc|") >/dev/null
		(cd "$UNPACKED/etc" && ls -1R . | sed 's|^\.\(.*\):$|/etc\1:|') >want
		diff want got
		vial ls -a --zero "$image:/etc" >got
		(cd "$UNPACKED/etc" && printf '%s\0' *) >want
		cmp want got
		vial ls -l "$image:/etc/random" | awk '{ print $1, $5 }' >got
		(cd "$UNPACKED/etc" && ls -l random | awk '{ print $1, $5 }') >want
		diff want got
		[[ $(vial ls -l "$image:/etc/soft") == l*" /etc/soft -> file" ]]
		[[ $(vial ls -l "$image:/etc/file") == -rwsr-x---* ]]
	done
	expect 0 vial ls -d "$SIF:/etc"
	stdout_is /etc
	expect 0 vial ls "$SIF:/abs"
	stdout_has random
}

@test "tools: names cannot write to a terminal, and a pipe gets them as they are" {
	vial ls "$SIF:/etc" | grep -q $'line\e\\[31m'
	expect 0 vial ls -b "$SIF:/etc"
	stdout_has 'new\nline\033[31m'
	script -qec "'$VIAL' ls '$SIF:/etc'" /dev/null </dev/null >shown
	grep -qF '$'"'new\\nline\\033[31m'" shown
	run ! grep -q $'\e\\[31m' shown
	expect 0 vial ls --json "$SIF:/etc"
	python3 -c '
import json, sys
d = {e["path"]: e for e in json.load(sys.stdin)}
assert d["/etc/new\nline\x1b[31m"]["size"] == 1
assert d["/etc/file"]["mode"] == "4750" and d["/etc/soft"]["target"] == "file"' <<<"$output"
}

@test "tools: cp copies a file once, and replaces it only when told" {
	expect 0 vial cp "$SIF:/etc/random" .
	cmp random "$TREE/etc/random"
	echo mine >random
	expect 255 vial cp "$SIF:/etc/random" .
	one_fatal_line "exists already"
	[ "$(cat random)" = mine ]
	expect 0 vial cp -f "$SIF:/etc/random" .
	cmp random "$TREE/etc/random"
	expect 0 vial cp "$SIF:/etc/soft" named
	[ "$(cat named)" = "in the image" ]
	[ ! -L named ]
	[ ! -u named ]
	expect 255 vial cp "$SIF:/etc" dir
	one_fatal_line "-r copies"
	expect 0 vial cp "$SIF:/etc/holes" holes
	cmp holes "$TREE/etc/holes"
	[ "$(stat -c %b holes)" -lt 1000 ]
	[ "$(find . -name '.vial-*' | wc -l)" -eq 0 ]
}

@test "tools: cp onto a file system without links and nameless files" {
	without_links() { "$HERE/deny.py" linkat=EPERM,openat:0x400000@2=EOPNOTSUPP "$VIAL" "$@"; }
	expect 0 without_links cp "$SIF:/etc/random" got
	cmp "$TREE/etc/random" got
	expect 255 without_links cp "$SIF:/etc/soft" got
	one_fatal_line "exists already"
	expect 0 without_links cp -f "$SIF:/etc/random" got
	[ "$(ls -A -I 'separate-stderr*')" = "$(printf '%s\n' got home)" ]
}

@test "tools: cp -r is the tree that unsquashfs makes" {
	expect 0 vial cp -rp "$SIF:/" got
	tell "$UNPACKED" | grep -v ' f 4750 \| f 750 ' >want.list
	tell got | grep -v ' f 4750 \| f 750 ' >got.list
	diff want.list got.list
	[ got/etc/file -ef got/etc/hard ]
	expect 0 vial diff --no-owner "$SIF" "$UNPACKED"
	mkdir there
	expect 0 vial cp -r "$SIF:/etc/dir" there
	[ -e there/dir/a:b ]
}

@test "tools: owners come along for root, set-id bits only with them" {
	expect 0 vial cp -p "$SIF:/etc/file" file
	if is_root; then
		[ "$(stat -c %a file)" = 4750 ]
	else
		[ "$(stat -c %u file)" = "$(id -u)" ]
	fi
	[ "$(stat -c %Y file)" = "$(stat -c %Y "$TREE/etc/file")" ]
}

@test "tools: capabilities of files come along for root" {
	need_root
	mkdir -p t/dir
	seq 100000 >t/dir/tool
	touch t/dir/empty
	# version 2, effective: cap_net_raw
	python3 -c '
import os, struct
for name in "t/dir/tool", "t/dir/empty":
    os.chown(name, 7, 8)
    os.setxattr(name, "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0))'
	mksquashfs t t.sqfs -quiet -no-progress >/dev/null
	expect 0 vial cp -rp t.sqfs:/dir got
	stderr_is ""
	expect 0 vial cp -p t.sqfs:/dir/tool got/again
	python3 -c '
import os
want = os.getxattr("t/dir/tool", "security.capability")
for name in "got/tool", "got/empty", "got/again":
    assert os.getxattr(name, "security.capability") == want, name
    assert (os.stat(name).st_uid, os.stat(name).st_gid) == (7, 8), name'
	cmp t/dir/tool got/tool
}

@test "tools: nothing is written through links of the place or of the image" {
	mkdir -p outside dest
	ln -s ../outside dest/dir
	expect 255 vial cp -rf "$SIF:/etc/dir" dest
	one_fatal_line "is no directory"
	[ -z "$(ls outside)" ]
	# a link first, then names below it: only a made-up image has both
	mkdir -p t/x
	ln -s "$PWD/outside" t/x/link
	vial -q build t.sif t
	expect 0 vial cp -r t.sif:/x copy
	[ -L copy/link ]
	ln -s "$PWD/outside/file" dest/random
	expect 0 vial cp -f "$SIF:/etc/random" dest/random
	[ ! -L dest/random ]
	[ -z "$(ls outside)" ]
}

@test "tools: a damaged block is one error, and no file" {
	cp "$SQUASHFS" bad.sqfs
	# the data comes first: most of it is spoilt, the tables are not
	python3 - bad.sqfs <<-'PY'
		import sys
		b = bytearray(open(sys.argv[1], 'rb').read())
		n = len(b)
		for i in range(96, n * 3 // 4):
		    b[i] ^= 0x5a
		open(sys.argv[1], 'wb').write(b)
	PY
	expect 255 vial cp -r bad.sqfs:/ out
	one_fatal_line
	[ -z "$(find . -name '.vial-*')" ]
	for f in $(find out -type f -size +0 2>/dev/null); do cmp "$f" "$TREE/${f#out/}"; done
	truncate -s 4096 bad.sqfs
	for command in "ls -R bad.sqfs" "cat bad.sqfs:/etc/file" "cp -r bad.sqfs:/ new"; do
		# shellcheck disable=SC2086
		expect 255 vial $command
		one_fatal_line bad.sqfs || one_fatal_line squashfs
	done
	[ ! -e new ]
	expect 2 vial diff bad.sqfs "$SIF"
	one_fatal_line
}

@test "tools: diff tells each way in which files differ" {
	expect 0 vial diff "$SIF" "$SQUASHFS"
	stdout_is ""
	mkdir -p a/d b/d
	for d in a b; do
		printf 'one\n' >$d/same
		ln -s t$d $d/link
		printf '%s\n' $d >$d/content
		printf '%s\n' $d$d$d >$d/size
		: >$d/mode
	done
	printf 'longer' >>b/size
	chmod 600 a/mode
	chmod 640 b/mode
	: >a/gone
	mkdir b/d/new
	: >a/type
	mkdir b/type
	chmod 644 a/type
	for pair in "a b" "a.sif b.sif" "a.sif b" "a b.sif"; do
		[ -e a.sif ] || { vial -q build a.sif a && vial -q build --compress gzip b.sif b; }
		# shellcheck disable=SC2086
		expect 1 vial diff --no-owner $pair
		stdout_has "D /gone"
		stdout_has "A /d/new"
		stdout_has "C /content  (content)"
		stdout_has "C /link  (target ta -> tb)"
		stdout_has "C /mode  (mode 0600 -> 0640)"
		stdout_has "C /size  (size 4 -> 10)"
		stdout_has "C /type  (type file -> directory)"
		stdout_lacks same
	done
	expect 1 vial diff --stat a b
	stdout_has "1 added, 1 removed, 5 changed"
	expect 1 vial diff --json a b
	python3 -c '
import json, sys
d = json.load(sys.stdin)
assert (d["added"], d["removed"], d["changed"]) == (1, 1, 5), d
assert [e for e in d["differences"] if e["path"] == "/mode"][0]["differs"] == ["mode"]' <<<"$output"
	expect 0 vial diff --no-owner a.sif:/d a:/d
	expect 2 vial diff a.sif none.sif
	one_fatal_line none.sif
	expect 2 vial diff --no-such a.sif b.sif
}

@test "tools: what is much is no matter of memory" {
	mkdir big
	truncate -s 3G big/zeros
	vial -q build big.sif big
	[ "$(bash -c 'ulimit -v "$1"; exec "$VIAL" cat big.sif:/zeros' - "$(addresses 400000)" | wc -c)" -eq $((3 << 30)) ]
	expect 0 bash -c 'ulimit -v "$1"; exec "$VIAL" cp big.sif:/zeros .' - "$(addresses 400000)"
	[ "$(stat -c '%s %b' zeros)" = "$((3 << 30)) 0" ]
}

@test "tools: build --sandbox makes a directory that can be changed and built again" {
	expect 0 vial -q build --sandbox box/ "$SIF"
	expect 0 vial exec -w box sh -c 'echo changed >/etc/file2 && cat /etc/dir/a:b'
	stdout_is deep
	[ "$(cat box/etc/file2)" = changed ]
	[ -w box/etc/dir ]
	expect 255 vial -q build --sandbox box "$SIF"
	one_fatal_line "exists already"
	expect 0 vial -q build -F -s box "$SQUASHFS"
	[ ! -e box/etc/file2 ]
	local option
	for option in --arch=amd64 --platform=linux/amd64 --compress=gzip --block-size=4K --threads=1 --max-size=1G --owner=root \
		--mksquashfs-args=-all-root; do
		expect 1 vial build "$option" --sandbox new "$SIF"
		stderr_has "${option%%=*} has no effect"
		expect 1 vial build "$option" --sandbox new box
		[ ! -e new ]
	done
	expect 0 env VIAL_COMPRESS=gzip VIAL_THREADS=1 "$VIAL" -q build --sandbox new "$SQUASHFS"
	make_oci layout app '{"Env":["A=1"]}' "$TREE"
	expect 0 vial -q build --threads 1 --disable-cache --sandbox other oci:layout:app
	expect 0 vial exec other sh -c 'echo $A'
	stdout_is 1
	expect 0 vial -q build again.sif box
	expect 0 vial cat again.sif:/etc/hard
	stdout_is "in the image"
	[ -z "$(find . -maxdepth 1 -name '*.vial-*')" ]
}

@test "tools: names that a squashfs may not have are refused" {
	mkdir -p t/dir
	echo secret >t/dir/zz
	echo secret >t/dir/a_b
	printf 'old' >outside
	vial -q build --compress none t.sif t
	for name in zz:.. a_b:a/b a_b:../; do
		python3 - "${name%%:*}" "${name#*:}" <<-'PY'
			import sys
			old, new = sys.argv[1].encode(), sys.argv[2].encode()
			b = open('t.sif', 'rb').read()
			assert b.count(old) >= 1
			open('bad.sif', 'wb').write(b.replace(old, new))
		PY
		for command in "ls -R bad.sif" "cp -r bad.sif:/dir out" "cat bad.sif:/dir/zz"; do
			# shellcheck disable=SC2086
			expect 255 vial $command
			one_fatal_line damaged
		done
		expect 2 vial diff bad.sif t.sif
		[ "$(find out -type f 2>/dev/null | grep -vc a_b)" -eq 0 ]
	done
	[ "$(cat outside)" = old ]
}
