load common
load images
setup_file() { make_images; }

@test "a directory and a file, at old and at new places" {
	mkdir dir && echo in-dir >dir/f && echo file >file
	expect 0 vial exec -B "$PWD/dir:/etc/dir" -B "$PWD/dir:/new/deep/place" -B "$PWD/file:/etc/file" -B "$PWD/file:/new/file" "$SIF" \
		cat /etc/dir/f /new/deep/place/f /etc/file /new/file
	stdout_is $'in-dir\nin-dir\nfile\nfile'
	expect 0 vial exec -B "$PWD/dir:/new/deep/place" "$SIF" sh -c 'ls /new; ls /etc/file /etc/passwd'
	stdout_is $'deep\n/etc/file\n/etc/passwd'
}

@test "a source alone is shown under its own name, a relative one is taken from here" {
	mkdir -p /tmp/vial-bind-$$ && echo x >/tmp/vial-bind-$$/f
	expect 0 vial exec --no-mount tmp -B /tmp/vial-bind-$$ "$SIF" cat /tmp/vial-bind-$$/f
	stdout_is x
	rm -r /tmp/vial-bind-$$
	mkdir here && echo y >here/f
	expect 0 vial exec -B here:/there "$SIF" cat /there/f
	stdout_is y
}

@test "ro cannot be written, rw can" {
	mkdir d
	expect 0 vial exec -B "$PWD/d:/a:ro,$PWD/d:/b" "$SIF" sh -c 'touch /b/made && ! touch /a/no'
	stderr_has "Read-only"
	[ -e d/made ]
	expect 0 vial exec -B "$PWD/d:/a:rw" "$SIF" touch /a/too
}

@test "a missing source is fatal and named" {
	expect 125 vial exec -B /no/such/source:/x "$SIF" true
	one_fatal_line /no/such/source
	expect 125 vial exec -B /tmp:/x:shiny "$SIF" true
	one_fatal_line "'shiny'"
	expect 125 vial exec -B /tmp:relative "$SIF" true
	one_fatal_line relative
}

@test "more places than an image's server makes up are refused as that" {
	mkdir d
	expect 125 vial exec -B "$(printf "d:/m%d\n" {1..5000} | paste -sd,)" "$SIF" true
	one_fatal_line "4096 places that the image lacks"
}

@test "a parent is mounted before what is in it, whatever the order" {
	mkdir -p outer/sub inner && echo o >outer/f && echo i >inner/f
	local order
	for order in "$PWD/inner:/p/sub,$PWD/outer:/p" "$PWD/outer:/p,$PWD/inner:/p/sub"; do
		expect 0 vial exec -B "$order" "$SIF" cat /p/f /p/sub/f
		stdout_is $'o\ni'
	done
}

@test "two binds on one place: a warning, and the first is used" {
	mkdir a b && echo a >a/f && echo b >b/f
	expect 0 vial exec -B "$PWD/a:/p" -B "$PWD/b:/p" "$SIF" cat /p/f
	stdout_is a
	stderr_has WARNING:
	stderr_has /p
}

@test "a place that is missing in a bound directory is an error, not a change on the host" {
	mkdir outer inner
	expect 125 vial exec -B "$PWD/outer:/p,$PWD/inner:/p/missing" "$SIF" true
	one_fatal_line /p/missing
	[ -z "$(ls outer)" ]
}

@test "a file on a directory is refused" {
	echo x >file
	expect 125 vial exec -B "$PWD/file:/etc" "$SIF" true
	one_fatal_line /etc
}

@test "links of the image stay inside of it" {
	cp -a "$TREE" links
	ln -s ../../../../../../tmp links/up
	ln -s /etc/dir links/absolute
	ln -s nowhere/at/all links/dangling
	ln -s loop links/loop
	make_sif links.sif links
	mkdir d && echo d >d/f
	expect 0 vial exec --no-mount tmp -B "$PWD/d:/up/x" -B "$PWD/d:/absolute" -B "$PWD/d:/dangling" links.sif cat /tmp/x/f /etc/dir/f /nowhere/at/all/f
	stdout_is $'d\nd\nd'
	expect 125 vial exec -B "$PWD/d:/loop/x" links.sif true
	one_fatal_line /loop/x
}

@test "the environment binds too, under three names, and other separators" {
	mkdir a b && echo a >a/f && echo b >b/f
	APPTAINER_BIND="$PWD/a:/x,$PWD/b:/y" expect 0 vial exec "$SIF" cat /x/f /y/f
	stdout_is $'a\nb'
	SINGULARITY_BIND="$PWD/a:/x" expect 0 vial exec -B "$PWD/b:/y" "$SIF" cat /x/f /y/f
	stdout_is $'a\nb'
	mkdir 'c,d:e' && echo odd >'c,d:e/f'
	expect 0 vial exec -B "$PWD/c\\,d\\:e:/z" "$SIF" cat /z/f
	stdout_is odd
}

@test "--mount says the same, and makes tmpfs" {
	mkdir a && echo a >a/f
	expect 1 vial exec --mount "type=bind,src=$PWD/a,dst=/x,ro" --mount type=tmpfs,dst=/t "$SIF" sh -c 'cat /x/f; touch /t/made && ls /t; touch /x/no'
	stdout_is $'a\nmade'
	expect 125 vial exec --mount type=bind,dst=/x "$SIF" true
	one_fatal_line src=
	expect 125 vial exec --mount type=volume,dst=/x "$SIF" true
	one_fatal_line volume
}

@test "the current directory is where the program starts" {
	mkdir -p work/deep && cd work/deep
	expect 0 inside 'pwd; touch made'
	stdout_is "$PWD"
	[ -e made ]
	cd /usr
	expect 0 inside pwd
	stdout_is /usr
	cd /
	expect 0 inside pwd
	stdout_is /
}

@test "--cwd and its old name --pwd win; a missing one is an error" {
	expect 0 vial exec --cwd /etc "$SIF" pwd
	stdout_is /etc
	expect 0 vial exec --pwd /etc/dir "$SIF" pwd
	stdout_is /etc/dir
	expect 125 vial exec --cwd /no/where "$SIF" pwd
	one_fatal_line /no/where
}

@test "a directory that cannot be entered: a warning, then home" {
	mkdir gone && cd gone && rmdir ../gone
	expect 0 vial exec "$SIF" true
	cd ..
	mkdir -p only-here && cd only-here
	expect 0 vial exec --no-mount cwd,tmp,home "$SIF" pwd
	stderr_has WARNING:
}

@test "--home: from here, at there" {
	mkdir h && echo mine >h/f
	expect 0 vial exec --home "$PWD/h:/home/other" "$SIF" sh -c 'echo $HOME; cat ~/f'
	stdout_is $'/home/other\nmine'
	expect 0 vial exec -H "$PWD/h" "$SIF" sh -c 'echo $HOME'
	stdout_is "$PWD/h"
	expect 125 vial exec --home /no/home "$SIF" true
	one_fatal_line /no/home
}

@test "--contain: nothing of the host's" {
	echo x >/tmp/vial-contain-$$
	expect 0 vial exec --contain "$SIF" sh -c 'ls /tmp; ls /dev; pwd; touch ~/f /tmp/f && echo $HOME'
	stdout_lacks vial-contain
	stdout_has $'fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero'
	[ "${lines[-1]}" = "${lines[-2]}" ]
	rm /tmp/vial-contain-$$
	expect 0 vial exec --contain "$SIF" sh -c 'echo x >/dev/null; head -c 3 /dev/zero | wc -c; echo ok >/dev/stdout'
	stdout_is $'3\nok'
}

@test "--no-mount leaves out what it names, and warns about words it does not know" {
	expect 0 vial exec --no-mount sys,proc,tmp "$SIF" sh -c 'ls /proc /sys'
	stdout_is $'/proc:\n\n/sys:'
	expect 0 vial exec --no-mount /var/tmp,/etc/hosts "$SIF" cat /proc/self/mountinfo
	stdout_lacks " /var/tmp "
	stdout_lacks " /etc/hosts "
	stdout_has " /tmp "
	expect 0 vial exec --no-mount shiny "$SIF" true
	stderr_has "'shiny'"
}

@test "/var/tmp that is /tmp in the image does not hide it" {
	cp -a "$TREE" t
	rmdir t/var/tmp
	ln -s /tmp t/var/tmp
	make_sif t.sif t
	echo here >/tmp/vial-vartmp-$$
	expect 0 vial exec t.sif cat /var/tmp/vial-vartmp-$$ /tmp/vial-vartmp-$$
	stdout_is $'here\nhere'
	stderr_is ""
	rm /tmp/vial-vartmp-$$
}

@test "localtime goes over an image's link, not through it" {
	[ -e /etc/localtime ] || skip "needs root" # a host without one has nothing to bind
	cp -a "$TREE" t
	mkdir -p t/usr/share/zoneinfo
	echo zone >t/usr/share/zoneinfo/Mars
	ln -s /usr/share/zoneinfo/Mars t/etc/localtime
	make_sif t.sif t
	expect 0 vial exec t.sif cat /usr/share/zoneinfo/Mars
	stdout_is zone
	expect 1 vial exec t.sif grep -q zone /etc/localtime
}

@test "a directory image that lacks places gets them without being touched" {
	mkdir a && echo a >a/f
	find "$TREE" | sort >before
	expect 0 vial exec -B "$PWD/a:/new/place,$PWD/a/f:/etc/new" "$TREE" cat /new/place/f /etc/new
	stdout_is $'a\na'
	find "$TREE" | sort | diff before -
	expect 1 vial exec -B "$PWD/a:/new/place" "$TREE" touch /etc/x
	stderr_has "Read-only"
}

@test "resolv.conf that is a link into /run follows what replaces it" {
	need_root
	mkdir etc run
	cp /etc/passwd /etc/group etc/
	ln -s ../run/vial-test/resolv.conf etc/resolv.conf
	expect 0 unshare --mount sh -c '
		mount --bind etc /etc && mount -t tmpfs none /run && mkdir /run/vial-test && echo first >/run/vial-test/resolv.conf
		"$VIAL" exec "$1" sh -c "cat /etc/resolv.conf; touch seen; while [ ! -e go ]; do sleep 0.05; done; cat /etc/resolv.conf" &
		while [ ! -e seen ]; do sleep 0.05; done
		echo second >/run/vial-test/new && mv /run/vial-test/new /run/vial-test/resolv.conf && touch go
		wait $!' - "$SIF"
	stdout_is $'first\nsecond'
}

@test "what the host mounts later shows up in a bind" {
	need_root
	mkdir data
	expect 0 unshare --mount sh -c '
		mount -t tmpfs none data && mount --make-shared data && mkdir data/later
		"$VIAL" exec --bind "$PWD/data:/data" "$1" sh -c "touch seen; while [ ! -e go ]; do sleep 0.05; done; cat /data/later/f" &
		while [ ! -e seen ]; do sleep 0.05; done
		mount -t tmpfs none data/later && echo came >data/later/f && touch go
		wait $!' - "$SIF"
	stdout_is came
}

@test "a bind reached through a link of the image is not hidden by a mount on the link's target" {
	local in=${PWD#/tmp/}
	mkdir src dst
	echo mine >src/f
	cp -a "$TREE" t
	ln -s /tmp t/scratch
	ln -s /tmp t/zz
	make_sif links.sif t
	for image in links.sif t; do
		expect 0 vial exec -B "$PWD/src:/scratch/$in/dst" "$image" cat "/scratch/$in/dst/f" "/tmp/$in/dst/f"
		stdout_is $'mine\nmine'
		[ -z "$stderr" ]
		# what the user asks for beats a default on the same place
		expect 0 vial exec -B "$PWD/src:/zz" "$image" cat /tmp/f
		stdout_is mine
		expect 125 vial exec -B "$PWD/src:/scratch/$in/none" "$image" true
		one_fatal_line "create it there first"
	done
}

@test "a bind hidden through a link in what was bound is told" {
	mkdir src data over
	ln -s /etc data/link
	mkdir over/dir
	expect 0 vial exec -B "$PWD/data:/data" -B "$PWD/src:/data/link/dir" -B "$PWD/over:/etc" "$SIF" true
	stderr_has "/data/link/dir is hidden"
}

@test "--writable: nothing is made in the user's directories through links of the image" {
	mkdir src real
	cp -a "$TREE" t
	ln -s "$PWD/real" t/apps
	expect 125 vial exec -w --home "$PWD/real" -B "$PWD/src:/apps/new" t true
	one_fatal_line "create it there first"
	touch src/file
	expect 125 vial exec -w --home "$PWD/real" -B "$PWD/src/file:/apps/sub/file" t true
	[ -z "$(ls real)" ]
	expect 0 vial exec -w -B "$PWD/src:/made/here" t ls /made/here
	stdout_is file
}

@test "out of an image file: a directory, a file, the whole; read-only, and at places that are missing" {
	expect 0 vial exec -B "$SQUASHFS:/data:image-src=/etc,ro" -B "$SQUASHFS:/new/one:image-src=/etc/file" -B "$SIF:/all:image-src=/" "$SIF" \
		cat /data/file /new/one /all/etc/file
	stdout_is $'in the image\nin the image\nin the image'
	expect 1 vial exec -B "$SQUASHFS:/data:image-src=/etc" "$SIF" touch /data/file
	stderr_has "Read-only"
	expect 0 vial exec --mount "type=bind,src=$SQUASHFS,dst=/data,image-src=/etc" "$TREE" cat /data/file
	stdout_is "in the image"
	expect 0 vial exec --private-mount --writable-tmpfs -B "$SQUASHFS:/deep/er/file:image-src=/etc/file" "$SIF" cat /deep/er/file
	stdout_is "in the image"
	# links of that image lead nowhere else
	cp -a "$TREE" t
	ln -s ../../../../../etc/dir t/up
	echo link >t/etc/dir/f
	make_sif links.sif t
	expect 0 vial exec -B "links.sif:/data:image-src=/up" "$SIF" cat /data/f
	stdout_is link
}

@test "several binds out of one image file share a server, which ends with them" {
	cp "$SQUASHFS" mine.sqfs
	ln mine.sqfs same.sqfs
	# one file system for all of them, whatever the name of the file
	expect 0 vial exec -B "mine.sqfs:/a:image-src=/etc" -B "mine.sqfs:/b:image-src=/bin" -B "same.sqfs:/c:image-src=/" "$SIF" \
		stat -c %d /a /b /c
	[ "${lines[0]}" = "${lines[1]}" ] && [ "${lines[1]}" = "${lines[2]}" ] || complain "different file systems"
	cp mine.sqfs other.sqfs
	expect 0 vial exec -B "mine.sqfs:/a:image-src=/etc" -B "other.sqfs:/b:image-src=/etc" "$SIF" stat -c %d /a /b
	[ "${lines[0]}" != "${lines[1]}" ] || complain "one file system for two files"
	not_served() { ! find /proc/[0-9]*/fd -lname "$PWD/mine.sqfs" 2>/dev/null | grep -q .; }
	eventually not_served
}

@test "an object of a SIF is chosen by its number; a data partition comes before the system's" {
	mkdir -p data && echo "the data" >data/f
	make_sif data.sif data
	id=$(vial sif list data.sif | awk -F'|' '/System/ { print $1 + 0 }')
	vial sif dump "$id" data.sif >data.sqfs
	cp "$SIF" both.sif
	vial sif add --datatype 4 --parttype 3 --partfs 1 --partarch 2 --groupid 2 both.sif data.sqfs
	expect 0 vial exec -B "both.sif:/x:image-src=/" "$SIF" cat /x/f
	stdout_is "the data"
	id=$(vial sif list both.sif | awk -F'|' '/System/ { print $1 + 0 }')
	expect 0 vial exec -B "both.sif:/x:id=$id" "$SIF" cat /x/etc/file
	stdout_is "in the image"
	expect 125 vial exec -B "both.sif:/x:id=99" "$SIF" true
	one_fatal_line "no object 99"
	expect 125 vial exec -B "both.sif:/x:id=1" "$SIF" true
	one_fatal_line "object 1 is not a partition"
	vial sif add --datatype 4 --parttype 3 --partfs 1 --partarch 2 --groupid 2 both.sif data.sqfs
	expect 125 vial exec -B "both.sif:/x:image-src=/" "$SIF" true
	one_fatal_line "choose one with id=N"
}

@test "what is no image, or not in it, is refused by name" {
	echo text >text
	mkdir dir
	expect 125 vial exec -B "text:/x:image-src=/" "$SIF" true
	one_fatal_line "$PWD/text: neither a SIF nor a squashfs"
	expect 125 vial exec -B "dir:/x:image-src=/" "$SIF" true
	one_fatal_line "not an image file"
	expect 125 vial exec -B "$SQUASHFS:/x:image-src=/no/such" "$SIF" true
	one_fatal_line "/no/such in $SQUASHFS"
	expect 125 vial exec -B "$SQUASHFS:/x:id=3" "$SIF" true
	one_fatal_line "no objects"
	head -c 3000 "$SQUASHFS" >short
	expect 125 vial exec -B "short:/x:image-src=/" "$SIF" true
	one_fatal_line "short"
	truncate -s 4096 ext
	printf '\x53\xef' | dd of=ext bs=1 seek=1080 conv=notrunc status=none
	expect 125 vial exec -B "ext:/x:image-src=/" "$SIF" true
	one_fatal_line "ext3 image is not supported yet"
}

@test "--mount: a tmpfs has the size it is given; nonested stays out of the list for nested starts" {
	expect 1 vial exec --mount type=tmpfs,dst=/t,size=64K "$SIF" sh -c 'head -c 100000 /dev/zero >/t/f'
	stderr_has "No space left"
	mkdir a b
	expect 0 vial exec -B "$PWD/a:/x:ro" --mount "src=$PWD/b,dst=/y,nonested" --mount "src=$PWD/b,dst=/z" --mount type=tmpfs,dst=/t "$SIF" \
		sh -c 'echo "$APPTAINER_BIND $SINGULARITY_BIND"'
	stdout_is "/x,/z /x,/z"
	expect 125 vial exec --mount "src=$PWD/a,dst=/x,bind-propagation=shared" "$SIF" true
	one_fatal_line "bind-propagation"
}

@test "--workdir with --contain keeps /tmp, /var/tmp, home and scratch; alone it says that it does nothing" {
	mkdir wd
	expect 0 vial exec -c -W wd -S /scr,/other/deep "$SIF" sh -c 'echo 1 >/tmp/t && echo 2 >/var/tmp/v && echo 3 >~/h && echo 4 >/scr/s && echo 5 >/other/deep/d'
	[ "$(cat wd/tmp/t wd/var_tmp/v wd/home/h wd/scratch/scr/s wd/scratch/other/deep/d | tr '\n' ' ')" = "1 2 3 4 5 " ]
	[ "$(stat -c %a wd/tmp wd/var_tmp wd/home | tr '\n' ' ')" = "1777 1777 700 " ]
	expect 0 vial exec -c -W wd "$SIF" cat /tmp/t
	stdout_is 1
	expect 0 vial exec -W wd "$SIF" true
	stderr_has "--workdir does nothing"
	expect 125 vial exec -c -W no/such "$SIF" true
	one_fatal_line "no/such"
	# a link in it is not followed out of it
	mkdir out wd2
	ln -s ../out wd2/tmp
	expect 125 vial exec -c -W wd2 "$SIF" true
	one_fatal_line "wd2"
}

@test "--scratch: an empty writable directory, gone afterwards" {
	expect 0 vial exec -S /scr "$SIF" sh -c 'echo x >/scr/f && ls /scr'
	stdout_is f
	expect 0 vial exec --scratch /scr "$SIF" ls /scr
	stdout_is ""
	expect 125 vial exec -S relative "$SIF" true
	one_fatal_line "relative"
	expect 125 vial exec -S /a/.. "$SIF" true
	one_fatal_line "absolute path other than /"
}

@test "--contain: a device keeps its name, or is left out with a warning" {
	expect 0 vial exec -c -B /dev/null:/dev/other -B /dev/zero:/elsewhere "$SIF" sh -c 'ls /dev/other; head -c 2 /elsewhere | wc -c'
	stderr_has "WARNING:"
	stderr_has "/dev/null is left out"
	stdout_is 2
	expect 0 vial exec -c --no-mount devpts "$SIF" ls /dev/pts
	stdout_is ""
}

@test "--no-mount knows all words without a warning" {
	expect 0 vial exec --no-mount proc,sys,dev,devpts,home,tmp,hostfs,cwd,bind-paths,/etc/hosts "$SIF" ls /proc /dev
	stderr_lacks shiny
	stderr_lacks "does not know"
}

@test "--no-home: HOME keeps its value and nothing is mounted there" {
	expect 0 vial exec "$SIF" sh -c 'echo $HOME'
	home=$output
	echo x >"$HOME/marker"
	cd /
	expect 0 vial exec --no-home "$SIF" sh -c 'echo $HOME; ls $HOME/marker 2>/dev/null; :'
	stdout_is "$home"
}

@test "--containall: the environment is left outside too; --compat adds what other runtimes do" {
	export FROM_HOST=1
	echo x >/tmp/vial-containall-$$
	expect 0 vial exec -C "$SIF" sh -c 'echo ${FROM_HOST-unset}; ls /tmp'
	rm /tmp/vial-containall-$$
	stdout_has unset
	stdout_lacks vial-containall
	umask 077
	expect 0 vial exec --compat "$SIF" sh -c 'echo ${FROM_HOST-unset} $APPTAINER_NO_EVAL; umask; echo x >/etc/file && cat /etc/file'
	stdout_is $'unset 1\n0022\nx'
	expect 0 vial exec "$SIF" sh -c umask
	stdout_is 0077
}

@test "--cwd without a slash is taken from the root" {
	expect 0 vial exec --cwd etc/dir "$SIF" sh -c 'pwd; echo $PWD'
	stdout_is $'/etc/dir\n/etc/dir'
}
