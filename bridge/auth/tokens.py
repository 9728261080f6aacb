"""Apps' tokens: JWT signed with the newest key of a file, verified with all of them."""

import base64
import binascii
import os
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from bridge.auth.principals import Principal
from contract.clock import Clock
from contract.errors import SarvisError, SettingsError, StartError
from contract.files import write
from contract.messages import check_uid
from contract.places import kept_at_home
from contract.redaction import remember
from contract.secrets import read_text
from contract.telemetry import get_logger

SETTING = "auth.key_file"
ALGORITHM = "HS256"
SECRET_BYTES = 32
LEEWAY_S = 10
LOOK_EVERY_S = 1.0
MAX_TOKEN = 4096
MAX_KNOWN = 20_000
HEAD = "# Signs the tokens of SARVIS apps: KEY_ID SECRET. The first one signs, all of them verify. Keep it secret.\n"

log = get_logger("tokens")


class TokenError(SarvisError):
    """The credential does not let anybody in; the text says why, without the credential."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key and its name, which stands in each token that it signed."""

    key_id: str
    secret: bytes


def issue(key: SigningKey, uid: str, *, now: float, valid_s: float, devices: Sequence[str] = ()) -> str:
    """A token for a user's apps; with `devices` it can log in only there. `now` is Unix time."""
    claims: dict[str, Any] = {"uid": uid, "iat": int(now), "exp": int(now + valid_s)}
    if devices:
        claims["devices"] = list(devices)
    return jwt.encode(claims, key.secret, ALGORITHM, headers={"kid": key.key_id})


def verify(token: str, keys: Sequence[SigningKey], *, now: float) -> Principal:
    """Whose token it is; raises TokenError. `now` is Unix time."""
    if len(token) > MAX_TOKEN:
        raise TokenError("the token is too long to be one of ours")
    # The time is compared here: the library would look at the wall clock by itself.
    options: Any = {"require": ["exp", "uid"], "verify_exp": False, "verify_iat": False, "verify_nbf": False}
    try:
        for key in keys:
            # Each key is tried, and its name looked at afterwards: to read the name first is to parse everything twice.
            try:
                found = jwt.decode_complete(token, key.secret, [ALGORITHM], options=options)
            except jwt.InvalidSignatureError:
                continue
            if found["header"].get("kid") == key.key_id:
                return _principal(found["payload"], key.key_id, now)
        raise TokenError("no key of this bridge has signed the token")
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise TokenError(f"the token is not valid: {type(error).__name__}") from None


def _principal(claims: dict[str, Any], key_id: str, now: float) -> Principal:
    uid, expires_at, devices = claims["uid"], float(claims["exp"]), claims.get("devices")
    if not isinstance(uid, str):
        raise TypeError
    if not now < expires_at + LEEWAY_S:
        raise TokenError("the token has expired")
    if float(claims.get("nbf", now)) > now + LEEWAY_S:
        raise TokenError("the token is not valid yet")
    only = None if devices is None else frozenset(str(device) for device in devices)
    return Principal("app", check_uid(uid), uid, expires_at, key_id, only)


class Verifier:
    """`verify`, which knows whom it let in: in a storm of reconnections half of the work would be to look again."""

    def __init__(self, most: int = MAX_KNOWN) -> None:
        self._most = most
        self._keys: Sequence[SigningKey] = ()
        self._known: OrderedDict[str, Principal] = OrderedDict()

    def verify(self, token: str, keys: Sequence[SigningKey], *, now: float) -> Principal:
        """See `verify`. Other keys than last time: nobody is known any more."""
        if keys is not self._keys:
            self._keys = keys
            self._known.clear()
        known = self._known.get(token)
        if known is not None and known.expires_at is not None and now < known.expires_at + LEEWAY_S:
            return known
        principal = verify(token, keys, now=now)
        self._known[token] = principal
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return principal


class KeyFile:
    """The signing keys on disk, read again when the file changes; one that cannot be read leaves the old keys valid."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = kept_at_home(path, SETTING)
        self._clock = clock
        self._seen: tuple[int, int, int] | None = None
        self._looked_at: float | None = None
        self._problem: str | None = None
        self._keys: tuple[SigningKey, ...] = ()

    def open(self) -> None:
        """Read the keys, made when there is no file; raises StartError, SettingsError."""
        make_missing(self.path)
        self._seen = _identity(self.path)
        self._keys = read(self.path)

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """The valid keys, the newest first."""
        now = self._clock.monotonic()
        if self._looked_at is None or now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            self._look()
        return self._keys

    def _look(self) -> None:
        identity = _identity(self.path)
        if identity == self._seen:
            return
        try:
            self._keys = read(self.path)
            self._problem = None
            log.info("signing_keys_read", keys=[key.key_id for key in self._keys])
        except SettingsError as error:
            if str(error) != self._problem:
                log.error("signing_keys_kept", error=str(error))
            self._problem = str(error)
            return
        self._seen = identity


def make_missing(path: Path) -> None:
    """Make the file with one key when there is none; raises StartError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise StartError(
            f"the signing key {path} cannot be made: {error.strerror}; name another place in auth.key_file"
        ) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(_text([_new_key()]))


def read(path: Path) -> tuple[SigningKey, ...]:
    """The keys of a file, the newest first; raises SettingsError that names the line, never its content."""
    lines = [line.strip() for line in read_text(path, SETTING).splitlines()]
    keys = [_key(path, number, line) for number, line in enumerate(lines, 1) if line and line[0] != "#"]
    if not keys:
        raise SettingsError(f"setting {SETTING}: {path} holds no key; remove the file and a new one is made")
    return tuple(keys)


def rotate(path: Path, *, drop_old: bool) -> SigningKey:
    """Let a new key sign from now on; the older ones verify on, unless they are dropped. Raises as `KeyFile.open`."""
    make_missing(path)
    old = () if drop_old else read(path)
    new = _new_key()
    try:
        write(path, _text([new, *old]))
    except OSError as error:
        raise StartError(f"the signing keys {path} cannot be written: {error.strerror}; see auth.key_file") from None
    return new


def _key(path: Path, number: int, line: str) -> SigningKey:
    key_id, _, text = line.partition(" ")
    try:
        secret = base64.b64decode(text.strip(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) < SECRET_BYTES:
        raise SettingsError(
            f"setting {SETTING}: {path} line {number} is no `KEY_ID SECRET` with {SECRET_BYTES} bytes in base64url"
        )
    remember(text.strip())
    return SigningKey(key_id, secret)


def _new_key() -> SigningKey:
    return SigningKey(f"k{secrets.token_hex(4)}", secrets.token_bytes(SECRET_BYTES))


def _text(keys: Sequence[SigningKey]) -> str:
    return HEAD + "".join(f"{key.key_id} {base64.urlsafe_b64encode(key.secret).decode()}\n" for key in keys)


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
