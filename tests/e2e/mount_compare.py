#!/usr/bin/env python3
"""Compares what a program in a container sees of a directory with another tree of the same files.

    mount_compare.py [--source] [--readers N] [--ignore NAME]... [--least N] IMAGE DIR OTHER

IMAGE is run by $VIAL with `cat` as its program. We join its user namespace, because the kernel answers
for a FUSE mount in there only, and keep our own mounts: DIR is then seen as /proc/PID/root/DIR. That
takes nobody in particular: whoever started a container may join it. OTHER is the kernel's own mount of
the image, where everything must be the same; or, with --source, the tree that the image was made of,
where inode numbers and the like are not. Each difference is a line; the status tells whether any was
found; fewer entries than --least are a difference too. --readers N: N processes read all files at once,
and nothing else is compared.
"""
import argparse
import contextlib
import ctypes
import errno
import hashlib
import mmap
import os
import random
import stat
import subprocess
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000
MANY = 40  # differences printed


class Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("reclen", ctypes.c_uint16), ("type", ctypes.c_uint8),
                ("name", ctypes.c_char * 256)]


LIBC.opendir.restype = LIBC.readdir.restype = ctypes.c_void_p
LIBC.opendir.argtypes = [ctypes.c_char_p]
LIBC.telldir.restype = ctypes.c_long
for f in LIBC.readdir, LIBC.telldir, LIBC.closedir, LIBC.rewinddir:
    f.argtypes = [ctypes.c_void_p]
LIBC.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


class Listing:
    """A directory read entry by entry, as C programs do."""

    def __init__(self, path):
        self.d = LIBC.opendir(path)
        if not self.d:
            raise OSError(ctypes.get_errno(), "opendir", path)

    def next(self):
        """(name, inode, type, place after it), or None."""
        ctypes.set_errno(0)
        p = LIBC.readdir(self.d)
        if not p:
            if ctypes.get_errno():
                raise OSError(ctypes.get_errno(), "readdir")
            return None
        e = Dirent.from_address(p)
        return e.name, e.ino, e.type, LIBC.telldir(self.d)

    def rest(self):
        return list(iter(self.next, None))

    def seek(self, place):
        LIBC.seekdir(self.d, place)

    def close(self):
        LIBC.closedir(self.d)


def outcome(f, *args, **kw):
    """What a call gives: its value, or the name of its error."""
    try:
        return f(*args, **kw)
    except OSError as e:
        return errno.errorcode.get(e.errno, e.errno)


@contextlib.contextmanager
def entered(image):
    """Runs `cat` in the image and joins it; gives the path of its root."""
    p = subprocess.Popen([os.environ["VIAL"], "exec", image, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        p.stdin.write(b"up\n")
        p.stdin.flush()
        if p.stdout.readline() != b"up\n":
            sys.exit("mount_compare: the container did not start")
        pid = p.pid
        if os.stat("/proc/%d/ns/mnt" % pid).st_ino == os.stat("/proc/self/ns/mnt").st_ino:
            pid = int(open("/proc/%d/task/%d/children" % (pid, pid)).read().split()[0])
        ns = os.open("/proc/%d/ns/user" % pid, os.O_RDONLY)
        if os.fstat(ns).st_ino != os.stat("/proc/self/ns/user").st_ino and LIBC.setns(ns, CLONE_NEWUSER) != 0:
            sys.exit("mount_compare: setns: " + os.strerror(ctypes.get_errno()))
        os.close(ns)
        yield b"/proc/%d/root" % pid
    finally:
        p.stdin.close()
        p.wait()
        if p.returncode:
            sys.exit("mount_compare: the container ended with status %d" % p.returncode)


def digest(path, forget=False):
    fd = os.open(path, os.O_RDONLY)
    try:
        if forget:  # what the kernel keeps of it, so that the server is asked again
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        h = hashlib.sha256()
        while True:
            b = os.read(fd, 1 << 18)
            if not b:
                return h.hexdigest()
            h.update(b)
    finally:
        os.close(fd)


class Compare:
    def __init__(self, ours, other, source, ignore):
        self.ours, self.other, self.source, self.ignore = ours, other, source, ignore
        self.found, self.seen = [], 0
        self.rng = random.Random(1)

    def differ(self, path, what, a, b):
        self.found.append("%s: %s is %.200r, not %.200r" % (os.fsdecode(path[len(self.ours):]).encode("unicode_escape").decode(),
                                                       what, a, b))

    def same(self, path, what, a, b):
        if a != b:
            self.differ(path, what, a, b)

    def both(self, a, b, what, f, *args, **kw):
        self.same(a, what, outcome(f, a, *args, **kw), outcome(f, b, *args, **kw))

    # ---- one of each ----

    def attributes(self, a, b):
        x, y = os.lstat(a), os.lstat(b)
        fields = ["st_mode", "st_uid", "st_gid"]
        # mksquashfs 4.5 has a symlink once for each name; directories count those that are left out
        if not self.source or stat.S_ISREG(y.st_mode) or stat.S_ISFIFO(y.st_mode):
            fields.append("st_nlink")
        if stat.S_ISREG(y.st_mode) or stat.S_ISLNK(y.st_mode) or not self.source:
            fields.append("st_size")
        if not self.source:
            # not st_blksize: the kernel's reader tells that of the disk, ours what a read costs least by
            fields += ["st_ino", "st_rdev", "st_atime_ns", "st_mtime_ns", "st_ctime_ns"]
            # the kernel adds what extended attributes take
            if x.st_blocks > y.st_blocks or not outcome(os.listxattr, b, follow_symlinks=False):
                fields.append("st_blocks")
        for f in fields:
            self.same(a, f, getattr(x, f), getattr(y, f))
        self.same(a, "mtime", int(x.st_mtime), int(y.st_mtime))
        self.extended(a, b, stat.S_ISLNK(y.st_mode))
        self.same(a, "st_dev", x.st_dev, self.dev)  # one file system, nothing bound over it
        self.same(a, "a second lstat", os.lstat(a), x)
        return y.st_mode

    def extended(self, a, b, link):
        # trusted.* is for the first user namespace only, and we are in another; of a tree that an image was made
        # of, what belongs to the machine (security.selinux) is not in the image
        def names(p):
            return sorted(n for n in os.listxattr(p, follow_symlinks=False) if not self.source or n.startswith("user."))
        self.both(a, b, "extended attributes", names)
        for n in outcome(names, b) if isinstance(outcome(names, b), list) else []:
            self.both(a, b, "attribute " + n, os.getxattr, n, follow_symlinks=False)
        if not link:
            self.both(a, b, "an attribute that is not there", os.getxattr, "user.none")

    def errors(self, a, b, mode):
        """What must not work fails the same way."""
        calls = [("O_DIRECTORY", os.O_DIRECTORY), ("O_NOFOLLOW", os.O_NOFOLLOW), ("O_NOFOLLOW|O_DIRECTORY", os.O_NOFOLLOW | os.O_DIRECTORY)]
        for name, flags in calls:
            self.both(a, b, name, lambda p, fl=flags: os.close(os.open(p, os.O_RDONLY | os.O_NONBLOCK | fl)))
        for name, how in ("F_OK", os.F_OK), ("R_OK", os.R_OK), ("X_OK", os.X_OK), ("W_OK", os.W_OK):
            if name != "W_OK" or not self.source:
                self.both(a, b, "access " + name, os.access, how)
        for name, f in (("a name below it", lambda p: os.lstat(p + b"/nothing")), ("a slash after it", lambda p: os.lstat(p + b"/") and 0),
                        ("readlink", os.readlink)):
            self.both(a, b, name, f)
        if not self.source:
            for n in 256, 257, 1025:
                self.both(a, b, "a name of %d bytes below it" % n, lambda p, n=n: os.lstat(p + b"/" + b"l" * n))
            self.no_writes(a, b, mode)

    def no_writes(self, a, b, mode):
        calls = {
            "open to write": lambda p: os.close(os.open(p, os.O_WRONLY | os.O_NONBLOCK)),
            "open to read and write": lambda p: os.close(os.open(p, os.O_RDWR | os.O_NONBLOCK)),
            "chmod": lambda p: os.chmod(p, 0o600), "chown": lambda p: os.lchown(p, 0, 0), "utime": lambda p: os.utime(p, (1, 1)),
            "truncate": lambda p: os.truncate(p, 0), "unlink": os.unlink, "rmdir": os.rmdir,
            "rename": lambda p: os.rename(p, p + b"2"), "link": lambda p: os.link(p, p + b"2", follow_symlinks=False),
            "create below": lambda p: os.open(p + b"/new", os.O_WRONLY | os.O_CREAT), "mkdir below": lambda p: os.mkdir(p + b"/new"),
            "symlink below": lambda p: os.symlink("x", p + b"/new"), "mkfifo below": lambda p: os.mkfifo(p + b"/new"),
            "setxattr": lambda p: os.setxattr(p, "user.new", b"1"), "removexattr": lambda p: os.removexattr(p, "user.new"),
        }
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            for k in "open to write", "open to read and write":
                del calls[k]  # these would be what it stands for, not the file system
        for what, f in calls.items():
            self.both(a, b, what, f)

    def content(self, a, b, size):
        want = outcome(digest, b)
        self.same(a, "content", outcome(digest, a), want)
        if isinstance(want, str) and want.startswith("E"):
            return  # may not be opened: the same for both
        x, y = os.open(a, os.O_RDONLY), os.open(b, os.O_RDONLY)
        try:
            if size:
                os.posix_fadvise(x, 0, 0, os.POSIX_FADV_DONTNEED)
                self.pieces(a, x, y, size)
                with mmap.mmap(x, size, prot=mmap.PROT_READ) as m:
                    self.same(a, "content by mmap", hashlib.sha256(m).hexdigest(), want)
            self.same(a, "SEEK_END", os.lseek(x, 0, os.SEEK_END), os.lseek(y, 0, os.SEEK_END))
            self.same(a, "SEEK_END-1", outcome(os.lseek, x, -1, os.SEEK_END), outcome(os.lseek, y, -1, os.SEEK_END))
            self.same(a, "read at the end", os.pread(x, 100, size), b"")
            self.same(a, "read past the end", os.pread(x, 100, size + (1 << 33)), b"")
            self.holes(a, x, y, size)
        finally:
            os.close(x)
            os.close(y)

    def pieces(self, a, x, y, size):
        ends = [0, size - 1] + [k + d for k in (4096, 131072, 1 << 20) for d in (-1, 0) if k < size]
        for at in ends + [self.rng.randrange(size) for _ in range(6 if size > 8192 else 1)]:
            n = self.rng.choice((1, 100, 4096, 70000, 1 << 20))
            self.same(a, "%d bytes at %d" % (n, at), os.pread(x, n, at), os.pread(y, n, at))

    def holes(self, a, x, y, size):
        """What is called a hole has no data; and one that st_blocks tells of is found. A kernel that finds them
        itself (Linux 6.16) finds the same."""
        if os.fstat(x).st_blocks * 512 < size:
            self.same(a, "a hole is found", os.lseek(x, 0, os.SEEK_HOLE) < size, True)
        if not self.source and size and os.lseek(y, 0, os.SEEK_HOLE) < size:
            for at in [k + d for k in range(0, size, 65536) for d in (-1, 0, 1)]:
                for how in os.SEEK_DATA, os.SEEK_HOLE:
                    self.same(a, "%d from %d" % (how, at), outcome(os.lseek, x, at, how), outcome(os.lseek, y, at, how))
        for at in {0, size // 2, max(size - 1, 0)}:
            d, h = outcome(os.lseek, x, at, os.SEEK_DATA), outcome(os.lseek, x, at, os.SEEK_HOLE)
            if at >= size:
                self.same(a, "SEEK_DATA, SEEK_HOLE at %d" % at, (d, h), ("ENXIO", "ENXIO"))
                continue
            end = size if d == "ENXIO" else d
            if not isinstance(end, int) or not isinstance(h, int) or end < at or h < at or end > size or h > size:
                self.differ(a, "SEEK_DATA, SEEK_HOLE at %d" % at, (d, h), "places in the file")
            elif os.pread(x, end - at, at).strip(b"\0"):
                self.differ(a, "what SEEK_DATA skips at %d" % at, "data", "zeros")
        for how in os.SEEK_DATA, os.SEEK_HOLE:
            self.same(a, "SEEK_DATA past the end", outcome(os.lseek, x, size + 5, how), "ENXIO")

    def listing(self, a, b):
        """Names, their order, numbers and types; the same again, from any place, with others at it."""
        d, e = Listing(a), Listing(b)
        try:
            got, other = d.rest(), e.rest()
            mine = [(n, i if n != b".." else 0, t) for n, i, t, _ in got if n not in self.ignore]
            want = [(n, i if n != b".." else 0, t) for n, i, t, _ in other if n not in self.ignore]
            if self.source:
                mine, want = sorted((n, t) for n, _, t in mine), sorted((n, t) for n, _, t in want)
            if mine != want:
                self.differ(a, "listing", [m for m in mine if m not in want] or "in another order", [w for w in want if w not in mine])
            if len({n for n, _, _, _ in got}) != len(got):
                self.differ(a, "listing", "has a name twice", "")
            for k in {0, len(got) // 2, len(got) - 2} | {self.rng.randrange(len(got)) for _ in range(3)}:
                d.seek(got[k][3])
                self.same(a, "what follows entry %d" % k, d.rest(), got[k + 1:])
            LIBC.rewinddir(d.d)
            self.same(a, "listing after rewinddir", d.rest(), got)
            self.together(a, got)
        finally:
            d.close()
            e.close()

    def together(self, a, got):
        """Several at different places of one directory, step by step."""
        ds = [Listing(a) for _ in range(3)]
        try:
            for k, d in enumerate(ds):
                for _ in range(k * len(got) // 4):
                    d.next()
            for _ in range(min(len(got), 600)):
                for d in ds:
                    d.next()
            for k, d in enumerate(ds):
                self.same(a, "the rest of listing %d of 3" % k, d.rest(), got[k * len(got) // 4 + min(len(got), 600):])
        finally:
            for d in ds:
                d.close()

    # ---- all ----

    def walk(self, a, b):
        mode = self.attributes(a, b)
        self.seen += 1
        if len(self.found) > MANY:
            return
        if self.seen % 7 == 0 or stat.S_ISDIR(mode) or b"/modes/" in a:
            self.errors(a, b, mode)
        if stat.S_ISLNK(mode):
            self.same(a, "target", os.readlink(a), os.readlink(b))
        elif stat.S_ISREG(mode):
            self.content(a, b, os.lstat(b).st_size)
        elif stat.S_ISDIR(mode):
            self.listing(a, b)
            for name in sorted(set(os.listdir(a)) & set(os.listdir(b))):
                if name not in self.ignore:
                    self.walk(a + b"/" + name, b + b"/" + name)

    def file_system(self):
        x, y = os.statvfs(self.ours), os.statvfs(self.other)
        self.same(self.ours, "read-only", bool(x.f_flag & os.ST_RDONLY), True)
        self.same(self.ours, "f_namemax", x.f_namemax, 256)
        if not self.source:
            for f in "f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree":
                self.same(self.ours, f, getattr(x, f), getattr(y, f))

    def read_only(self):
        """Also where the other tree could be written: what belongs to us and has the bits for it."""
        for what, f in (("mkdir", lambda p: os.mkdir(p + b"/new")), ("rename", lambda p: os.rename(p + b"/files/empty", p + b"/new")),
                        ("create", lambda p: os.open(p + b"/new", os.O_WRONLY | os.O_CREAT)), ("unlink", lambda p: os.unlink(p + b"/files/empty")),
                        ("open to write", lambda p: os.open(p + b"/files/empty", os.O_WRONLY)), ("rmdir", lambda p: os.rmdir(p + b"/dirs/0")),
                        ("chmod", lambda p: os.chmod(p + b"/files/empty", 0o600)), ("truncate", lambda p: os.truncate(p + b"/files/empty", 0)),
                        ("link", lambda p: os.link(p + b"/files/empty", p + b"/new")), ("utime", lambda p: os.utime(p + b"/files/empty"))):
            self.same(self.ours, what, outcome(f, self.ours), "EROFS")

    def run(self):
        self.dev = os.lstat(self.ours).st_dev
        self.file_system()
        self.read_only()
        self.walk(self.ours, self.other)


def files_below(root, ignore):
    out = []
    for d, dirs, names in os.walk(root):
        dirs[:] = sorted(n for n in dirs if n not in ignore)
        out += [os.path.join(d, n)[len(root):] for n in names if stat.S_ISREG(os.lstat(os.path.join(d, n)).st_mode)]
    return sorted(out)


def read_at_once(ours, other, ignore, n):
    """N processes, each with the files in an order of its own, list and read everything."""
    names = files_below(other, ignore)
    want = {f: outcome(digest, other + f) for f in names}
    pids = []
    for k in range(n):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                mine = list(names)
                random.Random(k).shuffle(mine)
                wrong = [f for f in mine if outcome(digest, ours + f, k % 2 == 0) != want[f]]
                if files_below(ours, ignore) != names:
                    wrong.append("the list of files")
                for f in wrong[:MANY]:
                    print("reader %d: %r differs" % (k, f))
                sys.stdout.flush()
                status = 1 if wrong else 0
            finally:
                os._exit(status)
        pids.append(pid)
    return [p for p in pids if os.waitpid(p, 0)[1]]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", action="store_true")
    parser.add_argument("--readers", type=int)
    parser.add_argument("--least", type=int, default=1)
    parser.add_argument("--ignore", action="append", default=[], type=os.fsencode)
    parser.add_argument("image")
    parser.add_argument("dir", type=os.fsencode)
    parser.add_argument("other", type=os.fsencode)
    args = parser.parse_args()
    sys.setrecursionlimit(10000)
    with entered(args.image) as root:
        if args.readers:
            bad = read_at_once(root + args.dir, args.other, args.ignore, args.readers)
            print("%d of %d readers found a difference" % (len(bad), args.readers))
        else:
            c = Compare(root + args.dir, args.other, args.source, args.ignore)
            c.run()
            bad = c.found
            for line in bad[:MANY]:
                print(line)
            print("%d entries, %d differences" % (c.seen, len(bad)))
            if c.seen < args.least:
                bad.append("too little was compared")
    sys.exit(1 if bad else 0)


main()
