import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.storage.reader import Which
from bridge.storage.records import ApiKey, Audit, Device, DurableDeadline, PendingLogout, ServiceSeconds, Session
from bridge.storage.sqlite.reader import SqliteReader
from bridge.storage.sqlite.store import SqliteStore
from bridge.storage.store import StoreError
from contract.errors import StartError
from tests.support.ledgers import place

SESSIONS = [Session("s1", "jetson", "alice", 3), Session("s2", "kitchen", "bob", 1), Session("s3", "hall", "alice", 2)]
PROMISES = [DurableDeadline("alice", 10.0, floored=True)]
OUTBOX = [
    PendingLogout("c1", "old-1", "jetson", "bob", 2, "app", "2026-01-02T03:04:05Z", 1.5),
    PendingLogout("c2", "old-2", "kitchen", "carol", 1, "http", "then", 0.0, "http://192.168.0.9/logout"),
]
DEVICES = [
    Device("hall", "install", 4, 9, 2, "alice", None, "alice", "added"),
    Device("jetson"),
    Device("kitchen", logout_url="http://192.168.0.9/logout", state="removed"),
]
LINES = [
    Audit("then", "opened", "s1", "jetson", "alice", "login"),
    Audit("later", "ended", "s9", "jetson", "bob", "app"),
]
KEYS = [
    ApiKey("k1", "hash", "caller", "page", "2026-01-01"),
    ApiKey("k2", "other", "operator", "me", "2026-01-02", 9.5),
]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(place(tmp_path / "ledger.db"))
    async with opened.transaction() as transaction:
        await transaction.save([*SESSIONS, *PROMISES, *OUTBOX, *DEVICES, *LINES, ServiceSeconds(5.5)])
    for key in KEYS:
        await opened.add_api_key(key)
    yield opened
    await opened.close()


@pytest.mark.parametrize("about", [None, "alice", "jetson", "s2", "old-1", "unknown"])
async def test_the_reader_finds_what_the_store_finds(store: SqliteStore, tmp_path: Path, about: str | None) -> None:
    with SqliteReader.open(place(tmp_path / "ledger.db")) as reader:
        for most in (1, 2, 100):
            assert reader.running(most, about) == await store.running(most, about)
            assert reader.waiting(most, about) == await store.waiting(most, about)
            assert reader.devices(most) == await store.devices(most) == DEVICES[:most]
            assert reader.audit(about or "jetson", most) == await store.audit(about or "jetson", most)
        assert reader.seconds() == await store.seconds() == 5.5
        assert reader.api_keys() == await store.api_keys() == KEYS


async def test_the_reader_returns_each_column_in_its_field(store: SqliteStore, tmp_path: Path) -> None:
    assert store.problem is None
    with SqliteReader.open(place(tmp_path / "ledger.db")) as reader:
        alice = PROMISES[0]
        assert reader.running(9) == [(SESSIONS[2], alice), (SESSIONS[0], alice), (SESSIONS[1], None)]
        assert reader.waiting(9) == OUTBOX
        assert reader.audit("jetson", 9) == LINES


async def test_the_reader_changes_nothing(store: SqliteStore, tmp_path: Path) -> None:
    assert store.problem is None
    with (
        SqliteReader.open(place(tmp_path / "ledger.db")) as reader,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        reader._connection.execute("UPDATE service SET seconds = 9")


async def test_a_ledger_of_an_older_version_is_read_but_not_by_a_column_that_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    await (await SqliteStore.open(place(path))).close()
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE devices DROP COLUMN version")
    connection.close()
    with SqliteReader.open(place(path)) as reader:
        assert reader.devices(1) == []
        with pytest.raises(StoreError, match="the ledger cannot be read: no such column: version"):
            reader.devices(1, Which(version="0.1.0"))


def test_no_ledger_is_made_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no ledger"), SqliteReader.open(place(tmp_path / "ledger.db")):
        pass
    assert list(tmp_path.iterdir()) == []
