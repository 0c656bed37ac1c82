# vial pull, and images run by their URI: names, references, architectures, the cache, many at once.
load common
load registry

setup_file() {
	registry_setup
	start_registry REG
	start_proxy PROXY REG
	export TREE=$BATS_FILE_TMPDIR/tree
	make_rootfs "$TREE"
	printf 'in the image\n' >"$TREE/etc/file"
	mkdir "$BATS_FILE_TMPDIR/second"
	head -c 300000 /dev/urandom >"$BATS_FILE_TMPDIR/second/data"
	IMAGE_CONFIG='{"Env":["A=1","PATH=/bin"],"Cmd":["/bin/cat","/etc/file"]}' \
		push_image "$REG_HOST/apps/tool:1.0" "$TREE" "$BATS_FILE_TMPDIR/second"
	copy_image "docker://$REG_HOST/apps/tool:1.0" "docker://$REG_HOST/apps/tool:latest"
}
teardown_file() { stop_servers; }
setup() {
	common_setup
	registry_setup
	faults
	forget_requests
}
teardown() {
	stop_servers
	common_teardown
}

# nothing_but NAME...: what the directory holds, hidden or not, beside what this file puts there.
nothing_but() {
	local found
	found=$(find . -mindepth 1 -maxdepth 1 ! -name home ! -name cache ! -name 'server-*' ! -name 'separate-stderr-*' \
		-printf '%f\n' | sort)
	[ "$found" = "$(printf '%s\n' "$@")" ] || complain "the directory holds: $found"
}

@test "pull: the file is named after the image" {
	expect 0 vial pull "docker://$REG_HOST/apps/tool:1.0"
	[ -f tool_1.0.sif ]
	expect 0 vial exec tool_1.0.sif cat /etc/file
	stdout_is "in the image"
	expect 0 vial -q pull "docker://$REG_HOST/apps/tool"
	stderr_is ""
	cmp tool_1.0.sif tool_latest.sif
	nothing_but tool_1.0.sif tool_latest.sif
	store_is_clean
}

@test "pull: to a name, to a directory, and over a file only with --force" {
	mkdir out
	expect 0 vial -q pull mine.sif "docker://$REG_HOST/apps/tool:1.0"
	expect 0 vial -q pull --dir out "docker://$REG_HOST/apps/tool:1.0"
	cmp mine.sif out/tool_1.0.sif
	echo precious >mine.sif
	expect 255 vial -q pull mine.sif "docker://$REG_HOST/apps/tool:1.0"
	one_fatal_line "--force"
	[ "$(cat mine.sif)" = precious ]
	expect 0 vial -q pull --force mine.sif "docker://$REG_HOST/apps/tool:1.0"
	cmp mine.sif out/tool_1.0.sif
	expect 255 vial -q pull no/such/dir.sif "docker://$REG_HOST/apps/tool:1.0"
	one_fatal_line "no/such"
	rm -r out
	nothing_but mine.sif
}

@test "pull: exec and run take a URI" {
	expect 0 vial exec "docker://$REG_HOST/apps/tool:1.0" cat /etc/file
	stdout_is "in the image"
	stderr_is ""
	expect 0 vial run "docker://$REG_HOST/apps/tool:1.0"
	stdout_is "in the image"
	expect 7 vial exec "docker://$REG_HOST/apps/tool:1.0" sh -c 'exit 7'
	nothing_but
	store_is_clean
}

@test "pull: a digest decides, with a tag beside it too" {
	digest=$(manifest_digest "$REG_HOST/apps/tool:1.0")
	expect 0 vial -q pull a.sif "docker://$REG_HOST/apps/tool@$digest"
	expect 0 vial -q pull b.sif "docker://$REG_HOST/apps/tool:no-such-tag@$digest"
	cmp a.sif b.sif
	none=sha256:$(printf '%064d' 0)
	expect 255 vial -q pull c.sif "docker://$REG_HOST/apps/tool:1.0@$none"
	one_fatal_line "$none"
	[ ! -e c.sif ]
}

@test "pull: an image of the wanted architecture is taken out of an index, nested ones too" {
	other=arm64
	[ "$(native_arch)" != arm64 ] || other=amd64
	mkdir mark
	echo "$other" >mark/arch
	# shellcheck disable=SC2317 # make_oci asks it
	(uname() { echo "$other"; } && push_image "$REG_HOST/multi/one:$other" "$TREE" mark)
	push_image "$REG_HOST/multi/one:native" "$TREE"
	put_index "$REG_HOST" multi/one both "$other=$other" "$(native_arch)=native"
	put_index "$REG_HOST" multi/one nested "=both"
	expect 0 vial -q pull native.sif "docker://$REG_HOST/multi/one:native"
	for tag in both nested; do
		expect 0 vial -q pull "$tag.sif" "docker://$REG_HOST/multi/one:$tag"
		vial exec "$tag.sif" test ! -e /arch
		expect 0 vial -q pull --arch "$other" "$tag-$other.sif" "docker://$REG_HOST/multi/one:$tag"
		vial sif list "$tag-$other.sif" | grep -q "/$other"
		vial sif list "$tag.sif" | grep -q "/$(native_arch)"
		expect 255 vial -q pull --arch s390x s390x.sif "docker://$REG_HOST/multi/one:$tag"
		one_fatal_line "s390x"
	done
	store_is_clean
}

@test "pull: Docker's manifests and zstd layers" {
	copy_image "docker://$REG_HOST/apps/tool:1.0" "docker://$REG_HOST/kinds/docker:1" --format v2s2
	raw_manifest "$REG_HOST/kinds/docker:1" | grep -q docker.distribution.manifest.v2
	expect 0 vial -q pull docker.sif "docker://$REG_HOST/kinds/docker:1"
	expect 0 vial exec docker.sif cat /etc/file
	stdout_is "in the image"

	PYTHONPATH=$HERE/../data/oci python3 -B - "$(native_arch)" <<-'PY'
		import sys
		from ocigen import *
		l = Layout()
		l.image([l.layer(tar([F("f", "packed\n")]), comp="zstd")], arch=sys.argv[1])
		l.write("zstd")
	PY
	copy_image oci:zstd:latest "docker://$REG_HOST/kinds/zstd:1"
	raw_manifest "$REG_HOST/kinds/zstd:1" | grep -q 'tar+zstd'
	expect 0 vial -q pull zstd.sif "docker://$REG_HOST/kinds/zstd:1"
	vial sif dump "$(vial sif list zstd.sif | awk -F'|' '/FS \(Squashfs/ { print $1 + 0 }')" zstd.sif >zstd.sqfs
	[ "$(unsquashfs -cat zstd.sqfs f)" = packed ]
}

@test "pull: what is not there is told in one line" {
	expect 255 vial -q pull x.sif "docker://$REG_HOST/apps/tool:none"
	one_fatal_line "$REG_HOST"
	stderr_has "none"
	stderr_lacks "mirror" # there is none: that https was tried first is no news
	expect 255 vial -q pull x.sif "docker://$REG_HOST/no/such/repo:1"
	one_fatal_line "no/such/repo"
	expect 125 vial exec "docker://$REG_HOST/apps/tool:none" true
	one_fatal_line "apps/tool:none"
	expect 255 vial -q pull x.sif "docker://127.0.0.1:1/apps/tool:1.0"
	one_fatal_line "127.0.0.1:1"
	expect 255 vial -q pull x.sif "docker://$REG_HOST/Bad/UPPER:1"
	one_fatal_line
	nothing_but
	[ "$(store_images)" -eq 0 ]
	store_is_clean
}

@test "pull: a digest is asked for once; then there may be no network" {
	start_registry OWN
	start_proxy GATE OWN
	copy_image "docker://$REG_HOST/apps/tool:1.0" "docker://$OWN_HOST/apps/tool:1.0"
	digest=$(manifest_digest "$OWN_HOST/apps/tool:1.0")
	watch GATE
	expect 0 vial exec "docker://$GATE_HOST/apps/tool@$digest" cat /etc/file
	stdout_is "in the image"
	[ "$(count_requests '^GET .*/blobs/')" -gt 0 ]
	forget_requests
	expect 0 vial exec "docker://$GATE_HOST/apps/tool@$digest" cat /etc/file
	stdout_is "in the image"
	[ -z "$(requests)" ]
	stop_server OWN
	stop_server GATE
	expect 0 vial exec "docker://$GATE_HOST/apps/tool@$digest" cat /etc/file
	stdout_is "in the image"
	expect 0 vial -q pull again.sif "docker://$GATE_HOST/apps/tool@$digest"
	vial exec again.sif true
}

@test "pull: a digest of an index needs no network the second time either" {
	push_image "$REG_HOST/multi/digest:native" "$TREE"
	put_index "$REG_HOST" multi/digest index "$(native_arch)=native"
	digest=$(manifest_digest "$REG_HOST/multi/digest:index")
	expect 0 vial exec "docker://$PROXY_HOST/multi/digest@$digest" true
	forget_requests
	expect 0 vial exec "docker://$PROXY_HOST/multi/digest@$digest" true
	[ -z "$(requests)" ]
}

@test "pull: a tag is looked up again, its content is not fetched again" {
	expect 0 vial exec "docker://$PROXY_HOST/apps/tool:1.0" true
	forget_requests
	expect 0 vial exec "docker://$PROXY_HOST/apps/tool:1.0" true
	[ "$(count_requests '/blobs/')" -eq 0 ]
	[ "$(count_requests '/manifests/1.0 ')" -ge 1 ]
	[ "$(store_images)" -eq 1 ]
	# another image that shares a layer: only what is new comes over the network
	mkdir more
	echo more >more/more
	push_image "$REG_HOST/apps/grown:1" "$TREE" more
	shared=$(layers_of "$REG_HOST/apps/grown:1" | head -n 1)
	forget_requests
	expect 0 vial exec "docker://$PROXY_HOST/apps/grown:1" cat /more
	stdout_is "more"
	[ "$(count_requests "^GET .*/blobs/$shared")" -eq 0 ]
}

@test "pull: a kept layer that is damaged is fetched again, for every image that has it" {
	local sum
	expect 0 vial -q pull good.sif "docker://$REG_HOST/apps/tool:1.0"
	cp -r "$STORE" site
	rm -r "$STORE"
	for place in "$STORE" site; do
		rm -f a.sif
		if [ "$place" = site ]; then
			rm -r "$STORE"
			export VIAL_SITE_CACHE=$PWD/site
		else
			cp -r site "$STORE"
		fi
		rm -f "$place"/images/* "$place"/names/*
		for blob in "$place"/blobs/sha256/*; do
			printf 'damage' | dd of="$blob" bs=1 seek=500 conv=notrunc status=none
		done
		expect 0 vial pull a.sif "docker://$REG_HOST/apps/tool:1.0"
		stderr_has "is damaged"
		cmp a.sif good.sif
		for blob in "$STORE"/blobs/sha256/*; do
			sum=$(sha256sum <"$blob")
			[ "${blob##*/}" = "${sum%% *}" ] || complain "$blob is not what its name says"
		done
	done
	# what was fetched again is what is used from now on
	rm a.sif "$STORE"/images/*
	expect 0 vial pull a.sif "docker://$REG_HOST/apps/tool:1.0"
	stderr_lacks "is damaged"
	cmp a.sif good.sif
}

@test "pull: from the store or not, the bytes are the same" {
	copy_image "docker://$REG_HOST/apps/tool:1.0" "docker://$REG_HOST/apps/copy:2"
	digest=$(manifest_digest "$REG_HOST/apps/tool:1.0")
	expect 0 vial -q pull a.sif "docker://$REG_HOST/apps/tool:1.0"
	# one digest, two repositories: the image says where it is from
	expect 0 vial -q pull b.sif "docker://$REG_HOST/apps/copy:2"
	expect 0 vial -q pull --disable-cache c.sif "docker://$REG_HOST/apps/copy:2"
	cmp b.sif c.sif
	expect 0 vial -q pull d.sif "docker://$REG_HOST/apps/copy@$digest"
	cmp d.sif c.sif
	[ "$(store_images)" -eq 2 ]
	# one layout under two paths
	sko copy -q --src-tls-verify=false "docker://$REG_HOST/apps/tool:1.0" oci:one:x
	cp -r one two
	for layout in one two; do
		expect 0 vial exec "oci:$layout:x" true
		expect 0 vial -q pull $layout.sif "oci:$layout:x"
		expect 0 vial -q build $layout.built "oci:$layout:x"
		cmp $layout.sif $layout.built
	done
	[ "$(store_images)" -eq 4 ]
	# the defaults by their names are the defaults
	for option in zstd zstd:3; do
		expect 0 vial -q build --disable-cache other.sif --compress $option "docker://$REG_HOST/apps/tool:1.0"
		cmp other.sif a.sif
		rm other.sif
	done
}

@test "pull: a digest from the store is that of the manifest" {
	digest=$(manifest_digest "$REG_HOST/apps/tool:1.0")
	put_index "$REG_HOST" apps/tool indexed "$(native_arch)=1.0"
	named=$(manifest_digest "$REG_HOST/apps/tool:indexed")
	for name in a b; do
		expect 0 vial -q pull --json $name.sif "docker://$PROXY_HOST/apps/tool@$named"
		json "$output" "d['sourceDigest'] == '$digest'"
	done
	[ "$named" != "$digest" ]
	cmp a.sif b.sif
}

@test "pull: build takes a registry as its source" {
	expect 0 vial -q build a.sif "docker://$REG_HOST/apps/tool:1.0"
	expect 0 vial -q pull b.sif "docker://$REG_HOST/apps/tool:1.0"
	cmp a.sif b.sif
	expect 0 vial -q build --compress gzip c.sif "docker://$REG_HOST/apps/tool:1.0"
	vial exec c.sif true
	store_is_clean
}

@test "pull: --disable-cache keeps nothing" {
	expect 0 vial -q pull --disable-cache a.sif "docker://$REG_HOST/apps/tool:1.0"
	vial exec a.sif true
	expect 0 vial exec --disable-cache "docker://$REG_HOST/apps/tool:1.0" cat /etc/file
	stdout_is "in the image"
	[ -z "$(find "$STORE" -type f ! -name CACHEDIR.TAG 2>/dev/null)" ]
	expect 0 vial -q pull b.sif "docker://$REG_HOST/apps/tool:1.0"
	cmp a.sif b.sif
	[ "$(store_images)" -eq 1 ]
}

@test "pull: reports as JSON" {
	digest=$(manifest_digest "$REG_HOST/apps/tool:1.0")
	expect 0 vial -q pull --json a.sif "docker://$REG_HOST/apps/tool:1.0"
	json "$output" "d['image'] == 'a.sif' and d['sourceDigest'] == '$digest'"
}

not_held() { ! held; }

# interrupted_pull SIGNAL: one that hangs in the middle of a layer. Sets status.
interrupted_pull() {
	wait_for not_held # what an earlier one left
	faults 'GET /blobs/ hold bytes=1000'
	env --default-signal "$VIAL" pull a.sif "docker://$PROXY_HOST/apps/tool:1.0" 2>err 3>&- &
	pid=$!
	wait_for held
	kill "-$1" "$pid"
	status=0
	wait "$pid" || status=$?
}

@test "pull: ended by a signal it leaves nothing and exits with it" {
	for signal in INT TERM HUP; do
		interrupted_pull "$signal"
		[ "$status" -eq $((128 + $(kill -l "$signal"))) ]
		rm err
		nothing_but
		[ "$(store_images)" -eq 0 ]
		store_is_clean
	done
	faults
	expect 0 vial -q pull a.sif "docker://$PROXY_HOST/apps/tool:1.0"
}

@test "pull: killed without a chance it leaves nothing the next does not clear" {
	interrupted_pull KILL
	[ "$status" -eq 137 ]
	faults
	expect 0 vial -q pull -F a.sif "docker://$PROXY_HOST/apps/tool:1.0"
	rm err
	nothing_but a.sif
	vial exec a.sif true
	store_is_clean
}

@test "pull: a plain file by URL" {
	mkdir www
	vial -q build www/app.sif "$TREE"
	start_files FILES "$PWD/www"
	watch FILES
	expect 0 vial -q pull "$FILES_URL/app.sif"
	cmp app.sif www/app.sif
	expect 0 vial exec "$FILES_URL/app.sif" cat /etc/file
	stdout_is "in the image"
	# the same file again: asked about, not fetched
	forget_requests
	expect 0 vial exec "$FILES_URL/app.sif" true
	[ "$(count_requests '^GET ')" -eq 0 ]
	# another one under the same name is seen
	cp -r "$TREE" newer
	echo new >newer/etc/file
	vial -q build -F www/app.sif newer
	expect 0 vial exec "$FILES_URL/app.sif" cat /etc/file
	stdout_is "new"
	# broken in the middle: the rest is asked for
	vial -q cache clean -f
	faults 'GET app.sif cut bytes=5000 times=2'
	forget_requests
	expect 0 vial -q pull -F again.sif "$FILES_URL/app.sif"
	cmp again.sif www/app.sif
	[ "$(count_requests 'range=bytes=[1-9]')" -ge 1 ]
}

@test "pull: what is no SIF is refused" {
	mkdir www
	echo "no image at all" >www/text.sif
	head -c 100000 /dev/urandom >www/noise.sif
	vial -q build www/cut.sif "$TREE"
	truncate -s 8192 www/cut.sif
	: >www/empty.sif
	start_files FILES "$PWD/www"
	for name in text noise cut empty; do
		expect 255 vial -q pull "$FILES_URL/$name.sif"
		one_fatal_line "$FILES_URL/$name.sif"
		[ ! -e "$name.sif" ]
	done
	expect 255 vial -q pull "$FILES_URL/none.sif"
	one_fatal_line "404"
	[ "$(store_images)" -eq 0 ]
	store_is_clean
}

@test "pull: fifty at once: one conversion, every layer fetched once, all the same" {
	for i in {1..50}; do
		"$VIAL" -q pull "out$i.sif" "docker://$PROXY_HOST/apps/tool:1.0" 2>"err$i" 3>&- &
		pids[i]=$!
	done
	for i in {1..50}; do
		wait "${pids[i]}" || { sed "s/^/# $i: /" "err$i" && false; }
		cmp out1.sif "out$i.sif"
	done
	for layer in $(layers_of "$REG_HOST/apps/tool:1.0"); do
		[ "$(count_requests "^GET .*/blobs/$layer")" -eq 1 ]
	done
	[ "$(store_images)" -eq 1 ]
	store_is_clean
	vial exec out50.sif true
}

@test "pull: the one who converts is killed while others wait: one of them takes over" {
	faults 'GET /blobs/ hold bytes=1000'
	"$VIAL" -q pull first.sif "docker://$PROXY_HOST/apps/tool:1.0" 2>err0 3>&- &
	first=$!
	wait_for held
	for i in {1..5}; do
		"$VIAL" -q pull "out$i.sif" "docker://$PROXY_HOST/apps/tool:1.0" 2>"err$i" 3>&- &
		pids[i]=$!
	done
	all_asked() { [ "$(count_requests '^(GET|HEAD) .*/manifests/1.0 ')" -ge 6 ]; }
	wait_for all_asked
	children=$(pgrep -P "$first")
	# shellcheck disable=SC2086 # a list
	kill -KILL $first $children
	wait "$first" || true
	faults
	for i in {1..5}; do
		wait "${pids[i]}" || { sed "s/^/# $i: /" "err$i" && false; }
		cmp out1.sif "out$i.sif"
	done
	[ ! -e first.sif ]
	[ "$(store_images)" -eq 1 ]
	store_is_clean
}

@test "pull: only the converting child is killed: its parent says so, the others go on" {
	faults 'GET /blobs/ hold bytes=1000'
	"$VIAL" pull first.sif "docker://$PROXY_HOST/apps/tool:1.0" 2>err0 3>&- &
	first=$!
	wait_for held
	# shellcheck disable=SC2046
	kill -KILL $(pgrep -P "$first")
	faults
	status=0
	wait "$first" || status=$?
	[ "$status" -eq 255 ]
	[ "$(grep -c FATAL err0)" -eq 1 ]
	[ ! -e first.sif ]
	store_is_clean
	expect 0 vial -q pull first.sif "docker://$PROXY_HOST/apps/tool:1.0"
}

@test "pull: without a cache directory that can be written it still works, or says what to do" {
	need_user
	mkdir locked
	chmod 555 locked
	export VIAL_CACHEDIR=$PWD/locked/cache
	expect 255 vial -q pull a.sif "docker://$REG_HOST/apps/tool:1.0"
	one_fatal_line "VIAL_CACHEDIR"
	expect 0 vial -q pull --disable-cache a.sif "docker://$REG_HOST/apps/tool:1.0"
}

@test "pull: what is wrong with OUT is said before the download" {
	forget_requests
	expect 255 vial -q pull "$PWD/none/x.sif" "docker://$PROXY_HOST/apps/tool:1.0"
	one_fatal_line "$PWD/none"
	mkdir dir
	expect 255 vial -q pull --force dir "docker://$PROXY_HOST/apps/tool:1.0"
	one_fatal_line "dir is a directory"
	[ "$(count_requests '.')" -eq 0 ]
	expect 0 vial -q pull --dir "" "docker://$PROXY_HOST/apps/tool:1.0"
	[ -s tool_1.0.sif ]
}
