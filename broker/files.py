"""Files that are never half there: written beside, forced to disk, renamed; one writer at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from contract import files as contract_files
from contract.errors import SettingsError
from contract.files import PUBLIC, SECRET

__all__ = ["PUBLIC", "SECRET", "explained", "locked", "make_folder", "read", "together", "write"]

FOLDER = 0o700
_together: ContextVar[bool] = ContextVar("together", default=False)
LOCK = ".lock"


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner, who is that of its parent, enters; one that exists stays as it is."""
    with explained(folder):
        if folder.is_dir():
            return
        folder.mkdir(mode=FOLDER, parents=True, exist_ok=True)
        if os.geteuid() == 0:
            owner = folder.parent.stat()
            os.chown(folder, owner.st_uid, owner.st_gid, follow_symlinks=False)


def write(path: Path, text: str | bytes, mode: int = SECRET) -> None:
    """Replace a file as a whole; it belongs to the owner of its folder. Raises SettingsError."""
    with explained(path):
        contract_files.write(path, text, mode, sync=not _together.get())


@contextlib.contextmanager
def together() -> Iterator[None]:
    """What is written inside is on disk when the block ends, and not file by file: for thousands of them."""
    token = _together.set(True)
    try:
        yield
    finally:
        _together.reset(token)
        os.sync()


def read(path: Path) -> str:
    """The text of a file; raises SettingsError that says why not."""
    with explained(path):
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise SettingsError(f"{path} is not a text file in UTF-8") from None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Alone among all processes that lock this folder."""
    with explained(folder):
        # Readable is enough to lock it, so that it may belong to whoever was first.
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PUBLIC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the file system says into a SettingsError that tells what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise SettingsError(f"{error.filename or path} does not exist") from None
    except PermissionError as error:
        raise SettingsError(
            f"{error.filename or path} may not be read or written by this user; run this as the folder's owner"
        ) from None
    except OSError as error:
        raise SettingsError(f"{error.filename or path}: {error.strerror}") from None
