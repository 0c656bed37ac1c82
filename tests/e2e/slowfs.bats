# On a shared file system each read of the image is a message to a server far away: what a start costs
# there is the number of its reads. Counted by tests/slowfs, which shows a directory and delays reads.
load common
load images

setup_file() {
	make_images
	mkdir "$BATS_FILE_TMPDIR/far"
	# bigger than what is read at a start, as images are
	mkdir "$TREE/data"
	head -c 3000000 /dev/urandom >"$TREE/data/random"
	seq 400000 >"$TREE/data/text"
	make_sif "$BATS_FILE_TMPDIR/far/test.sif" "$TREE"
}
setup() {
	common_setup
	mkdir near
	"${VIAL%/*}/tests/slowfs/slowfs" 100 counts "$BATS_FILE_TMPDIR/far" near 3>&- &
	slowfs=$!
	eventually test -e near/test.sif
}
teardown() {
	[ ! -e near/test.sif ] || fusermount3 -uz near
	common_teardown
}

# count_reads: $reads and $bytes of everything since the mount. Unmounting waits for the server's end.
count_reads() {
	eventually fusermount3 -u near
	wait "$slowfs"
	read -r reads bytes <counts
	echo "# $reads reads, $bytes bytes"
}

@test "a start costs a bounded number of reads" {
	expect 0 vial exec near/test.sif true
	count_reads
	[ "$reads" -ge 1 ]
	[ "$reads" -le 60 ]
	[ "$bytes" -le 4000000 ]
}

@test "a file is read once, and in pieces not smaller than its blocks" {
	expect 0 vial exec near/test.sif sh -c 'cat /data/random | wc -c'
	stdout_is 3000000
	count_reads
	[ "$bytes" -ge 3000000 ]
	[ "$bytes" -le 8000000 ]
	[ "$reads" -le 110 ]
}
