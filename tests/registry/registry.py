"""docker-registry with a configuration of its own, and the token server when it is asked for."""
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import threading
import time

import common
import tokens

PROGRAM = shutil.which("docker-registry", path="/usr/bin:/usr/local/bin:" + os.environ.get("PATH", ""))
START_SECONDS = 60  # far above what it takes on a busy machine


def options(parser, _kind):
    parser.add_argument("--client-ca", action="store_true", help="clients need DIR/client.cert and client.key")
    parser.add_argument("--htpasswd", action="store_true", help="Basic authentication")
    parser.add_argument("--token", action="store_true", help="Bearer authentication, with a token server")


def configuration(args, token_server):
    """JSON is YAML too."""
    d = os.path.abspath(args.dir)
    c = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": f"{d}/storage"}, "delete": {"enabled": True},
                    "maintenance": {"uploadpurging": {"enabled": False}}},
        "http": {"addr": "127.0.0.1:0", "secret": "one of many"},
    }
    if args.tls:
        c["http"]["tls"] = {"certificate": f"{d}/server.crt", "key": f"{d}/server.key"}
        if args.client_ca:
            c["http"]["tls"]["clientcas"] = [f"{d}/ca.crt"]
    if args.htpasswd:
        line = subprocess.run(["htpasswd", "-Bbn", common.USER, common.PASSWORD], check=True, capture_output=True).stdout
        common.write_file(f"{d}/htpasswd", line.decode(), 0o600)
        c["auth"] = {"htpasswd": {"realm": "vial test", "path": f"{d}/htpasswd"}}
    if token_server:
        c["auth"] = {"token": {"realm": token_server.url + "/token", "service": tokens.SERVICE,
                               "issuer": tokens.ISSUER, "rootcertbundle": f"{d}/tokens.crt"}}
    common.write_file(f"{d}/config.yml", json.dumps(c, indent=1))
    return f"{d}/config.yml"


def port_of(process, log):
    """The registry listens where the kernel lets it and says so in its log."""
    for line in process.stderr:
        log.write(line)
        log.flush()
        m = re.search(r"listening on 127\.0\.0\.1:(\d+)", line)
        if m:
            return int(m.group(1))
    raise SystemExit(f"docker-registry ended with status {process.wait()}")


def answers(args, port):
    if args.tls:
        context = ssl._create_unverified_context()
        if args.client_ca:
            context.load_cert_chain(os.path.join(args.dir, "client.cert"), os.path.join(args.dir, "client.key"))
        c = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    else:
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        c.request("GET", "/v2/")
        return c.getresponse().status in (200, 401)
    except OSError:
        return False
    finally:
        c.close()


def run(args):
    os.makedirs(args.dir, exist_ok=True)
    if args.tls:
        common.make_certificates(args.dir, args.tls)
    token_server = tokens.TokenServer(args.dir, args.dir if args.tls else None).start() if args.token else None
    process = subprocess.Popen(
        [PROGRAM, "serve", configuration(args, token_server)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, cwd=args.dir, env={"PATH": "/usr/bin:/bin", "HOME": args.dir},
        preexec_fn=lambda: common.end_with_parent(signal.SIGKILL))
    with open(os.path.join(args.dir, "log"), "w") as log:
        port = port_of(process, log)
        threading.Thread(target=lambda: [log.write(line) for line in process.stderr], daemon=True).start()
        deadline = time.monotonic() + START_SECONDS
        while not answers(args, port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("docker-registry does not answer")
            time.sleep(0.02)
        host = f"127.0.0.1:{port}"
        common.ready(args.dir, HOST=host, URL=("https://" if args.tls else "http://") + host,
                     CA=args.tls and os.path.abspath(os.path.join(args.dir, "ca.crt")),
                     TOKENS=token_server and token_server.url,
                     CONTROL=token_server and token_server.control.url)
        signal.signal(signal.SIGTERM, lambda *_: process.kill())
        return 0 if process.wait() == -signal.SIGKILL else 1
