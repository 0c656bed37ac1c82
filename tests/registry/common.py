"""What the servers share: their end, their certificates, the file that says they are ready."""
import ctypes
import datetime
import http.server
import ipaddress
import os
import signal
import socketserver
import ssl
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PR_SET_PDEATHSIG = 1
DAY = datetime.timedelta(days=1)

# The one user of every server. The password occurs nowhere else, so that a test can look for it in output.
USER = "user"
PASSWORD = "Zq7:never-in_any.output"


def end_with_parent(sig=signal.SIGTERM):
    """A test that is killed leaves no server: the kernel sends sig when our parent is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, sig)


def write_file(path, text, mode=0o644):
    """Whole or not at all: others wait for the file to appear."""
    part = f"{path}.part"
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as f:
        f.write(text)
    os.rename(part, path)


def ready(folder, **values):
    write_file(os.path.join(folder, "ready"), "".join(f"{k}={v}\n" for k, v in values.items() if v))


# ---- certificates ---------------------------------------------------------------------------------


def _pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()


def certificate(name, key, issuer_name, issuer_key, names=(), usage=None, ca=False, begin=-1, end=30):
    """One certificate, valid from begin to end days from now."""
    now = datetime.datetime.utcnow()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer_name)])
    b = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    b = b.serial_number(x509.random_serial_number()).not_valid_before(now + begin * DAY).not_valid_after(now + end * DAY)
    b = b.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    b = b.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    b = b.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    if names:
        b = b.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage:
        b = b.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return b.sign(issuer_key, hashes.SHA256())


def make_certificates(folder, kind):
    """folder/ca.crt, server.crt + server.key, client.cert + client.key. kind: what is wrong with the server's."""
    keys = {who: ec.generate_private_key(ec.SECP256R1()) for who in ("ca", "server", "client")}
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    if kind == "wrong-name":
        names = [x509.DNSName("elsewhere.example")]
    begin, end = (-20, -10) if kind == "expired" else (-1, 30)
    certs = {
        "ca.crt": certificate("vial test CA", keys["ca"], "vial test CA", keys["ca"], ca=True, begin=-30),
        "server.crt": certificate("server", keys["server"], "vial test CA", keys["ca"], names,
                                  ExtendedKeyUsageOID.SERVER_AUTH, begin=begin, end=end),
        "client.cert": certificate("client", keys["client"], "vial test CA", keys["ca"], (),
                                   ExtendedKeyUsageOID.CLIENT_AUTH),
    }
    for name, cert in certs.items():
        write_file(os.path.join(folder, name), cert.public_bytes(serialization.Encoding.PEM).decode())
    for who in ("server", "client"):
        write_file(os.path.join(folder, f"{who}.key"), _pem(keys[who]), 0o600)


# ---- HTTP servers of our own ---------------------------------------------------------------------


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """A thread per connection; dozens of clients may knock at once."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, handler, certs=None):
        super().__init__(("127.0.0.1", 0), handler)
        self.scheme = "https" if certs else "http"
        self.context = None
        if certs:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(os.path.join(certs, "server.crt"), os.path.join(certs, "server.key"))

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)  # HTTPServer's would ask DNS for our name
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def finish_request(self, request, client_address):
        """In the connection's own thread: a slow TLS handshake holds nobody up."""
        if self.context:
            request = self.context.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request, client_address):
        """Clients hang up, speak TLS to plain ports, distrust us: all part of the tests."""

    @property
    def host(self):
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self):
        return f"{self.scheme}://{self.host}"

    def start(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 0
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def body(self):
        """Of the request, sent with a length or in chunks."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            parts = []
            while n := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(n))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status, data=b"", content_type="text/plain", **heads):
        data = data.encode() if isinstance(data, str) else data
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        for name, value in heads.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
