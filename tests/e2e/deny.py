#!/usr/bin/env python3
"""deny.py NAME[:BITS[@N]]=ERRNO[,...] COMMAND...: COMMAND, to which the kernel refuses these system calls.

With BITS (a number) only those whose first argument, or that behind N others, has one of them. A stand-in for kernels that lack
a call and for the filters of other containers.
"""
import ctypes
import errno
import os
import platform
import struct
import sys

NUMBERS = {
    "unshare": (272, 97), "setns": (308, 268), "clone3": (435, 435), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "move_mount": (429, 429), "open_tree": (428, 428), "mount_setattr": (442, 442),
    "pivot_root": (155, 41), "mount": (165, 40), "umount2": (166, 39), "chroot": (161, 51), "seccomp": (317, 277),
    "capset": (126, 91), "memfd_create": (319, 279), "openat2": (437, 437), "socketpair": (53, 199),
    "pidfd_open": (434, 434), "sethostname": (170, 161), "prctl": (157, 167), "fchdir": (81, 50),
    "openat": (257, 56), "linkat": (265, 37),
}  # fmt: skip
ARCH = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def op(code, jt, jf, k):
    return struct.pack("HBBI", code, jt, jf, k)


def program(rules):
    column, arch = ARCH[platform.machine()]
    out = [op(0x20, 0, 0, 4), op(0x15, 1, 0, arch), op(0x06, 0, 0, 0x7FFF0000), op(0x20, 0, 0, 0)]
    for name, bits, nth, code in rules:
        refuse = op(0x06, 0, 0, 0x00050000 | code)
        if bits is None:
            out += [op(0x15, 0, 1, NUMBERS[name][column]), refuse]
        else:  # not this call: over the next four; its argument, then the number again
            out += [op(0x15, 0, 4, NUMBERS[name][column]), op(0x20, 0, 0, 16 + 8 * nth), op(0x45, 0, 1, bits), refuse]
            out += [op(0x20, 0, 0, 0)]
    return out + [op(0x06, 0, 0, 0x7FFF0000)]


def main():
    rules = []
    for word in sys.argv[1].split(","):
        what, code = word.split("=")
        name, _, bits = what.partition(":")
        bits, _, nth = bits.partition("@")
        rules.append((name, int(bits, 0) if bits else None, int(nth or 0), getattr(errno, code)))
    code = b"".join(program(rules))
    text = ctypes.create_string_buffer(code)
    prog = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(text))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.create_string_buffer(prog), 0, 0):
        sys.exit("deny.py: no filter: " + os.strerror(ctypes.get_errno()))
    os.execvp(sys.argv[2], sys.argv[2:])


main()
