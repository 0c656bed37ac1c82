# What every e2e file loads: `load common`. A test runs in its own empty directory ($PWD), as
# whoever the runner is at the moment (root, then an unprivileged user), and talks to the
# program in $VIAL only. Commands run through `expect` are printed when a test fails, ready
# to be pasted.
bats_require_minimum_version 1.5.0

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VIAL=${VIAL:-$HERE/../../build/vial}

setup() { common_setup; }
teardown() { common_teardown; }

# For files with a setup of their own.
common_setup() {
	cd "$BATS_TEST_TMPDIR" || return 1
	# a run must not depend on what the caller has configured
	local name
	for name in "${!VIAL_@}" "${!APPTAINER_@}" "${!SINGULARITY_@}" "${!APPTAINERENV_@}"; do
		[[ $name == VIAL_TEST_* ]] || unset "$name"
	done
	export VIAL HOME=$BATS_TEST_TMPDIR/home LC_ALL=C
	mkdir -p "$HOME"
}

common_teardown() {
	[ -n "${BATS_TEST_COMPLETED:-}" ] && return
	echo "# to repeat: tests/run -f '$BATS_TEST_DESCRIPTION' $BATS_TEST_FILENAME   (as $(id -un))"
}

# ---- running and asserting -----------------------------------------------------------------

vial() { "$VIAL" "$@"; }

is_sanitized() { nm -D "$VIAL" 2>/dev/null | grep -qE '__(a|t)san_init'; }
# addresses KIB: for ulimit -v; a sanitizer's shadow takes more than any limit leaves
addresses() { if is_sanitized; then echo unlimited; else echo "$1"; fi; }

# AddressSanitizer's look for leaks traces the process itself, and ends it where it cannot.
strace() { ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0 command strace "$@"; }

# expect STATUS CMD...: runs CMD; $output is its stdout, $stderr the rest, $status its status.
expect() {
	local want=$1
	shift
	COMMAND=$(printf ' %q' "$@")
	run --separate-stderr "$@"
	# shellcheck disable=SC2154 # run sets it
	[ "$status" -eq "$want" ] || complain "exit status is $status, not $want"
}

complain() {
	echo "# $1"
	echo "# command: $COMMAND"
	echo "# in:      $PWD"
	printf '%s\n' "${output:-}" | sed 's/^/# stdout:  /'
	printf '%s\n' "${stderr:-}" | sed 's/^/# stderr:  /'
	return 1
}

stdout_is() { [ "$output" = "$1" ] || complain "stdout is not '$1'"; }
stdout_has() { [[ $output == *"$1"* ]] || complain "stdout lacks '$1'"; }
stdout_lacks() { [[ $output != *"$1"* ]] || complain "stdout has '$1'"; }
stderr_is() { [ "$stderr" = "$1" ] || complain "stderr is not '$1'"; }
stderr_has() { [[ $stderr == *"$1"* ]] || complain "stderr lacks '$1'"; }
stderr_lacks() { [[ $stderr != *"$1"* ]] || complain "stderr has '$1'"; }
# A refusal is one line, starts with the word scrapers look for, and names what it is about.
one_fatal_line() {
	[ "$(printf '%s\n' "$stderr" | wc -l)" -eq 1 ] || complain "stderr is not one line"
	[[ $stderr == FATAL:* ]] || complain "stderr does not begin with FATAL:"
	[ $# -eq 0 ] || stderr_has "$1"
}

# ---- who -----------------------------------------------------------------------------------

is_root() { [ "$(id -u)" -eq 0 ]; }
# The runner runs every file under both identities, so these skips lose nothing.
need_root() { is_root || skip "needs root"; }
need_user() { ! is_root || skip "needs an unprivileged user"; }

# as_user CMD...: as the unprivileged user the runner made; as ourselves when we are none.
# The test's directory becomes that user's, or it could not write there.
as_user() {
	if is_root; then
		chown -R "$VIAL_TEST_UID" "$BATS_TEST_TMPDIR"
		setpriv --reuid "$VIAL_TEST_UID" --regid "$VIAL_TEST_UID" --clear-groups -- "$@"
	else
		"$@"
	fi
}

# ---- things to work on ---------------------------------------------------------------------

# copy_program ROOT PROGRAM...: host programs with the libraries they load.
copy_program() {
	local root=$1 path lib
	shift
	for path in "$@"; do
		path=$(type -P "$path")
		mkdir -p "$root/bin"
		cp -L "$path" "$root/bin/"
		# "libc.so.6 => /lib/.../libc.so.6 (0x..)" and the loader's own line
		ldd "$path" 2>/dev/null | grep -o '/[^ ]*' | while read -r lib; do
			[ -e "$root$lib" ] || install -D "$lib" "$root$lib"
		done
	done
}

# make_rootfs DIR: a root that can run sh and the everyday tools.
make_rootfs() {
	local root=$1
	mkdir -p "$root"/{bin,dev,etc,proc,root,sys,tmp,usr/bin,var/tmp}
	chmod 1777 "$root/tmp" "$root/var/tmp"
	copy_program "$root" sh cat ls id env pwd readlink stat touch mkdir rm sleep true false test head wc grep sed
	ln -sf ../../bin/env "$root/usr/bin/env"
	printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
	printf 'root:x:0:\n' >"$root/etc/group"
	printf 'ID=vialtest\nVERSION_ID=1\nPRETTY_NAME="vial test image"\n' >"$root/etc/os-release"
}

# tar_tree TREE OUT: as image builders write it: numeric owners, everything root's.
tar_tree() {
	tar --create --sort=name --numeric-owner --owner=0 --group=0 --mtime=@1700000000 --directory="$1" --file="$2" .
}

# oci_blob LAYOUT FILE: moves FILE in; prints its digest.
oci_blob() {
	local hex
	hex=$(sha256sum <"$2" | cut -d' ' -f1)
	mkdir -p "$1/blobs/sha256"
	mv "$2" "$1/blobs/sha256/$hex"
	echo "sha256:$hex"
}

# make_oci LAYOUT TAG CONFIG TREE...: an OCI layout with one gzip layer per TREE, oldest first.
# CONFIG is the text of the image config's "config" object, for example '{"Env":["A=1"]}'.
make_oci() {
	local layout=$1 tag=$2 config=$3 tmp tree diffs="" layers="" digest size arch
	shift 3
	arch=$(uname -m | sed 's/x86_64/amd64/;s/aarch64/arm64/')
	tmp=$(mktemp -d "$BATS_TEST_TMPDIR/oci.XXXXXX")
	mkdir -p "$layout"
	printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
	for tree in "$@"; do
		tar_tree "$tree" "$tmp/layer"
		diffs="$diffs,\"sha256:$(sha256sum <"$tmp/layer" | cut -d' ' -f1)\""
		gzip -n -1 <"$tmp/layer" >"$tmp/layer.gz"
		size=$(stat -c %s "$tmp/layer.gz")
		digest=$(oci_blob "$layout" "$tmp/layer.gz")
		layers="$layers,{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"$digest\",\"size\":$size}"
	done
	printf '{"architecture":"%s","os":"linux","config":%s,"rootfs":{"type":"layers","diff_ids":[%s]}}' \
		"$arch" "$config" "${diffs#,}" >"$tmp/config"
	size=$(stat -c %s "$tmp/config")
	digest=$(oci_blob "$layout" "$tmp/config")
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"%s","digest":"%s","size":%s},"layers":[%s]}' \
		application/vnd.oci.image.config.v1+json "$digest" "$size" "${layers#,}" >"$tmp/manifest"
	size=$(stat -c %s "$tmp/manifest")
	digest=$(oci_blob "$layout" "$tmp/manifest")
	printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%s,"annotations":{"org.opencontainers.image.ref.name":"%s"}}]}' \
		"$digest" "$size" "$tag" >"$layout/index.json"
	rm -rf "$tmp"
}

# flip_byte FILE OFFSET: changes one byte in place, whatever it was.
flip_byte() {
	local old
	old=$(od -An -tu1 -j "$2" -N 1 "$1")
	# shellcheck disable=SC2059 # the format is the byte
	printf "\\$(printf %o $((old ^ 255)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# with_site DIR CMD...: with DIR's vial/ for /etc/vial, in namespaces of its own
with_site() {
	local dir=$1 how=-m
	shift
	is_root || how=-Urm
	unshare $how sh -c 'mount -t overlay overlay -o "lowerdir=$1:/etc" /etc && shift && exec "$@"' sh "$dir" "$@"
}
