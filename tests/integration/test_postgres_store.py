"""A ledger in PostgreSQL; what it shares with other stores stands in tests/unit/bridge/storage/test_store.py."""

import asyncio
import contextlib
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.storage.news import News
from bridge.storage.opening import ledger, open_store, open_to_read
from bridge.storage.postgres import store as postgres_store
from bridge.storage.postgres.store import PostgresStore, Taken
from bridge.storage.reading import open_reader
from bridge.storage.records import (
    ApiKey,
    Audit,
    Change,
    Departed,
    Device,
    DurableDeadline,
    Missed,
    PendingLogout,
    ServiceSeconds,
    Session,
    Settled,
)
from bridge.storage.sql.store import SqlStore
from bridge.storage.store import Beat, StoreError
from contract.errors import SarvisError, StartError
from infra.settings.bridge import StoreSettings
from tests.support.cut import cutter
from tests.support.postgres import PASSWORD, Postgres
from tests.support.postgres_bridges import begin, database, save
from tests.support.programs import needs
from tests.support.waiting import PATIENCE_S

pytestmark = [needs("postgres"), pytest.mark.usefixtures("patient_ledger")]

JETSON = Device("jetson", claim_uid="alice")


@pytest.fixture
async def place(postgres_server: Postgres) -> AsyncIterator[StoreSettings]:
    where = await postgres_server.database()
    yield where
    await postgres_server.drop(where)


def through(place: StoreSettings, port: int) -> StoreSettings:
    return place.model_copy(update={"url": re.sub(r":\d+/", f":{port}/", place.url)})


async def add(store: SqlStore, name: str) -> None:
    await save(store, Device(name))


async def add_soon(store: SqlStore, name: str) -> None:
    """As a bridge does, again and again: a busy server ends what was cut off only after a while."""
    ends = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await add(store, name)
        except StoreError:
            assert time.monotonic() < ends
            await asyncio.sleep(0.1)


async def news_of(store: SqlStore) -> list[News]:
    seen = await store.look(Beat())
    assert seen is not None
    return list(seen.news)


async def names(place: StoreSettings) -> list[str]:
    store = await open_to_read(place)
    found = [device.device_id for device in await store.devices(1000)]
    await store.close()
    return found


async def cut_off(server: Postgres, place: StoreSettings) -> None:
    """End all connections to the ledger, as a restart does."""
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
    assert await server.ask("postgres", ended, database(place))


# --- when the server is gone for a while ---


async def test_after_a_cut_the_next_turn_connects_again(place: StoreSettings, postgres_server: Postgres) -> None:
    store = await open_store(place)
    await add(store, "before")
    await cut_off(postgres_server, place)
    with contextlib.suppress(StoreError):  # if the connection is taken before the driver hears that it was cut
        await add(store, "cut")
    await add(store, "after")
    assert store.problem is None
    assert not store.lost.is_set()
    assert set(await names(place)) - {"cut"} == {"after", "before"}
    await store.close()


async def test_a_crash_of_the_server_loses_nothing_that_was_committed() -> None:
    server = Postgres()
    try:
        server.start()
        place = await server.database()
        store = await open_store(place)
        await add(store, "before")
        server.stop(by=signal.SIGQUIT)
        for _ in range(2):
            with pytest.raises(StoreError):
                await add(store, "meanwhile")
            with pytest.raises(StoreError):
                await store.load()
        server.start()
        await add(store, "after")
        assert await names(place) == ["after", "before"]
        await store.close()
    finally:
        server.remove()


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_commit_without_an_answer_is_asked_for(
    place: StoreSettings, postgres_server: Postgres, cut: str
) -> None:
    async with cutter(postgres_server.port) as proxy:
        store = await open_store(through(place, proxy.port))
        await add(store, "first")
        proxy.arm(b"COMMIT", "before" if cut == "before" else "after")
        if cut == "before":
            with pytest.raises(StoreError):
                await add(store, "second")
        else:
            await add(store, "second")
        assert proxy.cuts == 1
        await add_soon(store, "third")
        assert await names(place) == ["first", *(["second"] if cut == "after" else []), "third"]
        assert not store.lost.is_set()
        await store.close()


async def test_what_was_committed_although_it_was_told_that_it_failed_is_news(
    place: StoreSettings, postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "TURN_WITHIN_S", 0.5)
    session = Session("s1", "jetson", "alice", 1)
    async with cutter(postgres_server.port) as proxy:
        store = await begin(through(place, proxy.port), "a")
        proxy.arm(b"COMMIT;", "after")  # a turn also begins with this word: READ COMMITTED
        proxy.refuses = True
        with pytest.raises(StoreError):
            await save(store, session)
        with pytest.raises(StoreError):
            await news_of(store)
        proxy.refuses = False
        monkeypatch.setattr(postgres_store, "TURN_WITHIN_S", PATIENCE_S)
        async with store.transaction(with_news=True) as transaction:
            read = [news.changes for news in transaction.news]
        assert read == [[session]]
        assert not store.lost.is_set()
        assert await news_of(store) == []
        await store.close()


async def test_a_transaction_that_a_crash_has_made_unknown_to_the_server_was_not_committed(
    place: StoreSettings, postgres_server: Postgres
) -> None:
    store = await begin(place, "a")
    lost = Taken(5, "10000000", await started_at(postgres_server))
    store._unknown = lost
    await store.look(Beat())
    store._unknown = lost
    await add(store, "next")
    assert await names(place) == ["next"]
    assert await store._was_committed(lost) is False
    await store.close()


async def started_at(server: Postgres) -> str:
    ((at,),) = await server.ask("postgres", "SELECT CAST(pg_postmaster_start_time() AS text)")
    return str(at)


async def crashes_in_a_turn(store: SqlStore, server: Postgres, place: StoreSettings) -> None:
    """Before its COMMIT the server crashes, and others write: one of their transactions gets its number."""
    async with store.transaction() as transaction:
        await transaction.save([Device("undone")])
        server.stop(by=signal.SIGQUIT)
        server.start()
        for _ in range(3):
            await server.ask(database(place), "UPDATE sarvis.service SET seconds = seconds")


async def test_a_turn_that_a_crash_undid_was_not_committed_though_another_transaction_has_its_number() -> None:
    """PostgreSQL gives the number of a transaction that a crash has undone to the next one."""
    server = Postgres()
    try:
        server.start()
        place = await server.database()
        store = await begin(place, "a")
        with pytest.raises(StoreError):
            await crashes_in_a_turn(store, server, place)
        assert await names(place) == []
        await add_soon(store, "next")
        await store.look(Beat())
        assert not store.lost.is_set()
        assert await names(place) == ["next"]
        await store.close()
    finally:
        server.remove()


async def test_a_turn_that_was_committed_before_a_restart_of_the_server_is_known_by_its_news(
    place: StoreSettings,
) -> None:
    store = await begin(place, "a")
    await save(store, Session("s1", "jetson", "alice", 1))
    before = Taken(store._turn, "10000000", "before the restart")
    assert await store._was_committed(before) is True
    assert await store._was_committed(replace(before, number=before.number + 1)) is False
    await store.close()


async def test_a_cancelled_commit_is_asked_for_before_the_next_turn(
    place: StoreSettings, postgres_server: Postgres
) -> None:
    async with cutter(postgres_server.port) as proxy:
        store = await open_store(through(place, proxy.port))
        proxy.arm(b"COMMIT", "before")
        adding = asyncio.create_task(add(store, "cancelled"))
        await proxy.cut_one.wait()
        adding.cancel()
        with pytest.raises((asyncio.CancelledError, StoreError)):
            await adding
        await add_soon(store, "next")
        assert await names(place) == ["next"]
        await store.close()


# --- turns ---


async def test_whoever_writes_waits_for_the_others_turn(place: StoreSettings) -> None:
    """Ten times, five writers read a number and write the next one: none is lost."""

    async def count(store: SqlStore) -> None:
        for _ in range(10):
            async with store.transaction() as transaction:
                device = (await transaction.devices(["jetson"]))["jetson"]
                await transaction.save([Device("jetson", boot=device.boot + 1)])

    async with ledger(place, None) as first:
        await add(first, "jetson")
    stores = [await open_store(place), *[await open_store(place, alone=False) for _ in range(4)]]
    await asyncio.gather(*map(count, stores))
    assert [device.boot for device in await stores[0].devices(10)] == [Device("jetson").boot + 50]
    for store in stores:
        await store.close()


async def test_a_bridge_that_stands_still_in_its_turn_loses_it(
    place: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "TURN_WITHIN_S", 0.3)
    bridge = await open_store(place)

    async def stand_still() -> None:
        async with bridge.transaction() as transaction:
            await transaction.save([JETSON])
            await asyncio.sleep(2)

    with pytest.raises(StoreError):
        await stand_still()
    monkeypatch.setattr(postgres_store, "TURN_WITHIN_S", PATIENCE_S)
    async with ledger(place, None) as beside:
        await add(beside, "other")
    assert await names(place) == ["other"]
    await bridge.close()


# --- news ---


async def test_what_another_changes_is_news_once_in_the_order_of_turns(place: StoreSettings) -> None:
    bridge, beside = await begin(place, "a"), await open_store(place, alone=False)
    session = Session("s1", "jetson", "alice", 1)
    ended, row = replace(session, ended="app"), PendingLogout("c1", "s1", "jetson", "alice", 2, "app", "then")
    async with beside.transaction() as transaction:
        await transaction.save([JETSON, session])
    await bridge.load()
    turns: list[list[Change]] = [[ended, row, DurableDeadline("alice", 1.0)], [Departed("alice", 5.0, "app")]]
    for changes in turns:
        async with beside.transaction() as transaction:
            assert transaction.news == ()
            await transaction.save(changes)
    async with bridge.transaction(with_news=True) as transaction:
        read = transaction.news
        await transaction.save([Session("s2", "jetson", "bob", 3)])
    assert [news.changes for news in read] == [[ended, row], [Departed("alice", 5.0, "app")]]
    assert [news.number for news in read] == sorted(news.number for news in read)
    assert await news_of(bridge) == []
    async with beside.transaction() as transaction:
        await transaction.save([JETSON, Settled("jetson", "s1")])
    assert [news.changes for news in await news_of(bridge)] == [[Settled("jetson", "s1")]]
    async with bridge.transaction(with_news=True) as transaction:
        assert list(transaction.news) == []
    for store in (bridge, beside):
        await store.close()


async def test_a_turn_that_fails_tells_nothing_and_its_number_is_used_again(place: StoreSettings) -> None:
    bridge, beside = await begin(place, "a"), await open_store(place, alone=False)
    await bridge.load()
    session = Session("s1", "jetson", "alice", 1)
    for store in (bridge, beside):
        with pytest.raises(StoreError):
            await save(store, session, session)
    assert await news_of(bridge) == []
    await save(beside, session)
    async with bridge.transaction(with_news=True) as transaction:
        assert len(transaction.news) == 1
    for store in (bridge, beside):
        await store.close()


async def test_news_of_a_later_version_end_the_bridge(place: StoreSettings, postgres_server: Postgres) -> None:
    bridge = await begin(place, "a")
    later = """INSERT INTO sarvis.news VALUES (1000, 'another', '[["a later kind", {}]]')"""
    await postgres_server.ask(database(place), later)
    with pytest.raises(StoreError, match="a newer version of SARVIS has changed the ledger"):
        async with bridge.transaction(with_news=True):
            pass
    assert isinstance(bridge, PostgresStore)
    assert bridge.lost.is_set()
    await bridge.close()


async def test_news_of_long_ago_are_forgotten(
    place: StoreSettings, postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "KEPT_TURNS", 2)
    bridge = await open_store(place)
    for number in range(4):
        async with bridge.transaction() as transaction:
            await transaction.save([Session(f"s{number}", f"d{number}", "alice", 1)])
    await bridge.prune(departed_before_s=0.0)  # a turn itself
    kept = await postgres_server.ask(database(place), "SELECT number FROM sarvis.news ORDER BY number")
    assert [row["number"] for row in kept] == [4]
    await bridge.close()


async def test_a_ledger_that_an_earlier_version_left_can_be_backed_up(
    place: StoreSettings, postgres_server: Postgres
) -> None:
    store = await open_store(place)
    async with store.transaction() as transaction:
        await transaction.save([JETSON, DurableDeadline("alice", 12.5)])
    await store.close()
    for statement in (
        "DROP TABLE sarvis.news",
        "ALTER TABLE sarvis.service DROP COLUMN turn",
        "ALTER TABLE sarvis.promises DROP COLUMN left_s",
        "UPDATE sarvis.alembic_version SET version_num = '0005'",
    ):
        await postgres_server.ask(database(place), statement)
    earlier = await open_to_read(place)
    read = {table.name: rows async for table, rows in earlier.rows()}
    await earlier.close()
    assert read["promises"] == [{"uid": "alice", "until_s": 12.5, "floored": False}]
    assert [row["device_id"] for row in read["devices"]] == ["jetson"]
    assert "news" not in read


# --- what a text and a number may be ---


async def test_a_text_that_postgresql_does_not_know_is_stored_all_the_same(place: StoreSettings) -> None:
    store = await open_store(place)
    wake = Missed("w1", "alice", "wake\0up", "jetson", "then", None)
    async with store.transaction() as transaction:
        await transaction.save([wake])
    async with store.transaction() as transaction:
        (stored,) = (await transaction.missed(["alice"]))["alice"]
    assert stored.command == "wake\ufffdup"
    await store.close()


async def test_rows_are_counted_beyond_two_thousand_million(place: StoreSettings, postgres_server: Postgres) -> None:
    store = await open_store(place)
    for table in ("audit", "sessions", "outbox", "missed", "push_subscriptions"):
        await postgres_server.ask(database(place), f"SELECT setval('sarvis.{table}_number_seq', {2**40})")
    async with store.transaction() as transaction:
        await transaction.save([JETSON, Session("s1", "jetson", "alice", 2**60)])
        await transaction.save([Audit("then", "opened", "s1", "jetson", "alice", "app")])
    await store.prune(departed_before_s=0.0)
    assert store.problem is None
    assert [session.generation for session in (await store.load()).sessions] == [2**60]
    await store.close()


# --- what is said when it cannot be opened ---


async def test_nothing_is_made_by_who_only_reads(place: StoreSettings, postgres_server: Postgres) -> None:
    with pytest.raises(StartError, match=r"there is no ledger in postgresql://.*only the bridge makes one"):
        await open_to_read(place)
    assert not await postgres_server.ask(database(place), "SELECT 1 FROM pg_namespace WHERE nspname = 'sarvis'")


async def test_a_ledger_of_a_newer_version_is_left_as_it_is(place: StoreSettings, postgres_server: Postgres) -> None:
    await (await open_store(place)).close()
    await postgres_server.ask(database(place), "UPDATE sarvis.alembic_version SET version_num = '9999'")
    with pytest.raises(StartError, match=r"newer version of SARVIS; it was left as it is.*store\.url"):
        await open_store(place)


async def test_tables_of_others_in_the_database_are_left_alone(place: StoreSettings, postgres_server: Postgres) -> None:
    theirs = "CREATE TABLE public.sessions (x int); CREATE TABLE public.alembic_version (version_num text)"
    for statement in theirs.split("; "):
        await postgres_server.ask(database(place), statement)
    store = await open_store(place)
    await add(store, "jetson")
    await store.close()
    assert await postgres_server.ask(database(place), "SELECT * FROM public.alembic_version") == []
    assert await names(place) == ["jetson"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"password": None}, r"store\.password_file"),
        ({"url": "postgresql://sarvis@127.0.0.1:1/x"}, r"Connect call failed.*check store\.url"),
        ({"url": "postgresql://sarvis@no-such-host.invalid/x"}, r"cannot be used.*check store\.url"),
        ({"ca_file": Path("/does/not/exist")}, r"store\.ca_file"),
        ({"password_file": Path("/does/not/exist"), "password": None}, r"store\.password_file"),
    ],
)
async def test_what_is_wrong_names_its_setting(place: StoreSettings, change: dict[str, object], says: str) -> None:
    wrong = place.model_copy(update=change)
    for opening in (open_store, open_to_read):
        with pytest.raises(SarvisError, match=says) as raised:
            await opening(wrong)
        assert raised.value.exit_code in {2, 3}
        assert "a-password-of-the-tests" not in str(raised.value)


async def test_a_database_that_is_not_there_and_a_wrong_password_are_told(place: StoreSettings) -> None:
    with pytest.raises(StartError, match="does not exist; create the database on the server"):
        await open_store(place.model_copy(update={"url": f"{place.url}x"}))
    wrong = StoreSettings(url=place.url, password="wrong")
    with pytest.raises(StartError, match=r"password authentication failed.*check store\.password_file"):
        await open_store(wrong)


async def test_without_its_driver_the_extra_is_named(place: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "asyncpg" or "storage.postgres" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(StartError, match=r"pip install 'sarvis\[postgres\]'"):
        await open_store(place)


# --- commands that only read ---


async def test_a_command_reads_what_the_store_reads(place: StoreSettings) -> None:
    store = await open_store(place)
    session, line = Session("s1", "jetson", "alice", 4), Audit("then", "opened", "s1", "jetson", "alice", "app")
    waiting = PendingLogout("c1", "s2", "old-1", "bob", 5, "http", "then", 12.5, None)
    promise, key = DurableDeadline("alice", 7.5, True), ApiKey("k1", "hash", "caller", "page", "2026-01-01")
    async with store.transaction() as transaction:
        await transaction.save([JETSON, session, waiting, promise, line, ServiceSeconds(5.5)])
    await store.add_api_key(key)

    def read() -> list[object]:
        with open_reader(place) as reader:
            return [
                [reader.running(9), reader.running(9, "alice"), reader.running(9, "bob")],
                [reader.waiting(9), reader.waiting(9, "s2"), reader.waiting(9, "alice")],
                [reader.audit("jetson", 9), reader.devices(9), reader.api_keys(), reader.seconds()],
            ]

    assert await asyncio.to_thread(read) == [
        [[(session, promise)], [(session, promise)], []],
        [[waiting], [waiting], []],
        [[line], [JETSON], [key], 5.5],
    ]
    await store.close()


def test_a_command_that_reads_says_what_is_wrong(postgres_server: Postgres) -> None:
    absent = StoreSettings(url=postgres_server.url("absent"), password=PASSWORD)
    with pytest.raises(StartError, match=r"does not exist; create the database"), open_reader(absent):
        pass
    with (
        pytest.raises(StartError, match="only the bridge makes one"),
        open_reader(StoreSettings(url=postgres_server.url("postgres"), password=PASSWORD)),
    ):
        pass


async def test_a_back_up_may_take_longer_than_other_reads(
    place: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store(place)
    await add(store, "jetson")
    monkeypatch.setattr(postgres_store, "READ_WITHIN_S", 0.2)
    found = []
    async for table, rows in store.rows():
        await asyncio.sleep(0.3)
        found.append((table.name, len(rows)))
    assert ("devices", 1) in found
    await store.close()
