"""Secrets in files: passwords, tokens and keys that stand neither in a command line nor in the environment."""

import stat
from pathlib import Path

from pydantic import SecretStr

from contract.errors import SettingsError
from contract.telemetry import get_logger

MAX_BYTES = 16 * 1024
_OTHERS_MAY_READ = stat.S_IRGRP | stat.S_IROTH

log = get_logger("secrets")
_warned: set[Path] = set()


def secret_of(value: SecretStr | None, file: Path | None, setting: str) -> str | None:
    """The secret that is set, itself or by its file, which is read anew; None when neither is.

    `setting` is the name of the one that names the file, as `mqtt.password_file`.
    """
    if value is not None:
        return value.get_secret_value()
    return None if file is None else read_secret(file, setting)


def read_secret(path: Path, setting: str) -> str:
    """A file's text without the newline at its end; SettingsError names the setting and the file, never the text."""
    path = path.expanduser()
    told = f"setting {setting}: {path}"
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
            mode = path.stat().st_mode
        text = raw.decode()
    except OSError as error:
        raise SettingsError(f"{told} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{told} is not a text file in UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if len(raw) > MAX_BYTES:
        raise SettingsError(f"{told} is longer than {MAX_BYTES} bytes; that is no secret of ours")
    if not text.strip():
        raise SettingsError(f"{told} is empty; write the secret into it")
    _warn_if_readable(path, mode, setting)
    return text


def _warn_if_readable(path: Path, mode: int, setting: str) -> None:
    if mode & _OTHERS_MAY_READ and path not in _warned:
        _warned.add(path)
        log.warning("secret_readable_by_others", setting=setting, file=str(path), advice=f"chmod 600 {path}")
