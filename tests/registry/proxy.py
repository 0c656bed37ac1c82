"""A reverse proxy (or a file server) whose faults a test chooses.

Its control address, plain HTTP on a port of its own:

  POST /faults   one fault a line, in the place of all earlier ones; what those hold goes on:
                   [METHOD] PATH-REGEX WHAT [NAME=VALUE]...
                 The first line that fits a request and has not been used up decides about it. Of each:
                   times=K   only K times (default: always)      after=N   but not the first N times
  GET  /log      a line per request: METHOD PATH range=RANGE auth=none|basic|bearer fault=WHAT
  GET  /counts   COUNT METHOD CLASS; a class is manifests, blobs, uploads, tags, referrers, probe or other
  GET  /held     how many answers are held at the moment
  POST /reset    forgets the log

WHAT                     the client sees
  status code=N          that status, with an error body; retry_after=S adds the header
  unauthorized           upstream's own 401, as if the request carried no Authorization
  stall                  nothing at all until other faults come, or its own end
  hangup                 the connection ends before any answer
  garbage                bytes that are not HTTP
  cut bytes=N            the right Content-Length, N bytes of it, and the end of the connection (reset=1: RST)
  short bytes=N          no Content-Length, N bytes, and the end: only the client's own knowledge tells
  long bytes=N           no Content-Length and N bytes too many
  corrupt byte=N         one byte of the body is another one
  hold bytes=N           N bytes, then nothing until other faults come, or the client's end
  drip bytes=N ms=M      N bytes every M milliseconds
  norange                200 and the whole, whatever part was asked for
  badrange by=N          206 with a Content-Range that is N off, and the right bytes
  redirect to=URL        code=N (307) to URL + path
  loop                   a redirect to itself, for ever
  big bytes=N            200 and N blanks
  replace file=PATH      200 and that file; type=TYPE
  type is=TYPE           another Content-Type
  digest is=DIGEST       another Docker-Content-Digest
"""
import http.client
import os
import re
import select
import shlex
import socket
import ssl
import struct
import threading
import time
import urllib.parse

import common

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-authorization"}
PIECE = 64 << 10


def options(parser, kind):
    if kind == "files":
        parser.add_argument("--root", required=True, help="the folder that is served")
    else:
        parser.add_argument("--upstream", required=True, help="http(s)://127.0.0.1:PORT")
        parser.add_argument("--ca", help="of an https upstream")


class Fault:
    WHAT = ("status unauthorized stall hangup garbage cut short long corrupt hold drip norange badrange redirect loop big "
            "replace type digest").split()

    def __init__(self, line):
        words = shlex.split(line)
        self.method = words.pop(0) if words[0].isupper() else None
        self.path, self.what = re.compile(words.pop(0)), words.pop(0)
        self.values = dict(w.split("=", 1) for w in words)
        self.after, self.left = self.number("after", 0), self.number("times", -1)
        if self.what not in self.WHAT:
            raise ValueError(f"no fault is called {self.what}")

    def number(self, name, default):
        return int(self.values.get(name, default))

    def fits(self, method, path):
        """Uses it up; under the lock."""
        if (self.method and self.method != method) or not self.path.search(path) or self.left == 0:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.left -= 1
        return True


class State:
    def __init__(self):
        self.lock = threading.Lock()
        self.faults, self.log, self.held = [], [], 0
        self.go = threading.Event()

    def set_faults(self, text):
        faults = [Fault(line) for line in text.splitlines() if line.strip()]
        with self.lock:
            self.faults = faults
            self.go.set()
            self.go = threading.Event()

    def meet(self, method, path, heads):
        """Notes a request; its fault, or None, and the event that other faults have come: of the same moment, so
        that a request which the old ones decided about is let go however late it comes to wait."""
        auth = heads.get("Authorization", "none").split(" ")[0].lower()
        with self.lock:
            fault = next((f for f in self.faults if f.fits(method, path)), None)
            self.log.append((method, path, heads.get("Range", "none"), auth, fault.what if fault else "none"))
            return fault, self.go


def path_class(path):
    for word in ("uploads", "blobs", "manifests", "tags", "referrers"):
        if f"/{word}/" in path:
            return word
    return "probe" if path.rstrip("/") == "/v2" else "other"


# ---- where answers come from: a function (handler, path, heads, body) -> (status, heads, stream, size)


class Upstream:
    def __init__(self, url, ca):
        self.url = urllib.parse.urlsplit(url)
        self.context = ssl.create_default_context(cafile=ca) if self.url.scheme == "https" else None

    def ask(self, handler, path, heads, body):
        if self.context:
            c = http.client.HTTPSConnection(self.url.netloc, context=self.context, timeout=60)
        else:
            c = http.client.HTTPConnection(self.url.netloc, timeout=60)
        # Host stays the client's, so that upload locations come back to us
        heads = {k: v for k, v in heads.items() if k.lower() not in HOP_BY_HOP | {"expect", "content-length"}}
        heads["X-Forwarded-Proto"] = handler.server.scheme
        if body or handler.command in ("POST", "PUT", "PATCH"):
            heads["Content-Length"] = str(len(body))
        c.request(handler.command, path, body=body or None, headers=heads)
        r = c.getresponse()
        skip = HOP_BY_HOP | {"content-length", "date", "server"}
        return r.status, [(k, v) for k, v in r.getheaders() if k.lower() not in skip], r, r.getheader("Content-Length")


class Folder:
    def __init__(self, root):
        self.root = os.path.abspath(root)

    def ask(self, handler, path, heads, _body):
        name = os.path.normpath(self.root + "/" + urllib.parse.unquote(urllib.parse.urlsplit(path).path))
        if not name.startswith(self.root + "/") or not os.path.isfile(name):
            return 404, [("Content-Type", "text/plain")], None, "0"
        f = open(name, "rb")
        st = os.fstat(f.fileno())
        out = [("Content-Type", "application/octet-stream"), ("Accept-Ranges", "bytes"),
               ("ETag", f'"{st.st_mtime_ns:x}-{st.st_size:x}"')]
        m = re.fullmatch(r"bytes=(\d+)-(\d*)", heads.get("Range", ""))
        if not m or heads.get("If-Range", out[2][1]) != out[2][1]:
            return 200, out, f, str(st.st_size)
        first, last = int(m.group(1)), min(int(m.group(2) or st.st_size), st.st_size - 1)
        if first > last:
            return 416, out + [("Content-Range", f"bytes */{st.st_size}")], None, "0"
        f.seek(first)
        out.append(("Content-Range", f"bytes {first}-{last}/{st.st_size}"))
        return 206, out, f, str(last - first + 1)


# ---- answering -----------------------------------------------------------------------------------


class ProxyHandler(common.Handler):
    def handle(self):
        if not self.server.context and self.connection.recv(1, socket.MSG_PEEK) == b"\x16":
            # somebody tries TLS: answer as Go's servers do, or he waits for us and we for him
            self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server.\n")
            return
        super().handle()

    def do_ANY(self):
        fault, self.others_came = self.server.state.meet(self.command, self.path, self.headers)
        self.fault = fault
        what = fault.what if fault else "none"
        before = getattr(self, f"before_{what}", None)
        if before:
            before(fault)
            return
        heads = {}
        for k, v in self.headers.items():  # Accept may come in several lines
            heads[k] = f"{heads[k]}, {v}" if k in heads else v
        if what == "unauthorized":
            heads = {k: v for k, v in heads.items() if k.lower() != "authorization"}
        if what == "norange":
            heads = {k: v for k, v in heads.items() if k.lower() != "range"}
        try:
            body = self.body()
            if what == "stall" and not self.wait_for_others():
                return
            status, out, stream, size = self.server.backend.ask(self, self.path, heads, body)
        except OSError as e:
            self.answer(502, f"upstream: {e}\n")
            return
        self.pass_on(what, status, out, stream, size)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_ANY

    # -- faults that need no upstream

    def drain(self):
        self.body()
        self.close_connection = True

    def before_status(self, fault):
        self.drain()
        code = fault.number("code", 500)
        heads = {"Retry-After": fault.values["retry_after"]} if "retry_after" in fault.values else {}
        self.answer(code, '{"errors":[{"code":"TEST","message":"as the test wants it"}]}', "application/json", **heads)

    def before_hangup(self, _fault):
        self.close_connection = True

    def before_garbage(self, _fault):
        self.drain()
        self.wfile.write(b"\x00\x01\x02 this is no HTTP \xff\xfe\r\n" * 20)

    def before_redirect(self, fault):
        self.drain()
        self.answer(fault.number("code", 307), "", Location=fault.values["to"] + self.path)

    def before_loop(self, _fault):
        self.drain()
        self.answer(307, "", Location=self.path)

    def before_big(self, fault):
        self.drain()
        left = fault.number("bytes", 64 << 20)
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
        self.end_headers()
        self.close_connection = True
        while left > 0 and self.command != "HEAD":
            self.wfile.write(b" " * min(left, PIECE))
            left -= PIECE

    def before_replace(self, fault):
        self.drain()
        with open(fault.values["file"], "rb") as f:
            self.answer(200, f.read(), fault.values.get("type", "application/octet-stream"))

    # -- faults of an answer

    def pass_on(self, what, status, out, stream, size):
        fault = self.fault
        if what == "badrange":
            by = fault.number("by", 1)
            out = [(k, re.sub(r"(\d+)-(\d+)", lambda m: f"{int(m[1]) + by}-{int(m[2]) + by}", v))
                   if k.lower() == "content-range" else (k, v) for k, v in out]
        changed = {"type": "content-type", "digest": "docker-content-digest"}.get(what)
        if changed:
            out = [(k, v) for k, v in out if k.lower() != changed] + [(changed, fault.values["is"])]
        self.send_response(status)
        for k, v in out:
            self.send_header(k, v)
        bodiless = self.command == "HEAD" or status in (204, 304)
        if what in ("short", "long") or (size is None and not bodiless):
            self.close_connection = True
        elif size is not None:
            self.send_header("Content-Length", size)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if stream:
            if not bodiless:
                getattr(self, f"body_{what}", self.body_none)(stream, fault)
            stream.close()

    def send(self, stream, n=-1):
        """n bytes, or all."""
        while n != 0 and (data := stream.read(PIECE if n < 0 else min(n, PIECE))):
            self.wfile.write(data)
            n -= len(data) if n > 0 else 0

    def body_none(self, stream, _fault):
        self.send(stream)

    def body_cut(self, stream, fault):
        self.send(stream, fault.number("bytes", 1000))
        if "reset" in fault.values:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def body_short(self, stream, fault):
        self.send(stream, fault.number("bytes", 1000))

    def body_long(self, stream, fault):
        self.send(stream)
        self.wfile.write(b"x" * fault.number("bytes", 1))

    def body_corrupt(self, stream, fault):
        self.send(stream, fault.number("byte", 0))
        byte = stream.read(1)
        self.wfile.write(bytes(b ^ 0xFF for b in byte))
        self.send(stream)

    def body_drip(self, stream, fault):
        while data := stream.read(fault.number("bytes", 1000)):
            self.wfile.write(data)
            time.sleep(fault.number("ms", 10) / 1000)

    def body_hold(self, stream, fault):
        self.send(stream, fault.number("bytes", 1000))
        if self.wait_for_others():
            self.send(stream)

    def wait_for_others(self):
        """False: the client has gone; that reads as an end or an error, and clients ask for nothing more meanwhile."""
        state, gone = self.server.state, False
        with state.lock:
            state.held += 1
        while not gone and not self.others_came.wait(0.02):
            gone = bool(select.select([self.connection], [], [], 0)[0])
        with state.lock:
            state.held -= 1
        self.close_connection = self.close_connection or gone
        return not gone


class ControlHandler(common.Handler):
    def do_GET(self):
        state = self.server.state
        with state.lock:
            log, held = list(state.log), state.held
        counts = {}
        for method, path, *_ in log:
            counts[method, path_class(path)] = counts.get((method, path_class(path)), 0) + 1
        text = {
            "/log": "".join(f"{m} {p} range={r} auth={a} fault={f}\n" for m, p, r, a, f in log),
            "/counts": "".join(f"{n} {m} {c}\n" for (m, c), n in sorted(counts.items())),
            "/held": f"{held}\n",
        }.get(self.path)
        self.answer(404 if text is None else 200, text or "")

    def do_POST(self):
        state, text = self.server.state, self.body().decode()
        try:
            if self.path == "/faults":
                state.set_faults(text)
            elif self.path == "/reset":
                with state.lock:
                    state.log.clear()
            else:
                return self.answer(404)
            return self.answer(200)
        except (ValueError, IndexError, re.error) as e:
            return self.answer(400, f"{e}\n")


def run(args):
    os.makedirs(args.dir, exist_ok=True)
    if args.tls:
        common.make_certificates(args.dir, args.tls)
    server = common.Server(ProxyHandler, args.dir if args.tls else None)
    server.backend = Folder(args.root) if args.kind == "files" else Upstream(args.upstream, args.ca)
    control = common.Server(ControlHandler)
    server.state = control.state = State()
    control.start()
    common.ready(args.dir, HOST=server.host, URL=server.url, CONTROL=control.url,
                 CA=args.tls and os.path.abspath(os.path.join(args.dir, "ca.crt")))
    server.serve_forever()
    return 0
