# What a program sees of an image is what the kernel's own squashfs shows of it (as root: with the same
# image mounted on a loop device), and what the image was made of (as anybody).
load common

setup_file() {
	mkdir "$BATS_FILE_TMPDIR/root"
	make_rootfs "$BATS_FILE_TMPDIR/root"
	python3 -B "$HERE/mount_tree.py" "$BATS_FILE_TMPDIR/root/data"
}

# One of each kind of tail and table: what a block size or a compressor meets must not depend on the others.
layout_options() { # N
	case $(($1 % 4)) in
	0) ;;
	1) echo -no-fragments ;;
	2) echo -always-use-fragments ;;
	3) echo -noI -noD -noF ;;
	esac
}

# What depends on block size and compressor; the rest of the tree is in one image, and compared once.
some=(--ignore links --ignore 5000 --ignore deep --ignore of-dirs --least 1000)
without=(-e data/links data/dirs/5000 data/dirs/deep data/dirs/of-dirs)
all=(--least 10000)

# image COMPRESSOR BLOCK N [OPTION...]: image.sqfs
image() {
	local comp=$1 block=$2 n=$3
	shift 3
	# a file of its own: what ran the last one may not have ended, with it the last one's loop device, which mount would take again
	rm -f image.sqfs
	# shellcheck disable=SC2046 # a list of words
	mksquashfs "$BATS_FILE_TMPDIR/root" image.sqfs -noappend -quiet -no-progress -comp "$comp" -b "$block" $(layout_options "$n") \
		-p 'data/devices d 755 0 0' -p 'data/devices/null c 666 0 0 1 3' -p 'data/devices/disk b 660 0 6 259 70000' \
		-p 'data/devices/many c 400 0 0 4095 1048575' "$@" >mksquashfs.log 2>&1 || { cat mksquashfs.log && return 1; }
}

# compare ARG...: differences fail the test.
compare() {
	run timeout 500 python3 -B "$HERE/mount_compare.py" "$@"
	same "$@"
}

# shellcheck disable=SC2034 # complain's
same() { [ "$status" -eq 0 ] || { COMMAND="mount_compare.py $*" stderr='' && complain "not the same"; }; }

# with_kernel ARG...: image.sqfs against the kernel's mount of it, which goes with its namespace
with_kernel() {
	# shellcheck disable=SC2016 # expanded inside
	compare_in='mount -t squashfs -o loop,ro,nodev,nosuid image.sqfs kernel 2>&1 || exit 77; exec timeout 500 python3 -B "$@"'
	mkdir -p kernel
	run unshare -m --propagation private sh -c "$compare_in" sh "$HERE/mount_compare.py" "$@" image.sqfs /data "$PWD/kernel/data"
	if [ "$status" -eq 77 ]; then
		echo "# $output" >&3
		skip "needs loop devices and squashfs in the kernel"
	fi
	same "$@"
}

# kernel_sees_the_same COMPRESSOR N BLOCK...
kernel_sees_the_same() {
	local comp=$1 n=$2 block
	shift 2
	need_root
	for block; do
		echo "# $comp, blocks of $block, $(layout_options "$n")"
		# the whole tree once: what it adds has to do with neither
		if [ "$comp $block" = "zstd 131072" ]; then
			image "$comp" "$block" "$n" && with_kernel "${all[@]}"
		else
			image "$comp" "$block" "$n" "${without[@]}" && with_kernel "${some[@]}"
		fi
		n=$((n + 1))
	done
}

# the least block and the largest for each, and the usual one for those that images have
@test "gzip: everything is as in the kernel's mount" { kernel_sees_the_same gzip 0 4096 131072 1048576; }
@test "xz: everything is as in the kernel's mount" { kernel_sees_the_same xz 1 4096 1048576; }
@test "lzo: everything is as in the kernel's mount" { kernel_sees_the_same lzo 2 4096 1048576; }
@test "lz4: everything is as in the kernel's mount" { kernel_sees_the_same lz4 3 4096 1048576; }
@test "zstd: everything is as in the kernel's mount" { kernel_sees_the_same zstd 4 4096 131072 1048576; }

@test "every compressor: everything is as in the tree that the image was made of" {
	local n=0 comp block
	need_user # root's image shows other owners; the kernel's mount tells more
	for comp in gzip xz lzo lz4 zstd; do
		block=$((4096 << (n * 2))) # 4 KiB to 1 MiB
		echo "# $comp, blocks of $block"
		if [ $comp = gzip ]; then
			image $comp $block $n
			compare --source --ignore devices "${all[@]}" image.sqfs /data "$BATS_FILE_TMPDIR/root/data"
		else
			image $comp $block $n "${without[@]}"
			compare --source --ignore devices "${some[@]}" image.sqfs /data "$BATS_FILE_TMPDIR/root/data"
		fi
		n=$((n + 1))
	done
}

@test "eight readers at once all read the same" {
	local n=0 comp
	for comp in gzip zstd; do
		image $comp $((4096 << (n * 4))) $n "${without[@]}"
		compare --readers 8 --ignore devices "${some[@]}" image.sqfs /data "$BATS_FILE_TMPDIR/root/data"
		n=$((n + 2))
	done
}

@test "the comparison finds what is different" {
	cp -a "$BATS_FILE_TMPDIR/root/data" other
	mksquashfs "$BATS_FILE_TMPDIR/root" image.sqfs -noappend -quiet -no-progress "${without[@]}" >/dev/null 2>&1
	compare --source --least 1000 "${some[@]}" image.sqfs /data "$PWD/other"
	flip_byte other/files/many-blocks 2000000
	ln -sf 2 other/hard/link
	touch other/dirs/257/new
	chmod 600 other/files/small3
	touch -d @5 other/files/small4
	run python3 -B "$HERE/mount_compare.py" --source "${some[@]}" image.sqfs /data "$PWD/other"
	[ "$status" -eq 1 ]
	for what in '/files/many-blocks: content is' '/hard/link: target is' '/dirs/257: listing is' '/files/small3: st_mode is' \
		'/files/small4: mtime is'; do
		stdout_has "$what"
	done
	run python3 -B "$HERE/mount_compare.py" --readers 2 "${some[@]}" image.sqfs /data "$PWD/other"
	[ "$status" -eq 1 ]
	stdout_has "reader 1: b'/files/many-blocks' differs"
}
