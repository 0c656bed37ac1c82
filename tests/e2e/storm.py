#!/usr/bin/env python3
"""storm.py SEED ROUNDS IMAGE...: starts $VIAL on the images, several at a time, and kills some process of
each start with SIGKILL at some moment: the launcher, the program or its child, the image server or
whoever else there is. A start must end after that, by itself, within SECONDS.
"""
import os
import random
import signal
import subprocess
import sys
import time

SECONDS = 60
AT_ONCE = 4


def marked(mark):
    """Processes of one start."""
    out = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            if mark in open("/proc/%s/environ" % p, "rb").read().split(b"\0"):
                out.append((int(p), open("/proc/%s/comm" % p).read().strip()))
        except OSError:
            pass
    return out


def start(image, n):
    return subprocess.Popen([os.environ["VIAL"], "exec", image, "sh", "-c", "echo up; cat /etc/file; cat; cat /etc/file"],
                            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                            env=dict(os.environ, ROUND="%d.%d" % (os.getpid(), n)), start_new_session=True)


def main():
    rng = random.Random(int(sys.argv[1]))
    rounds, images = int(sys.argv[2]), sys.argv[3:]
    killed = {}
    for n in range(0, rounds, AT_ONCE):
        running = [(k, start(rng.choice(images), k)) for k in range(n, n + AT_ONCE)]
        for k, p in running:
            # most moments lie in the start itself
            time.sleep(rng.choice((0, 0.001, 0.003, 0.01, 0.03)) * rng.random())
            victims = marked(b"ROUND=%d.%d" % (os.getpid(), k))
            if victims:
                pid, name = rng.choice(sorted(victims))
                try:
                    os.kill(pid, signal.SIGKILL)
                    killed[name] = killed.get(name, 0) + 1
                except ProcessLookupError:
                    pass
        for _, p in running:
            p.stdin.close()
        for k, p in running:
            try:
                p.wait(SECONDS)
            except subprocess.TimeoutExpired:
                sys.exit("storm: start %d of seed %s did not end; alive: %s" % (k, sys.argv[1], marked(b"ROUND=%d.%d" % (os.getpid(), k))))
    print("killed: " + ", ".join("%s %d" % (k, v) for k, v in sorted(killed.items())))
    if sum(killed.values()) < rounds // 2:
        sys.exit("storm: too few were there to be killed")


main()
