"""Names each run of a bridge in the ledger, and detects files of different runs.

SQLite keeps the newest commits in a log beside the file (`-wal`). It accepts any log as the file's own: if a back-up is
put in the file's place beside the log of the later ledger, the log undoes the back-up; if the file is copied without
its log, the copy lacks the newest commits. Neither causes an error.

So each run writes its own name into the file, and also into the lock file; a run that ends normally removes it. `sarvis
backup` writes `BACK_UP` in its place.
"""

import os
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge.storage.records import BACK_UP
from contract.errors import StartError

_BEGINS, _RUNS, _ENDS = "begins", "runs", "ends"
"""State of a run: its name is perhaps in the file; it is in the file; it is perhaps still in the file."""

_AGAIN = "+"
_MAKE_ONE = "`sarvis backup` makes one that is whole"


@dataclass(frozen=True, slots=True)
class Found:
    """The content of a file and its log.

    Attributes:
    has_tables: whether it is more than an empty SARVIS file.
    in_file: the run that the file alone names; None after a normal end.
    in_all: the run that file and log together name.
    log_bytes: length of the log; None if there is none.
    log_is_older: the file was written after the log.
    """

    has_tables: bool
    in_file: str | None
    in_all: str | None
    log_bytes: int | None
    log_is_older: bool


def new_run() -> str:
    """A name for a run."""
    return secrets.token_hex(8)


def said_again(run: str) -> str:
    """The same run in another form."""
    return f"{run}{_AGAIN}"


def log_of(path: Path) -> Path:
    """Where SQLite keeps the log of a file."""
    return path.with_name(path.name + "-wal")


def lock_of(path: Path) -> Path:
    """The file that says who keeps a ledger."""
    return path.with_name(path.name + ".lock")


def begins(run: str) -> str:
    """The content of the lock file until the run's name is in the ledger's file."""
    return f"{_BEGINS} {run}\n"


def runs(run: str) -> str:
    """The content of the lock file from then on."""
    return f"{_RUNS} {run}\n"


def ends(lock_said: str) -> str:
    """The content of the lock file before the run's name is removed."""
    return f"{_ENDS} {lock_said.strip().partition(' ')[2]}\n"


def find(path: Path) -> Found:
    """Examine a whole ledger; changes nothing, raises sqlite3.Error."""
    log = log_of(path)
    log_stat = log.stat() if log.exists() else None
    with reading(path) as connection:
        has_tables = _has_tables(connection)
        in_all = _opened(connection)
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as alone:
        in_file = _opened(alone)
    return Found(
        has_tables,
        in_file,
        in_all,
        None if log_stat is None else log_stat.st_size,
        log_stat is not None and path.stat().st_mtime_ns > log_stat.st_mtime_ns,
    )


def check(path: Path, *, restored: bool = False) -> None:
    """Raises StartError if an unused ledger is inconsistent; changes nothing.

    `restored`: the caller declares that it is a back-up.
    """
    found = find(path)
    if not found.has_tables and restored:
        raise StartError(
            f"the back-up {path} is empty: it is the file of a ledger that was in use, without its log; {_MAKE_ONE}"
        )
    state, _, locked_by = _lock_says(path)
    log = log_of(path)
    if found.log_bytes:
        is_strange = found.in_file != found.in_all and state not in {_BEGINS, _ENDS}
        if is_strange or (restored and found.log_is_older):
            raise StartError(
                f"{log} is the log of another ledger than {path.name} beside it, and would undo it. If {path.name} is "
                f"a back-up that was put there, move {log.name} and {log.name.removesuffix('wal')}shm away; "
                f"if not, put back the {path.name} that belongs to the log"
            )
    elif found.in_file not in {None, BACK_UP} and (restored or locked_by != found.in_file):
        raise StartError(
            f"{path} was copied while a bridge used it, without {log.name}: what was written last is missing. "
            f"Put {log.name} beside it, or use another back-up; {_MAKE_ONE}. If it is all there is: "
            f"sarvis restore --incomplete"
        )


def check_to_read(path: Path) -> None:
    """The same for a command that only reads; an empty ledger is an error, too."""
    if not find(path).has_tables:
        raise StartError(
            f"the ledger {path} is empty: it was never used, or it is the file of one that is in use, copied without "
            f"its log; {_MAKE_ONE}"
        )
    check(path)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing, also in a folder without write permission."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            if not needs_a_copy(path):
                raise  # damaged, or the path beside it is not a file
        else:
            yield connection
            return
    finally:
        connection.close()
    with readable_copy(path) as copy, closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro", uri=True)) as of_copy:
        yield of_copy


def needs_a_copy(path: Path) -> bool:
    """Whether SQLite cannot read the ledger in its place: it would have to create a file beside it, and may not."""
    if os.access(path.parent, os.W_OK):
        return False
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    with closing(connection):
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY"))
    return False


@contextmanager
def readable_copy(path: Path) -> Iterator[Path]:
    """A copy of file and log in a temporary folder, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="sarvis-") as folder:
        copy = Path(folder) / path.name
        for source, target in ((path, copy), (log_of(path), log_of(copy))):
            if source.exists():
                shutil.copy(source, target)
        yield copy


def write_back_up(path: Path, target: Path) -> None:
    """Copy a ledger as a whole, also while a bridge writes to it; raises sqlite3.Error, OSError."""
    target.touch(mode=0o600)
    with reading(path) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
        mark_as_back_up(copy)


def mark_as_back_up(copy: sqlite3.Connection) -> None:
    """Mark the file as a back-up for the bridge that starts on it."""
    if "opened" not in {row[1] for row in copy.execute("PRAGMA table_info(service)")}:
        return  # written by an earlier version
    if copy.execute("UPDATE service SET opened = ?", (BACK_UP,)).rowcount == 0:
        copy.execute("INSERT INTO service (id, seconds, opened) VALUES (1, 0, ?)", (BACK_UP,))
    copy.commit()


def _lock_says(path: Path) -> tuple[str, str, str]:
    try:
        return lock_of(path).read_text(encoding="utf-8").strip().partition(" ")
    except (OSError, UnicodeDecodeError):
        return "", "", ""


def _has_tables(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is not None


def _opened(connection: sqlite3.Connection) -> str | None:
    columns = {row[1] for row in connection.execute("PRAGMA table_info(service)")}
    if "opened" not in columns:
        return None  # written by an earlier version, or empty
    row = connection.execute("SELECT opened FROM service").fetchone()
    return None if row is None or row[0] is None else str(row[0]).removesuffix(_AGAIN)
