"""Atomic writes: a file is written beside its target, forced to disk, then renamed. Also decodes text."""

import codecs
import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

SECRET = 0o600
PUBLIC = 0o644


def write(path: Path, text: str | bytes, mode: int = SECRET, *, sync: bool = True) -> None:
    """Replace a file as a whole; a file written by root belongs to the owner of its folder. Raises OSError.

    Without `sync` the caller forces it to disk.
    """
    staged = Staged(sync=sync)
    try:
        staged.write(path, text, mode)
        staged.commit()
    finally:
        staged.undo()


def write_new(path: Path, text: str) -> None:
    """Make a file that only the owner of its folder can read, whole or not at all; raises FileExistsError, OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, SECRET)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            give_like(path.parent, descriptor)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


class Staged:
    """Replaces several files or none: new content is written beside the old, and `commit` needs no further disk space.

    A device or a pipe cannot be replaced: it is written at once. `undo` removes what was not committed. Both raise
    OSError.
    """

    def __init__(self, *, sync: bool = True) -> None:
        self._sync = sync
        self._beside: list[tuple[Path, Path]] = []
        self._gone: list[Path] = []
        self._folders: list[Path] = []
        self._aside: list[tuple[Path, Path]] = []

    def write(self, path: Path, text: str | bytes, mode: int = SECRET) -> None:
        """Write the new content beside the file."""
        data = text.encode() if isinstance(text, str) else text
        if _is_special(path):
            with path.open("wb", buffering=0) as file:
                file.write(data)
            return
        beside = path.with_name(f".{path.name}.{uuid4().hex}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, SECRET)
        self._beside.append((beside, path))
        with os.fdopen(descriptor, "wb") as file:
            give_like(path.parent, descriptor)
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            if self._sync:
                os.fsync(descriptor)

    def remove(self, path: Path) -> None:
        """Remove the file at the commit, if it exists."""
        self._gone.append(path)

    def set_aside(self, path: Path, kept: Path) -> None:
        """Rename a file at the commit; an undo renames it back."""
        path.rename(kept)
        self._aside.append((path, kept))

    def made(self, folder: Path) -> None:
        """Note a folder that was made: an undo removes it if nothing else is in it."""
        self._folders.append(folder)

    def commit(self) -> None:
        """Move everything to its place."""
        folders = {path.parent for _, path in self._beside}
        while self._beside:
            beside, path = self._beside[0]
            beside.replace(path)
            self._beside.pop(0)
        for path in self._gone:
            path.unlink(missing_ok=True)
        self._folders.clear()
        self._aside.clear()
        for folder in folders if self._sync else ():
            sync_folder(folder)

    def undo(self) -> None:
        """Remove the files that were written beside their targets."""
        for beside, _ in self._beside:
            beside.unlink(missing_ok=True)
        self._beside.clear()
        for path, kept in reversed(self._aside):
            kept.rename(path)
        self._aside.clear()
        for folder in reversed(self._folders):
            with contextlib.suppress(OSError):
                folder.rmdir()


def _is_special(path: Path) -> bool:
    """Whether the path exists and is a device, a pipe or a socket; raises OSError for a folder."""
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return not stat.S_ISREG(kind)


_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # checked before UTF-16, which begins with the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(raw: bytes) -> str:
    """The encoding that a byte order mark declares, a name for `decode`; UTF-8 without a mark."""
    return next((encoding for mark, encoding in _MARKS if raw.startswith(mark)), "utf-8")


def decoded(raw: bytes) -> str:
    """Text in the encoding of its byte order mark (UTF-8 without one), without the mark; raises UnicodeError."""
    return raw.decode(encoding_of(raw))


def give_like(other: Path, descriptor: int) -> None:
    """Give a file that root wrote to the owner of another file or folder, who must be able to open it."""
    owner, now = other.stat(), os.fstat(descriptor)
    # No call if nothing would change: a sandbox may kill the process for it, or refuse it.
    if os.geteuid() == 0 and (now.st_uid, now.st_gid) != (owner.st_uid, owner.st_gid):
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def sync_folder(folder: Path) -> None:
    """Force a folder's list of files to disk; raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path, mode: int = 0o777, *, made: Callable[[Path], None] | None = None) -> None:
    """Make a folder and its parents; those made by root belong to the owner of the first existing parent.

    `made` is called with each new folder, parents first.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=mode, exist_ok=True)
        if made is not None:
            made(one)
        owner, now = one.absolute().parent.stat(), one.lstat()
        if os.geteuid() == 0 and (now.st_uid, now.st_gid) != (owner.st_uid, owner.st_gid):
            os.chown(one, owner.st_uid, owner.st_gid, follow_symlinks=False)
    folder.mkdir(exist_ok=True)  # raises if the path is not a folder
