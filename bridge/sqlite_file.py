"""The ledger's file before anyone writes to it: is it ours, is it whole, does nobody else keep it?"""

import fcntl
import os
import sqlite3
import time
from pathlib import Path
from typing import IO

from bridge.ledger_run import lock_of, reading
from contract.errors import StartError

APPLICATION_ID = 0x53525653
"""«SRVS» in the header of every ledger: `file` and SQLite's tools can tell it from other databases."""

_MAGIC = b"SQLite format 3\0"
_APPLICATION_ID_AT = slice(68, 72)


def check(path: Path) -> bool:
    """True for a ledger that is there, False where one is to be made; raises StartError and touches nothing."""
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
        _check_pages(path)  # half a second for 200 MB
    except sqlite3.OperationalError as error:
        raise StartError(f"the ledger {path} cannot be read: {error}; name another file in store.url") from None
    except sqlite3.Error as error:
        raise StartError(
            f"the ledger {path} is damaged ({error}); it was left as it is. Put a back-up in its place, remove "
            f"{path.name}-wal, and start `sarvis bridge --restored`, or name another file in store.url"
        ) from None
    return True


def revision(path: Path) -> str | None:
    """Which migration a whole ledger has seen last, None before the first; touches nothing."""
    with reading(path) as connection:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def make_room(path: Path) -> None:
    """Make the ledger's folder; raises StartError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_place(path, error) from None


def begin(path: Path) -> None:
    """Make the file, for its owner only: it says who uses what when. Its log inherits that. Raises StartError."""
    try:
        path.touch(mode=0o600)
    except OSError as error:
        raise _no_place(path, error) from None


def hold(path: Path, *, patience_s: float = 0.0) -> IO[str]:
    """Be the only bridge that keeps this ledger, until the returned file is closed; raises StartError."""
    ends = time.monotonic() + patience_s
    try:
        # Not emptied: it names the run that kept the ledger last.
        lock = os.fdopen(os.open(lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    except OSError as error:
        raise _no_place(path, error) from None
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() < ends:
                time.sleep(0.05)
                continue
            lock.close()
            raise StartError(
                f"another bridge keeps the ledger {path}; stop it, or name another file in store.url"
            ) from None
        return lock


def say(lock: IO[str], text: str) -> None:
    """Write into the lock file, and onto the disk."""
    lock.seek(0)
    lock.truncate()
    lock.write(text)
    lock.flush()
    os.fsync(lock.fileno())


def is_held(path: Path) -> bool:
    """Does a bridge keep this ledger just now?"""
    try:
        descriptor = os.open(lock_of(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _no_place(path: Path, error: OSError) -> StartError:
    return StartError(
        f"the ledger {path} cannot be kept in {path.parent}: {error.strerror}; name another place in store.url"
    )


def _check_pages(path: Path) -> None:
    with reading(path) as connection:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found is None or found[0] != "ok":
        raise sqlite3.DatabaseError(str(found[0]).splitlines()[-1] if found else "no answer")
