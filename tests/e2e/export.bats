# A SIF pushed to docker:// and unpacked by another tool is the tree it was built from: what only root can make.
load common
load registry

setup() {
	common_setup
	registry_setup
}
teardown() {
	stop_servers
	common_teardown
}

# Every name of a tree with type, mode, owner, time, content, attributes, and which names are one file.
cat_tree() {
	python3 - "$1" <<-'PY'
		import hashlib, os, stat, sys
		top, files = os.fsencode(sys.argv[1]), {}
		for d, dirs, names in os.walk(top):
		    for n in sorted(dirs + names):
		        p = os.path.join(d, n)
		        s = os.lstat(p)
		        link, reg = stat.S_ISLNK(s.st_mode), stat.S_ISREG(s.st_mode)
		        what = os.readlink(p) if link else hashlib.sha256(open(p, 'rb').read()).hexdigest() if reg else s.st_rdev
		        attrs = sorted((a, os.getxattr(p, a, follow_symlinks=False)) for a in os.listxattr(p, follow_symlinks=False))
		        first = files.setdefault(s.st_ino, os.path.relpath(p, top))
		        print(os.path.relpath(p, top), oct(s.st_mode), s.st_uid, s.st_gid, 0 if link else int(s.st_mtime), what, attrs,
		              [] if stat.S_ISDIR(s.st_mode) else first)
	PY
}

@test "export: devices, owners, attributes and odd names come back" {
	need_root
	start_registry REG
	mkdir -p tree/etc tree/dev tree/proc tree/sys tree/home tree/root tree/tmp tree/var/tmp tree/shut/inside
	: >tree/etc/hosts
	: >tree/etc/resolv.conf
	echo text >tree/file
	ln tree/file tree/etc/again
	ln -s ../file tree/etc/link
	mknod tree/dev/char c 5 1
	mknod tree/dev/block b 259 70000
	mkfifo -m 600 tree/dev/fifo
	cp "$(type -P true)" tree/capable
	setcap cap_net_raw+ep tree/capable
	setfattr -n user.name -v $'\x01bytes\xff' tree/file
	chown 1234:3000000000 tree/etc/again
	chmod 6755 tree/file
	chmod 1777 tree/tmp
	truncate -s 300000 tree/holes
	echo end >>tree/holes
	echo x >$'tree/\xff\xfe name\n'
	mkdir "tree/$(printf 'n%.0s' {1..255})"
	echo deep >"tree/$(printf 'n%.0s' {1..255})/$(printf 'm%.0s' {1..255})"
	chmod 000 tree/shut
	touch -d @1234567890 tree/file
	tar_tree() { tar -C "$1" --xattrs --xattrs-include='*' --numeric-owner -cf "$2" .; }
	make_oci layout app '{"Env":["A=1"]}' tree
	vial -q build app.sif oci:layout:app
	expect 0 vial -q push --no-https app.sif "docker://$REG_HOST/exported:1"
	stderr_is ""
	copy_image "docker://$REG_HOST/exported:1" oci:copied:app
	umoci unpack --image copied:app bundle
	cat_tree tree >want
	cat_tree bundle/rootfs >got
	diff want got
}

# sif_of TREE OUT DEFINITION CONFIG: a SIF as other builders make it: their .singularity.d is in the tree.
sif_of() {
	local n
	vial -q build root.sif "$1"
	n=$(vial sif list root.sif | awk -F'|' '/FS \(Squashfs/ { print $1 + 0 }')
	vial sif dump "$n" root.sif >root.squashfs
	printf '%s' "$3" >definition
	printf '%s' "$4" >oci-config.json
	vial sif new "$2"
	vial sif add "$2" definition --datatype 1 --groupid 1
	vial sif add "$2" oci-config.json --datatype 6 --groupid 1
	vial sif add "$2" root.squashfs --datatype 4 --parttype 2 --partfs 1 --partarch "$(arch_number)" --groupid 1
	rm root.sif root.squashfs
}
arch_number() { case $(uname -m) in x86_64) echo 2 ;; aarch64) echo 4 ;; *) skip "the number of this architecture" ;; esac; }

# scripts TREE RUNSCRIPT ENVIRONMENT: a small .singularity.d.
scripts() {
	local d=$1/.singularity.d
	mkdir -p "$d/env" "$d/actions"
	printf '#!/bin/sh\n%s\n' "$2" >"$d/runscript"
	printf '#!/bin/sh\n# from the build\n%s\n' "$3" >"$d/env/90-environment.sh"
	printf '#!/bin/sh\nexport FROM_CONFIG="${FROM_CONFIG:-yes}"\n' >"$d/env/10-docker2singularity.sh"
	printf '#!/bin/sh\nfor f in /.singularity.d/env/*.sh; do . "$f"; done\nexec /.singularity.d/runscript "$@"\n' >"$d/actions/run"
	chmod -R 755 "$d"
	ln -sf .singularity.d/runscript "$1/singularity"
}

# config_of HOST/REPO:TAG: text of the image config.
config_of() { sko inspect --config --tls-verify=false "docker://$1"; }

# what_comes_back: of $REG_HOST/x:1, the names below .singularity.d.
what_comes_back() {
	rm -rf copied bundle
	copy_image "docker://$REG_HOST/x:1" oci:copied:app
	umoci unpack --rootless --image copied:app bundle >unpacked 2>&1 || { cat unpacked && return 1; }
	(cd bundle/rootfs && find . -path './.singularity.d/*' | sort)
}

@test "export: scripts that a build wrote are kept and started" {
	start_registry REG
	CONFIG='{"Env":["FROM_CONFIG=yes","PATH=/bin"],"Entrypoint":["/bin/cat"],"Cmd":["/etc/passwd"],"Labels":{"who":"me"}}'
	definition=$'bootstrap: docker\nfrom: app:1\n\n%environment\n\texport BUILT=1\n%runscript\n\techo hello\n'
	plain=$'Bootstrap: docker\nFrom: app:1\n'
	make_rootfs tree
	# a definition with sections; one without, but an environment; one of another SIF
	n=0
	for how in "$definition|export BUILT=1" "$plain|export BUILT=1" $'bootstrap: localimage\nfrom: other.sif\n|export BUILT='; do
		n=$((n + 1))
		rm -rf tree/.singularity.d
		scripts tree 'echo "hello $BUILT $FROM_CONFIG $*"' "${how#*|}"
		rm -f app.sif
		sif_of tree app.sif "${how%%|*}" "$CONFIG"
		expect 0 vial -q push --no-https app.sif "docker://$REG_HOST/x:1"
		stderr_has ".singularity.d"
		[ "$(wc -l <<<"$stderr")" -eq 1 ]
		json "$(config_of "$REG_HOST/x:1")" \
			"d['config']['Entrypoint'] == ['/.singularity.d/actions/run'] and 'Cmd' not in d['config']"
		json "$(config_of "$REG_HOST/x:1")" "d['config']['Labels']['who'] == 'me' and 'PATH=/bin' in d['config']['Env']"
		what_comes_back
		cmp tree/.singularity.d/runscript bundle/rootfs/.singularity.d/runscript
		cmp tree/.singularity.d/env/90-environment.sh bundle/rootfs/.singularity.d/env/90-environment.sh
		[ "$(readlink bundle/rootfs/singularity)" = .singularity.d/runscript ]
		# as a SIF again it runs as before, and not in a circle; pushed again it is kept again
		expect 0 vial -q pull -F back.sif "docker://$REG_HOST/x:1"
		expect 0 vial run app.sif a b
		before=$output
		[[ $before == "hello "*" yes a b" ]]
		expect 0 vial run back.sif a b
		stdout_is "$before"
		expect 0 vial -q push --no-https back.sif "docker://$REG_HOST/x:1"
		stderr_has ".singularity.d"
		what_comes_back
		cmp tree/.singularity.d/runscript bundle/rootfs/.singularity.d/runscript
	done
}

@test "export: an environment that no config has is kept" {
	start_registry REG
	make_rootfs tree
	scripts tree 'exec /bin/cat /etc/passwd' ''
	echo 'export MORE=1' >tree/.singularity.d/env/91-more.sh
	rm tree/.singularity.d/actions/run
	sif_of tree app.sif $'bootstrap: docker\nfrom: app:1\n' '{"Entrypoint":["/bin/cat"]}'
	expect 0 vial -q push --no-https app.sif "docker://$REG_HOST/x:1"
	# vial adds what a folder lacks
	json "$(config_of "$REG_HOST/x:1")" "d['config']['Entrypoint'] == ['/.singularity.d/actions/run']"
	what_comes_back
	cmp tree/.singularity.d/env/91-more.sh bundle/rootfs/.singularity.d/env/91-more.sh
}

@test "export: what a conversion wrote is left out" {
	start_registry REG
	CONFIG='{"Env":["FROM_CONFIG=yes"],"Entrypoint":["/bin/cat"],"Cmd":["/etc/passwd"]}'
	make_rootfs tree
	make_oci layout app "$CONFIG" tree
	vial -q build own.sif oci:layout:app
	vial -q build dir.sif tree
	scripts tree 'exec /bin/cat "${@:-/etc/passwd}"' '# nothing'
	sif_of tree other.sif $'bootstrap: docker\nfrom: app:1\n\n' "$CONFIG"
	for image in own.sif other.sif; do
		expect 0 vial -q push --no-https "$image" "docker://$REG_HOST/x:1"
		stderr_is ""
		json "$(config_of "$REG_HOST/x:1")" "d['config'] == $CONFIG"
		[ -z "$(what_comes_back)" ]
		[ ! -e bundle/rootfs/.singularity.d ] && [ ! -L bundle/rootfs/singularity ]
	done
	expect 0 vial -q push --no-https dir.sif "docker://$REG_HOST/x:1"
	stderr_is ""
	json "$(config_of "$REG_HOST/x:1")" "'Entrypoint' not in d['config']"
	[ -z "$(what_comes_back)" ]
}

@test "export: what a layer cannot hold is left out, with a word" {
	start_registry REG
	make_rootfs tree
	echo text >tree/file
	echo text >tree/.wh.passwd
	mkdir tree/.wh.folder
	echo text >tree/.wh.folder/inside
	python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("tree/socket")'
	python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("tree/socket2")'
	mkdir tree/devices
	mknod tree/devices/none c 0 0
	for name in a=b 'a b' a% $'\xc3\xa4' overlay.opaque good; do setfattr -n "user.$name" -v yes tree/file; done
	setfattr -n user.empty tree/file
	vial -q build app.sif tree
	expect 0 vial -q push --no-https app.sif "docker://$REG_HOST/x:1"
	[ "$(wc -l <<<"$stderr")" -eq 4 ] || complain "not one warning for each"
	stderr_has "sockets are left out"
	stderr_has "begin with .wh."
	stderr_has "left out the device 0:0 at devices/none"
	stderr_has "extended attributes that a layer cannot hold"
	what_comes_back
	(cd bundle/rootfs && find devices .wh* socket* file 2>/dev/null | sort) >got
	printf 'devices\nfile\n' | diff - got
	[ -e bundle/rootfs/etc/passwd ]
	getfattr -m user bundle/rootfs/file | grep -v '^#' >got
	printf 'user.good\n\n' | diff - got
}

@test "export: no room for the layer is told with the place" {
	start_registry REG
	mkdir tree small
	head -c 3000000 /dev/urandom >tree/noise
	make_oci layout app '{}' tree
	vial -q build app.sif tree
	# a small TMPDIR, mounted where only this command sees it
	for image in app.sif oci:layout:app; do
		expect 255 unshare --user --map-root-user --mount sh -c \
			'mount -t tmpfs -o size=1m none small && exec "$VIAL" -q push --tmpdir "$PWD/small" "$@"' - \
			--no-https "$image" "docker://$REG_HOST/x:1"
		one_fatal_line "No space left"
		stderr_has "$PWD/small"
		stderr_has "TMPDIR"
	done
	expect 255 unshare --user --map-root-user --mount sh -c \
		'mount -t tmpfs -o size=1m none small && exec "$VIAL" -q build small/app.sif tree'
	one_fatal_line "small/app.sif: cannot write the image: No space left"
}

@test "export: what is pushed can be pulled, however many attributes" {
	start_registry REG
	make_rootfs tree
	make_oci layout app '{}' tree
	# a header as large as one may be; the name needs one of its own on the way out, since it is not ASCII
	python3 - <<-'PY'
		import gzip, hashlib, io, json, os, tarfile
		def record(key, value):
		    body = b" " + key + b"=" + value + b"\n"
		    n = len(body) + 1
		    while n != len(str(n)) + len(body):
		        n = len(str(n)) + len(body)
		    return str(n).encode() + body
		head = b"".join(record(b"SCHILY.xattr.user.n%02d" % i, b"v" * 60000) for i in range(17))
		head += record(b"SCHILY.xattr.user.last", b"v" * ((1 << 20) - len(head) - 40))
		assert (1 << 20) - 20 < len(head) <= 1 << 20
		raw = io.BytesIO()
		tar = tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT, encoding="latin-1")
		x = tarfile.TarInfo("PaxHeaders/x")
		x.type, x.size = tarfile.XHDTYPE, len(head)
		tar.addfile(x, io.BytesIO(head))
		tar.addfile(tarfile.TarInfo("many \xff" + "n" * 80))
		tar.close()
		def blob(data):
		    digest = hashlib.sha256(data).hexdigest()
		    open("layout/blobs/sha256/" + digest, "wb").write(data)
		    return {"digest": "sha256:" + digest, "size": len(data)}
		load = lambda d: json.load(open("layout/blobs/" + d["digest"].replace(":", "/")))
		index = json.load(open("layout/index.json"))
		manifest = load(index["manifests"][0])
		config = load(manifest["config"])
		config["rootfs"]["diff_ids"].append("sha256:" + hashlib.sha256(raw.getvalue()).hexdigest())
		manifest["config"].update(blob(json.dumps(config).encode()))
		manifest["layers"].append(dict(manifest["layers"][0], **blob(gzip.compress(raw.getvalue(), 1))))
		index["manifests"][0].update(blob(json.dumps(manifest).encode()))
		json.dump(index, open("layout/index.json", "w"))
	PY
	expect 0 vial -q build app.sif oci:layout:app
	expect 0 vial -q push --no-https app.sif "docker://$REG_HOST/x:1"
	stderr_has "more extended attributes than a layer can hold"
	expect 0 vial -q pull back.sif --no-https "docker://$REG_HOST/x:1"
}
