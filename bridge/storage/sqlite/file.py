"""Checks the ledger's file before it is used: a SARVIS ledger, whole, not locked by another bridge."""

import os
import sqlite3
from pathlib import Path
from typing import IO

from bridge.storage.sqlite.run import lock_of, reading
from bridge.storage.store import LedgerKeptError
from contract.errors import StartError
from infra import file_lock
from infra.files import give_like, make_folder
from infra.places import shown_home
from infra.settings.bridge import StoreSettings

APPLICATION_ID = 0x53525653
"""«SRVS» in the header of every ledger, which `file` and SQLite's tools show."""

_MAGIC = b"SQLite format 3\0"
_APPLICATION_ID_AT = slice(68, 72)


def check(path: Path) -> bool:
    """True for an existing ledger, False if it is to be created; raises StartError and changes nothing."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StartError(
            f"the ledger {path} cannot be read: {error.strerror}; name another file in store.url"
        ) from None
    if not header:
        return False
    if not header.startswith(_MAGIC) or int.from_bytes(header[_APPLICATION_ID_AT]) != APPLICATION_ID:
        raise StartError(f"{path} is not a ledger of SARVIS; it was left as it is. Name another file in store.url")
    try:
        _check_pages(path)  # takes half a second for 200 MB
    except sqlite3.OperationalError as error:
        raise StartError(f"the ledger {path} cannot be read: {error}; name another file in store.url") from None
    except sqlite3.Error as error:
        raise StartError(
            f"the ledger {path} is damaged ({error}); it was left as it is. Put a back-up in its place, remove "
            f"{path.name}-wal, and start `sarvis bridge --restored`, or name another file in store.url"
        ) from None
    return True


def revision(path: Path) -> str | None:
    """The last migration of a whole ledger, None before the first; changes nothing."""
    with reading(path) as connection:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def none_there(settings: StoreSettings) -> StartError:
    """The error of a command that finds no ledger, with what to do."""
    return StartError(
        f"there is no ledger at {settings.path.absolute()}{shown_home(settings.url)}, and only the bridge creates "
        "one. Start `sarvis bridge` once with these settings; if it runs with others, name them with --config, or "
        "its ledger with --store-url (store.url)"
    )


def make_ledger_folder(path: Path) -> None:
    """Create the ledger's folder; raises StartError."""
    try:
        make_folder(path.parent)
    except OSError as error:
        raise _no_place(path, error) from None


def begin(path: Path) -> None:
    """Create the file, readable by its owner only, because it shows who uses what when.

    Its log inherits that. Raises StartError.

    A file made by root belongs to the owner of its folder, who is the user of the bridge.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            give_like(path.parent, descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _no_place(path, error) from None


def lock(path: Path, *, patience_s: float = 0.0) -> IO[str]:
    """Lock the ledger for one bridge until the returned file is closed; raises StartError."""
    try:
        # Not emptied: it names the run that used the ledger last.
        lock = os.fdopen(os.open(lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
        give_like(path if path.exists() else path.parent, lock.fileno())
    except PermissionError:
        if not lock_of(path).exists():
            raise
        raise StartError(
            f"{lock_of(path.absolute())} belongs to another user, and user {os.getuid()} may not "
            f"open it; give all files of the ledger to the user of the bridge: chown USER {path.absolute()}*"
        ) from None
    except OSError as error:
        raise _no_place(path, error) from None
    try:
        if file_lock.take(lock.fileno(), patience_s=patience_s):
            return lock
    except OSError as error:
        lock.close()
        raise _no_place(path, error) from None
    lock.close()
    raise LedgerKeptError(f"another bridge uses the ledger {path}; stop it, or name another file in store.url")


def say(lock: IO[str], text: str) -> None:
    """Write into the lock file and force it to disk."""
    lock.seek(0)
    lock.truncate()
    lock.write(text)
    lock.flush()
    os.fsync(lock.fileno())


def is_locked(path: Path) -> bool:
    """Whether a bridge uses the ledger now."""
    return file_lock.is_taken(lock_of(path))


def _no_place(path: Path, error: OSError) -> StartError:
    return StartError(
        f"the ledger {path} cannot be used in {path.parent}: {error.strerror}; name another place in store.url"
    )


def _check_pages(path: Path) -> None:
    with reading(path) as connection:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found is None or found[0] != "ok":
        raise sqlite3.DatabaseError(str(found[0]).splitlines()[-1] if found else "no answer")
