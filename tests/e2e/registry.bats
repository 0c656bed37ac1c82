# Reaching registries: certificates, credentials, tokens, mirrors; and that secrets stay secret.
load common
load registry

setup_file() {
	registry_setup
	start_registry REG
	start_registry TLS --tls
	start_registry PW --htpasswd
	start_registry TOK --token
	start_proxy PROXY TOK
	export TREE=$BATS_FILE_TMPDIR/tree
	mkdir -p "$TREE"
	head -c 100000 /dev/urandom >"$TREE/data"
	push_image "$REG_HOST/apps/tool:1" "$TREE"
	image=docker://$REG_HOST/apps/tool:1
	copy_image "$image" "docker://$TLS_HOST/apps/tool:1"
	copy_image "$image" "docker://$PW_HOST/apps/tool:1" --dest-creds "$REG_USER:$REG_PASSWORD"
	copy_image "$image" "docker://$TOK_HOST/public/tool:1" --dest-creds "$REG_USER:$REG_PASSWORD"
	copy_image "$image" "docker://$TOK_HOST/private/tool:1" --dest-creds "$REG_USER:$REG_PASSWORD"
}
teardown_file() { stop_servers; }
setup() {
	common_setup
	registry_setup
	faults
	forget_requests
	export VIAL_RETRIES=2
	CERTS=$HOME/.config/containers/certs.d
}
teardown() {
	stop_servers
	common_teardown
}

# can_pull REF [OPTION]...: and it is the image.
can_pull() {
	local ref=$1
	shift
	rm -rf "$STORE" a.sif
	expect 0 vial -q pull "$@" a.sif "docker://$ref"
	has_file a.sif data "$TREE/data"
	store_is_clean
}

# cannot_pull WORD REF [OPTION]...
cannot_pull() {
	local word=$1 ref=$2
	shift 2
	rm -rf "$STORE" a.sif
	expect 255 vial -q pull "$@" a.sif "docker://$ref"
	one_fatal_line "$word"
	[ ! -e a.sif ]
	store_is_clean
}

log_in() { # HOST [PASSWORD] [OPTION]...
	local host=$1 password=${2:-$REG_PASSWORD}
	shift "$(($# < 2 ? $# : 2))"
	try vial registry login -u "$REG_USER" --password-stdin "$@" "$host" <<<"$password"
}
logged_in() { [ "$status" -eq 0 ] || complain "login failed"; }

# secrets: everything that must not be seen, one a line.
secrets() {
	printf '%s\n' "$REG_PASSWORD"
	printf '%s' "$REG_USER:$REG_PASSWORD" | base64
	curl -sS --noproxy '*' "$TOK_CONTROL/secrets"
}
# no_secrets FILE...
no_secrets() {
	secrets >"$BATS_TEST_TMPDIR/secrets"
	if grep -aqFf "$BATS_TEST_TMPDIR/secrets" "$@"; then
		echo "# a secret is in one of: $*"
		return 1
	fi
}

docker_config() { # HOST: with the credentials in it
	mkdir -p "$HOME/.docker"
	printf '{"auths":{"%s":{"auth":"%s"}}}' "$1" "$(printf '%s' "$REG_USER:$REG_PASSWORD" | base64 -w 0)" \
		>"$HOME/.docker/config.json"
}

conf() {
	mkdir -p "$HOME/.config/containers"
	cat >"$HOME/.config/containers/registries.conf"
}

registry_of() { printf '[[registry]]\nlocation = "%s"\n' "$1"; }

# ---- TLS ---------------------------------------------------------------------------------------

@test "registry: a certificate of an unknown authority is refused, a known one is not" {
	# a loopback address needs no certificate; one that is configured, or has certificates, does
	{ registry_of "$TLS_HOST" && registry_of "localhost:${TLS_HOST#*:}"; } | conf
	cannot_pull "certificate" "$TLS_HOST/apps/tool:1"
	stderr_has "$TLS_HOST"
	mkdir -p "$CERTS/$TLS_HOST"
	cp "$TLS_CA" "$CERTS/$TLS_HOST/ca.crt"
	can_pull "$TLS_HOST/apps/tool:1"
	# by another name of the same server nobody has put a certificate there
	cannot_pull "certificate" "localhost:${TLS_HOST#*:}/apps/tool:1"
	# another authority's is not enough
	rm "$HOME/.config/containers/registries.conf"
	start_server OTHER registry --tls
	cp "$OTHER_CA" "$CERTS/$TLS_HOST/ca.crt"
	cannot_pull "certificate" "$TLS_HOST/apps/tool:1"
	: >"$CERTS/$TLS_HOST/ca.crt"
	cannot_pull "" "$TLS_HOST/apps/tool:1"
}

@test "registry: an expired certificate and one for another name are refused" {
	for kind in expired wrong-name; do
		start_server BAD proxy --upstream "$REG_URL" --tls "$kind"
		mkdir -p "$CERTS/$BAD_HOST"
		cp "$BAD_CA" "$CERTS/$BAD_HOST/ca.crt"
		cannot_pull "" "$BAD_HOST/apps/tool:1"
		[[ $stderr =~ expired|name|certificate ]]
		stop_server BAD
	done
}

@test "registry: a client certificate is shown to who asks for it" {
	start_registry MTLS --tls --client-ca
	mkdir -p "$CERTS/$MTLS_HOST"
	cp "$MTLS_CA" "$CERTS/$MTLS_HOST/ca.crt"
	cannot_pull "$MTLS_HOST" "$MTLS_HOST/apps/tool:1"
	cp "$MTLS_DIR/client.cert" "$MTLS_DIR/client.key" "$CERTS/$MTLS_HOST/"
	copy_image "docker://$REG_HOST/apps/tool:1" "docker://$MTLS_HOST/apps/tool:1" --dest-cert-dir "$CERTS/$MTLS_HOST"
	can_pull "$MTLS_HOST/apps/tool:1"
	rm "$CERTS/$MTLS_HOST/client.key"
	cannot_pull "" "$MTLS_HOST/apps/tool:1"
}

@test "registry: plain HTTP only where it is meant" {
	# loopback: https is tried, then http
	can_pull "$REG_HOST/apps/tool:1"
	can_pull "$REG_HOST/apps/tool:1" --no-https
	VIAL_NO_HTTPS=1 can_pull "$REG_HOST/apps/tool:1"
	# a server that has TLS is not asked without
	cannot_pull "$TLS_HOST" "$TLS_HOST/apps/tool:1" --no-https
}

# ---- credentials -------------------------------------------------------------------------------

@test "registry: login, list, logout" {
	cannot_pull "$PW_HOST" "$PW_HOST/apps/tool:1"
	stderr_has "registry login"
	log_in "$PW_HOST"
	logged_in
	can_pull "$PW_HOST/apps/tool:1"
	expect 0 vial registry list
	stdout_has "$PW_HOST"
	stdout_has "$REG_USER"
	file=$(grep -rl "$PW_HOST" "$HOME")
	[ "$(stat -c %a "$file")" = 600 ]
	expect 0 vial registry logout "$PW_HOST"
	run ! grep -r "$PW_HOST" "$HOME"
	expect 0 vial registry list
	stdout_lacks "$PW_HOST"
	cannot_pull "$PW_HOST" "$PW_HOST/apps/tool:1"
}

@test "registry: login takes what scripts write before the host" {
	for uri in "docker://$PW_HOST" "oras://$PW_HOST"; do
		log_in "$uri"
		logged_in
		can_pull "$PW_HOST/apps/tool:1"
		expect 0 vial registry logout "$uri"
		cannot_pull "" "$PW_HOST/apps/tool:1"
	done
}

@test "registry: a wrong password is refused and not saved" {
	log_in "$PW_HOST" wrong
	[ "$status" -eq 255 ] || complain "status"
	one_fatal_line "$PW_HOST"
	[ -z "$(find "$HOME" -type f)" ]
	log_in "$TOK_HOST" wrong
	[ "$status" -eq 255 ] || complain "status"
	one_fatal_line "$TOK_HOST"
	[ -z "$(find "$HOME" -type f)" ]
	# and does not take the place of a right one
	log_in "$PW_HOST"
	log_in "$PW_HOST" wrong
	[ "$status" -eq 255 ]
	can_pull "$PW_HOST/apps/tool:1"
}

@test "registry: logins of others in the file stay" {
	mkdir -p "$HOME/.config/containers"
	printf '{"auths":{"other.example":{"auth":"%s"}},"credHelpers":{"third.example":"x"},"unknown":[1]}' \
		"$(printf 'a:b' | base64)" >"$HOME/.config/containers/auth.json"
	log_in "$PW_HOST"
	logged_in
	expect 0 vial registry logout "$PW_HOST"
	json "$(cat "$HOME/.config/containers/auth.json")" \
		"'other.example' in d['auths'] and d['credHelpers'] == {'third.example': 'x'} and d['unknown'] == [1]"
}

@test "registry: where credentials are found" {
	log_in "$PW_HOST" "$REG_PASSWORD" --authfile mine.json
	logged_in
	[ "$(stat -c %a mine.json)" = 600 ]
	cannot_pull "" "$PW_HOST/apps/tool:1"
	can_pull "$PW_HOST/apps/tool:1" --authfile mine.json
	REGISTRY_AUTH_FILE=$PWD/mine.json can_pull "$PW_HOST/apps/tool:1"
	for place in .config/containers/auth.json .docker/config.json .apptainer/docker-config.json; do
		install -D -m 600 mine.json "$HOME/$place"
		can_pull "$PW_HOST/apps/tool:1"
		rm "$HOME/$place"
	done
	install -D -m 600 mine.json run/containers/auth.json
	XDG_RUNTIME_DIR=$PWD/run can_pull "$PW_HOST/apps/tool:1"
	install -D -m 600 mine.json dc/config.json
	DOCKER_CONFIG=$PWD/dc can_pull "$PW_HOST/apps/tool:1"
	# environment, as Apptainer's users have it
	VIAL_DOCKER_USERNAME=$REG_USER VIAL_DOCKER_PASSWORD=$REG_PASSWORD can_pull "$PW_HOST/apps/tool:1"
	echo '{"auths":' >"mine.json"
	cannot_pull "mine.json" "$PW_HOST/apps/tool:1" --authfile mine.json
}

@test "registry: docker's file, and the longest name wins" {
	docker_config "$PW_HOST"
	can_pull "$PW_HOST/apps/tool:1"
	good=$(printf '%s' "$REG_USER:$REG_PASSWORD" | base64 -w 0)
	bad=$(printf 'user:wrong' | base64 -w 0)
	printf '{"auths":{"%s":{"auth":"%s"},"%s/apps":{"auth":"%s"}}}' "$PW_HOST" "$bad" "$PW_HOST" "$good" >"$HOME/.docker/config.json"
	can_pull "$PW_HOST/apps/tool:1"
	docker_config "https://$PW_HOST/v1/"
	can_pull "$PW_HOST/apps/tool:1"
}

@test "registry: a credential helper is asked" {
	mkdir bin "$HOME/.docker"
	cat >bin/docker-credential-test <<-EOT
		#!/bin/sh
		read -r host
		echo "\$1 \$host" >>$PWD/asked
		[ "\$host" = "$PW_HOST" ] || { echo "credentials not found in native keychain"; exit 1; }
		printf '{"ServerURL":"%s","Username":"%s","Secret":"%s"}' "\$host" "$REG_USER" "$REG_PASSWORD"
	EOT
	chmod +x bin/docker-credential-test
	printf '{"credHelpers":{"%s":"test"}}' "$PW_HOST" >"$HOME/.docker/config.json"
	PATH=$PWD/bin:$PATH can_pull "$PW_HOST/apps/tool:1"
	grep -qx "get $PW_HOST" asked
	printf '{"credsStore":"test"}' >"$HOME/.docker/config.json"
	PATH=$PWD/bin:$PATH can_pull "$PW_HOST/apps/tool:1"
	# it knows nothing of others: anonymous
	PATH=$PWD/bin:$PATH can_pull "$TOK_HOST/public/tool:1"
	# one that is not there is warned of, and is the reason in the end
	rm -rf "$STORE" a.sif
	expect 255 vial -q pull a.sif "docker://$PW_HOST/apps/tool:1"
	[ "$(grep -c "^WARNING: .*docker-credential-test" <<<"$stderr")" -eq 1 ]
	[ "$(grep -c "^FATAL: .*docker-credential-test" <<<"$stderr")" -eq 1 ]
	# one that breaks
	printf '#!/bin/sh\necho "{"\n' >bin/docker-credential-test
	PATH=$PWD/bin:$PATH cannot_pull "docker-credential-test" "$PW_HOST/apps/tool:1"
}

# ---- tokens ------------------------------------------------------------------------------------

@test "registry: tokens: anonymous for what is public, credentials for the rest" {
	can_pull "$TOK_HOST/public/tool:1"
	cannot_pull "private/tool" "$TOK_HOST/private/tool:1"
	stderr_has "registry login"
	log_in "$TOK_HOST"
	logged_in
	can_pull "$TOK_HOST/private/tool:1"
	can_pull "$TOK_HOST/public/tool:1"
	start_registry TTOK --tls --token
	copy_image "docker://$REG_HOST/apps/tool:1" "docker://$TTOK_HOST/private/tool:1" --dest-creds "$REG_USER:$REG_PASSWORD"
	mkdir -p "$CERTS/$TTOK_HOST"
	cp "$TTOK_CA" "$CERTS/$TTOK_HOST/ca.crt"
	log_in "$TTOK_HOST"
	logged_in
	can_pull "$TTOK_HOST/private/tool:1"
	# insecure = true is about the registry: a token server of another name has to show who it is
	{ registry_of "localhost:${TTOK_HOST#*:}" && echo 'insecure = true'; } | conf
	cannot_pull "token" "localhost:${TTOK_HOST#*:}/private/tool:1"
	stderr_has "certificate"
	{ registry_of "$TTOK_HOST" && echo 'insecure = true'; } | conf
	rm -r "${CERTS:?}/$TTOK_HOST"
	can_pull "$TTOK_HOST/private/tool:1"
}

@test "registry: tokens: one that is refused in the middle is replaced" {
	log_in "$PROXY_HOST"
	logged_in
	can_pull "$PROXY_HOST/private/tool:1"
	[ "$(count_requests 'manifests.*auth=bearer')" -ge 1 ]
	forget_requests
	faults 'GET /blobs/ unauthorized times=1'
	can_pull "$PROXY_HOST/private/tool:1"
	[ "$(count_requests 'fault=unauthorized')" -eq 1 ]
	curl -sS --noproxy '*' -X POST --data '{"expired":1}' "$TOK_CONTROL/set"
	can_pull "$PROXY_HOST/private/tool:1"
	curl -sS --noproxy '*' -X POST --data '{"fail":1}' "$TOK_CONTROL/set"
	can_pull "$PROXY_HOST/private/tool:1"
	# never a good one: no endless circle
	curl -sS --noproxy '*' -X POST --data '{"expired":1000}' "$TOK_CONTROL/set"
	forget_requests
	cannot_pull "$PROXY_HOST" "$PROXY_HOST/private/tool:1"
	curl -sS --noproxy '*' -X POST --data '{"expired":0}' "$TOK_CONTROL/set"
	[ "$(requests | wc -l)" -lt 10 ]
}

@test "registry: tokens: a token lasts for all its requests" {
	before=$(curl -sS --noproxy '*' "$TOK_CONTROL/log" | wc -l)
	can_pull "$TOK_HOST/public/tool:1"
	[ $(($(curl -sS --noproxy '*' "$TOK_CONTROL/log" | wc -l) - before)) -eq 1 ]
}

@test "registry: tokens: an identity token gets others" {
	refresh=$(curl -sS --noproxy '*' -X POST "$TOK_CONTROL/refresh")
	mkdir "$HOME/.docker"
	printf '{"auths":{"%s":{"auth":"%s","identitytoken":"%s"}}}' "$TOK_HOST" "$(printf '00000000-0000-0000-0000-000000000000:' | base64)" \
		"$refresh" >"$HOME/.docker/config.json"
	can_pull "$TOK_HOST/private/tool:1"
	curl -sS --noproxy '*' "$TOK_CONTROL/log" | tail -n 1 | grep -q '^POST refresh_token account=user'
}

@test "registry: credentials are not handed on to another host" {
	start_proxy OTHER REG
	copy_image "docker://$REG_HOST/apps/tool:1" "docker://$REG_HOST/private/tool:1"
	log_in "$PROXY_HOST"
	logged_in
	faults "GET /blobs/ redirect to=$OTHER_URL"
	can_pull "$PROXY_HOST/private/tool:1"
	[ "$(count_requests 'GET .*/blobs/.*auth=bearer')" -ge 1 ]
	watch OTHER
	[ "$(count_requests 'GET .*/blobs/')" -ge 1 ]
	[ "$(count_requests 'auth=(bearer|basic)')" -eq 0 ]
}

# ---- secrets -----------------------------------------------------------------------------------

@test "registry: no secret is ever printed or shown" {
	for host in "$PW_HOST" "$PROXY_HOST"; do
		log_in "$host"
		logged_in
		printf '%s' "$output$stderr"
		vial --debug registry login -u "$REG_USER" --password-stdin "$host" <<<"$REG_PASSWORD"
		vial --debug registry login -u "$REG_USER" --password-stdin "$host" <<<"$REG_PASSWORD-wrong" || true
	done >all 2>&1
	{
		vial --debug pull a.sif "docker://$PW_HOST/apps/tool:1"
		vial --debug pull b.sif "docker://$PROXY_HOST/private/tool:1"
		vial --debug pull c.sif "docker://$PROXY_HOST/private/none:1" || true
		vial --debug registry list
		vial --debug registry logout "$PW_HOST"
		VIAL_DOCKER_USERNAME=$REG_USER VIAL_DOCKER_PASSWORD=$REG_PASSWORD vial --debug pull d.sif "docker://$PW_HOST/apps/tool:1"
	} >>all 2>&1
	no_secrets all a.sif b.sif d.sif
	find "$STORE" -type f -exec cat {} + >stored
	no_secrets stored
	# while it works: command lines
	rm -rf "$STORE"
	faults 'GET /blobs/ hold bytes=1000'
	"$VIAL" pull e.sif "docker://$PROXY_HOST/private/tool:1" >>all 2>&1 3>&- &
	pid=$!
	wait_for held
	ps -ww -e -o args >shown
	faults # and none: what is asked for only now is not held either
	wait "$pid" || { sed 's/^/# /' all && false; }
	no_secrets shown all
}

@test "registry: a password on the command line is possible, and warned of or hidden" {
	expect 0 vial registry login -u "$REG_USER" -p "$REG_PASSWORD" "$PW_HOST"
	printf '%s' "$output$stderr" >all
	no_secrets all
	can_pull "$PW_HOST/apps/tool:1"
}

# ---- mirrors -----------------------------------------------------------------------------------

@test "registry: a credential file that cannot be read is named, and stops nobody" {
	mkdir -p "$HOME/.docker"
	echo '{ "auths": ' >"$HOME/.docker/config.json"
	expect 0 vial pull a.sif "docker://$REG_HOST/apps/tool:1"
	stderr_has "WARNING"
	stderr_has "$HOME/.docker/config.json"
}

@test "registry: a mirror is asked first" {
	start_proxy MIRROR REG
	watch MIRROR
	registries_conf registry.example "$MIRROR_HOST" | conf
	can_pull "registry.example/apps/tool:1"
	[ "$(count_requests 'GET .*/blobs/')" -ge 1 ]
	# under a name of its own
	copy_image "docker://$REG_HOST/apps/tool:1" "docker://$REG_HOST/cache/apps/tool:1"
	registries_conf registry.example "$MIRROR_HOST/cache" | conf
	forget_requests
	can_pull "registry.example/apps/tool:1"
	[ "$(count_requests '/v2/cache/apps/tool/manifests/')" -ge 1 ]
}

@test "registry: a password of the command line is not for mirrors" {
	start_proxy MIRROR PW
	watch MIRROR
	registries_conf "$REG_HOST" "$MIRROR_HOST" | conf
	export DOCKER_USERNAME=$REG_USER DOCKER_PASSWORD=$REG_PASSWORD
	can_pull "$REG_HOST/apps/tool:1"
	[ "$(count_requests '.')" -ge 1 ]
	[ "$(count_requests 'auth=none')" -eq "$(count_requests '.')" ]
}

@test "registry: a mirror that fails, lacks the image or lies costs nothing" {
	start_proxy MIRROR REG
	watch MIRROR
	start_registry EMPTY
	start_proxy ORIGIN REG
	registries_conf "$ORIGIN_HOST" 127.0.0.1:1 "$EMPTY_HOST" "$MIRROR_HOST" | conf
	can_pull "$ORIGIN_HOST/apps/tool:1"
	[ "$(count_requests '/blobs/')" -ge 1 ]
	for fault in 'status code=500' 'status code=403' hangup garbage; do
		faults "/manifests/ $fault"
		can_pull "$ORIGIN_HOST/apps/tool:1"
	done
	faults '/blobs/ status code=404'
	can_pull "$ORIGIN_HOST/apps/tool:1"
	faults '/blobs/ corrupt byte=100'
	rm -rf "$STORE" a.sif
	try vial -q pull a.sif "docker://$ORIGIN_HOST/apps/tool:1"
	if [ "$status" -eq 0 ]; then has_file a.sif data "$TREE/data"; else one_fatal_line digest; fi
	store_is_clean
}

@test "registry: a renamed and a blocked registry" {
	conf <<-EOT
		[[registry]]
		prefix = "short.example/mine"
		location = "$REG_HOST/apps"
		insecure = true

		[[registry]]
		prefix = "evil.example"
		blocked = true
	EOT
	can_pull "short.example/mine/tool:1"
	cannot_pull "evil.example" "evil.example/mine/tool:1"
	stderr_has "registries.conf"
	conf <<<'[[registry'
	cannot_pull "registries.conf" "$REG_HOST/apps/tool:1"
}
