# An image that was laid out for a start is the same tree to everybody, and is read in few large pieces.
load common
load images

setup_file() {
	make_images
	mkdir "$TREE/data" "$TREE/data/empty"
	seq 150000 >"$TREE/data/text" # some 1 MB, which compresses
	seq 200000 290000 >"$TREE/data/other"
	cp "$TREE/data/text" "$TREE/data/copy" # shares its blocks
	ln "$TREE/data/text" "$TREE/data/hard"
	ln -s text "$TREE/data/soft"
	seq 300 >"$TREE/data/small"
	cp "$TREE/data/small" "$TREE/data/small-too"
	seq 5 >"$TREE/data/tiny"
	: >"$TREE/data/nothing"
	truncate -s 1M "$TREE/data/hole"
	seq 50000 >>"$TREE/data/hole"
	mkfifo "$TREE/data/fifo"
	chmod 4711 "$TREE/data/tiny"
	touch -d @1234567890 "$TREE/data/small"
	setfattr -n user.note -v here "$TREE/data/text" "$TREE/data/empty" 2>/dev/null || true
	local i
	mkdir "$TREE/data/many"
	for ((i = 0; i < 300; i++)); do seq "$i" $((i * 5)) >"$TREE/data/many/$i"; done
	make_sif "$BATS_FILE_TMPDIR/plain.sif" "$TREE"
}

setup() {
	common_setup
	cp "$BATS_FILE_TMPDIR/plain.sif" app.sif
}
# reads some of all kinds: whole files, one block of one, tails, a hole, a link, a folder
READ='cat /data/text /data/small /data/soft /data/many/7 >/dev/null; head -c 1200000 /data/hole | wc -c; tail -c 5 /data/other; ls -l /data/many | wc -l'

# partition SIF: its squashfs on stdout
partition() {
	vial sif dump "$(vial sif list "$1" | sed -n 's/^\([0-9]*\) .*Squashfs.*/\1/p')" "$1"
}

# tree SQUASHFS DIR: unpacks it. Sizes of folders are those of their lists, which are nobody's content.
tree() {
	# who is not root gets no devices, and hears of it
	unsquashfs -no-progress -quiet -d "$2" "$1" >unsquashfs.log 2>&1 || ! is_root || { cat unsquashfs.log && return 1; }
	(cd "$2" && find . -printf '%P %y %m %U %G %T@ %n %l %D\n' | sed 's/ [0-9]*$//' | sort
		find . ! -type d -printf '%P %s %b\n' | sort
		find . -type f -links +1 -printf '%i %P\n' | sort | awk '{ a[$1] = a[$1] " " $2 } END { for (i in a) print a[i] }' | sort
		getfattr -hdR -m - . 2>/dev/null | sort) >"$2.list"
}

same_tree() { # SQUASHFS SQUASHFS
	rm -rf one two
	tree "$1" one
	tree "$2" two
	diff one.list two.list
	diff -r --no-dereference --exclude fifo --exclude devices one two
	unsquashfs -stat "$2" >stat
	grep -q 'valid SQUASHFS 4:0' stat
}

# sif_of SQUASHFS OUT
sif_of() {
	local arch
	arch=$(uname -m | sed 's/x86_64/2/;s/aarch64/4/')
	vial sif new "$2"
	vial sif add "$2" "$1" --datatype 4 --parttype 2 --partfs 1 --partarch "$arch" --groupid 1
}

# byte_of NEEDLE FILE: where the file NEEDLE's first 100000 bytes stand in FILE, or "none"
byte_of() {
	python3 -c '
import sys
at = open(sys.argv[2], "rb").read().find(open(sys.argv[1], "rb").read(100000))
print(at if at >= 0 else "none")' "$1" "$2"
}

@test "the tree is what it was" {
	partition app.sif >before
	expect 0 vial optimize app.sif -- sh -c "$READ"
	stderr_has "which lie together now"
	partition app.sif >after
	run ! cmp -s before after
	same_tree before after
	expect 0 vial exec app.sif sh -c 'cat /data/text /data/copy /data/hard /data/other /data/hole /data/small /data/small-too /data/many/*'
	[ "$(printf '%s\n' "$output" | sha256sum)" = "$(cd "$TREE/data" && { cat text copy hard other hole small small-too many/* | tr -d '\0'; } | sha256sum)" ] || complain "content"
}

@test "the tree is what it was, with each codec, block size and layout, owners and devices" {
	local args n=0
	for args in "-comp gzip -b 4096" "-comp gzip -Xcompression-level 1 -b 1M" "-comp zstd -no-fragments" \
		"-comp xz -Xdict-size 50% -always-use-fragments" "-comp lz4 -Xhc" "-comp gzip -noI -noD -noF" "-comp zstd -no-exports"; do
		echo "# $args"
		# shellcheck disable=SC2086 # words
		mksquashfs "$TREE" before -noappend -quiet -no-progress $args -p 'data/devices d 755 1 2' \
			-p 'data/devices/null c 666 0 0 1 3' -p 'data/devices/disk b 660 0 6 259 70000' >log 2>&1 || { cat log && return 1; }
		rm -f app.sif
		sif_of before app.sif
		expect 0 vial optimize app.sif sh -c "$READ"
		partition app.sif >after
		same_tree before after
		unsquashfs -s before | grep -E '^(Compression|Block size|Filesystem is)|level|Dict|High|Filters' >settings.before
		unsquashfs -s after | grep -E '^(Compression|Block size|Filesystem is)|level|Dict|High|Filters' >settings.after
		diff settings.before settings.after
		n=$((n + 1))
	done
	[ "$n" -eq 7 ]
}

@test "the kernel sees the same" {
	need_root
	partition app.sif >before
	expect 0 vial optimize app.sif sh -c "$READ"
	partition app.sif >after
	mkdir a b
	# shellcheck disable=SC2016 # expanded inside
	run unshare -m --propagation private sh -c 'mount -t squashfs -o loop,ro before a && mount -t squashfs -o loop,ro after b || exit 77
		(cd a && find . -printf "%P %y %m %U %G %T@ %n %l\n" | sort) >a.list; (cd b && find . -printf "%P %y %m %U %G %T@ %n %l\n" | sort) >b.list
		diff a.list b.list && diff -r --no-dereference --exclude fifo a b && [ "$(wc -l <a.list)" -gt 300 ] &&
		[ "$(getfattr -d b/data/text)" = "$(getfattr -d a/data/text | sed "s|a/|b/|")" ]'
	[ "$status" -ne 77 ] || skip "needs loop devices and squashfs in the kernel"
	[ "$status" -eq 0 ] || { echo "$output" && return 1; }
}

@test "what is read comes first, uncompressed; the rest stays as it is" {
	partition app.sif >before
	[ "$(byte_of "$TREE/data/text" before)" = none ]
	expect 0 vial optimize app.sif cat /data/text /data/small
	partition app.sif >after
	at=$(byte_of "$TREE/data/text" after)
	echo "# at $at"
	[ "$at" != none ]
	[ "$at" -lt 8000000 ]
	[ "$(byte_of "$TREE/data/small" after)" != none ] # the tail
	[ "$(byte_of "$TREE/data/other" after)" = none ]
	expect 0 vial sif dump "$(vial sif list app.sif | sed -n 's/^\([0-9]*\) .*JSON.*/\1/p' | tail -n 1)" app.sif
	printf '%s' "$output" | AT=$at python3 -c '
import json, os, sys
p = json.load(sys.stdin)
assert p["version"] == 1 and p["command"] == ["cat", "/data/text", "/data/small"], p
at, (off, length) = int(os.environ["AT"]), p["extents"][0]
assert off <= at < at + 100000 <= off + length, p
assert p["files"] >= 3 and p["bytes"] > 1000000, p'
	# the copy shares the blocks still
	[ "$(stat -c %s after)" -lt "$(($(stat -c %s before) + 6000000))" ]
}

@test "far away, a start is fewer reads" {
	mkdir far near
	cp app.sif far/a.sif
	expect 0 vial optimize -o far/b.sif app.sif sh -c 'cat /data/*/* /data/text >/dev/null'
	for image in a b; do
		"${VIAL%/*}/tests/slowfs/slowfs" 100 "$image" far near 3>&- &
		slowfs=$!
		eventually test -e near/a.sif
		expect 0 vial exec "near/$image.sif" sh -c 'cat /data/*/* /data/text | wc -c'
		eventually fusermount3 -u near
		wait "$slowfs"
	done
	before=$(cut -d' ' -f1 a)
	after=$(cut -d' ' -f1 b)
	echo "# $before reads before, $after after"
	[ "$after" -lt "$((before * 2 / 3))" ]
}

@test "again with the same command, nothing changes" {
	expect 0 vial optimize app.sif cat /data/text /data/small /data/many/9
	partition app.sif >one
	vial sif list app.sif >listed
	expect 0 vial optimize app.sif cat /data/text /data/small /data/many/9
	partition app.sif >two
	cmp one two
	vial sif list app.sif >again
	diff again listed
}

@test "other objects are kept, signatures are not, and that is said" {
	seq 9 >note
	expect 0 vial sif add app.sif note --datatype 7 --groupid 1 --filename note
	vial key newpair me >keyid
	expect 0 vial sign --key me.pem app.sif
	expect 0 vial optimize app.sif true
	[[ $stderr == *"WARNING: "*"1 signature no longer held and was left out; sign the image again"* ]]
	expect 255 vial verify --key me.pub.pem app.sif
	vial sif list app.sif >listed
	run ! grep Signature listed
	vial sif dump "$(sed -n 's/^\([0-9]*\) .*Generic\/.*/\1/p;s/^\([0-9]*\) .*|Generic.*/\1/p' listed | head -n 1)" app.sif | cmp - note
	expect 0 vial inspect app.sif
	expect 0 vial sign --key me.pem app.sif
	expect 0 vial verify --key me.pub.pem app.sif
	expect 0 vial -q optimize app.sif true
}

@test "the mode stays, a link stays a link, --output leaves the image alone" {
	chmod 640 app.sif
	sha256sum app.sif >sum
	ln -s app.sif link.sif
	expect 0 vial optimize --output new.sif link.sif true
	sha256sum -c sum
	expect 255 vial optimize -o new.sif app.sif touch ran
	one_fatal_line "new.sif"
	[ ! -e ran ]
	expect 0 vial optimize -F -o new.sif app.sif true
	expect 0 vial optimize link.sif true
	[ -L link.sif ]
	[ "$(stat -c %a app.sif)" = 640 ]
	run ! sha256sum -c sum
	echo "# $(ls -A)"
	[ "$(ls -A -I 'separate-stderr*')" = "$(printf '%s\n' app.sif home link.sif new.sif sum)" ]
}

@test "a command that fails writes nothing, and its status is ours" {
	sha256sum app.sif >sum
	expect 7 vial optimize app.sif sh -c 'exit 7'
	one_fatal_line "the command ended with status 7: nothing was written"
	expect 127 vial optimize app.sif no-such-program
	sha256sum -c sum
	expect 1 vial optimize app.sif
	expect 1 vial optimize app.sif --
	expect 255 vial optimize missing.sif true
	one_fatal_line missing.sif
}

@test "binds and variables are as exec has them" {
	mkdir host
	expect 0 vial optimize --bind "$PWD/host:/mnt/place" --env A=b app.sif sh -c 'echo "$A" >/mnt/place/file'
	[ "$(cat host/file)" = b ]
}

@test "more than fits is left out, and that is said" {
	expect 0 vial optimize --hot-size 1M app.sif cat /data/text /data/hole /data/other
	stderr_has "more than fit; --hot-size allows more"
	expect 1 vial optimize --hot-size much app.sif true
	expect 0 vial exec app.sif sh -c 'cat /data/other | wc -c'
	stdout_is "$(wc -c <"$TREE/data/other")"
}

@test "a profile that makes no sense is no profile" {
	local text
	for text in '' '{' '[]' '{"version":2,"extents":[[0,1]]}' '{"version":1,"extents":[[-1,5]]}' \
		'{"version":1,"extents":[[0,9223372036854775807],[96,9223372036854775807]]}' '{"version":1,"extents":[[9e30,1]]}' \
		'{"version":1,"extents":[[0,1],[0,1],[0,1],[0,1],[0,1],[0,1],[0,1],[0,1],[0,1]]}' '{"version":1,"extents":"all"}' \
		'{"version":1,"extents":[[0,1000000],[1,7],[2,100000],[50,5000]]}'; do
		echo "# $text"
		cp "$BATS_FILE_TMPDIR/plain.sif" p.sif
		printf '%s' "$text" >object
		expect 0 vial sif add p.sif object --datatype 6 --groupid 1 --filename vial-profile.json
		expect 0 vial exec p.sif sh -c 'cat /data/text | wc -c'
		stdout_is "$(wc -c <"$TREE/data/text")"
		stderr_is ""
	done
	expect 0 vial optimize p.sif true
	[ "$(vial sif list p.sif | grep -c JSON)" -eq "$(($(vial sif list "$BATS_FILE_TMPDIR/plain.sif" | grep -c JSON) + 1))" ]
}

@test "a damaged image is refused and stays what it is" {
	local off
	read -r off _ < <(vial sif list app.sif | sed -n 's/.*|\([0-9]*\)-\([0-9]*\) *|FS (Squashfs.*/\1 \2/p')
	# the last tables are read when something is mounted; content that nobody reads is found when it is moved
	python3 - "$off" <<'EOF'
import struct, sys
off = int(sys.argv[1])
b = bytearray(open("app.sif", "rb").read())
inodes, = struct.unpack_from("<Q", b, off + 64)
for i in range(off + inodes + 2000, off + inodes + 3000):
    b[i] ^= 0x5a
open("bad.sif", "wb").write(b)
EOF
	sha256sum bad.sif >sum
	expect 125 vial optimize bad.sif true # as exec does: it cannot even be mounted
	one_fatal_line bad.sif
	sha256sum -c sum
	head -c 1000 app.sif >short.sif
	expect 255 vial optimize short.sif true
	expect 255 vial optimize "$SQUASHFS" true
	one_fatal_line "is not a SIF"
	echo "# $(ls -A)"
	[ "$(ls -A -I 'separate-stderr*')" = "$(printf '%s\n' app.sif bad.sif home short.sif sum)" ]
}

@test "killed while it works, the image is the old one or the new one" {
	local i
	sha256sum <app.sif >sum
	expect 137 sh -c '"$0" optimize app.sif sh -c "kill -9 \$PPID"' "$VIAL" # its parent is who records
	sha256sum <app.sif | diff - sum
	for i in 1 2 3 4 5; do
		rm -f ran
		mkfifo ran
		vial optimize app.sif sh -c "echo >'$PWD/ran'; cat /data/text >/dev/null" 3>&- 2>/dev/null &
		read -r _ <ran
		kill -9 $! || true
		wait $! || true
		expect 0 vial exec app.sif sh -c 'cat /data/text | wc -c'
		stdout_is "$(wc -c <"$TREE/data/text")"
	done
}

# optimize_meanwhile [OPTION...]: optimize in the background, whose command waits for optimize_ends
optimize_meanwhile() {
	rm -f go ran
	mkfifo ran
	vial optimize "$@" app.sif sh -c "echo >'$PWD/ran'; until [ -e '$PWD/go' ]; do sleep 0.05; done; cat /data/text >/dev/null" \
		3>&- 2>optimize.log &
	optimize=$!
	read -r _ <ran
}

optimize_ends() { # STATUS
	local got=0
	: >go
	wait "$optimize" || got=$?
	cat optimize.log
	[ "$got" -eq "$1" ]
}

@test "an image that is replaced or changed while the command runs is left alone" {
	optimize_meanwhile
	cp app.sif new.sif
	seq 9 >note
	vial sif add new.sif note --datatype 7 --groupid 1 --filename note
	mv new.sif app.sif
	sha256sum app.sif >sum
	optimize_ends 255
	grep -q "app.sif has been replaced or changed since the command was started" optimize.log
	sha256sum -c sum

	optimize_meanwhile
	rm app.sif
	optimize_ends 255
	[ ! -e app.sif ]

	# another image in the same file: another UUID
	cp "$BATS_FILE_TMPDIR/plain.sif" app.sif
	optimize_meanwhile -o out.sif
	printf other-image-here | dd of=app.sif bs=1 seek=48 conv=notrunc status=none
	optimize_ends 255
	[ ! -e out.sif ]
}

@test "what overlay create adds while the command runs is kept; who writes to it is in the way" {
	optimize_meanwhile
	expect 0 vial overlay create --size 64 app.sif
	expect 0 vial exec --private-mount --writable app.sif sh -c 'echo kept >/etc/kept'
	optimize_ends 0
	expect 0 vial exec app.sif cat /etc/kept
	stdout_is kept

	cp "$BATS_FILE_TMPDIR/plain.sif" app.sif
	optimize_meanwhile
	expect 0 vial overlay create --size 64 app.sif
	mkfifo wrote
	vial exec --writable app.sif sh -c "echo >'$PWD/wrote'; until [ -e '$PWD/finish' ]; do sleep 0.05; done; echo late >/etc/late" 3>&- &
	writer=$!
	read -r _ <wrote
	optimize_ends 255
	grep -q "app.sif is in use: it is being changed" optimize.log
	: >finish
	wait "$writer"
	expect 0 vial exec app.sif cat /etc/late
	stdout_is late
}

@test "build --profile: both in one go" {
	expect 0 vial build --profile 'cat /data/text | wc -c' new.sif "$TREE"
	stdout_is "$(wc -c <"$TREE/data/text")"
	partition new.sif >after
	[ "$(byte_of "$TREE/data/text" after)" != none ]
	expect 3 vial build --force --profile 'exit 3' new.sif "$TREE"
	stderr_has "new.sif was built, without a profile"
	expect 0 vial exec new.sif true
}
