"""Apps' tokens: JWT signed with the newest key of a file, verified with all of them."""

import base64
import binascii
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.auth.principals import Principal
from contract.clock import Clock
from contract.errors import SarvisError, SettingsError, StartError
from contract.names import check_uid
from infra.files import make_folder, write, write_new
from infra.log import get_logger
from infra.places import kept_at_home
from infra.redaction import remember
from infra.secrets import read_text
from infra.watched_file import WatchedFile

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
    """The credential is invalid; the text says why, without the credential."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key and its name, which is part of each token that it signed."""

    key_id: str
    secret: bytes


def load_libraries() -> None:
    """Import now what `verify` uses: a bridge that serves would stand still meanwhile, or may have no free file."""
    import jwt  # noqa: F401, PLC0415


def issue(key: SigningKey, uid: str, *, now: float, valid_s: float, devices: Sequence[str] = ()) -> str:
    """A token for a user's apps; with `devices` it can log in only there. `now` is Unix time."""
    claims: dict[str, Any] = {"uid": uid, "iat": int(now), "exp": int(now + valid_s)}
    if devices:
        claims["devices"] = list(devices)
    import jwt  # noqa: PLC0415 - it loads cryptography, which no other command of `sarvis token` needs

    return jwt.encode(claims, key.secret, ALGORITHM, headers={"kid": key.key_id})


def verify(token: str, keys: Sequence[SigningKey], *, now: float) -> Principal:
    """Whose token it is; raises TokenError. `now` is Unix time."""
    import jwt  # noqa: PLC0415

    if len(token) > MAX_TOKEN:
        raise TokenError("the token is too long for a SARVIS token")
    # Expiry is compared here: the library would read the wall clock itself.
    options: Any = {"require": ["exp", "uid"], "verify_exp": False, "verify_iat": False, "verify_nbf": False}
    try:
        for key in keys:
            # Try each key and compare its name afterwards: reading the name first would parse everything twice.
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
    return Principal("app", check_uid(uid), uid, expires_at, _moment(claims.get("iat")), key_id, only)


def _moment(claim: object) -> float | None:
    return float(claim) if isinstance(claim, int | float) and not isinstance(claim, bool) else None


class Verifier:
    """`verify` with a cache: in a storm of reconnections half of the work would be repeated checks."""

    def __init__(self, most: int = MAX_KNOWN) -> None:
        self._most = most
        self._keys: Sequence[SigningKey] = ()
        self._known: OrderedDict[str, Principal] = OrderedDict()

    def verify(self, token: str, keys: Sequence[SigningKey], *, now: float) -> Principal:
        """See `verify`. A change of keys clears the cache."""
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
    """The signing keys on disk, read again when the file changes; an unreadable file leaves the old keys valid."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = kept_at_home(path, SETTING)
        self._file = WatchedFile(self.path, read=self._read, now=clock.monotonic, every_s=LOOK_EVERY_S)
        self._keys: tuple[SigningKey, ...] = ()

    def open(self) -> None:
        """Read the keys, creating the file if missing; raises StartError, SettingsError."""
        make_missing(self.path)
        self._file.open()

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """The valid keys, newest first."""
        return self.look() if self._file.is_due() else self._keys

    def look(self) -> tuple[SigningKey, ...]:
        """The same, after a look at the file."""
        look = self._file.look()
        if look.is_new:
            log.info("signing_keys_read", keys=[key.key_id for key in self._keys])
        elif look.problem is not None:
            log.error("signing_keys_kept", error=str(look.problem))
        return self._keys

    def _read(self) -> None:
        self._keys = read(self.path)


def make_missing(path: Path) -> None:
    """Create the file with one key if it is missing; raises StartError."""
    try:
        make_folder(path.parent, 0o700)
        write_new(path, _text([_new_key()]))
    except FileExistsError:
        return
    except OSError as error:
        raise StartError(
            f"the signing key {path} cannot be made: {error.strerror}; name another place in auth.key_file"
        ) from None


def read(path: Path) -> tuple[SigningKey, ...]:
    """The keys of a file, newest first; raises SettingsError that names the line, never its content."""
    lines = [line.strip() for line in read_text(path, SETTING).splitlines()]
    keys = [_key(path, number, line) for number, line in enumerate(lines, 1) if line and line[0] != "#"]
    if not keys:
        raise SettingsError(f"setting {SETTING}: {path} has no key; remove the file, and the bridge creates a new one")
    return tuple(keys)


def rotate(path: Path, *, drop_old: bool) -> SigningKey:
    """Make a new key sign from now on; older ones stay valid unless they are dropped. Raises as `KeyFile.open`."""
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
            f"setting {SETTING}: {path} line {number} is not `KEY_ID SECRET` with {SECRET_BYTES} bytes in base64url; "
            f"correct it"
        )
    remember(text.strip())
    return SigningKey(key_id, secret)


def _new_key() -> SigningKey:
    return SigningKey(f"k{secrets.token_hex(4)}", secrets.token_bytes(SECRET_BYTES))


def _text(keys: Sequence[SigningKey]) -> str:
    return HEAD + "".join(f"{key.key_id} {base64.urlsafe_b64encode(key.secret).decode()}\n" for key in keys)
