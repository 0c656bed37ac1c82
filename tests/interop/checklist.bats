# Every line of the check list, by Apptainer and by vial under its name: the same output, the same statuses.
# shellcheck disable=SC2030,SC2031 # a test is a subshell
load ../e2e/common
load ../e2e/registry
load ../e2e/checklist

# What Apptainer 1.4.5 does otherwise, and why vial does not follow. It must differ, or it does not belong here.
declare -gA DIFFERS=(
	[oci_layout]="1.4.5 takes the tag of oci:DIR:TAG for a part of the path; its documentation has it as we do"
)

setup_file() {
	registry_setup
	start_registry REG
	cd "$BATS_FILE_TMPDIR" || return 1
	checklist_images
	vial_as_apptainer vial
	mkdir peer
	local name
	for name in apptainer singularity run-singularity; do
		printf '#!/bin/sh\nexec "%s/../interop/run" --exec %s "$@"\n' "$HERE" \
			"$([ $name = run-singularity ] && echo 'apptainer run' || echo apptainer)" >peer/$name
	done
	chmod +x peer/*
}
teardown_file() { stop_servers; }

setup() {
	common_setup
	registry_setup
}

by() { # NAME LINE
	PATH=$BATS_FILE_TMPDIR/$1:$PATH play "$2" >"$1.out" || true
	cp list.err "$1.err"
}

# can LINE: Apptainer can do it here at all
can() {
	case $1 in
	# root of a machine without /etc/subuid, and users without fakeroot's ids in it
	fakeroot) PATH=$BATS_FILE_TMPDIR/peer:$PATH apptainer exec --fakeroot "$IMAGE" true 2>/dev/null ;;
	esac
}

@test "every line of the check list is the same with both" {
	local line bad=0
	cd "$BATS_TEST_TMPDIR"
	for line in $(declare -F | sed -n 's/^declare -f line_//p'); do
		if ! can "$line"; then
			echo "# $line: not with Apptainer on this machine"
			continue
		fi
		by peer "$line"
		by vial "$line"
		if [ -n "${DIFFERS[$line]:-}" ]; then
			! cmp -s peer.out vial.out || {
				bad=1
				echo "# $line does not differ any more: ${DIFFERS[$line]}"
			}
		elif ! cmp -s peer.out vial.out; then
			bad=1
			echo "# $line: < Apptainer, > vial"
			diff peer.out vial.out || true
			sed 's/^/# Apptainer says: /' peer.err
			sed 's/^/# vial says:      /' vial.err
		fi
	done
	[ $bad -eq 0 ]
}

@test "an image built by either runs with both: variables, runscript, arguments" {
	local line
	make_oci plain latest '{"Env":["A=image"],"Labels":{"who":"me"},"Entrypoint":["/bin/sh","-c","printf \"<%s>\" \"$@\"; echo","sh"],"Cmd":["$HOME","cmd"]}' "$TREE"
	"$VIAL" -q build image.sif oci:plain:latest
	"$HERE/../interop/run" --exec apptainer build theirs.sif oci:plain
	for IMAGE in "$PWD/image.sif" "$PWD/theirs.sif"; do
		for line in built_by_either inspect; do
			by peer "$line"
			by vial "$line"
			expect 0 diff peer.out vial.out
		done
	done
	# a double quote among the arguments ends the runscript that 1.4.5 writes; the status is that of the image's shell here
	expect 255 "$BATS_FILE_TMPDIR/peer/apptainer" run theirs.sif 'd"d'
	expect 2 "$BATS_FILE_TMPDIR/vial/apptainer" run theirs.sif 'd"d'
	expect 0 "$BATS_FILE_TMPDIR/peer/apptainer" run image.sif 'd"d'
	stdout_is '<d"d>'
	# 1.4.5 escapes what it writes twice: a backquote in an image's variable, and its file of variables is lost on the
	# way. What it wrote vial reads as a shell would.
	"$HERE/../interop/run" --exec apptainer build odd.sif "oci:$LAYOUT"
	A=host expect 0 "$BATS_FILE_TMPDIR/peer/apptainer" exec odd.sif sh -c 'echo $A'
	stdout_is host
	A=host expect 0 "$BATS_FILE_TMPDIR/vial/apptainer" exec odd.sif sh -c 'echo $A'
	stdout_is image
}

line_built_by_either() {
	st apptainer run "$IMAGE"
	st apptainer run "$IMAGE" 'a b' "q'q" '' '--flag'
	st apptainer run "$IMAGE" '$A' '`echo x`' '\$A'
	A=host B=host st apptainer exec "$IMAGE" sh -c 'echo "$A $B"'
	st apptainer run --no-eval "$IMAGE" '$HOME' 'd"d'
}

@test "signed by either, verified by both" {
	local by to
	vial -q key newpair pair
	for by in peer vial; do
		for to in peer vial; do
			cp "$BATS_FILE_TMPDIR/image.sif" app.sif
			expect 0 "$BATS_FILE_TMPDIR/$by/apptainer" sign --key pair.pem app.sif
			expect 0 "$BATS_FILE_TMPDIR/$to/apptainer" verify --key pair.pub.pem app.sif
			flip_byte app.sif $(($(stat -c %s "$BATS_FILE_TMPDIR/image.sif") - 5000))
			expect 255 "$BATS_FILE_TMPDIR/$to/apptainer" verify --key pair.pub.pem app.sif
		done
	done
}
