import asyncio
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from broker.server.journal import Batch, Journal, Message
from broker.server.journal_writer import JournalWriter
from broker.server.store import Store
from contract.errors import SettingsError, StartError


def batch_of(journal: Journal) -> Batch:
    batch = journal.take()
    assert batch is not None
    return batch


def filled(path: Path) -> None:
    store, stored = Store.open(path)
    assert (stored.retained, stored.sessions, stored.last_session, stored.last_message) == ([], [], 0, 0)
    journal = Journal()
    journal.retain("t/싸비스", (b"\x00\xff", 2))
    journal.retain("gone", (b"x", 0))
    first, second = journal.session(), journal.session()
    first.owner("one", "user", "hash")
    first.subscribe("a/+", 1)
    first.subscribe("b", 0)
    first.received(9)
    second.owner("two", None, "")
    for session, topic, packet_id, released in (
        (first, "m1", 1, True),
        (second, "other", None, False),
        (first, "m2", None, False),
    ):
        session.keep(Message(packet_id, topic, 2, b"data", retain=False), released=released)
    store.write(batch_of(journal))
    journal.retain("gone", None)
    first.unsubscribe("b")
    second.end()
    store.write(batch_of(journal))
    store.close()


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    filled(tmp_path / "new" / "messages.db")
    store, stored = Store.open(tmp_path / "new" / "messages.db")
    store.close()
    assert stored.retained == [("t/싸비스", b"\x00\xff", 2)]
    (one,) = stored.sessions
    assert (one.number, one.client_id, one.username, one.credential) == (1, "one", "user", "hash")
    assert one.filters == [("a/+", 1)]
    assert one.received == [9]
    assert [(m.number, m.packet_id, m.topic, m.qos, m.data, released) for m, released in one.messages] == [
        (1, 1, "m1", 2, b"data", True),
        (3, None, "m2", 2, b"data", False),
    ]
    assert (stored.last_session, stored.last_message) == (1, 3)


def test_sessions_are_read_by_the_names_of_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "messages.db"
    filled(path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("ALTER TABLE sessions RENAME TO old")
        database.execute(
            "CREATE TABLE sessions (credential TEXT, username TEXT, client_id TEXT, session INTEGER PRIMARY KEY)"
        )
        database.execute("INSERT INTO sessions SELECT credential, username, client_id, session FROM old")
        database.execute("DROP TABLE old")
    store, stored = Store.open(path)
    store.close()
    (one,) = stored.sessions
    assert (one.number, one.client_id, one.username, one.credential) == (1, "one", "user", "hash")


def test_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "messages.db"
    filled(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_batch_is_written_wholly_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "messages.db"
    store, _ = Store.open(path)
    impossible: Any = object()
    with pytest.raises(sqlite3.Error):
        store.write(Batch(retained={("a",): (b"1", 1)}, filters={(1, "f"): (impossible,)}))
    store.write(Batch(retained={("b",): (b"2", 1)}))
    store.close()
    store, stored = Store.open(path)
    store.close()
    assert stored.retained == [("b", b"2", 1)]


def test_a_second_broker_on_the_same_file_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "messages.db"
    store, _ = Store.open(path)
    try:
        with pytest.raises(StartError, match=r"another running broker .*messages\.db; stop it"):
            Store.open(path)
    finally:
        store.close()


@pytest.mark.parametrize("damage", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_put_aside_and_the_broker_begins_anew(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "messages.db"
    path.write_bytes(damage)
    store, stored = Store.open(path)
    store.close()
    assert stored.sessions == []
    assert (tmp_path / "messages.db.damaged").read_bytes() == damage
    assert "messages_damaged" in caplog.text


def test_damage_in_the_middle_is_noticed_as_well(tmp_path: Path) -> None:
    path = tmp_path / "messages.db"
    filled(path)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xee" * (len(data) - 4096)
    path.write_bytes(data)
    store, stored = Store.open(path)
    store.close()
    assert stored.retained == []
    assert (tmp_path / "messages.db.damaged").exists()


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "messages.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(StartError, match="newer SARVIS"):
        Store.open(path)


def test_a_folder_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="file"):
        Store.open(tmp_path / "file" / "messages.db")


class Disk:
    """A store that writes as long as its disk works."""

    def __init__(self, *, works: bool = True) -> None:
        self.works = works
        self.written: list[Batch] = []

    def write(self, batch: Batch) -> None:
        if not self.works:
            raise sqlite3.OperationalError("disk I/O error")
        self.written.append(batch)

    def close(self) -> None:
        pass


async def test_a_failing_disk_is_reported_once_and_stops_no_client(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("broker.server.journal_writer.RETRY_S", 0.01)
    disk: Any = Disk(works=False)
    journal, told = Journal(), asyncio.Queue[int]()
    saver = JournalWriter(disk, journal, lambda: told.put_nowait(journal.saved))
    saver.start()
    async with asyncio.timeout(5):
        journal.retain("a", (b"1", 1))
        assert [await told.get() for _ in range(3)] == [1, 2, 3]
        disk.works = True
        journal.retain("b", (b"2", 1))
        while not disk.written:
            await told.get()
    await saver.stop()
    saved = Batch()
    for batch in disk.written:
        saved.retained.update(batch.retained)
    assert saved.retained == {("a",): (b"1", 1), ("b",): (b"2", 1)}
    said = [record.getMessage().split()[0] for record in caplog.records]
    assert said == ["messages_not_saved", "messages_saved_again"]


async def test_stop_writes_what_is_left() -> None:
    disk: Any = Disk()
    journal = Journal()
    saver = JournalWriter(disk, journal, lambda: None)
    saver.start()
    journal.retain("a", (b"1", 1))
    await saver.stop()
    assert [batch.retained for batch in disk.written] == [{("a",): (b"1", 1)}]
