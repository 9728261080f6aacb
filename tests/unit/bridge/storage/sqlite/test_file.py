import asyncio
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.storage.records import Departed, Device, DurableDeadline, Missed, PushSubscription
from bridge.storage.sqlite import file as sqlite_file
from bridge.storage.sqlite.store import SqliteStore
from bridge.storage.store import Loaded
from contract.errors import StartError
from tests.support.ledgers import ALICE, BAD, keep, leave, place, set_back, sums


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder / "ledger.db"


def load(path: Path) -> Loaded:
    async def start() -> Loaded:
        store = await SqliteStore.open(place(path))
        try:
            return await store.load()
        finally:
            await store.close()

    return asyncio.run(start())


async def of_alice(path: Path) -> tuple[list[Missed], list[PushSubscription]]:
    """What the ledger has of her besides her sessions."""
    store = await SqliteStore.open(place(path))
    try:
        async with store.transaction() as transaction:
            missed = await transaction.missed(["alice"])
            return missed["alice"], (await transaction.subscriptions(["alice"]))["alice"]
    finally:
        await store.close()


@pytest.mark.parametrize("kind", list(BAD))
def test_what_is_no_ledger_of_ours_is_named_and_left_as_it_is(path: Path, kind: str) -> None:
    BAD[kind].make(path)
    before = sums(path)
    with pytest.raises(StartError) as refused:
        load(path)
    for word in (str(path), *BAD[kind].words):
        assert word in str(refused.value)
    assert sums(path) == before


@pytest.mark.parametrize("kind", ["a text", "a ledger with flipped bytes", "a folder"])
def test_nor_does_an_operator_who_looks_or_writes_beside_touch_it(path: Path, kind: str) -> None:
    BAD[kind].make(path)
    before = sums(path)
    for opening in (SqliteStore.open_read_only(place(path)), SqliteStore.open(place(path), alone=False)):
        with pytest.raises(StartError, match=str(path)):
            asyncio.run(opening)
    assert sums(path) == before


def test_a_ledger_of_before_pushes_is_kept_and_grows(path: Path) -> None:
    keep(path)
    set_back(path, "0002")
    phone = PushSubscription("alice", "https://push.example/1", "p", "a")
    keep(path, [phone])
    assert list(load(path).sessions) == [ALICE[1]]
    assert asyncio.run(of_alice(path)) == ([], [phone])


def test_a_missed_wake_of_before_is_kept_without_a_date_of_receipt(path: Path) -> None:
    old = Missed("w1", "alice", "wake_up", "jetson", "now")
    new = Missed("w2", "alice", "wake_up", "jetson", "now", "2026")
    keep(path, [old])
    set_back(path, "0003")
    keep(path, [new])
    assert asyncio.run(of_alice(path)) == ([old, new], [])


def test_of_a_missed_wake_that_was_written_twice_one_row_is_kept(path: Path) -> None:
    wake = Missed("w1", "alice", "wake_up", "jetson", "now", "2026")
    keep(path, [wake, replace(wake, id="w2")])
    set_back(path, "0006")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE missed SET id = 'w1'")
    assert asyncio.run(of_alice(path)) == ([wake], [])


def test_who_has_a_deadline_in_a_ledger_of_before_has_not_left(path: Path) -> None:
    keep(path, [DurableDeadline("alice", 12.5)])
    set_back(path, "0005")
    keep(path, [Departed("bob", 3.0, "app")])
    loaded = load(path)
    assert (loaded.promises, loaded.departed) == ([DurableDeadline("alice", 12.5)], {"bob": 3.0})


@pytest.mark.parametrize("name", ["ledger.db", "a b.db", "a?mode=ro&b#c%20d.db", "장부.db", ":memory:"])
def test_a_ledger_is_made_with_its_folder_and_found_again_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "new" / "deep" / name
    keep(path)
    assert {entry.name for entry in path.parent.iterdir()} == {name, f"{name}.lock"}
    assert list(load(path).sessions) == [ALICE[1]]


def test_a_file_without_a_byte_counts_as_new(path: Path) -> None:
    path.touch()
    keep(path)
    assert list(load(path).sessions) == [ALICE[1]]


def test_every_ledger_says_in_its_header_what_it_is(path: Path) -> None:
    keep(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (sqlite_file.APPLICATION_ID,)


def test_a_kill_before_the_tables_were_made_leaves_a_ledger_that_is_known_as_ours(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id={sqlite_file.APPLICATION_ID}")
    keep(path)
    assert list(load(path).sessions) == [ALICE[1]]


def test_what_a_killed_bridge_committed_is_found(path: Path) -> None:
    leave(path)
    assert list(load(path).sessions) == [ALICE[1]]


def test_a_ledger_that_cannot_be_read_just_now_is_not_called_damaged(path: Path) -> None:
    keep(path)
    path.with_name(path.name + "-wal").mkdir()
    with pytest.raises(StartError, match="cannot be read"):
        load(path)


def test_a_check_moves_nothing_from_the_log_into_the_file(path: Path) -> None:
    leave(path)
    before = sums(path)
    assert sqlite_file.check(path)
    assert sums(path) == before


def test_a_second_bridge_on_the_same_ledger_does_not_start(path: Path) -> None:
    async def two() -> None:
        first = await SqliteStore.open(place(path))
        with pytest.raises(StartError, match=f"another bridge uses the ledger {path}; stop it"):
            await SqliteStore.open(place(path))
        await first.close()
        second = await SqliteStore.open(place(path))
        await second.close()

    asyncio.run(two())


def test_an_operator_writes_beside_a_bridge(path: Path) -> None:
    async def beside() -> Device:
        bridge = await SqliteStore.open(place(path))
        operator = await SqliteStore.open(place(path), alone=False)
        async with operator.transaction() as transaction:
            await transaction.save([Device("old-1", claim_uid="alice", logout_url="http://jetson/")])
        await operator.close()
        async with bridge.transaction() as transaction:
            device = (await transaction.devices(["old-1"]))["old-1"]
        await bridge.close()
        return device

    assert asyncio.run(beside()).claim_uid == "alice"


def test_an_operator_who_wrote_keeps_no_bridge_from_starting(path: Path) -> None:
    async def beside() -> None:
        operator = await SqliteStore.open(place(path), alone=False)
        bridge = await SqliteStore.open(place(path))
        await bridge.close()
        await operator.close()

    asyncio.run(beside())


def test_who_only_looks_makes_no_ledger(path: Path) -> None:
    with pytest.raises(StartError, match="no ledger"):
        asyncio.run(SqliteStore.open_read_only(place(path)))
    assert list(path.parent.iterdir()) == []


def test_a_new_ledger_is_for_its_owner_only(tmp_path: Path) -> None:
    keep(tmp_path / "ledger.db")
    assert stat.S_IMODE((tmp_path / "ledger.db").stat().st_mode) == 0o600
