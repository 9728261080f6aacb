"""Where files are: paths that begin with `~`, for users that have a home folder and for those that have none."""

import os
from pathlib import Path

from contract.errors import SettingsError


def at_home(path: Path, setting: str) -> Path:
    """The path with `~` replaced by the home folder; raises SettingsError, which names the setting, if there is none.

    Any other path is returned as it is: no home is looked for. `setting` may also be an option, as `--cache`.
    """
    if not str(path).startswith("~"):
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        raise SettingsError(
            f"setting {setting}: {path} begins at a home folder, and the user {os.getuid()} has none (HOME is not "
            f"set); set it to an absolute path"
        ) from None


def where_at_home(path: Path) -> Path | None:
    """The path as above; None where there is no home, so that nothing can be there."""
    try:
        return path.expanduser()
    except RuntimeError:
        return None


def kept_at_home(path: Path, setting: str) -> Path:
    """`at_home` for a folder or file that is made when it is missing; a home that cannot hold it is an error, too."""
    place = at_home(path, setting)
    if place == path or place.exists():
        return place
    holder = next((parent for parent in place.parents if parent.exists()), place)
    if not os.access(holder, os.W_OK | os.X_OK):
        raise SettingsError(
            f"setting {setting}: {path} cannot be made, for the user {os.getuid()} may not write into {holder}; "
            f"set it to an absolute path in a folder that belongs to this user"
        )
    return place
