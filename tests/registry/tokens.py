"""A token server as registries use them: Basic or a refresh token in, a signed JWT out.

The one user may do everything, anonymous may pull public/*. Its control address (plain HTTP):

  POST /set    JSON: expires_in (what answers say; seconds), expired (so many tokens are issued that the
               registry no longer takes), fail (so many requests are answered 503),
               rotate (true: a refresh token is good once)
  GET  /log    a line per request: method, grant, account, scopes. No secrets.
  GET  /secrets  everything that must not appear in output: passwords, tokens, one a line
"""
import base64
import json
import os
import secrets
import threading
import time
import urllib.parse

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

import common

SERVICE = "vial-test-registry"
ISSUER = "vial-test-issuer"
LEEWAY = 60  # seconds for which docker-registry takes an expired token


def b64(data):
    data = json.dumps(data).encode() if isinstance(data, dict) else data
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class State:
    def __init__(self, folder):
        self.lock = threading.Lock()
        self.log, self.secrets, self.refresh = [], [], {}
        self.settings = {"expires_in": 300, "expired": 0, "fail": 0, "rotate": False}
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        cert = common.certificate("vial test tokens", self.key, "vial test tokens", self.key, ca=True)
        self.x5c = base64.b64encode(cert.public_bytes(serialization.Encoding.DER)).decode()
        common.write_file(os.path.join(folder, "tokens.crt"), cert.public_bytes(serialization.Encoding.PEM).decode())

    def take(self, name):
        """One of the counted things, when there are any left."""
        with self.lock:
            left = self.settings[name]
            self.settings[name] = max(0, left - 1)
            return left > 0

    def keep_secret(self, text):
        with self.lock:
            self.secrets.append(text)

    def jwt(self, account, access):
        now = int(time.time())
        old = 10 * LEEWAY if self.take("expired") else 0
        claims = {"iss": ISSUER, "sub": account or "", "aud": SERVICE, "iat": now - old, "nbf": now - old - 5,
                  "exp": now - old + 300, "jti": secrets.token_hex(8), "access": access}
        text = b64({"typ": "JWT", "alg": "RS256", "x5c": [self.x5c]}) + "." + b64(claims)
        token = text + "." + b64(self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))
        self.keep_secret(token.rsplit(".", 1)[1])
        return token

    def new_refresh(self, account):
        token = "refresh-" + secrets.token_urlsafe(32)
        with self.lock:
            self.refresh[token] = account
        self.keep_secret(token)
        return token


def grant(account, scopes):
    """What of the asked scopes an account gets: the answer may be less than the question, even nothing."""
    access = []
    for scope in " ".join(scopes).split():
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        actions = [a for a in actions.split(",") if a]
        if not account:
            actions = [a for a in actions if a == "pull" and name.startswith("public/")]
        if actions:
            access.append({"type": kind, "name": name, "actions": actions})
    return access


class TokenHandler(common.Handler):
    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        account, ok = None, True
        kind, _, text = self.headers.get("Authorization", "").partition(" ")
        if kind:
            name, _, password = base64.b64decode(text).decode().partition(":")
            account, ok = name, kind.lower() == "basic" and (name, password) == (common.USER, common.PASSWORD)
        self.give("basic" if kind else "anonymous", account, ok, query, query.get("offline_token") == ["true"])

    def do_POST(self):
        form = urllib.parse.parse_qs(self.body().decode())
        kind = form.get("grant_type", [""])[0]
        account, ok, more = None, False, False
        if kind == "refresh_token":
            old = form.get("refresh_token", [""])[0]
            account = self.server.state.refresh.get(old)
            ok, more = bool(account), self.server.state.settings["rotate"]
            if ok and more:
                del self.server.state.refresh[old]
        elif kind == "password":
            account = form.get("username", [""])[0]
            ok, more = (account, form.get("password", [""])[0]) == (common.USER, common.PASSWORD), True
        self.give(kind, account, ok, form, more)

    def give(self, kind, account, ok, values, refresh):
        s = self.server.state
        scopes = values.get("scope", [])
        ok = ok and values.get("service") == [SERVICE] and urllib.parse.urlsplit(self.path).path == "/token"
        with s.lock:
            s.log.append(f"{self.command} {kind} account={account or '-'} ok={ok} scope={' '.join(scopes) or '-'}")
        if s.take("fail"):
            return self.answer(503, "busy\n")
        if not ok:
            return self.answer(401, json.dumps({"errors": [{"code": "UNAUTHORIZED", "message": "wrong credentials"}]}),
                               "application/json")
        token = s.jwt(account, grant(account, scopes))
        a = {"expires_in": s.settings["expires_in"], "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        # registries have used either name for it
        a["access_token" if self.command == "POST" else "token"] = token
        if refresh:
            a["refresh_token"] = s.new_refresh(account)
        return self.answer(200, json.dumps(a), "application/json")


class ControlHandler(common.Handler):
    def do_GET(self):
        lines = {"/log": self.server.state.log, "/secrets": self.server.state.secrets}.get(self.path)
        self.answer(404 if lines is None else 200, "".join(f"{line}\n" for line in lines or ()))

    def do_POST(self):
        state = self.server.state
        if self.path == "/refresh":  # an identity token, as `docker login` would get
            return self.answer(200, state.new_refresh(common.USER) + "\n")
        state.settings.update(json.loads(self.body()))
        return self.answer(200)


class TokenServer(common.Server):
    def __init__(self, folder, certs):
        super().__init__(TokenHandler, certs)
        self.state = State(folder)
        self.state.secrets += [common.PASSWORD, base64.b64encode(f"{common.USER}:{common.PASSWORD}".encode()).decode()]
        self.control = common.Server(ControlHandler)
        self.control.state = self.state
        self.control.start()
