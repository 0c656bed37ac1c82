# Copies of an image that a step's first node sends to the others. Each node has a stage of its own; the image lies on a file
# system that counts what is read of it.
load common
load images
load ../slurm/slurm

setup_file() {
	is_root || return 0
	export OWN SLOW=${VIAL%/*}/tests/slowfs/slowfs
	OWN=$(mktemp -d /run/vial-fanout.XXXXXX)
	chmod 755 "$OWN"
	mkdir "$OWN/far" "$OWN/node"
	slurm_setup_file -l "$OWN/node"
	[ -z "${PLACE:-}" ] || (cd "$DEVCLUSTER_DIR/local" && mkdir -m 1777 n{1..4}/stage && mkdir n{1..4}/near)
}
teardown_file() {
	stop_cluster
	rm -rf "${OWN:-}"
}
setup() {
	local n
	slurm_setup
	NODES=$DEVCLUSTER_DIR/local FS=()
	new_image
	for n in n1 n2 n3 n4; do
		"$SLOW" 100 "$OWN/$n" "$OWN/far" "$NODES/$n/near" 3>&- &
		FS+=($!)
	done
	for n in n1 n2 n3 n4; do eventually test -e "$NODES/$n/near/$NAME"; done
	site stage="$OWN/node/stage" fanout="$(type -P sbcast)" check=no
}
teardown() {
	far_away
	slurm_teardown
}
# The file systems go, and tell what was read.
far_away() {
	if [ -n "${FS[*]:-}" ]; then umount "$NODES"/*/near && wait "${FS[@]}"; fi
	FS=()
}
# One that no node has.
new_image() {
	NAME=$BATS_TEST_NUMBER.$((++IMAGES)).sif
	IMAGE=$OWN/node/near/$NAME
	cp "$SIF" "$OWN/far/$NAME"
	chmod -R go+rX "$OWN/far"
	rm -rf "${NODES:?}"/*/stage/vial-* "${NODES:?}"/*/stage/.vial-*
}
# That many images were read by each node. (Where two steps open one at a time, some of it is read again: the kernel forgets what
# it has read ahead.)
were_read() {
	local n bytes size
	far_away
	size=$(stat -c %s "$SIF")
	for n in n1 n2 n3 n4; do
		bytes=$(cut -d' ' -f2 "$OWN/$n")
		[ $((bytes / size)) -eq "$1" ] || { tail "$OWN"/n? && return 1; }
		[ "$1" -gt 0 ] || [ "$bytes" -eq 0 ] || return 1
		shift
	done
}
# Each node has one copy.
copies() {
	local n
	for n in n1 n2 n3 n4; do
		cmp "$NODES/$n/stage/vial-$VIAL_TEST_UID/"*[!k] "$OWN/far/$NAME" || return 1
		[ "$(stat -c '%a %U' "$NODES/$n/stage/vial-$VIAL_TEST_UID/"*[!k])" = "400 $SLURM_USER" ] || return 1
	done
}
# And nothing besides in its stage.
all_have_it() { copies && eventually nothing_came; }
nothing_came() { [ -z "$(find "$NODES" -name '.vial-*')" ]; }
# in_it SRUN-OPTION...: what a task says in the container, once for each node
in_it() { srun --container-image="$IMAGE" "$@" cat /etc/file; }
says() { [ "$output" = "$(for ((i = 0; i < $1; i++)); do echo "in the image"; done)" ] || { echo "$output" && return 1; }; }

@test "one node reads the image and all have a copy, which the next step uses; what was left is removed" {
	local old=$NODES/n3/stage/.vial-$VIAL_TEST_UID.9.0-0123456789abcdef
	echo >"$old" && chown "$VIAL_TEST_UID" "$old" && touch -d '1 hour ago' "$old"
	expect 0 in_it -N 4
	says 4
	all_have_it
	expect 0 in_it -N 4
	says 4
	were_read 1 0 0 0
}

@test "a first node that has it already is asked; who has it is left alone" {
	expect 0 in_it -N 1 -w n1
	expect 0 in_it -N 1 -w n3
	# the first node's part of the step lasts until all have come
	expect 0 srun -N 4 --container-image="$IMAGE" sh -c \
		'cat /etc/file; echo >up.$SLURM_NODEID; until [ -e up.0 ] && [ -e up.1 ] && [ -e up.2 ] && [ -e up.3 ]; do sleep 0.1; done'
	says 4
	all_have_it
	were_read 1 0 1 0
}

@test "two steps at once, and the components of a heterogeneous job" {
	cat >"$WORK/two" <<-EOF
		#!/bin/sh
		for i in 1 2; do srun --overlap -N 4 --container-image=$IMAGE cat /etc/file >out.\$i 2>&1 & done
		wait
		cat out.?
	EOF
	expect 0 user salloc -Q -N 4 sh ./two
	says 8
	copies # what the slower of them sends may come when a node's part of that step is over: a later step removes it
	new_image
	expect 0 srun -N 1 --container-image="$IMAGE" cat /etc/file : -N 1 --container-image="$IMAGE" cat /etc/file
	says 2
	were_read 2 0 0 0
}

@test "where sbcast fails, or is killed, each node reads the image itself, and nothing is left" {
	cat >"$PLACE/bcast" <<-EOF
		#!/bin/bash
		[ -e "$WORK/kill" ] || { echo "sbcast: error: not today" >&2 && exit 1; }
		to=\${!#}
		case \$to in *.soon | *.no | *.want) exec sbcast "\$@" ;; esac
		SBCAST_SIZE=1k sbcast "\$@" &
		until [ -s "$NODES/n2/stage/\${to##*/}" ]; do sleep 0.01; done
		kill -KILL \$! \$\$
	EOF
	chmod 755 "$PLACE/bcast"
	site stage="$OWN/node/stage" fanout="$PLACE/bcast" check=no
	expect 0 in_it -N 4
	[ "$(grep -c "in the image" <<<"$output")" -eq 4 ]
	all_have_it
	stderr_has "not sent to the other nodes: sbcast: error: not today"
	[ "$(grep -c "read by this node itself: sbcast: error: not today" <<<"$stderr")" -eq 3 ]
	touch "$WORK/kill"
	new_image
	expect 0 in_it -N 4
	[ "$(grep -c "in the image" <<<"$output")" -eq 4 ]
	[ "$(grep -c "read by this node itself: the step's first node cannot send it: sbcast was killed" <<<"$stderr")" -eq 3 ]
	all_have_it
	were_read 2 2 2 2
}
