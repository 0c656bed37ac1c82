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
