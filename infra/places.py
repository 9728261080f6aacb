"""Expands `~` in paths, also for users without a home folder."""

import os
from pathlib import Path

from contract.errors import SettingsError


def at_home(path: Path, setting: str) -> Path:
    """The path with `~` replaced by the home folder; raises SettingsError with the setting if there is no home.

    Any other path is returned unchanged, without looking for a home. `setting` may also be an option, as `--cache`.
    """
    if not str(path).startswith("~"):
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        raise SettingsError(
            f"setting {setting}: {path} begins with the home folder, and the user {os.getuid()} has none (HOME is not "
            f"set); set it to an absolute path"
        ) from None


def shown_home(text: str) -> str:
    """For messages about a path that was given with `~`: the home folder that was used; empty for other paths."""
    if "~" not in text:
        return ""
    return f" (looked for below HOME={os.environ.get('HOME', '')}, the home of user {os.getuid()})"


def where_at_home(path: Path) -> Path | None:
    """`at_home`, or None if there is no home folder: then the file cannot exist."""
    try:
        return path.expanduser()
    except RuntimeError:
        return None


def kept_at_home(path: Path, setting: str) -> Path:
    """`at_home` for a folder or file that is created if missing; also raises if the home folder is not writable."""
    place = at_home(path, setting)
    if place == path or place.exists():
        return place
    holder = next((parent for parent in place.parents if parent.exists()), place)
    if not os.access(holder, os.W_OK | os.X_OK):
        raise SettingsError(
            f"setting {setting}: {path} cannot be made, because the user {os.getuid()} may not write into {holder}; "
            f"set it to an absolute path in a folder that belongs to this user"
        )
    return place
