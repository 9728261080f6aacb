"""Signs pushes (VAPID, RFC 8292) and encrypts them for the phone (RFC 8291) with pywebpush."""

import base64
import importlib
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key

from bridge.storage.records import PushSubscription
from contract.clock import Clock
from contract.errors import SettingsError, StartError
from infra.files import make_folder, write
from infra.places import kept_at_home
from infra.readable import is_absent
from infra.secrets import read_text

SETTING = "push.key_file"
VALID_S = 12 * 3600
"""A push service refuses a signature that is valid for more than a day."""


class Vapid:
    """Signs and encrypts. Create it with `open`.

    Attributes:
    public_key: the key for browsers' subscriptions: an uncompressed P-256 point, base64url.
    """

    def __init__(self, key: EllipticCurvePrivateKey, contact: str, clock: Clock) -> None:
        # Imported when needed: an installation without pushes need not have it.
        self._pywebpush: Any = importlib.import_module("pywebpush")
        self._signer: Any = self._pywebpush.Vapid(key)
        self._contact = contact
        self._clock = clock
        point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        self.public_key = base64.urlsafe_b64encode(point).decode().rstrip("=")

    @classmethod
    def open(cls, path: Path, contact: str, clock: Clock) -> "Vapid":
        """With the key of a file, created if missing; raises StartError, or SettingsError if it cannot be read."""
        try:
            importlib.import_module("pywebpush")
        except ImportError:
            raise StartError("push.enabled needs a library that is not installed: pip install 'sarvis[push]'") from None
        path = kept_at_home(path, SETTING)
        _make_missing(path)
        return cls(_read(path), contact, clock)

    def authorization(self, origin: str) -> str:
        """The header by which this push service identifies the bridge."""
        expires = int(self._clock.utc_now().timestamp()) + VALID_S
        signed = self._signer.sign({"aud": origin, "exp": expires, "sub": self._contact})
        return str(signed["Authorization"])

    def encrypted(self, data: bytes, subscription: PushSubscription) -> bytes:
        """The data, encrypted for this phone; its keys were checked when it subscribed."""
        keys = {"p256dh": subscription.p256dh, "auth": subscription.auth}
        pusher = self._pywebpush.WebPusher({"endpoint": subscription.endpoint, "keys": keys})
        return bytes(pusher.encode(data)["body"])


def _make_missing(path: Path) -> None:
    try:
        if not is_absent(path):
            return
        make_folder(path.parent, 0o700)
        pem = generate_private_key(SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write(path, pem)
    except OSError as error:
        raise StartError(
            f"the key {path} cannot be made: {error.strerror or error}; name another place in {SETTING}"
        ) from None


def _read(path: Path) -> EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(read_text(path, SETTING).encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise SettingsError(
            f"setting {SETTING}: {path} is not a private key on P-256 in PEM; remove it, and the bridge creates a "
            f"new one"
        )
    return key
