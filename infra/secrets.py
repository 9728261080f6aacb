"""Reads secrets from files, so that none appears in a command line or in the environment."""

import stat
from pathlib import Path

from pydantic import SecretStr

from contract.errors import SettingsError
from infra.credentials import Kind, clean
from infra.files import decoded
from infra.log import get_logger
from infra.places import at_home
from infra.readable import read_bytes
from infra.redaction import remember

MAX_BYTES = 16 * 1024
_OTHERS_MAY_READ = stat.S_IRGRP | stat.S_IROTH

log = get_logger("secrets")
_warned: set[Path] = set()


def secret_of(value: SecretStr | None, file: Path | None, setting: str, kind: Kind = "password") -> str | None:
    """The configured secret: the value itself or the content of its file, read at each call; None if neither is set.

    `setting` is the setting of the file, as `mqtt.password_file`.
    """
    if value is None:
        return None if file is None else read_secret(file, setting, kind)
    secret = value.get_secret_value()
    remember(secret)
    return secret


def read_secret(path: Path, setting: str, kind: Kind = "password") -> str:
    """The secret in a file, without blanks, empty lines and byte order mark around it.

    Raises SettingsError with the setting and the file, never the text; also if the content cannot be a secret of this
    kind.
    """
    path = at_home(path, setting)
    try:
        secret = clean(read_text(path, setting), kind)
    except ValueError as error:
        raise SettingsError(f"setting {setting}: {path} {error}") from None
    remember(secret)
    return secret


def read_text(path: Path, setting: str) -> str:
    """The text of a file that only its owner should read, such as a PEM key; raises SettingsError as `read_secret`."""
    path = at_home(path, setting)
    told = f"setting {setting}: {path}"
    try:
        raw = read_bytes(path, MAX_BYTES + 1, pipe=True)
        mode = path.stat().st_mode
    except OSError as error:
        raise SettingsError(f"{told} cannot be read: {error.strerror or error}") from None
    if len(raw) > MAX_BYTES:
        raise SettingsError(f"{told} is longer than {MAX_BYTES} bytes; that is not a secret; name the right file")
    try:
        text = decoded(raw)
    except UnicodeError:
        raise SettingsError(f"{told} is not a text file in UTF-8") from None
    _warn_if_readable(path, mode, setting)
    return text


def _warn_if_readable(path: Path, mode: int, setting: str) -> None:
    if mode & _OTHERS_MAY_READ and path not in _warned:
        _warned.add(path)
        log.warning("secret_readable_by_others", setting=setting, file=str(path), advice=f"chmod 600 {path}")
