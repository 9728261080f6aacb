"""Creates passwords, and their hashes for brokers."""

import base64
import binascii
import hashlib
import hmac
import secrets

import bcrypt

PASSWORD_BYTES = 32
SALT_BYTES = 12
HASH_BYTES = 64

# Slow hashes protect passwords that people choose. These have 256 random bits, so the cheapest forms suffice:
# Mosquitto's own 101 rounds (0.05 ms), and the least cost of bcrypt (1 ms). A fleet that reconnects after an outage
# must not wait for its broker.
PBKDF2_ROUNDS = 101
BCRYPT_COST = 4

_FORM = "7"


def new_password() -> str:
    """256 random bits in letters, digits, - and _."""
    return secrets.token_urlsafe(PASSWORD_BYTES)


def pbkdf2(password: str, salt: bytes | None = None) -> str:
    """Mosquitto's form, `$7$rounds$salt$hash` with PBKDF2-HMAC-SHA512."""
    salt = salt or secrets.token_bytes(SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, PBKDF2_ROUNDS, HASH_BYTES)
    return f"${_FORM}${PBKDF2_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def bcrypted(password: str) -> str:
    """The form for NATS."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(BCRYPT_COST)).decode()


def matches(password: str, stored: str) -> bool:
    """Whether a password matches a `pbkdf2` hash, in constant time; 0.05 ms, so also allowed on an event loop."""
    try:
        _, form, rounds, salt, digest = stored.split("$")
        wanted = base64.b64decode(digest, validate=True)
        found = hashlib.pbkdf2_hmac(
            "sha512", password.encode(), base64.b64decode(salt, validate=True), int(rounds), HASH_BYTES
        )
    except (ValueError, binascii.Error):
        return False
    return form == _FORM and hmac.compare_digest(found, wanted)
