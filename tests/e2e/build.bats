# vial build: sources, options, what is in the image, and that failure leaves nothing.
load common

# The squashfs of a SIF, for tools that read no SIF.
squashfs_of() { vial sif dump "$(vial sif list "$1" | awk -F'|' '/FS \(Squashfs/ { print $1 + 0 }')" "$1" >"$2"; }

make_app() {
	make_rootfs tree
	make_oci layout app '{"Env":["A=1","PATH=/bin"],"Cmd":["/bin/sh"],"Labels":{"who":"me"}}' tree
}

@test "build: an OCI layout, by tag, by digest, and alone" {
	make_app
	expect 0 vial build a.sif oci:layout:app
	stderr_has "a.sif"
	digest=$(grep -o 'sha256:[0-9a-f]*' layout/index.json | head -n 1)
	expect 0 vial -q build b.sif "oci:layout@$digest"
	stderr_is ""
	expect 0 vial -q build c.sif oci:layout
	expect 255 vial build d.sif oci:layout:other
	one_fatal_line "app"
	[ ! -e d.sif ]
	[ "$(stat -c %a a.sif)" = 755 ] || [ "$(stat -c %a a.sif)" = 775 ]
}

@test "build: the same source gives the same bytes, whatever the number of threads" {
	make_app
	head -c 3000000 /dev/urandom >tree/bin/big
	cp tree/bin/big tree/bin/again
	make_oci layout app '{}' tree
	expect 0 vial -q build --threads 1 a.sif oci:layout:app
	expect 0 vial -q build --threads 7 b.sif oci:layout:app
	cmp a.sif b.sif
	expect 0 vial -q build c.sif tree
	expect 0 vial -q build d.sif tree
	cmp c.sif d.sif
}

@test "build: an archive and a directory hold what the layout holds" {
	make_app
	tar -C layout -cf app.tar .
	expect 0 vial -q build a.sif oci:layout:app
	expect 0 vial -q build b.sif oci-archive:app.tar:app
	gzip app.tar
	expect 0 vial -q build c.sif oci-archive:app.tar.gz
	squashfs_of a.sif a.sqfs && squashfs_of b.sif b.sqfs && squashfs_of c.sif c.sqfs
	cmp a.sqfs b.sqfs && cmp a.sqfs c.sqfs
	expect 0 vial -q build d.sif tree
	squashfs_of d.sif d.sqfs
	unsquashfs -no-progress -d out d.sqfs >/dev/null
	for f in bin/sh etc/passwd etc/os-release usr/bin/env; do
		[ "$(readlink "tree/$f")" = "$(readlink "out/$f")" ]
		[ -L "tree/$f" ] || cmp "tree/$f" "out/$f"
	done
}

@test "build: every codec and block size reads back the same" {
	make_app
	for codec in zstd zstd:15 gzip gzip:1 xz lz4 none; do
		expect 0 vial -q build -F --compress "$codec" a.sif oci:layout:app
		squashfs_of a.sif a.sqfs
		rm -rf out
		unsquashfs -no-progress -no-xattrs -d out a.sqfs >/dev/null
		diff -r --no-dereference tree/bin out/bin
	done
	for size in 4K 1M; do
		expect 0 vial -q build -F --block-size "$size" a.sif oci:layout:app
		squashfs_of a.sif a.sqfs
		rm -rf out
		unsquashfs -no-progress -no-xattrs -d out a.sqfs >/dev/null
		diff -r --no-dereference tree/bin out/bin
	done
	expect 0 vial -q build -F --mksquashfs-args '-comp gzip -Xcompression-level 2 -b 64K -processors 1' a.sif oci:layout:app
	squashfs_of a.sif a.sqfs
	unsquashfs -s a.sqfs | grep -q 'Compression gzip'
	unsquashfs -s a.sqfs | grep -q 'Block size 65536'
	expect 1 vial build -F --mksquashfs-args '-wildcards' a.sif oci:layout:app
	stderr_has "wildcards"
	expect 255 vial build -F --compress brotli a.sif oci:layout:app
	one_fatal_line "brotli"
	stderr_has "zstd, gzip, xz, lz4" # and lzo only where the library has it
	if [[ $stderr != *lzo* ]]; then
		expect 255 vial -q build -F --compress lzo a.sif oci:layout:app
		one_fatal_line "is not in this libsquashfs: zstd"
	fi
	expect 255 vial build -F --block-size 5000 a.sif oci:layout:app
	one_fatal_line "power of two"
}

@test "build: equal files are stored once, large and small" {
	mkdir -p tree/d
	head -c 5000000 /dev/urandom >tree/d/large1
	head -c 1000 /dev/urandom >tree/d/small1
	for i in 2 3 4 5; do cp tree/d/large1 "tree/d/large$i" && cp tree/d/small1 "tree/d/small$i"; done
	# the same blocks and another end: a run that must not be taken for the first one
	cp tree/d/large1 tree/d/longer && echo more >>tree/d/longer
	make_oci layout app '{}' tree
	expect 0 vial -q build a.sif oci:layout:app
	[ "$(stat -c %s a.sif)" -lt 6000000 ]
	squashfs_of a.sif a.sqfs
	unsquashfs -no-progress -no-xattrs -d out a.sqfs >/dev/null
	diff -r tree/d out/d
}

@test "build: a file that only a hard link still needs is fetched again" {
	mkdir -p one/etc two/etc
	echo kept >one/etc/conf
	ln one/etc/conf one/etc/hard
	echo new >two/etc/conf
	make_oci layout app '{}' one two
	expect 0 vial -q build a.sif oci:layout:app
	squashfs_of a.sif a.sqfs
	unsquashfs -no-progress -no-xattrs -d out a.sqfs >/dev/null
	[ "$(cat out/etc/hard)" = kept ]
	[ "$(cat out/etc/conf)" = new ]
}

@test "build: metadata for Apptainer and SingularityCE is in place" {
	make_app
	expect 0 vial -q build a.sif oci:layout:app
	squashfs_of a.sif a.sqfs
	unsquashfs -no-progress -no-xattrs -d out a.sqfs >/dev/null
	for f in runscript startscript actions/exec actions/run actions/shell env/10-docker2singularity.sh labels.json; do
		[ -x "out/.singularity.d/$f" ]
	done
	[ "$(readlink out/singularity)" = .singularity.d/runscript ]
	[ -d out/proc ] && [ -d out/sys ] && [ -d out/home ]
	for shell in dash bash; do
		[ "$($shell -c '. out/.singularity.d/env/10-docker2singularity.sh; echo $A $PATH')" = "1 /bin" ]
		[ "$(A=host $shell -c '. out/.singularity.d/env/10-docker2singularity.sh; echo $A')" = host ]
	done
	# host driver libraries come behind the image's own
	[ "$(LD_LIBRARY_PATH=/own dash -c '. out/.singularity.d/env/99-base.sh; echo "$LD_LIBRARY_PATH"')" = /own:/.singularity.d/libs ]
	[ "$(env -u LD_LIBRARY_PATH dash -c '. out/.singularity.d/env/99-base.sh; echo "$LD_LIBRARY_PATH"')" = /.singularity.d/libs ]
	expect 0 vial inspect a.sif
	stdout_has "who: me"
	expect 0 vial sif dump 3 a.sif
	stdout_is '{"Env":["A=1","PATH=/bin"],"Cmd":["/bin/sh"],"Labels":{"who":"me"}}'
}

@test "build: ENV and CMD survive what shells do to text" {
	make_rootfs tree
	make_oci layout app '{"Env":["Q=a \"b\" '"'c'"' $HOME `id` \\ } ${X} {y}","M=l1\nl2","E=","A.B=skipped"],"Entrypoint":["/bin/printf","%s|"],"Cmd":["$HOME","it'"'"'s",""]}' tree
	expect 0 vial -q build a.sif oci:layout:app
	squashfs_of a.sif a.sqfs
	unsquashfs -no-progress -no-xattrs -d out a.sqfs >/dev/null
	for shell in dash bash; do
		[ "$($shell -c 'unset Q M E; . out/.singularity.d/env/10-docker2singularity.sh; printf "%s|%s|%s" "$Q" "$M" "${E-unset}"')" = \
			'a "b" '"'c'"' $HOME `id` \ } ${X} {y}|l1'$'\n''l2|' ]
		# the image's own words stay literal; the user's are evaluated once
		sed 's|/bin/printf|printf|' out/.singularity.d/runscript >run && sed -i 's/^exec "\$@"/"$@"/' run
		[ "$(HOME=/h $shell run)" = '$HOME|it'"'"'s||' ]
		[ "$(HOME=/h $shell run '$HOME' 'a "q" $HOME' '\$' "b\\")" = '/h|a "q" /h|$|b\|' ]
		[ "$(HOME=/h APPTAINER_NO_EVAL=1 $shell run '$HOME')" = '$HOME|' ]
	done
}

@test "build: an existing image is replaced only with --force, and whole" {
	make_app
	expect 0 vial -q build a.sif oci:layout:app
	cp a.sif before
	expect 255 vial build a.sif oci:layout:app
	one_fatal_line "--force"
	cmp a.sif before
	flip_byte "$(find layout/blobs -size +4k | head -n 1)" 2000
	expect 255 vial build -F a.sif oci:layout:app
	one_fatal_line "digest"
	cmp a.sif before
	[ "$(find . -maxdepth 1 -name '.*' -type f | wc -l)" -eq 0 ]
}

@test "build: unusual sources are refused in one line" {
	make_app
	expect 255 vial build a.sif oci:nowhere
	one_fatal_line nowhere
	expect 255 vial build a.sif docker-daemon:x
	one_fatal_line docker-daemon
	expect 255 vial build a.sif missing-dir
	one_fatal_line missing-dir
	mkfifo fifo
	expect 255 vial build a.sif oci-archive:fifo
	one_fatal_line "regular file"
	rm layout/index.json && mkfifo layout/index.json
	expect 255 vial build a.sif oci:layout:app
	one_fatal_line "regular file"
	expect 255 vial build . oci:layout:app
	one_fatal_line
	expect 255 vial build --arch pdp11 a.sif oci:layout:app
	one_fatal_line pdp11
	expect 255 vial build --arch s390x a.sif oci-archive:/dev/null
	one_fatal_line
	[ ! -e a.sif ]
}

@test "build: a layer that unpacks to more than the limit stops at it" {
	mkdir tree
	head -c 3000000 /dev/zero >tree/zeros
	make_oci layout app '{}' tree
	expect 255 vial build --max-size 1M a.sif oci:layout:app
	one_fatal_line "--max-size"
	[ ! -e a.sif ]
	# a hole of an exabyte costs nothing to send
	PYTHONPATH=$HERE/../data/oci python3 -B - <<-'PY'
		from ocigen import *
		l = Layout()
		raw = gnusparse_pax01('huge', [(0, b'x')], 1 << 60)
		l.image([l.layer(tar([RAW(raw)]))])
		l.write('holes')
	PY
	expect 255 vial build a.sif oci:holes:latest
	one_fatal_line "limit"
	[ ! -e a.sif ]
}

@test "build: killed at any moment it leaves nothing behind" {
	mkdir tree
	head -c 20000000 /dev/urandom >tree/big
	make_oci layout app '{}' tree
	for delay in 0 0.02 0.05 0.1 0.2; do
		"$VIAL" -q build k.sif oci:layout:app 3>&- &
		pid=$!
		sleep "$delay"
		kill -KILL $pid 2>/dev/null || true
		wait $pid 2>/dev/null || true
		if [ -e k.sif ]; then vial sif list k.sif >/dev/null; fi
		rm -f k.sif
	done
	expect 0 vial -q build k.sif oci:layout:app
	[ "$(find . -maxdepth 1 -name '.k.sif*' | wc -l)" -eq 0 ]
}

@test "build: ended by a signal it says so, exits with it and leaves nothing" {
	mkdir tree
	head -c 60000000 /dev/urandom >tree/big
	make_oci layout app '{}' tree
	"$VIAL" build --compress xz:9 i.sif oci:layout:app 2>err 3>&- &
	pid=$!
	until pgrep -P $pid >/dev/null; do kill -0 $pid; done # its worker runs: the work has begun
	kill -TERM $pid # a background job ignores INT
	status=0
	wait $pid || status=$?
	[ "$status" -eq 143 ]
	grep -q interrupted err
	[ ! -e i.sif ]
	[ "$(find . -maxdepth 1 -name '.i.sif*' | wc -l)" -eq 0 ]
}

@test "build: stale leftovers of a killed writer are removed by the next" {
	make_app
	touch .a.sif.vial-0123456789abcdef # nobody holds its lock
	expect 0 vial -q build a.sif oci:layout:app
	[ ! -e .a.sif.vial-0123456789abcdef ]
}

@test "build: a directory with odd things in it" {
	mkdir -p "tree/with space/ü" tree/empty
	ln -s nowhere tree/dangling
	ln -s loop tree/loop
	mkfifo tree/fifo
	printf x >"tree/new
line"
	echo hard >tree/h1 && ln tree/h1 tree/h2
	truncate -s 3M tree/holes && printf end >>tree/holes
	chmod 4755 tree/h1
	expect 0 vial -q build a.sif tree
	squashfs_of a.sif a.sqfs
	unsquashfs -no-progress -no-xattrs -d out a.sqfs >/dev/null
	[ -p out/fifo ] && [ "$(readlink out/dangling)" = nowhere ] && [ -d "out/with space/ü" ]
	[ "out/h1" -ef "out/h2" ]
	unsquashfs -lln a.sqfs | grep -q '^-rwsr-xr-x .* squashfs-root/h1$'
	cmp tree/holes out/holes
	[ "$(cat "out/new
line")" = x ]
}

@test "build: reports as JSON" {
	make_app
	expect 0 vial -q build --json a.sif oci:layout:app
	python3 -c 'import json,sys; d=json.loads(sys.argv[1]); assert d["layers"]==1 and d["image"]=="a.sif" and d["sourceDigest"].startswith("sha256:")' "$output"
}

# layout DIR PYTHON: a layout made with the corpus' tar writer.
layout() {
	PYTHONPATH=$HERE/../data/oci python3 -B - "$1" <<-PY
		import sys
		from ocigen import *
		l = Layout()
		$2
		l.write(sys.argv[1])
	PY
}

@test "build: a file of very many blocks needs no stack" {
	local stack=512
	! is_sanitized || stack=8192 # its own things lie on the stack of each thread
	layout many 'l.image([l.layer(tar([RAW(gnusparse_pax01("s", [], 1 << 35))]))])'
	(ulimit -s "$stack" && expect 0 vial -q build --block-size 4K a.sif oci:many:latest)
	squashfs_of a.sif a.sqfs
	unsquashfs -lln a.sqfs | grep -q ' 34359738368 .* squashfs-root/s$'
}

@test "build: names of an image cannot write to the terminal" {
	layout evil 'l.image([l.layer(tar([H("x", "no\nsuch\x1b[2Jfile")]))])'
	expect 255 vial build a.sif oci:evil:latest
	one_fatal_line 'no\x0asuch\x1b[2Jfile'
}

@test "build: a path with an at sign is no digest" {
	make_app
	mkdir 'a@b:c' && mv layout 'a@b:c/lay'
	expect 0 vial -q build a.sif 'oci:a@b:c/lay:app'
}

@test "build: a directory deeper than the limit of open files" {
	mkdir -p "tree/$(printf 'd/%.0s' {1..600})"
	(ulimit -Sn 256 && expect 0 vial -q build a.sif tree)
	squashfs_of a.sif a.sqfs
	[ "$(unsquashfs -lln a.sqfs | grep -c '/d$')" -eq 600 ]
}
