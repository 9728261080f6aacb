"""A push service and the phones behind it: checks who calls, decrypts as a browser would, answers as it is told.

It follows RFC 8030, 8188, 8291 and 8292 by itself, with none of the code that it checks.
"""

import base64
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDH,
    SECP256R1,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.waiting import PATIENCE_S, wait_for

HOST = "127.0.0.1"
CONTACT = "mailto:operator@example.com"
DAY_S = 24 * 3600


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def point(key: EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


@dataclass(frozen=True)
class Push:
    """What came for a phone, decrypted."""

    payload: Any
    ttl: int
    topic: str
    key: str
    """By which the bridge signed."""


@dataclass(eq=False)
class Phone:
    """A browser that is subscribed. `answers` are the statuses given one after the other; the last one stays."""

    endpoint: str
    answers: list[int] = field(default_factory=lambda: [201])
    hangs: bool = False
    endless: bool = False
    retry_after: str | None = None
    says: bytes = b""
    """The answer's body."""
    headers: dict[str, str] = field(default_factory=dict)
    """More of the answer's headers."""
    pushes: list[Push] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._key = generate_private_key(SECP256R1())
        self._auth = uuid4().bytes

    @property
    def subscription(self) -> dict[str, Any]:
        """As the browser's `toJSON()` gives it."""
        keys = {"p256dh": encoded(point(self._key.public_key())), "auth": encoded(self._auth)}
        return {"endpoint": self.endpoint, "expirationTime": None, "keys": keys}

    @property
    def ids(self) -> list[str]:
        return [push.payload["id"] for push in list(self.pushes)]

    def push(self, nth: int = 1) -> Push:
        """Wait for the nth push."""
        wait_for(f"push {nth} to {self.endpoint}; came {self.pushes}", lambda: len(self.pushes) >= nth)
        return self.pushes[nth - 1]

    def decrypt(self, body: bytes) -> bytes:
        """RFC 8291 over RFC 8188, one record."""
        salt, length = body[:16], body[20]
        sender, record = body[21 : 21 + length], body[21 + length :]
        shared = self._key.exchange(ECDH(), EllipticCurvePublicKey.from_encoded_point(SECP256R1(), sender))
        info = b"WebPush: info\0" + point(self._key.public_key()) + sender
        ikm = HKDF(SHA256(), 32, self._auth, info).derive(shared)
        cek = HKDF(SHA256(), 16, salt, b"Content-Encoding: aes128gcm\0").derive(ikm)
        nonce = HKDF(SHA256(), 12, salt, b"Content-Encoding: nonce\0").derive(ikm)
        padded = AESGCM(cek).decrypt(nonce, record, None)
        data, mark, padding = padded.rpartition(b"\2")
        assert mark
        assert not padding.strip(b"\0")
        return data


class _Handler(BaseHTTPRequestHandler):
    service: "PushService"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        phone = self.service.phones.get(self.service.origin + self.path)
        if phone is None:
            self.service.elsewhere.append(self.path)
            self.send_error(404)
        elif not self.service.take(phone, body, dict(self.headers.items())):
            self.send_error(400)
        else:
            self._answer_in_time(phone)

    def _answer_in_time(self, phone: Phone) -> None:
        if phone.hangs:
            self.service.free.wait(PATIENCE_S)
        try:
            self._answer(phone)
        except OSError:  # it did not wait so long
            return

    def _answer(self, phone: Phone) -> None:
        self.send_response(phone.answers.pop(0) if len(phone.answers) > 1 else phone.answers[0])
        self.send_header("location", "/elsewhere")
        if phone.retry_after is not None:
            self.send_header("retry-after", phone.retry_after)
        for name, value in phone.headers.items():
            self.send_header(name, value)
        if not phone.endless:
            self.send_header("content-length", str(len(phone.says)))
        self.end_headers()
        self.wfile.write(phone.says)
        while phone.endless:
            self.wfile.write(b" " * 65536)

    def log_message(self, *_: Any) -> None:
        """In silence."""


class PushService:
    """Use it in a `with` block. A push that breaks a rule is answered with 400, and told in `faults`."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.elsewhere: list[str] = []
        """Requests for no phone: nobody follows redirects to here."""
        self.phones: dict[str, Phone] = {}
        self.free = threading.Event()
        self._server = ThreadingHTTPServer((HOST, 0), type("Handler", (_Handler,), {"service": self}))
        self._server.daemon_threads = True
        self.origin = f"http://{HOST}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def phone(self) -> Phone:
        """A browser that subscribes."""
        phone = Phone(f"{self.origin}/push/{uuid4().hex}")
        self.phones[phone.endpoint] = phone
        return phone

    def take(self, phone: Phone, body: bytes, headers: dict[str, str]) -> bool:
        try:
            push = self._read(phone, body, headers)
        except Exception as error:  # noqa: BLE001 - whatever is wrong is told
            self.faults.append(repr(error))
            return False
        phone.pushes.append(push)
        return True

    def _read(self, phone: Phone, body: bytes, headers: dict[str, str]) -> Push:
        told = {name.lower(): value for name, value in headers.items()}
        assert told["content-encoding"] == "aes128gcm"
        assert told["urgency"] == "high"
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,32}", told["topic"])
        assert 1 <= int(told["ttl"]) <= 60
        signed = re.fullmatch(r"vapid t=([^,]+), ?k=(\S+)", told["authorization"])
        assert signed is not None, "RFC 8292 wants one header with t and k"
        key = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), decoded(signed[2]))
        claims = jwt.decode(signed[1], key, ["ES256"], audience=self.origin, options={"require": ["aud", "exp", "sub"]})
        assert claims["exp"] <= time.time() + DAY_S
        assert claims["sub"] == CONTACT
        return Push(json.loads(phone.decrypt(body)), int(told["ttl"]), told["topic"], signed[2])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for phone in self.phones.values():
            phone.endless = False
        self.free.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if kind is None:
            assert self.faults == []
            assert self.elsewhere == []
