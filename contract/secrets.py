"""Secrets in files: passwords, tokens and keys that stand neither in a command line nor in the environment."""

import stat
from pathlib import Path

from pydantic import SecretStr

from contract.credentials import Kind, clean
from contract.errors import SettingsError
from contract.files import decoded
from contract.places import at_home
from contract.redaction import remember
from contract.telemetry import get_logger

MAX_BYTES = 16 * 1024
_OTHERS_MAY_READ = stat.S_IRGRP | stat.S_IROTH

log = get_logger("secrets")
_warned: set[Path] = set()


def secret_of(value: SecretStr | None, file: Path | None, setting: str, kind: Kind = "password") -> str | None:
    """The secret that is set, itself or by its file, which is read anew; None when neither is.

    `setting` is the name of the one that names the file, as `mqtt.password_file`.
    """
    if value is None:
        return None if file is None else read_secret(file, setting, kind)
    secret = value.get_secret_value()
    remember(secret)
    return secret


def read_secret(path: Path, setting: str, kind: Kind = "password") -> str:
    """The secret in a file, without the blanks, empty lines and byte order mark around it.

    Raises SettingsError, which names the setting and the file, never the text, also when no secret of this kind can be
    what the file holds.
    """
    path = at_home(path, setting)
    try:
        secret = clean(read_text(path, setting), kind)
    except ValueError as error:
        raise SettingsError(f"setting {setting}: {path} {error}") from None
    remember(secret)
    return secret


def read_text(path: Path, setting: str) -> str:
    """The text of a file that only its owner should read, such as a key in PEM; raises SettingsError as above."""
    path = at_home(path, setting)
    told = f"setting {setting}: {path}"
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
            mode = path.stat().st_mode
    except OSError as error:
        raise SettingsError(f"{told} cannot be read: {error.strerror or error}") from None
    if len(raw) > MAX_BYTES:
        raise SettingsError(f"{told} is longer than {MAX_BYTES} bytes; that is no secret of ours")
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
