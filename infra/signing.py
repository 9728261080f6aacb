"""Signatures of wake-word models: Ed25519. Keys and signatures are texts in base64."""

import base64
import binascii
from pathlib import Path

from contract.errors import SettingsError, StartError
from infra.files import make_folder, write_new
from infra.places import kept_at_home
from infra.secrets import read_secret

KEY_BYTES, SIGNATURE_BYTES = 32, 64
SETTING = "rollout.key_file"


def make_key(path: Path) -> bool:
    """Make the file of a signing key; False if it is there. Raises StartError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    path = kept_at_home(path, SETTING)
    try:
        make_folder(path.parent, 0o700)
        write_new(path, f"{_text(Ed25519PrivateKey.generate().private_bytes_raw())}\n")
    except FileExistsError:
        return False
    except OSError as error:
        raise StartError(f"the key {path} cannot be made: {error.strerror}; name another place in {SETTING}") from None
    return True


def public_key(path: Path) -> str:
    """What devices need to know of the signing key in a file; raises SettingsError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    return _text(Ed25519PrivateKey.from_private_bytes(_private(path)).public_key().public_bytes_raw())


def sign(path: Path, text: str) -> str:
    """The signature of a text by the key in a file; raises SettingsError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    return _text(Ed25519PrivateKey.from_private_bytes(_private(path)).sign(text.encode()))


def is_signed(text: str, signature: str, public: str) -> bool:
    """Whether the owner of this public key has signed the text."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        key = Ed25519PublicKey.from_public_bytes(_bytes(public, KEY_BYTES))
        key.verify(_bytes(signature, SIGNATURE_BYTES), text.encode())
    except (InvalidSignature, ValueError):
        return False
    return True


def _private(path: Path) -> bytes:
    try:
        return _bytes(read_secret(kept_at_home(path, SETTING), SETTING), KEY_BYTES)
    except ValueError:
        raise SettingsError(f"setting {SETTING}: {path} is not a key that `sarvis model key` made") from None


def _bytes(text: str, length: int) -> bytes:
    """Raises ValueError for another length, or for what is not base64."""
    try:
        found = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if len(found) != length:
        raise ValueError(f"{len(found)} bytes, not {length}")
    return found


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
