# What servers and networks do wrong: each fault either goes unnoticed or is one clear error, and in both
# cases nothing broken stays behind.
# shellcheck disable=SC2030,SC2031 # bats' tests are subshells, and what they set is theirs
load common
load registry

setup_file() {
	registry_setup
	start_registry REG
	start_proxy PROXY REG
	mkdir -p "$BATS_FILE_TMPDIR/one/d" "$BATS_FILE_TMPDIR/two"
	head -c 200000 /dev/urandom >"$BATS_FILE_TMPDIR/one/d/data"
	seq 20000 >"$BATS_FILE_TMPDIR/two/text"
	push_image "$REG_HOST/a/image:1" "$BATS_FILE_TMPDIR/one" "$BATS_FILE_TMPDIR/two"
	export GOOD=$BATS_FILE_TMPDIR/good.sif DIGEST
	DIGEST=$(manifest_digest "$REG_HOST/a/image:1")
	# by the same name, which the SIF tells
	"$VIAL" -q pull "$GOOD" "docker://$PROXY_HOST/a/image:1"
}
teardown_file() { stop_servers; }
setup() {
	common_setup
	registry_setup
	URI=docker://$PROXY_HOST/a/image:1
	export VIAL_RETRIES=3 # above what passes in a test
}
teardown() {
	stop_servers
	common_teardown
}

start_over() {
	echo "# fault: $*"
	rm -rf "$STORE" a.sif
	faults "$@"
	forget_requests
}

# survives FAULT...: the image comes nevertheless, and is the same.
survives() {
	start_over "$@"
	expect 0 vial -q pull a.sif "$URI"
	stderr_lacks FATAL
	cmp a.sif "$GOOD"
	store_is_clean
}

# refused WORD FAULT...
refused() {
	local word=$1
	shift
	start_over "$@"
	VIAL_RETRIES=1 expect 255 vial -q pull a.sif "$URI" # it lasts: no need to wait long
	one_fatal_line "$word"
	[[ $stderr == *"$PROXY_HOST"* || $stderr == *sha256:* ]] || complain "stderr names neither image nor blob"
	[ -z "$(find . -maxdepth 1 -name '*a.sif*')" ]
	[ "$(store_images)" -eq 0 ]
	store_is_clean
	# and the failure is not remembered
	faults
	expect 0 vial -q pull a.sif "$URI"
	cmp a.sif "$GOOD"
}

# never_wrong FAULT...: may fail or not.
never_wrong() {
	start_over "$@"
	try vial -q pull a.sif "$URI"
	if [ "$status" -eq 0 ]; then
		cmp a.sif "$GOOD"
	else
		[ "$status" -eq 255 ] || complain "exit status is $status"
		one_fatal_line
		[ ! -e a.sif ]
	fi
	store_is_clean
}

@test "faults: busy and broken servers are asked again" {
	for code in 408 429 500 502 503 504; do
		survives "GET /manifests/ status code=$code times=1" "GET /blobs/ status code=$code times=1"
	done
	survives '/manifests/ status code=429 retry_after=0 times=2'
	survives '/blobs/ status code=503 retry_after=1 times=1'
}

@test "faults: a connection that breaks before the answer" {
	survives '/manifests/ hangup times=1'
	survives '/blobs/ hangup times=2'
}

@test "faults: a layer that breaks off goes on where it stopped" {
	layer=$(layers_of "$REG_HOST/a/image:1" | head -n 1)
	survives "/blobs/$layer cut bytes=100000 times=1"
	[ "$(count_requests "/blobs/$layer range=none")" -eq 1 ]
	[ "$(count_requests "/blobs/$layer range=bytes=[1-9][0-9]*-")" -eq 1 ]
	survives "/blobs/$layer cut bytes=50000 times=3"
	survives "/blobs/$layer cut bytes=50000 reset=1 times=2"
	survives '/blobs/ cut bytes=0 times=1'
	survives '/manifests/ cut bytes=100 times=1'
}

@test "faults: a layer that ends early without a word" {
	survives '/blobs/ short bytes=1000 times=1'
}

@test "faults: a server that cannot go on in the middle" {
	survives '/blobs/ cut bytes=1000 times=2' '/blobs/ norange'
	never_wrong '/blobs/ cut bytes=1000 times=1' '/blobs/ badrange by=7 times=1'
	never_wrong '/blobs/ cut bytes=1000 times=1' '/blobs/ badrange by=7'
	never_wrong '/blobs/ cut bytes=1000 times=1' '/blobs/ status code=416 times=1'
	never_wrong '/blobs/ cut bytes=1000 times=1' '/blobs/ status code=416'
}

@test "faults: slow is not broken" {
	survives '/blobs/ drip bytes=20000 ms=5'
}

@test "faults: redirects are followed, not for ever" {
	start_proxy OTHER REG
	survives "/blobs/ redirect to=$OTHER_URL"
	for code in 301 302 303 307 308; do survives "/blobs/ redirect code=$code to=$OTHER_URL times=1"; done
	survives "/manifests/ redirect to=$OTHER_URL"
	refused 'more than 5' '/blobs/ loop'
	refused 'more than 5' '/manifests/ loop'
	refused "" '/blobs/ redirect to=file:///etc/passwd?'
	refused "" '/blobs/ redirect to=http://127.0.0.1:1'
}

@test "faults: what lasts is told in one line" {
	refused login '/manifests/ status code=401'
	refused permission '/manifests/ status code=403'
	refused "none by that name" '/manifests/ status code=404'
	for code in 400 405 429 500 503; do refused "$code" "/manifests/ status code=$code"; done
	refused login '/blobs/ status code=401'
	refused permission '/blobs/ status code=403'
	refused "" '/blobs/ status code=404'
	refused 500 '/blobs/ status code=500'
	refused 90000 '/manifests/ status code=429 retry_after=90000'
	refused "" '/manifests/ hangup'
	refused "" '/blobs/ hangup'
	refused "" '/blobs/ cut bytes=0'
	refused "" '/manifests/ garbage'
	refused "" '/blobs/ garbage'
}

@test "faults: bytes that are not the ones are never used" {
	# whoever notices first, decompressor or digest
	refused sha256: '/blobs/ corrupt byte=500'
	refused sha256: '/blobs/ corrupt byte=0'
	refused sha256: '/blobs/ corrupt byte=9' # the header's, which no decompressor minds
	never_wrong '/blobs/ corrupt byte=500 times=1'
	refused "" '/blobs/ long bytes=1'
	refused "" '/blobs/ short bytes=0'
	refused "" '/manifests/ corrupt byte=3'
	never_wrong "/manifests/ digest is=sha256:$(printf '%064d' 0)"
	# another, proper manifest in the place of the one that was named
	mkdir other
	echo other >other/file
	push_image "$REG_HOST/a/other:1" other
	raw_manifest "$REG_HOST/a/other:1" >other.json
	faults
	vial -q pull by-digest.sif "docker://$PROXY_HOST/a/image@$DIGEST"
	GOOD=$PWD/by-digest.sif
	URI=docker://$PROXY_HOST/a/image@$DIGEST
	refused digest "/manifests/ replace file=$PWD/other.json type=application/vnd.oci.image.manifest.v1+json"
}

@test "faults: what is no manifest" {
	echo '<html>please log in to this hotel</html>' >page
	refused "" "/manifests/ replace file=$PWD/page type=text/html"
	refused "" "/manifests/ replace file=$PWD/page type=application/vnd.oci.image.manifest.v1+json"
	for text in '{}' '[]' '' '{"schemaVersion":1,"name":"x","fsLayers":[]}' '{"schemaVersion":2,"layers":[],"manifests":[]}'; do
		echo "$text" >page
		refused "" "/manifests/ replace file=$PWD/page type=application/vnd.oci.image.manifest.v1+json"
	done
	refused "" '/manifests/ big bytes=50000000'
	never_wrong '/manifests/ type is=text/plain'
}

@test "faults: a program is not run from an image that could not be fetched" {
	for fault in '/manifests/ status code=404' '/blobs/ corrupt byte=9' '/blobs/ status code=403'; do
		rm -rf "$STORE"
		faults "$fault"
		expect 125 vial exec "$URI" sh -c 'echo ran'
		stdout_is ""
		one_fatal_line
		store_is_clean
	done
}

@test "faults: a downloaded layer that went bad in the store is fetched again" {
	faults
	vial -q pull a.sif "$URI"
	rm -rf "$STORE"/images "$STORE"/names
	for f in "$STORE"/blobs/sha256/*; do
		chmod u+w "$f"
		flip_byte "$f" 100
	done
	try vial -q pull -F a.sif "$URI"
	[ "$status" -eq 0 ] || one_fatal_line digest
	cmp a.sif "$GOOD"
}
