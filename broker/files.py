"""Files that are never half there: written beside, forced to disk, renamed; one writer at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from contract.errors import SettingsError

SECRET = 0o600
PUBLIC = 0o644
FOLDER = 0o700
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
    data = text.encode() if isinstance(text, str) else text
    beside = path.with_name(f".{path.name}.{uuid4().hex}")
    with explained(path):
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, SECRET)
            with os.fdopen(descriptor, "wb") as file:
                _give_to_owner_of(path.parent, descriptor)
                os.fchmod(descriptor, mode)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        _sync_folder(path.parent)


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


def _give_to_owner_of(folder: Path, descriptor: int) -> None:
    """When root writes into the folder of a broker's user, the broker must be able to read it."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
