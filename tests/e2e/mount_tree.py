#!/usr/bin/env python3
"""mount_tree.py DIR: a tree with one of everything that a squashfs can hold.

Devices are not in it, for they need root: mount.bats adds them to the image (mksquashfs -p).
"""
import os
import random
import socket
import sys

BLOCKS = 4096, 131072, 1 << 20
ODD = [b"new\nline", b"\x01\x02\x7f", b"\xff\xfe\x80", b" ", b" lead and trail ", b"-rf", b"back\\slash", b"'\"`$(x)*?[",
       "\u65e5\u672c\u8a9e".encode(), b"...", b".hidden", b"tab\t", b"\xc3("]


def data(rng, size):
    """Half of it compresses, half does not, in pieces of uneven length: stored blocks of both kinds."""
    out = bytearray()
    while len(out) < size:
        n = rng.randrange(1, 90000)
        out += rng.randbytes(n) if rng.random() < 0.4 else (b"%d " % rng.randrange(1000)) * (n // 3)
    return bytes(out[:size])


def put(name, content=b"", mode=0o644):
    with open(name, "wb") as f:
        f.write(content)
    os.chmod(name, mode)


def files(rng):
    os.mkdir("files")
    put("files/empty")
    for block in BLOCKS:
        for k in 1, 2:
            for d in -1, 0, 1:
                put("files/%dx%d%+d" % (block, k, d), data(rng, block * k + d))
    for i in range(200):  # tails to be packed together
        put("files/small%d" % i, data(rng, rng.randrange(1, 6000)))
    put("files/many-blocks", data(rng, 3 << 20))
    for a, b in ("twin", "many-blocks"), ("twin-small", "small7"):
        put("files/" + a, open("files/" + b, "rb").read())
    os.mkdir("sparse")
    for name, size, places in (("hole", 3 << 20, []), ("odd-hole", (3 << 20) + 17, []), ("middle", 5 << 20, [2500000]),
                               ("ends", (2 << 20) + 5, [0, (2 << 20) - 3]), ("stripes", 1 << 20, range(0, 1 << 20, 65536)),
                               ("hole-at-end", 1 << 20, [10])):
        with open("sparse/" + name, "wb") as f:
            for p in places:
                f.seek(p)
                f.write(b"data %d" % p)
            f.truncate(size)


def names(rng):
    os.mkdir("names")
    for i, n in enumerate(ODD + [b"n" * 255, b"\xf0" * 255, b"m" * 254, b"m" * 128]):
        put(b"names/" + n, b"%d" % i)
    for first in range(1, 256):
        if bytes([first]) not in (b"/", b"."):
            put(b"names/" + bytes([first]), b"%d" % first)
    os.mkdir(b"names/" + b"D" * 255)
    put(b"names/" + b"D" * 255 + b"/" + b"f" * 255, b"deep in names")


def links():
    os.mkdir("links")
    for n in range(1, 4096):
        os.symlink((b"%d/" % n + b"x/" * 2048)[:n], "links/%d" % n)
    os.symlink("../files/small1", "links/file")
    os.symlink("../dirs", "links/dir")
    os.symlink("loop", "links/loop")
    os.mkdir("hard")
    put("hard/a", b"one file, three names")
    for b in "hard/b", "dirs/c":
        os.link("hard/a", b)
    os.symlink("a", "hard/link")
    os.link("hard/link", "hard/link2", follow_symlinks=False)


def dirs(rng):
    os.mkdir("dirs")
    for n in 0, 1, 256, 257, 5000:
        os.mkdir("dirs/%d" % n)
        for i in range(n):
            put("dirs/%d/%s%d" % (n, "entry-of-some-length-" * (i % 5), i), b"" if i % 50 else b"%d" % i)
    os.mkdir("dirs/of-dirs")
    for i in range(300):
        os.mkdir("dirs/of-dirs/%d" % i)
    deep = "dirs/deep"
    for i in range(150):
        os.mkdir(deep)
        put(deep + "/f", b"%d" % i)
        deep += "/level%d" % i


def modes():
    os.mkdir("modes")
    unreadable = [0o000, 0o111, 0o200] if os.getuid() == 0 else []  # others could not make an image of them
    for mode in [0o400, 0o444, 0o640, 0o755, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777] + unreadable:
        put("modes/f%o" % mode, b"%o" % mode, mode)
        os.mkdir("modes/d%o" % mode)
        os.chmod("modes/d%o" % mode, mode | 0o500)
    for t in 0, 1, 1000000000, (1 << 31) - 1, 1 << 31, (1 << 32) - 2:
        put("modes/t%d" % t)
        os.utime("modes/t%d" % t, (t, t))
    os.mkfifo("modes/fifo", 0o620)
    os.link("modes/fifo", "modes/fifo2")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("modes/socket")
    if os.getuid() == 0:
        for i, (u, g) in enumerate(((0, 1), (1000, 1000), (65534, 65534), (70000, 3), (4000000000, 4000000001))):
            put("modes/owner%d" % i)
            os.chown("modes/owner%d" % i, u, g)


def attributes(rng):
    """Some that many share, some long, some that only one has; the file system below must allow them."""
    os.mkdir("xattr")
    for i in range(300):
        name = "xattr/%d" % i
        if i % 3 == 0:
            os.mkdir(name)
        else:
            put(name, b"%d" % i)
        os.setxattr(name, "user.shared", b"the same for all")
        if i % 2:
            os.setxattr(name, "user.own", b"%d" % i)
        if i % 10 == 0:
            os.setxattr(name, "user.empty", b"")
            os.setxattr(name, "user.long", rng.randbytes(1500))
            os.setxattr(name, b"user.\xff odd", bytes(range(256)))
        if os.getuid() == 0 and i % 7 == 0:
            os.setxattr(name, "security.vialtest", b"%d" % i)
            os.setxattr(name, "trusted.vialtest", b"%d" % i)


def main():
    os.mkdir(sys.argv[1])
    os.chmod(sys.argv[1], 0o755)
    os.chdir(sys.argv[1])
    os.umask(0o022)
    rng = random.Random(4)
    files(rng)
    names(rng)
    dirs(rng)
    links()
    modes()
    attributes(rng)


main()
