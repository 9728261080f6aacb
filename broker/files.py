"""Atomic writes in a broker's folder, one writer at a time."""

import contextlib
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

from contract.errors import SettingsError
from infra import file_lock, readable, signals
from infra import files as contract_files
from infra.files import PUBLIC, SECRET, Staged

__all__ = ["PUBLIC", "SECRET", "explained", "locked", "make_folder", "prepared", "read", "remove", "together", "write"]

FOLDER = 0o700
_together: ContextVar[bool] = ContextVar("together", default=False)
_staged: ContextVar[Staged | None] = ContextVar("staged", default=None)
LOCK = ".lock"


def make_folder(folder: Path) -> None:
    """Create a folder that only its owner can enter, who is that of its parent; an existing one is not changed."""
    with explained(folder):
        contract_files.make_folder(folder, FOLDER, made=None if (staged := _staged.get()) is None else staged.made)


def write(path: Path, text: str | bytes, mode: int = SECRET) -> None:
    """Replace a file as a whole; it belongs to the owner of its folder. Raises SettingsError, also for a link."""
    if path.is_symlink():
        raise SettingsError(f"{path} is a symbolic link and is not replaced; remove the link, or name another place")
    with explained(path):
        if (staged := _staged.get()) is not None:
            staged.write(path, text, mode)
        else:
            contract_files.write(path, text, mode, sync=not _together.get())


def remove(path: Path) -> None:
    """Remove a file, if it exists; raises SettingsError."""
    with explained(path):
        if (staged := _staged.get()) is not None:
            staged.remove(path)
        else:
            path.unlink(missing_ok=True)


def set_aside(path: Path, kept: Path) -> None:
    """Rename a file; raises SettingsError."""
    with explained(path):
        if (staged := _staged.get()) is not None:
            staged.set_aside(path, kept)
        else:
            path.rename(kept)


@contextlib.contextmanager
def prepared(write_all: Callable[[], object]) -> Iterator[None]:
    """`write_all` puts all files in their places if the block ends without error, otherwise none.

    Raises SettingsError before the block if there is no space for it.
    """
    staged = Staged(sync=not _together.get())
    try:
        token = _staged.set(staged)
        try:
            write_all()
        finally:
            _staged.reset(token)
        with signals.held():
            yield
            staged.commit()
    finally:
        staged.undo()


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Files written inside are forced to disk together when the block ends: for thousands of them."""
    token = _together.set(True)
    try:
        yield
    finally:
        _together.reset(token)
        os.sync()


def read(path: Path) -> str:
    """The text of a file; raises SettingsError that says why not."""
    try:
        return readable.read_bytes(path).decode()
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not a text file in UTF-8") from None
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            raise SettingsError(f"{path} does not exist; check its name") from None
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Exclusive among all processes that lock this folder."""
    with explained(folder):
        # Read permission suffices for the lock, so that any user's file can serve.
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PUBLIC)
        try:
            contract_files.give_like(folder, descriptor)
            file_lock.take(descriptor, patience_s=None)
            yield
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Convert an OSError into a SettingsError that says what to do."""
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
