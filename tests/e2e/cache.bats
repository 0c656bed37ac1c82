# vial cache: what is in the image store, and how it gets smaller.
load common

A=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
B=bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
C=cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc

# store_image DIR KEY NAME DAYS: an image as the store has it, last used DAYS ago.
store_image() {
	local record
	if [ ! -e one.sif ]; then
		mkdir -p tree
		head -c 100000 /dev/urandom >tree/data
		vial -q build one.sif tree
	fi
	cp one.sif "$1/images/$2.sif"
	touch -d "$4 days ago" "$1/images/$2.sif"
	[ -n "$3" ] || return 0
	record=$(printf '%s\namd64\n' "$3" | sha256sum | cut -d' ' -f1)
	printf '{"name":"%s","arch":"amd64","digest":"sha256:%s","key":"%s","time":%s}' "$3" "$C" "$2" "$(date +%s)" \
		>"$1/names/$record.json"
}

# store_layer DIR HEX DAYS
store_layer() {
	mkdir -p "$1/blobs/sha256"
	head -c 50000 /dev/urandom >"$1/blobs/sha256/$2"
	touch -d "$3 days ago" "$1/blobs/sha256/$2"
}

# Two images and a layer in the default place.
fill_store() {
	STORE=$HOME/.cache/vial
	vial cache list >/dev/null
	store_image "$STORE" $A docker.io/library/python:3.12 1
	store_image "$STORE" $B "" 40
	store_layer "$STORE" $C 50
}

json() { python3 -c "import json, sys; j = json.load(sys.stdin); print($1)" <<<"$output"; }

@test "cache: an empty store is one line, and private" {
	expect 0 vial cache list
	[ "$(wc -l <<<"$output")" -eq 1 ]
	stdout_has "0 image files"
	stdout_has "$HOME/.cache/vial"
	[ "$(stat -c %a "$HOME/.cache/vial")" = 700 ]
	expect 0 vial cache list --json
	stdout_is "[]"
}

@test "cache list: names, types, and the total at the end" {
	fill_store
	expect 0 vial cache list
	stdout_has "NAME"
	[[ ${lines[1]} == python:3.12* ]] || complain "the last used is not first"
	[[ ${lines[2]} == bbbbbbbbbbbb\ * ]] || complain "no digits for what has no name"
	stdout_lacks cccccccccccc
	[[ ${lines[-1]} == "There are 2 image files using "*" and 1 layer using "*" of space, "* ]] || complain "no total"
	expect 0 vial cache list -v
	stdout_has docker.io/library/python:3.12
	stdout_has cccccccccccc
	stdout_has "$STORE/images/$A.sif"
	for type in layer blob oci; do
		expect 0 vial cache list --type $type
		stdout_has cccccccccccc
		stdout_lacks python
		stdout_has "0 image files"
	done
	for type in image library,oras oci-tmp; do
		expect 0 vial cache list -T $type
		stdout_has python
		stdout_has "0 layers"
	done
	expect 1 vial cache list -T nonsense
	stderr_has nonsense
}

@test "cache list --json: everything, for programs" {
	fill_store
	expect 0 vial cache list --json
	[ "$(json '[i["type"] for i in j]')" = "['image', 'image', 'layer']" ]
	[ "$(json 'j[0]["names"]')" = "['docker.io/library/python:3.12']" ]
	[ "$(json 'j[0]["digest"]')" = "sha256:$C" ]
	[ "$(json 'j[0]["id"]')" = $A ]
	[ "$(json 'j[2]["id"]')" = sha256:$C ]
	[ "$(json 'j[1]["site"]')" = False ]
	[ "$(json 'j[0]["size"]')" = $(($(stat -c %b "$STORE/images/$A.sif") * 512)) ]
	[ "$(json 'j[0]["lastUsed"]')" = "$(stat -c %Y "$STORE/images/$A.sif")" ]
}

@test "cache clean: asks, or is told" {
	fill_store
	expect 255 vial cache clean </dev/null
	one_fatal_line "--force"
	[ -e "$STORE/images/$A.sif" ]
	expect 0 vial cache clean --dry-run
	stdout_has "would remove image python:3.12"
	stdout_has "3 objects"
	[ -e "$STORE/images/$A.sif" ]
	expect 0 vial cache clean -f -D 45
	stdout_has "1 object,"
	[ ! -e "$STORE/blobs/sha256/$C" ] && [ -e "$STORE/images/$B.sif" ]
	expect 0 vial cache clean -f -T layer
	[ -e "$STORE/images/$A.sif" ]
	expect 0 vial cache clean --force
	stdout_has "removed image python:3.12"
	stdout_has "2 objects"
	[ -z "$(find "$STORE" -type f ! -name CACHEDIR.TAG)" ]
	expect 0 vial cache list
	stdout_has "0 image files"
}

@test "cache clean: on a terminal the answer counts" {
	fill_store
	echo n >answer
	expect 0 script -qec "'$VIAL' cache clean" out <answer
	grep -q 'remove 3 objects, .*\[y/N\]' out
	[ -e "$STORE/images/$A.sif" ]
	echo y >answer
	expect 0 script -qec "'$VIAL' cache clean" out <answer
	[ ! -e "$STORE/images/$A.sif" ] && [ ! -e "$STORE/blobs/sha256/$C" ]
}

@test "cache prune: down to the limit, what was unused longest first" {
	fill_store
	expect 1 vial cache prune
	stderr_has "VIAL_CACHE_LIMIT"
	expect 1 vial cache prune --limit 0
	expect 1 vial cache prune --limit much
	image=$(($(stat -c %b "$STORE/images/$A.sif") * 512))
	expect 0 vial cache prune --dry-run --json --limit $((2 * image))
	[ "$(json '[i["type"] for i in j["removed"]]')" = "['layer']" ]
	[ -e "$STORE/blobs/sha256/$C" ]
	expect 0 vial cache prune --limit $((2 * image))
	stdout_has "1 object,"
	[ ! -e "$STORE/blobs/sha256/$C" ] && [ -e "$STORE/images/$B.sif" ]
	expect 0 env VIAL_CACHE_LIMIT=$image "$VIAL" cache prune
	[ ! -e "$STORE/images/$B.sif" ] && [ -e "$STORE/images/$A.sif" ]
	expect 0 vial cache prune --days 30
	expect 0 env VIAL_CACHE_LIMIT=0 "$VIAL" cache prune --days 30
	expect 1 env VIAL_CACHE_LIMIT=0 "$VIAL" cache prune
	stderr_has "no limit is configured"
	[ -e "$STORE/images/$A.sif" ]
}

@test "cache: where the store is" {
	expect 0 env VIAL_CACHEDIR="$PWD/own" APPTAINER_CACHEDIR="$PWD/theirs" "$VIAL" cache list
	stdout_has "in $PWD/own"
	[ -d own/images ] && [ ! -e theirs ]
	expect 0 env APPTAINER_CACHEDIR="$PWD/theirs" XDG_CACHE_HOME="$PWD/xdg" "$VIAL" cache list
	stdout_has "in $PWD/theirs/vial"
	expect 0 env SINGULARITY_CACHEDIR="$PWD/older" "$VIAL" cache list
	stdout_has "in $PWD/older/vial"
	expect 0 env XDG_CACHE_HOME="$PWD/xdg" "$VIAL" cache list
	stdout_has "in $PWD/xdg/vial"
	expect 255 env -u HOME "$VIAL" cache list
	one_fatal_line VIAL_CACHEDIR
	expect 255 env VIAL_CACHE_LIMIT=lots "$VIAL" cache list
	one_fatal_line lots
	expect 255 env VIAL_CACHE_LAYERS=maybe "$VIAL" cache list
	one_fatal_line maybe
	grep -q '^Signature: 8a477f597d28d172789f06886806bc55' own/CACHEDIR.TAG
}

@test "cache: a place that cannot be used is named, with what to do" {
	touch file
	expect 255 env VIAL_CACHEDIR="$PWD/file/store" "$VIAL" cache list
	one_fatal_line "$PWD/file/store"
	stderr_has "--disable-cache"
	mkdir -m 777 open
	expect 255 env VIAL_CACHEDIR="$PWD/open" "$VIAL" cache list
	one_fatal_line "chmod go-w"
}

@test "cache: a home that cannot be written" {
	need_user
	mkdir -m 555 sealed
	HOME=$PWD/sealed expect 255 vial cache list
	one_fatal_line "$PWD/sealed/.cache"
	stderr_has VIAL_CACHEDIR
}

@test "cache: the site's store is listed and left alone" {
	fill_store
	VIAL_CACHEDIR=$PWD/site vial cache list >/dev/null
	store_image site "${C}" site/tools:1 100
	export VIAL_SITE_CACHE=/nowhere,$PWD/site
	expect 0 vial cache list
	stdout_has "site/tools:1"
	stdout_has "(site)"
	stdout_has "3 image files"
	expect 0 vial cache clean --force
	stdout_lacks site/tools
	[ -e "site/images/$C.sif" ]
}
