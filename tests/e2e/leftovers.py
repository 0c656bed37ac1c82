#!/usr/bin/env python3
"""leftovers.py MARK IMAGE...: waits until no process carries MARK in its environment and none has one
of the images open; after SECONDS it prints those that do, and fails. Processes above us do not count."""
import os
import sys
import time

SECONDS = 20


def ours():
    """Our ancestors and ourselves."""
    found, pid = set(), os.getpid()
    while pid > 1:
        found.add(pid)
        pid = int(open("/proc/%d/stat" % pid).read().rpartition(")")[2].split()[1])
    return found


def holds(pid, mark, images):
    try:
        if mark in open("/proc/%d/environ" % pid, "rb").read().split(b"\0"):
            return True
        for fd in os.listdir("/proc/%d/fd" % pid):
            st = os.stat("/proc/%d/fd/%s" % (pid, fd))
            if (st.st_dev, st.st_ino) in images:
                return True
    except OSError:  # gone, or of somebody else
        pass
    return False


def main():
    mark = os.fsencode(sys.argv[1])
    images = {(os.stat(i).st_dev, os.stat(i).st_ino) for i in sys.argv[2:]}
    above, end = ours(), time.monotonic() + SECONDS
    while True:
        left = [p for p in map(int, filter(str.isdigit, os.listdir("/proc"))) if p not in above and holds(p, mark, images)]
        if not left:
            return
        if time.monotonic() > end:
            break
        time.sleep(0.05)
    for p in left:
        try:
            what = open("/proc/%d/cmdline" % p, "rb").read().replace(b"\0", b" ").decode("utf-8", "replace")
            print("left: %d %s(%s)" % (p, what, open("/proc/%d/comm" % p).read().strip()))
        except OSError:
            print("left: %d" % p)
    sys.exit(1)


main()
