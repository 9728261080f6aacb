"""Resolves a relative `store.url` of sarvis.toml from the folder of that file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contract.errors import SettingsError
from infra.settings.bridge import SQLITE

OF_SET_UP = "# of set-up; a [store] table of your own takes its place"
"""The comment behind a table's name, as `sarvis broker config` writes it."""


def without_replaced(text: str) -> str:
    """The text without the table that set-up wrote, if there is another of the same name: scripts append their own."""
    lines = text.splitlines()
    named = [line.partition("#")[0].strip() for line in lines]
    for number, line in enumerate(lines):
        if line.endswith(OF_SET_UP) and named.count(named[number]) > 1:
            return "\n".join([*lines[:number], *lines[number + 2 :]])
    return text


def placed(folder: Path, url: Any) -> Any:
    """The effective address; anything but a relative path stays unchanged."""
    relative = _relative(url)
    return url if relative is None else f"{SQLITE}{folder / relative}"


def refuse_older_place(file: Path, tables: Mapping[str, Any], url: str) -> None:
    """Raises SettingsError if a ledger exists only where older versions looked: relative to the current folder.

    `tables` is the file's content, `url` the effective address, which may come from an argument.
    """
    table = tables.get("store")
    relative = _relative(table.get("url") if isinstance(table, dict) else None)
    if relative is None or url != placed(file.parent, f"{SQLITE}{relative}"):
        return
    place = file.parent / relative
    if file.parent.resolve() != Path.cwd() and _holds_something(relative) and not _holds_something(place):
        raise SettingsError(
            f"setting store.url: {SQLITE}{relative} in {file} is {place.absolute()}, where there is no ledger; but "
            f"there is one at {relative.absolute()}, where an older version looked. Write its whole path, "
            f"or move the ledger"
        )


def _relative(url: Any) -> Path | None:
    path = url.removeprefix(SQLITE) if isinstance(url, str) and url.startswith(SQLITE) else ""
    return Path(path) if path.strip("/") and not path.startswith(("/", "~")) else None


def _holds_something(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size > 0
    except (OSError, ValueError):  # a name that a file cannot have
        return False
