# What vial pushes, Apptainer pulls, and the other way round, over a registry on loopback.
load ../e2e/common
load ../e2e/registry

apptainer() { "$HERE/../interop/run" --exec apptainer "$@"; }

setup_file() {
	registry_setup
	cd "$BATS_FILE_TMPDIR" || return 1
	BATS_TEST_TMPDIR=$PWD make_rootfs tree
	BATS_TEST_TMPDIR=$PWD make_oci layout latest '{"Env":["FROM_IMAGE=yes"],"Cmd":["cat","/etc/os-release"]}' tree
	"$VIAL" build ours.sif oci:layout:latest
	apptainer build theirs.sif tree
	start_registry REG
}
teardown_file() { stop_servers; }

setup() {
	common_setup
	registry_setup
	export APPTAINER_CACHEDIR=$PWD/apptainer-cache
	cp "$BATS_FILE_TMPDIR"/{ours,theirs}.sif .
}

@test "apptainer pulls the artifact that vial pushed: the same bytes" {
	expect 0 vial push ours.sif "oras://$REG_HOST/lab/ours:1"
	expect 0 apptainer pull --no-https got.sif "oras://$REG_HOST/lab/ours:1"
	expect 0 cmp got.sif ours.sif
}

@test "vial pulls the artifact that apptainer pushed: the same bytes" {
	expect 0 apptainer push --no-https theirs.sif "oras://$REG_HOST/lab/theirs:1"
	expect 0 vial pull got.sif "oras://$REG_HOST/lab/theirs:1"
	expect 0 cmp got.sif theirs.sif
	expect 0 vial exec "oras://$REG_HOST/lab/theirs:1" cat /etc/os-release
	stdout_has "ID=vialtest"
}

@test "a signed image stays signed on its way through a registry" {
	expect 0 vial key newpair pair
	expect 0 vial sign --key pair.pem ours.sif
	expect 0 vial push ours.sif "oras://$REG_HOST/lab/signed:1"
	expect 0 apptainer pull --no-https got.sif "oras://$REG_HOST/lab/signed:1"
	expect 0 apptainer verify --key pair.pub.pem got.sif
}

@test "both make the same image of what vial pushed as an OCI image" {
	expect 0 vial push ours.sif "docker://$REG_HOST/lab/image:1"
	expect 0 apptainer build --no-https image.sif "docker://$REG_HOST/lab/image:1"
	expect 0 vial pull got.sif "docker://$REG_HOST/lab/image:1"
	expect 0 apptainer exec image.sif sh -c 'echo $FROM_IMAGE; cat /etc/os-release'
	local theirs=$output
	expect 0 vial exec got.sif sh -c 'echo $FROM_IMAGE; cat /etc/os-release'
	stdout_is "$theirs"
	expect 0 apptainer run got.sif
	stdout_has "ID=vialtest"
}

@test "one credential file serves both" {
	start_registry PW --htpasswd
	printf '%s' "$REG_PASSWORD" >password
	expect 0 vial registry login --no-https -u "$REG_USER" --password-stdin --authfile auth.json "$PW_HOST" <password
	expect 0 vial push --no-https --authfile auth.json ours.sif "oras://$PW_HOST/lab/ours:1"
	expect 0 apptainer pull --no-https --authfile "$PWD/auth.json" got.sif "oras://$PW_HOST/lab/ours:1"
	expect 0 cmp got.sif ours.sif
	stop_servers
}
