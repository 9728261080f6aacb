"""Writes configuration files without losing people's changes."""

import hashlib
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import typer

from broker import files
from contract.errors import SettingsError

HEAD = "# Written by"
"""Begins every text that `write` receives."""
_SUM = "# Add your own lines. If this must be written anew, the changed file is kept beside. Sum: "
REPLACE = "--replace keeps it beside under another name"


def write(path: Path, text: str, *, replace: bool = False) -> None:
    """Write a text that begins with `HEAD`, unless the same text was written there last.

    A file that was changed since is kept under another name, and that is reported. Raises SettingsError for another
    program's file, or a link, unless `replace` (then it is kept, too).
    """
    refuse_foreign(path, replace=replace)
    wanted = _with_sum(path.parent, text)
    if path.is_symlink() or not path.exists():
        set_aside([path])
        files.write(path, wanted, files.PUBLIC)
        return
    if was_last(path, text):
        return
    current = _text(path)
    before = _sum_in(current)
    if before != _sum_of(path.parent, current) and current != text:
        set_aside([path])
    files.write(path, wanted, files.PUBLIC)


def was_last(path: Path, text: str) -> bool:
    """Whether `write` last wrote this text there, ignoring later changes by people."""
    return path.exists() and _sum_in(_text(path)) == _sum_of(path.parent, text)


def refuse_foreign(path: Path, *, replace: bool = False) -> None:
    """Raises SettingsError if the file exists and was not written by a command."""
    if replace:
        return
    if path.is_symlink():
        raise SettingsError(f"{path} is a symbolic link and is not replaced; {REPLACE}")
    if path.exists() and not is_written(path):
        raise SettingsError(f"{path} was not written by sarvis and is not replaced; {REPLACE}")


def is_written(path: Path) -> bool:
    """Whether a file's header says that a sarvis command wrote it."""
    return path.is_file() and HEAD in _text(path).partition("\n")[0]


def set_aside(paths: Iterable[Path]) -> None:
    """Rename the existing file, and report it."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    for path in paths:
        if path.is_symlink() or path.exists():
            kept = path.with_name(f"{path.name}.before-{stamp}")
            files.set_aside(path, kept)
            typer.echo(
                f"{path} was written again; the previous file is kept as {kept}: copy your own lines from it", err=True
            )


def moved(path: Path, old: Path, new: Path) -> bool:
    """Replace the folder's name in a file and keep its other lines; False if it contains neither name."""
    text = _text(path)
    changed = text.replace(f"{old}{os.sep}", f"{new}{os.sep}")
    if changed == text:
        return False
    files.write(path, changed, path.stat().st_mode & 0o777)
    return True


def _with_sum(folder: Path, text: str) -> str:
    first, _, rest = text.partition("\n")
    return f"{first}\n{_SUM}{_sum_of(folder, text)}\n{rest}"


def _sum_in(text: str) -> str | None:
    return next((line.removeprefix(_SUM).strip() for line in text.splitlines() if line.startswith(_SUM)), None)


def _sum_of(folder: Path, text: str) -> str:
    """Independent of the folder, and of the line with the sum itself."""
    lines = [line for line in text.replace(f"{folder.absolute()}{os.sep}", "./").splitlines() if _SUM not in line]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _text(path: Path) -> str:
    with files.explained(path):
        return path.read_bytes().decode(errors="surrogateescape")
