# Registries, proxies and file servers for tests (tests/registry/serve --help): `load registry` after
# `load common`. A server started in setup_file serves the whole file, one started in a test that test;
# stop_servers in teardown_file, or in teardown, ends what that process started. Ports are the kernel's choice.

SERVE=$HERE/../registry/serve
SERVER_PIDS=()

# The one user of every server: tests/registry/common.py.
# shellcheck disable=SC2034 # for the tests
REG_USER=user
# shellcheck disable=SC2034
REG_PASSWORD='Zq7:never-in_any.output'

# For setup and setup_file: no credentials, no configuration and no runtime directory of the caller's.
registry_setup() {
	unset "${!XDG_@}" "${!REGISTRY_@}" DOCKER_CONFIG http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY
	export HOME=${BATS_TEST_TMPDIR:-$BATS_FILE_TMPDIR}/home
	export VIAL_CACHEDIR=${BATS_TEST_TMPDIR:-$BATS_FILE_TMPDIR}/cache
	mkdir -p "$HOME"
	STORE=$VIAL_CACHEDIR
}

# start_server NAME KIND [OPTION]...: sets and exports NAME_HOST, NAME_URL, NAME_CONTROL, NAME_CA, NAME_DIR.
start_server() {
	local name=$1 dir pid key value
	shift
	dir=$(mktemp -d "${BATS_TEST_TMPDIR:-$BATS_FILE_TMPDIR}/server-$name.XXXXXX")
	"$SERVE" "$@" --dir "$dir" >"$dir/out" 2>&1 </dev/null 3>&- &
	pid=$!
	SERVER_PIDS+=("$pid")
	until [ -e "$dir/ready" ]; do
		if ! kill -0 "$pid" 2>/dev/null; then
			sed 's/^/# /' "$dir/out" "$dir/log" 2>/dev/null
			echo "# the server $name ($*) did not start"
			return 1
		fi
		sleep 0.02
	done
	while IFS='=' read -r key value; do export "${name}_$key=$value"; done <"$dir/ready"
	export "${name}_DIR=$dir" "${name}_PID=$pid"
}

start_registry() { # NAME [--tls] [--htpasswd] [--token] [--client-ca]
	local name=$1
	shift
	start_server "$name" registry "$@"
}

start_proxy() { # NAME UPSTREAM-NAME [--tls]
	local name=$1 url=$2_URL ca=$2_CA
	shift 2
	start_server "$name" proxy --upstream "${!url}" ${!ca:+--ca "${!ca}"} "$@"
}

start_files() { # NAME FOLDER [--tls]
	local name=$1 root=$2
	shift 2
	start_server "$name" files --root "$root" "$@"
}

stop_server() { # NAME
	local pid=$1_PID
	kill -TERM "${!pid}"
	wait "${!pid}" 2>/dev/null || true
}

stop_servers() {
	local pid
	for pid in "${SERVER_PIDS[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
	for pid in "${SERVER_PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
	SERVER_PIDS=()
}

# ---- faults, and what was asked ----------------------------------------------------------------

# watch NAME: the server these functions are about; by default the one named PROXY.
watch() { CONTROLLED=$1; }

control() { # METHOD PATH [TEXT]
	local url=${CONTROLLED:-PROXY}_CONTROL
	curl -sS --fail-with-body --noproxy '*' -X "$1" ${3+--data-binary "$3"} "${!url}$2"
}

# faults 'REGEX WHAT NAME=VALUE...' ...: in the place of all earlier ones; none: heals everything.
faults() { control POST /faults "$(printf '%s\n' "$@")"; }
forget_requests() { control POST /reset ""; }
requests() { control GET /log; }
# count_requests REGEX: lines of the log that fit, e.g. '^GET .*/blobs/.* range=bytes'.
count_requests() { requests | grep -cE -- "$1" || true; }
held() { [ "$(control GET /held)" -ge "${1:-1}" ]; }

# try CMD...: as expect, when more than one end will do.
try() {
	# shellcheck disable=SC2034 # complain prints it
	COMMAND=$(printf ' %q' "$@")
	run --separate-stderr "$@"
}

# wait_for CMD...: until it succeeds, for at most a minute; an event, however slow the machine.
wait_for() {
	local i
	for ((i = 0; i < 1200; i++)); do
		if "$@"; then return 0; fi
		sleep 0.05
	done
	echo "# never happened: $*"
	return 1
}

# ---- images ----------------------------------------------------------------------------------

# skopeo, without a policy, a cache or credentials of the caller's (/run/containers may be closed to us).
sko() {
	local word=$1 dir=${BATS_TEST_TMPDIR:-$BATS_FILE_TMPDIR}
	shift
	HOME=$dir XDG_RUNTIME_DIR=$dir skopeo --insecure-policy "$word" "$@"
}

# copy_image SRC DEST [OPTION]...: skopeo copy over plain HTTP.
copy_image() {
	local src=$1 dest=$2
	shift 2
	sko copy -q --src-tls-verify=false --dest-tls-verify=false "$@" "$src" "$dest"
}

# push_image HOST/REPO:TAG TREE...: with the config of $IMAGE_CONFIG.
push_image() {
	local dest=$1 tmp
	shift
	tmp=$(mktemp -d "${BATS_TEST_TMPDIR:-$BATS_FILE_TMPDIR}/push.XXXXXX")
	BATS_TEST_TMPDIR=$tmp make_oci "$tmp/layout" image "${IMAGE_CONFIG:-{\}}" "$@"
	copy_image "oci:$tmp/layout:image" "docker://$dest"
	rm -rf "$tmp"
}

# raw_manifest HOST/REPO:TAG: its very bytes.
raw_manifest() { sko inspect --raw --tls-verify=false "docker://$1"; }

# manifest_digest HOST/REPO:TAG, of images and artifacts.
manifest_digest() { raw_manifest "$1" | sha256sum | sed 's/^\([0-9a-f]*\).*/sha256:\1/'; }

# put_blob HOST REPO FILE: prints its digest.
put_blob() {
	local url digest
	digest=sha256:$(sha256sum <"$3" | cut -d' ' -f1)
	url=$(curl -sS --noproxy '*' -o /dev/null -X POST -w '%header{location}' "http://$1/v2/$2/blobs/uploads/")
	curl -sS --fail-with-body --noproxy '*' -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$3" \
		"$url&digest=$digest"
	echo "$digest"
}

# put_manifest HOST REPO REF FILE TYPE
put_manifest() {
	curl -sS --fail-with-body --noproxy '*' -X PUT -H "Content-Type: $5" --data-binary "@$4" "http://$1/v2/$2/manifests/$3"
}

# put_index HOST REPO TAG ARCH=REF...: an index over manifests of the repository; REF may be an index too
# and ARCH is then empty.
put_index() {
	local host=$1 repo=$2 tag=$3 pair file entries="" type
	shift 3
	file=$(mktemp "${BATS_TEST_TMPDIR:-$BATS_FILE_TMPDIR}/index.XXXXXX")
	for pair; do
		raw_manifest "$host/$repo:${pair#*=}" >"$file"
		type=application/vnd.oci.image.manifest.v1+json
		! grep -q '"manifests"' "$file" || type=application/vnd.oci.image.index.v1+json
		entries="$entries,{\"mediaType\":\"$type\",\"digest\":\"sha256:$(sha256sum <"$file" | cut -d' ' -f1)\",\"size\":$(stat -c %s "$file")"
		[ -z "${pair%%=*}" ] || entries="$entries,\"platform\":{\"os\":\"linux\",\"architecture\":\"${pair%%=*}\"}"
		entries="$entries}"
	done
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s]}' "${entries#,}" >"$file"
	put_manifest "$host" "$repo" "$tag" "$file" application/vnd.oci.image.index.v1+json
	rm -f "$file"
}

# native_arch: as OCI calls it.
native_arch() { uname -m | sed 's/x86_64/amd64/;s/aarch64/arm64/'; }

# layers_of HOST/REPO:TAG: digests of the layers, one a line.
layers_of() { raw_manifest "$1" | python3 -c 'import json, sys; [print(x["digest"]) for x in json.load(sys.stdin)["layers"]]'; }

# registries_conf HOST MIRROR...: text of a registries.conf; everything is plain HTTP.
registries_conf() {
	local host=$1 mirror
	shift
	printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' "$host"
	for mirror; do printf '[[registry.mirror]]\nlocation = "%s"\ninsecure = true\n' "$mirror"; done
}

# json TEXT EXPRESSION: an assertion in Python about d.
json() { python3 -c 'import json, sys; d = json.loads(sys.argv[1]); assert eval(sys.argv[2]), d' "$1" "$2"; }

# has_file SIF PATH FILE: the image's file is that one. (The name an image came by is told inside a SIF, so
# images from two registries are not equal.)
has_file() {
	"$VIAL" sif dump "$("$VIAL" sif list "$1" | awk -F'|' '/FS \(Squashfs/ { print $1 + 0 }')" "$1" >"$BATS_TEST_TMPDIR/has_file"
	unsquashfs -cat "$BATS_TEST_TMPDIR/has_file" "$2" | cmp - "$3"
}

# ---- the store ---------------------------------------------------------------------------------

# Nothing half done, nothing held, and every blob is what its name says.
store_is_clean() {
	local dir=${1:-$STORE} bad f
	[ -d "$dir" ] || return 0
	bad=$(find "$dir" -name '.*' ! -path "$dir" -print)
	[ -z "$bad" ] || { echo "# left in the store: $bad" && return 1; }
	bad=$(find "$dir/locks" -type f -print 2>/dev/null)
	[ -z "$bad" ] || { echo "# locks left: $bad" && return 1; }
	for f in "$dir"/blobs/sha256/*; do
		[ ! -e "$f" ] || [ "$(sha256sum <"$f" | cut -d' ' -f1)" = "${f##*/}" ] || { echo "# not its digest: $f" && return 1; }
	done
}

store_images() { find "${1:-$STORE}/images" -type f 2>/dev/null | wc -l; }
