#!/usr/bin/env bash
# pywebpush: one dict of claims for two push services signs both pushes for the first of them.
#
# One would guess: `webpush(subscription, data, vapid_private_key, vapid_claims=CLAIMS)` reads CLAIMS, as its README does
# with {"sub": "mailto:..."}, and fills in the audience (`aud`) of each subscription's push service by itself.
# What happens: it writes `aud` and `exp` into the caller's own dict at the first call, and takes an `aud` that is there
# as it is at the next. With the claims in one constant, as most programs have them, a phone with Firefox gets pushes that
# are signed for the service of the phone with Chrome that came before. Push services answer that with 401 or 403; which
# phones are rung depends on the order in which they are.
# Seen in: pywebpush 2.5.0 (py-vapid 1.9.6), Python 3.11. Documented: in a comment of its source only ("passed structures
# are mutable"), not in its README.
# What to do: give each call a dict of its own, or sign with py_vapid yourself with the origin of the endpoint as `aud`.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pywebpush==2.5.0 py-vapid==1.9.6
"$folder/venv/bin/pip" list --disable-pip-version-check 2>/dev/null | grep -i -E '^(pywebpush|py-vapid) '
"$folder/venv/bin/python" - <<'PYTHON'
import base64, json, os, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid
from pywebpush import webpush

os.environ["NO_PROXY"] = "127.0.0.1"
told = {}


class Service(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        token = self.headers["authorization"].split("t=")[1].split(",")[0]
        claims = token.split(".")[1]
        told[self.server.server_port] = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["aud"]
        self.send_response(201)
        self.end_headers()

    def log_message(self, *_):
        pass


def text(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


services = [HTTPServer(("127.0.0.1", 0), Service) for _ in range(2)]
for service in services:
    threading.Thread(target=service.serve_forever, daemon=True).start()
key = Vapid()
key.generate_keys()
CLAIMS = {"sub": "mailto:operator@example.com"}
wrong = []
for service in services:
    origin = f"http://127.0.0.1:{service.server_port}"
    point = generate_private_key(SECP256R1()).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    keys = {"p256dh": text(point), "auth": text(os.urandom(16))}
    webpush({"endpoint": f"{origin}/push", "keys": keys}, "hello", key, CLAIMS, ttl=10)
    print("push to", origin, "- signed for", told[service.server_port])
    wrong.append(told[service.server_port] != origin)
print("the caller's dict now:", sorted(CLAIMS))
for service in services:
    service.shutdown()
if wrong != [False, True]:
    print("this has changed: the second push is signed for its own service")
    sys.exit(1)
print("as described: the second push is signed for the first service")
PYTHON
