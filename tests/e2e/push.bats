# vial push: SIFs as artifacts, SIFs and layouts as images, and what other tools make of them.
load common
load registry

setup_file() {
	registry_setup
	start_registry REG
	start_registry TOK --token
	start_proxy PROXY REG
	export TREE=$BATS_FILE_TMPDIR/tree SIF=$BATS_FILE_TMPDIR/app.sif LAYOUT=$BATS_FILE_TMPDIR/layout
	make_rootfs "$TREE"
	printf 'in the image\n' >"$TREE/etc/file"
	ln "$TREE/etc/file" "$TREE/etc/hard"
	ln -s file "$TREE/etc/soft"
	mkfifo "$TREE/etc/fifo"
	mkdir "$TREE/etc/empty"
	printf 'x' >"$TREE/etc/ü name"
	chmod 4750 "$TREE/etc/ü name"
	CONFIG='{"Env":["A=1","PATH=/bin"],"Entrypoint":["/bin/cat"],"Cmd":["/etc/file"],"WorkingDir":"/etc","User":"0:0","Labels":{"who":"me"}}'
	make_oci_here
	"$VIAL" -q build "$SIF" "oci:$LAYOUT:app"
}
make_oci_here() { BATS_TEST_TMPDIR=$BATS_FILE_TMPDIR make_oci "$LAYOUT" app "$CONFIG" "$TREE"; }
teardown_file() { stop_servers; }
setup() {
	common_setup
	registry_setup
	faults
	forget_requests
	export VIAL_RETRIES=3
	REPO=t$BATS_TEST_NUMBER/app
}
teardown() {
	stop_servers
	common_teardown
}

manifest_of() { raw_manifest "$1" >manifest.json; }
# python TEXT: an assertion about m, the manifest.
manifest_says() { json "$(cat manifest.json)" "$1"; }

@test "push: a SIF as an artifact, and back" {
	expect 0 vial -q push "$SIF" "oras://$REG_HOST/$REPO:1"
	stderr_is ""
	expect 0 vial -q pull back.sif "oras://$REG_HOST/$REPO:1"
	cmp back.sif "$SIF"
	expect 0 vial exec "oras://$REG_HOST/$REPO:1" cat /etc/file
	stdout_is "in the image"
	expect 0 vial -q pull "oras://$REG_HOST/$REPO:1"
	cmp app_1.sif "$SIF"
	store_is_clean
}

@test "push: the artifact is what other tools expect" {
	vial -q push "$SIF" "oras://$REG_HOST/$REPO:1"
	manifest_of "$REG_HOST/$REPO:1"
	manifest_says 'd["schemaVersion"] == 2 and d["mediaType"] == "application/vnd.oci.image.manifest.v1+json"'
	manifest_says '"artifactType" not in d and "subject" not in d'
	manifest_says 'd["config"]["mediaType"] == "application/vnd.sylabs.sif.config.v1+json" and d["config"]["size"] == 2'
	manifest_says 'd["config"]["digest"] == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"'
	manifest_says 'len(d["layers"]) == 1 and d["layers"][0]["mediaType"] == "application/vnd.sylabs.sif.layer.v1.sif"'
	manifest_says 'd["layers"][0]["annotations"]["org.opencontainers.image.title"] == "app.sif"'
	manifest_says "d['layers'][0]['size'] == $(stat -c %s "$SIF") and d['layers'][0]['digest'] == 'sha256:$(sha256sum <"$SIF" | cut -d' ' -f1)'"
	curl -sS --noproxy '*' "http://$REG_HOST/v2/$REPO/blobs/sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" >config
	[ "$(cat config)" = '{}' ]
}

# artifact TAG LAYERTYPE [MORE]: a SIF as another tool pushed it.
artifact() {
	local digest config
	printf '{}' >empty
	config=$(put_blob "$REG_HOST" "$REPO" empty)
	digest=$(put_blob "$REG_HOST" "$REPO" "$SIF")
	layer='{"mediaType":"'$2'","digest":"'$digest'","size":'$(stat -c %s "$SIF")',"annotations":{"org.opencontainers.image.title":"x.sif"}}'
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.sylabs.sif.config.v1+json","digest":"%s","size":2,"data":"e30="},"layers":[%s]%s}' \
		"$config" "$layer${3-}" "${4-}" >artifact.json
	put_manifest "$REG_HOST" "$REPO" "$1" artifact.json application/vnd.oci.image.manifest.v1+json
}

@test "push: artifacts of other tools are read, strange ones refused" {
	artifact new application/vnd.sylabs.sif.layer.v1.sif "" ',"annotations":{"org.opencontainers.image.created":"2024-01-01T00:00:00Z","mine":"x"}'
	expect 0 vial -q pull new.sif "oras://$REG_HOST/$REPO:new"
	cmp new.sif "$SIF"
	artifact old appliciation/vnd.sylabs.sif.layer.tar
	expect 0 vial -q pull old.sif "oras://$REG_HOST/$REPO:old"
	cmp old.sif "$SIF"
	artifact text text/plain
	expect 255 vial -q pull x.sif "oras://$REG_HOST/$REPO:text"
	one_fatal_line "text/plain"
	artifact two application/vnd.sylabs.sif.layer.v1.sif ',{"mediaType":"application/vnd.sylabs.sif.layer.v1.sif","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}'
	expect 255 vial -q pull x.sif "oras://$REG_HOST/$REPO:two"
	one_fatal_line "$REPO"
	# the wrong scheme, both ways
	copy_image "oci:$LAYOUT:app" "docker://$REG_HOST/$REPO:image"
	expect 255 vial -q pull x.sif "oras://$REG_HOST/$REPO:image"
	one_fatal_line "docker://"
	expect 255 vial -q pull x.sif "docker://$REG_HOST/$REPO:new"
	one_fatal_line "oras://"
	# a layer that is no SIF
	cp "$SIF" app.sif
	echo "no SIF" >text
	digest=$(put_blob "$REG_HOST" "$REPO" text)
	sed "s/sha256:$(sha256sum <"$SIF" | cut -d' ' -f1)/$digest/; s/\"size\":$(stat -c %s "$SIF")/\"size\":7/" artifact.json >bad.json
	put_manifest "$REG_HOST" "$REPO" bad bad.json application/vnd.oci.image.manifest.v1+json
	expect 255 vial -q pull x.sif "oras://$REG_HOST/$REPO:bad"
	one_fatal_line "$REPO"
	[ ! -e x.sif ]
	store_is_clean
}

@test "push: a SIF as an image: other tools unpack the same files" {
	expect 0 vial -q push "$SIF" "docker://$REG_HOST/$REPO:1"
	stderr_is ""
	manifest_of "$REG_HOST/$REPO:1"
	manifest_says 'd["config"]["mediaType"] in ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")'
	sko inspect --config --tls-verify=false "docker://$REG_HOST/$REPO:1" >config.json
	json "$(cat config.json)" "d['config']['Entrypoint'] == ['/bin/cat'] and d['config']['Cmd'] == ['/etc/file'] and d['config']['WorkingDir'] == '/etc'"
	json "$(cat config.json)" "'A=1' in d['config']['Env'] and d['config']['Labels']['who'] == 'me' and d['os'] == 'linux'"
	json "$(cat config.json)" "d['architecture'] == '$(native_arch)' and len(d['rootfs']['diff_ids']) == 1"
	copy_image "docker://$REG_HOST/$REPO:1" oci:copied:app
	umoci unpack --rootless --image copied:app bundle >/dev/null
	(cd "$TREE" && find . ! -path . -printf '%P %y %m %l\n' | sort) >want
	(cd bundle/rootfs && find . ! -path . -printf '%P %y %m %l\n' | sort) >got
	# of what building adds, mount points stay: a container has them anyway
	comm -13 want got >extra
	printf '%s\n' 'etc/hosts f 644 ' 'etc/resolv.conf f 644 ' 'home d 755 ' | diff - extra
	comm -23 want got >missing
	[ ! -s missing ] || { sed 's/^/# missing: /' missing && false; }
	[ bundle/rootfs/etc/file -ef bundle/rootfs/etc/hard ]
	for f in bin/sh etc/file etc/passwd "etc/ü name"; do cmp "$TREE/$f" "bundle/rootfs/$f"; done
}

@test "push: an image and back runs as before" {
	vial -q push "$SIF" "docker://$REG_HOST/$REPO:1"
	expect 0 vial -q pull back.sif "docker://$REG_HOST/$REPO:1"
	for how in run "exec"; do
		args=()
		[ "$how" = run ] || args=(sh -c 'ls -lnR /etc /bin | grep -v total; echo $A $PATH; pwd')
		expect 0 vial "$how" "$SIF" "${args[@]}"
		before=$output
		expect 0 vial "$how" back.sif "${args[@]}"
		stdout_is "$before"
	done
	# pushed again it is the same layer, and so it is from then on
	forget_requests
	vial -q push back.sif "docker://$PROXY_HOST/$REPO:2"
	[ "$(layers_of "$REG_HOST/$REPO:2")" = "$(layers_of "$REG_HOST/$REPO:1")" ]
	[ "$(count_requests '^PUT .*/uploads/')" -le 1 ] # the config, at most
}

@test "push: the same image gives the same manifest" {
	vial -q push "$SIF" "docker://$REG_HOST/$REPO:1"
	vial -q push "$SIF" "docker://$REG_HOST/$REPO:2"
	[ "$(manifest_digest "$REG_HOST/$REPO:1")" = "$(manifest_digest "$REG_HOST/$REPO:2")" ]
	vial -q push "$SIF" "oras://$REG_HOST/$REPO:3"
	vial -q push "$SIF" "oras://$REG_HOST/$REPO:4"
	[ "$(manifest_digest "$REG_HOST/$REPO:3")" = "$(manifest_digest "$REG_HOST/$REPO:4")" ]
}

@test "push: a layout goes as it is" {
	expect 0 vial -q push "oci:$LAYOUT:app" "docker://$REG_HOST/$REPO:1"
	[ "$(manifest_digest "$REG_HOST/$REPO:1")" = "$(grep -o 'sha256:[0-9a-f]*' "$LAYOUT/index.json" | head -n 1)" ]
	expect 0 vial run "docker://$REG_HOST/$REPO:1"
	stdout_is "in the image"
}

@test "push: from one registry to another, and within one" {
	vial -q push "oci:$LAYOUT:app" "docker://$REG_HOST/$REPO:1"
	digest=$(manifest_digest "$REG_HOST/$REPO:1")
	# within one the layer is taken over; only documents are fetched
	forget_requests
	expect 0 vial -q push "docker://$PROXY_HOST/$REPO:1" "docker://$PROXY_HOST/$REPO/copy:1"
	stderr_is ""
	[ "$(manifest_digest "$REG_HOST/$REPO/copy:1")" = "$digest" ]
	layer=$(layers_of "$REG_HOST/$REPO:1")
	[ "$(count_requests "^GET .*/blobs/$layer")" -eq 0 ]
	[ "$(count_requests "^POST .*mount=$layer")" -eq 1 ]
	# a tag beside it: nothing to send but the manifest
	forget_requests
	expect 0 vial -q push "docker://$PROXY_HOST/$REPO:1" "docker://$PROXY_HOST/$REPO:2"
	[ "$(count_requests '^(POST|PATCH|GET .*/blobs/'"$layer"')')" -eq 0 ]
	# to another one it goes through here
	start_registry OTHER
	forget_requests
	expect 0 vial -q push "docker://$PROXY_HOST/$REPO:1" "docker://$OTHER_HOST/$REPO:1"
	[ "$(count_requests "^GET .*/blobs/$layer")" -eq 1 ]
	[ "$(manifest_digest "$OTHER_HOST/$REPO:1")" = "$digest" ]
	expect 0 vial run "docker://$OTHER_HOST/$REPO:1"
	stdout_is "in the image"
	# and is there then
	forget_requests
	expect 0 vial -q push "docker://$PROXY_HOST/$REPO:1" "docker://$OTHER_HOST/$REPO:2"
	[ "$(count_requests "^GET .*/blobs/$layer")" -eq 0 ]
	expect 255 vial -q push "docker://$REG_HOST/$REPO:1" "oras://$REG_HOST/$REPO:3"
	one_fatal_line "no SIF"
	expect 255 vial -q push "docker-archive:x.tar" "docker://$REG_HOST/$REPO:3"
	one_fatal_line "docker-archive"
	expect 255 vial -q push "oras://$REG_HOST/$REPO:1" "docker://$REG_HOST/$REPO:3"
	one_fatal_line "docker://NAME"
}

@test "push: what is there is not sent again" {
	vial -q push "$SIF" "oras://$PROXY_HOST/$REPO:1"
	[ "$(count_requests '^PUT .*/uploads/')" -ge 1 ]
	forget_requests
	vial -q push "$SIF" "oras://$PROXY_HOST/$REPO:2"
	[ "$(count_requests '^(PUT|PATCH|POST) .*/uploads/')" -eq 0 ]
	[ "$(count_requests '^PUT .*/manifests/')" -eq 1 ]
}

@test "push: a digest is what a push makes, not what it asks for" {
	vial -q push "$SIF" "oras://$REG_HOST/$REPO:1"
	digest=$(manifest_digest "$REG_HOST/$REPO:1")
	expect 0 vial -q pull a.sif "oras://$REG_HOST/$REPO@$digest"
	cmp a.sif "$SIF"
	expect 255 vial -q push "$SIF" "oras://$REG_HOST/$REPO@$digest"
	one_fatal_line "digest"
}

@test "push: reports as JSON" {
	expect 0 vial -q push --json "$SIF" "oras://$REG_HOST/$REPO:1"
	json "$output" "d['digest'] == '$(manifest_digest "$REG_HOST/$REPO:1")'"
}

@test "push: signatures are found as referrers" {
	cp "$SIF" signed.sif
	chmod u+w signed.sif
	vial key newpair me >/dev/null
	vial -q sign --key me.pem signed.sif
	for uri in "docker://$REG_HOST/$REPO:image" "oras://$REG_HOST/$REPO:artifact"; do
		expect 0 vial -q push signed.sif "$uri"
		digest=$(manifest_digest "${uri#*://}")
		# registry 2.8 keeps no referrers: the index stands at a tag
		raw_manifest "$REG_HOST/$REPO:${digest/:/-}" >index.json
		json "$(cat index.json)" 'd["mediaType"] == "application/vnd.oci.image.index.v1+json" and len(d["manifests"]) == 1'
		type=$(python3 -c 'import json; print(json.load(open("index.json"))["manifests"][0]["artifactType"])')
		[ -n "$type" ]
		referrer=$(python3 -c 'import json; print(json.load(open("index.json"))["manifests"][0]["digest"])')
		curl -sS --noproxy '*' -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
			"http://$REG_HOST/v2/$REPO/manifests/$referrer" >manifest.json
		manifest_says "d['subject']['digest'] == '$digest' and d['subject']['size'] > 0 and d['artifactType'] == '$type'"
		manifest_says 'len(d["layers"]) >= 1'
		# a second push adds none
		vial -q push signed.sif "$uri"
		raw_manifest "$REG_HOST/$REPO:${digest/:/-}" | cmp - index.json
	done
	expect 0 vial -q pull back.sif "oras://$REG_HOST/$REPO:artifact"
	cmp back.sif signed.sif
	expect 0 vial verify --key me.pub.pem back.sif
}

@test "push: credentials and tokens" {
	expect 255 vial -q push "$SIF" "oras://$TOK_HOST/private/app:1"
	one_fatal_line "$TOK_HOST"
	stderr_has "registry login"
	expect 255 vial -q push "$SIF" "docker://$TOK_HOST/public/app:1"
	one_fatal_line "$TOK_HOST"
	vial -q registry login -u "$REG_USER" --password-stdin --authfile auth.json "$TOK_HOST" <<<"$REG_PASSWORD"
	expect 0 vial -q push --authfile auth.json "$SIF" "oras://$TOK_HOST/private/app:1"
	expect 0 vial -q push --authfile auth.json "$SIF" "docker://$TOK_HOST/public/app:2"
	expect 0 vial -q pull back.sif --authfile auth.json "oras://$TOK_HOST/private/app:1"
	cmp back.sif "$SIF"
	# a token that the registry refuses in the middle
	start_proxy TP TOK
	watch TP
	vial -q registry login -u "$REG_USER" --password-stdin --authfile auth.json "$TP_HOST" <<<"$REG_PASSWORD"
	faults 'POST /uploads/ unauthorized times=1' 'PUT /manifests/ unauthorized times=1'
	expect 0 vial -q push --authfile auth.json "$SIF" "oras://$TP_HOST/private/other:1"
}

@test "push: a user name without a password is asked about, or refused" {
	expect 255 setsid -w "$VIAL" push --docker-username "$REG_USER" "$SIF" "oras://$TOK_HOST/private/asked:1"
	one_fatal_line "--docker-username"
	stderr_has "password"
	expect 255 vial push --docker-password word "$SIF" "oras://$TOK_HOST/private/asked:1"
	one_fatal_line "--docker-username"
	python3 - "$REG_PASSWORD" "$VIAL" -q push --docker-username "$REG_USER" "$SIF" "oras://$TOK_HOST/private/asked:1" <<-'EOF'
		import os, pty, sys
		pid, fd = pty.fork()
		if pid == 0:
		    os.execv(sys.argv[2], sys.argv[2:])
		out = b""
		def more():
		    global out
		    try: out += os.read(fd, 4096)
		    except OSError: return False
		    return True
		while b"Password: " not in out and more(): pass
		os.write(fd, sys.argv[1].encode() + b"\n")
		while more(): pass
		assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, out
		assert b"Password: " in out and sys.argv[1].encode() not in out, out
	EOF
	DOCKER_PASSWORD=$REG_PASSWORD expect 0 vial -q push --docker-username "$REG_USER" "$SIF" "oras://$TOK_HOST/private/asked:2"
	# of another program's environment: no credentials, and no question
	DOCKER_USERNAME=$REG_USER expect 0 vial -q push "$SIF" "oras://$REG_HOST/$REPO:1"
}

@test "push: what breaks on the way is tried again" {
	n=0
	for fault in 'HEAD /blobs/ status code=500 times=1' 'POST /uploads/ status code=503 times=1' 'POST /uploads/ hangup times=1' \
		'/uploads/.*state hangup times=1' '/uploads/.*state status code=500 times=1' \
		'/uploads/.*state status code=429 retry_after=0 times=2' 'PUT /manifests/ status code=502 times=1' 'PUT /manifests/ hangup times=1'; do
		n=$((n + 1))
		echo "# fault: $fault"
		faults "$fault"
		expect 0 vial -q push "$SIF" "oras://$PROXY_HOST/$REPO/n$n:1"
		expect 0 vial -q pull -F back.sif "oras://$REG_HOST/$REPO/n$n:1"
		cmp back.sif "$SIF"
	done
}

@test "push: what lasts is one clear line, and no tag" {
	n=0
	for fault in 'POST /uploads/ status code=403' 'POST /uploads/ status code=405' 'POST /uploads/ status code=500' '/uploads/.*state status code=400' \
		'/uploads/.*state hangup' 'PUT /manifests/ status code=400' 'PUT /manifests/ status code=413' 'POST /uploads/ garbage' 'POST /uploads/ loop' \
		'PUT /manifests/ hangup'; do
		n=$((n + 1))
		echo "# fault: $fault"
		faults "$fault"
		VIAL_RETRIES=1 expect 255 vial -q push "$SIF" "oras://$PROXY_HOST/$REPO/n$n:1"
		[ "$(grep -c FATAL <<<"$stderr")" -eq 1 ]
		stderr_has "$PROXY_HOST"
		faults
		expect 255 vial -q pull x.sif "oras://$REG_HOST/$REPO/n$n:1"
	done
}

@test "push: a large file in pieces" {
	mkdir tree
	head -c $((72 << 20)) /dev/urandom >tree/big
	vial -q build --compress none big.sif tree
	expect 0 vial -q push big.sif "oras://$PROXY_HOST/$REPO:1"
	[ "$(count_requests '^PATCH')" -ge 2 ]
	[ "$(count_requests '^POST .*/uploads/')" -eq 2 ] # the file, and the config
	expect 0 vial -q pull back.sif "oras://$REG_HOST/$REPO:1"
	cmp back.sif big.sif
	# the second piece breaks off, and the registry fails for a moment: on it goes, in the same session
	forget_requests
	faults 'PATCH /uploads/ hangup times=1 after=1' 'PATCH /uploads/ status code=503 times=1 after=2'
	expect 0 vial -q push big.sif "oras://$PROXY_HOST/$REPO/again:1"
	[ "$(count_requests '^PATCH .*fault=hangup')" -eq 1 ]
	[ "$(count_requests '^PATCH .*fault=status')" -eq 1 ]
	[ "$(count_requests '^PATCH')" -ge 4 ]
	[ "$(count_requests '^POST .*/uploads/')" -eq 2 ]
	expect 0 vial -q pull -F back.sif "oras://$REG_HOST/$REPO/again:1"
	cmp back.sif big.sif
}

not_held() { ! held; }

@test "push: ended by a signal it leaves no tag" {
	for signal in INT TERM; do
		wait_for not_held
		faults 'PUT /manifests/ stall'
		env --default-signal "$VIAL" push "$SIF" "oras://$PROXY_HOST/$REPO/end-${signal,,}:1" 2>err 3>&- &
		pid=$!
		wait_for held
		kill "-$signal" "$pid"
		status=0
		wait "$pid" || status=$?
		[ "$status" -eq $((128 + $(kill -l "$signal"))) ]
		expect 255 vial -q pull x.sif "oras://$REG_HOST/$REPO/end-${signal,,}:1"
	done
}

@test "push: what cannot be pushed is refused" {
	echo text >text.sif
	expect 255 vial -q push text.sif "oras://$REG_HOST/$REPO:1"
	one_fatal_line "text.sif"
	expect 255 vial -q push missing.sif "oras://$REG_HOST/$REPO:1"
	one_fatal_line "missing.sif"
	expect 1 vial push "$SIF" "http://$REG_HOST/$REPO"
	stderr_has "http://"
	expect 255 vial -q push "$SIF" "oras://127.0.0.1:1/$REPO:1"
	one_fatal_line "127.0.0.1:1"
	expect 255 vial -q push "oci:$LAYOUT:none" "docker://$REG_HOST/$REPO:1"
	one_fatal_line "none"
	[ -z "$(find . -maxdepth 1 -name '.*vial*')" ]
}
