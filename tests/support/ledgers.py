"""Ledgers as they may lie on a disk: whole, left behind by a kill, foreign, damaged, newer."""

import asyncio
import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bridge.storage.records import Audit, Change, Device, PendingLogout, Session
from bridge.storage.sqlite.store import SqliteStore
from infra.settings.bridge import StoreSettings

PAGE = 4096
ALICE: list[Change] = [Device("jetson", generation=1), Session("s1", "jetson", "alice", 1)]


def place(path: Path) -> StoreSettings:
    return StoreSettings(url=f"sqlite:///{path}")


def keep(path: Path, changes: Iterable[Change] = ALICE, *, alone: bool = True) -> None:
    """Make or change a ledger and close it; not `alone`: beside its bridge."""

    async def make() -> None:
        store = await SqliteStore.open(place(path), alone=alone)
        async with store.transaction() as transaction:
            await transaction.save(changes)
        await store.close()

    asyncio.run(make())


_UNDONE = {
    "0003": "DROP TABLE push_subscriptions",
    "0004": "ALTER TABLE missed DROP COLUMN received_at",
    "0005": "ALTER TABLE service DROP COLUMN opened",
    "0006": "ALTER TABLE promises DROP COLUMN left_s",
    "0007": "DROP INDEX one_row_per_missed_wake",
    "0008": "DROP TABLE news; ALTER TABLE service DROP COLUMN turn",
    "0009": "DROP TABLE bridges; ALTER TABLE service DROP COLUMN era_after;"
    "ALTER TABLE outbox DROP COLUMN claimed_by; ALTER TABLE outbox DROP COLUMN claimed_until_s",
    "0010": "ALTER TABLE audit DROP COLUMN actor; ALTER TABLE audit DROP COLUMN address; "
    "ALTER TABLE audit DROP COLUMN via; ALTER TABLE api_keys DROP COLUMN used_at",
    "0011": "DROP TABLE claims",
    "0012": "ALTER TABLE audit DROP COLUMN note",
    "0014": "DROP TABLE models; DROP TABLE rollouts; DROP TABLE rollout_devices",
    "0013": "ALTER TABLE devices DROP COLUMN tags; ALTER TABLE devices DROP COLUMN version; "
    "ALTER TABLE devices DROP COLUMN model; ALTER TABLE devices DROP COLUMN seen_at",
}


def set_back(path: Path, version: str) -> None:
    """Make an unused ledger what that version of the tables had."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for later in sorted(_UNDONE, reverse=True):
            if later > version:
                connection.executescript(_UNDONE[later])
        connection.execute("UPDATE alembic_version SET version_num = ?", [version])


def leave(path: Path, changes: Iterable[Change] = ALICE) -> None:
    """Make a ledger as a kill leaves it: what was committed stands in the log only."""
    made = path.with_name("living") / "ledger.db"

    async def make() -> None:
        store = await SqliteStore.open(place(made))
        async with store.transaction() as transaction:
            await transaction.save(changes)
        for end in ("", "-wal"):
            shutil.copy(f"{made}{end}", f"{path}{end}")
        await store.close()

    asyncio.run(make())


def sums(path: Path) -> dict[str, str]:
    """The checksums of a ledger's file and log, as far as they hold anything."""
    files = [path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-journal")]
    held = {file.name: file.read_bytes() for file in files if file.is_file()}
    return {name: hashlib.sha256(data).hexdigest() for name, data in held.items() if data}


@dataclass(frozen=True)
class Seen:
    """What an operator sees, of one user, device or session."""

    sessions: list[Session]
    waiting: list[PendingLogout]
    events: list[str]
    """The audit's."""


def look(path: Path, about: str) -> Seen:
    """Read a ledger beside its bridge."""

    async def read() -> Seen:
        store = await SqliteStore.open_read_only(place(path))
        try:
            sessions = [session for session, _ in await store.running(1000, about)]
            lines = await store.audit(about, 1000)
            return Seen(sessions, await store.waiting(1000, about), [line.event for line in lines])
        finally:
            await store.close()

    return asyncio.run(read())


@dataclass(frozen=True)
class Bad:
    """No ledger for us.

    Attributes:
        make: puts it at the path that it is given.
        words: what the refusal must say, besides the path.
    """

    make: Callable[[Path], None]
    words: tuple[str, ...]


def _text(path: Path) -> None:
    path.write_text("milk, bread\n" * 100)


def _foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.commit()


def _big(path: Path) -> None:
    keep(path, [Audit("now", "opened", f"s{number}", "jetson", "alice", "x" * 200) for number in range(2000)])
    assert path.stat().st_size > 40 * PAGE


def _flipped(path: Path) -> None:
    _big(path)
    data = bytearray(path.read_bytes())
    middle = len(data) // PAGE // 2 * PAGE
    for at in range(middle, middle + 4 * PAGE):
        data[at] ^= 0xFF
    path.write_bytes(data)


def _truncated(path: Path) -> None:
    _big(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _newer(path: Path) -> None:
    keep(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()


def _newer_left(path: Path) -> None:
    """A newer SARVIS was killed: its last commits stand in the log."""
    whole = path.with_name("newer.db")
    _newer(whole)
    with closing(sqlite3.connect(whole)) as connection:
        connection.execute("UPDATE devices SET generation = 7")
        connection.commit()
        for end in ("", "-wal"):
            shutil.copy(f"{whole}{end}", f"{path}{end}")
    assert path.with_name(path.name + "-wal").stat().st_size > 0


def _folder(path: Path) -> None:
    path.mkdir()


def _below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("a file")


OTHER_FILE = "store.url"
BAD: dict[str, Bad] = {
    "a text": Bad(_text, ("not a ledger", "left as it is", OTHER_FILE)),
    "another program's database": Bad(_foreign, ("not a ledger", "left as it is", OTHER_FILE)),
    "a ledger with flipped bytes": Bad(_flipped, ("damaged", "--restored", "-wal", OTHER_FILE)),
    "a ledger cut short": Bad(_truncated, ("damaged", "--restored", "-wal", OTHER_FILE)),
    "a newer ledger": Bad(_newer, ("newer version", "left as it is", OTHER_FILE)),
    "a newer ledger after a kill": Bad(_newer_left, ("newer version", "left as it is", OTHER_FILE)),
    "a folder": Bad(_folder, ("directory", OTHER_FILE)),
    "a place below a file": Bad(_below_a_file, ("cannot be used", OTHER_FILE)),
}
