"""Several bridges on one ledger in PostgreSQL: names, eras, deadlines that are raised beside turns."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import asyncpg
import pytest

from bridge.storage.opening import open_store
from bridge.storage.postgres import joining
from bridge.storage.postgres import store as postgres_store
from bridge.storage.records import (
    Change,
    Departed,
    Device,
    DurableDeadline,
    Lifetime,
    PendingLogout,
    ServiceSeconds,
    Session,
    Settled,
)
from bridge.storage.sql.store import SqlStore
from bridge.storage.store import Beat, LedgerKeptError, LedgerLostError, StoreError
from infra.settings.bridge import StoreSettings
from tests.support.postgres import PASSWORD, Postgres
from tests.support.postgres_bridges import beating, begin, database, rows, save
from tests.support.programs import needs
from tests.support.waiting import wait_until

pytestmark = [needs("postgres"), pytest.mark.usefixtures("patient_ledger")]


@pytest.fixture
async def place(postgres_server: Postgres) -> AsyncIterator[StoreSettings]:
    where = await postgres_server.database()
    yield where
    await postgres_server.drop(where)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bridge that does not beat counts as dead after a moment."""
    for name in ("STILL_S", "ENDED_S"):
        monkeypatch.setattr(joining, name, 5.0)


async def turn(store: SqlStore, *changes: Change, meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
    async with store.transaction(with_news=True) as transaction:
        await transaction.save(changes)
        if meanwhile is not None:
            await meanwhile()


# --- names and eras ---


async def test_bridges_see_each_other_until_they_end(place: StoreSettings) -> None:
    a = await begin(place, "a")
    async with beating(a):
        b = await begin(place, "b")
    seen = await b.look(Beat(hears=False, draining=True, sockets=7))
    assert seen is not None
    (of_a, of_b) = sorted(seen.bridges, key=lambda row: row.instance)
    assert (of_a.instance, of_a.version, of_a.address, of_a.gone) == ("a", "1.0", "a.home:8000", False)
    assert (of_b.hears, of_b.draining, of_b.sockets, of_b.beat) == (False, True, 7, 1)
    await a.close()
    seen = await b.look(Beat())
    assert seen is not None
    assert {row.instance: row.gone for row in seen.bridges} == {"a": True, "b": False}
    await b.close()


async def test_a_name_is_of_one_living_bridge(place: StoreSettings) -> None:
    a = await begin(place, "a")
    async with beating(a):
        with pytest.raises(LedgerKeptError, match=r"bridge\.instance = 'a' \(version 1\.0, at a\.home:8000\); stop it"):
            await begin(place, "a")
    await a.close()
    await (await begin(place, "a")).close()


@pytest.mark.usefixtures("soon")
async def test_who_takes_a_name_over_ends_its_silent_bridge(place: StoreSettings) -> None:
    a, b = await begin(place, "a"), None
    async with beating(a):
        b = await begin(place, "b")
    async with beating(b):
        another = await begin(place, "a")
    with pytest.raises(LedgerLostError, match="another bridge has taken the name a"):
        await a.look(Beat())
    assert a.lost.is_set()
    for store in (a, b, another):
        await store.close()


@pytest.mark.usefixtures("soon")
async def test_a_bridge_that_was_silent_while_all_began_anew_changes_nothing(place: StoreSettings) -> None:
    a = await begin(place, "a")
    b = await begin(place, "b")
    with pytest.raises(LedgerLostError, match="taken over by others"):
        await save(a, Device("of a"))
    assert a.lost.is_set()
    with pytest.raises(LedgerLostError):
        await a.look(Beat())
    assert [device.device_id for device in await b.devices(9)] == []
    for store in (a, b):
        await store.close()


async def test_sessions_are_of_an_earlier_era_when_all_bridges_ended(place: StoreSettings) -> None:
    a = await begin(place, "a")
    await save(a, Session("s1", "jetson", "alice", 1))
    async with beating(a):
        b = await begin(place, "b")
    assert set((await b.load()).earlier) == set(), "a goes on"
    for store in (a, b):
        await store.close()
    c = await begin(place, "c")
    await save(c, Session("s2", "kitchen", "bob", 1))
    assert set((await c.load()).earlier) == {"s1"}
    async with beating(c):
        d = await begin(place, "d")
    assert set((await d.load()).earlier) == {"s1"}
    for store in (c, d):
        await store.close()


async def test_the_first_bridge_gives_time_to_reconnect_and_one_that_joins_does_not(
    place: StoreSettings, postgres_server: Postgres
) -> None:
    first = await begin(place, "a")
    await save(
        first, ServiceSeconds(100.0), DurableDeadline("near", 101.0), DurableDeadline("far", 111.0),
        DurableDeadline("floored", 102.0, floored=True), DurableDeadline("left", 103.0),
        Departed("left", 100.0, "app"), Session("s1", "jetson", "without", 1),
    )  # fmt: skip
    await first.close()
    deadlines = "SELECT uid, until_s, floored FROM sarvis.promises WHERE left_s IS NULL ORDER BY uid"
    again = await begin(place, "a")
    raised = [("far", 111.0, False), ("floored", 102.0, True), ("near", 110.0, True), ("without", 110.0, True)]
    assert await rows(place, postgres_server, deadlines) == raised
    await save(again, DurableDeadline("new", 101.0))
    async with beating(again):
        joins = await begin(place, "b")
    assert await rows(place, postgres_server, deadlines) == sorted([*raised, ("new", 101.0, False)], key=str)
    for store in (again, joins):
        await store.close()


async def test_after_a_back_up_each_user_gets_the_whole_time_out_once(
    place: StoreSettings, postgres_server: Postgres
) -> None:
    first = await begin(place, "a")
    await save(
        first, ServiceSeconds(100.0), DurableDeadline("near", 101.0, floored=True), DurableDeadline("far", 200.0)
    )
    await save(first, Departed("left", 100.0, "app"))
    async with beating(first):
        with pytest.raises(LedgerKeptError, match=r"is a back-up, and a uses it; stop all bridges first"):
            await begin(place, "b", restored=True)
    await first.close()
    await rows(place, postgres_server, "UPDATE sarvis.service SET opened = 'back-up'")
    again = await begin(place, "a")
    assert again.restored
    deadlines = "SELECT uid, until_s, floored, left_s FROM sarvis.promises ORDER BY uid"
    assert await rows(place, postgres_server, deadlines) == [("far", 200.0, False, None), ("near", 160.0, False, None)]
    await again.close()
    last = await begin(place, "a")
    assert not last.restored
    await last.close()


@pytest.mark.parametrize(
    "lost", ["UPDATE sarvis.service SET turn = 1", "DELETE FROM sarvis.news", "UPDATE sarvis.news SET run = 'x'"]
)
@pytest.mark.parametrize("by", ["a turn", "a look"])
async def test_a_ledger_that_went_back_ends_the_bridges_and_the_next_one_takes_it_for_a_back_up(
    place: StoreSettings, postgres_server: Postgres, lost: str, by: str
) -> None:
    a = await begin(place, "a")
    async with beating(a):
        b = await begin(place, "b")
    await save(b, Session("s1", "jetson", "alice", 1))
    for store in (a, b):
        await store.look(Beat())
    await rows(place, postgres_server, lost)
    with pytest.raises(LedgerLostError, match="the ledger went back"):
        await (turn(a) if by == "a turn" else a.look(Beat()))
    with pytest.raises(LedgerLostError):
        await b.look(Beat())
    for store in (a, b):
        await store.close()
    assert await rows(place, postgres_server, "SELECT opened FROM sarvis.service") == [("back-up",)]


# --- deadlines beside turns ---


async def test_a_deadline_is_raised_from_the_row_of_the_service_time_for_those_who_are_there(
    place: StoreSettings,
) -> None:
    store = await begin(place, "a")
    await save(
        store, ServiceSeconds(50.0), DurableDeadline("alice", 60.0, floored=True), DurableDeadline("high", 200.0),
        Departed("left", 49.0, "app"),
    )  # fmt: skip
    assert await store.raise_deadlines({"alice", "high", "left", "unknown"}, 20.0) == {"alice": 70.0, "high": 200.0}
    async with store.transaction() as transaction:
        known = await transaction.lifetimes(["alice", "high", "left", "unknown"])
        assert transaction.seconds == 50.0
    assert known == {"alice": Lifetime(70.0), "high": Lifetime(200.0), "left": Lifetime(0.0, 49.0)}
    assert await store.present({"alice", "left", "unknown"}) == {"alice"}
    assert await store.raise_deadlines(set(), 20.0) == {}
    await store.close()


async def test_a_user_whose_deadline_is_being_raised_is_not_due(
    place: StoreSettings, postgres_server: Postgres
) -> None:
    store = await begin(place, "a")
    await save(store, ServiceSeconds(50.0), DurableDeadline("bob", 40.0), DurableDeadline("alice", 41.0))
    raising = await asyncpg.connect(postgres_server.url(database(place)), password=PASSWORD)
    begun = raising.transaction()
    await begun.start()
    await raising.execute("UPDATE sarvis.promises SET until_s = 99 WHERE uid = 'alice'")
    async with store.transaction() as transaction:
        assert await transaction.due(50.0, 10) == ["bob"]
    await begun.commit()
    async with store.transaction() as transaction:
        assert await transaction.due(50.0, 10) == ["bob"]
        assert await transaction.due(39.9, 10) == []
        assert await transaction.due(99.0, 1) == ["bob"]
    await raising.close()
    await store.close()


async def test_who_left_while_the_deadline_waited_is_not_revived(place: StoreSettings) -> None:
    store = await begin(place, "a")
    await save(store, DurableDeadline("alice", 10.0))
    async with store.transaction() as transaction:
        await transaction.save([Departed("alice", 5.0, "app")])
        raising = asyncio.create_task(store.raise_deadlines({"alice"}, 20.0))
        await asyncio.sleep(0.3)
        assert not raising.done()
    assert await raising == {}
    await store.close()


async def test_turns_and_heartbeats_of_many_never_wait_for_each_other_in_a_circle(place: StoreSettings) -> None:
    """Each locks the rows of its users in one order, whatever order it was given."""
    a = await begin(place, "a")
    async with beating(a):
        b = await begin(place, "b")
    users = [f"u{number}" for number in range(30)]
    await save(a, *(DurableDeadline(uid, 10.0) for uid in users))
    chance = random.Random(1)  # noqa: S311

    async def raise_some(store: object) -> None:
        for _ in range(40):
            await (a if store is a else b).raise_deadlines(set(chance.sample(users, 20)), chance.random())

    async def write_some() -> None:
        for number in range(40):
            await save(a, *(DurableDeadline(uid, float(number)) for uid in chance.sample(users, 20)))

    await asyncio.gather(raise_some(a), raise_some(b), write_some())
    for store in (a, b):
        await store.close()


# --- posts ---


async def test_a_log_out_is_posted_by_one_bridge_for_a_while(place: StoreSettings) -> None:
    a = await begin(place, "a")
    async with beating(a):
        b = await begin(place, "b")
    row = PendingLogout("c1", "s1", "old-1", "alice", 2, "app", "then", 12.5, "http://old-1/")
    await save(a, ServiceSeconds(50.0), row)
    async with a.transaction() as transaction:
        assert await transaction.claim_post(row, 55.0)
    async with b.transaction() as transaction:
        assert not await transaction.claim_post(row, 55.0)
        assert await transaction.posting_elsewhere({"old-1", "old-2"}) == {"old-1"}
        await transaction.save([ServiceSeconds(55.0)])
    async with a.transaction() as transaction:
        assert await transaction.posting_elsewhere({"old-1"}) == set()
    async with b.transaction() as transaction:
        assert await transaction.posting_elsewhere({"old-1"}) == set()
        assert await transaction.claim_post(row, 60.0)
        await transaction.save([Settled("old-1", "s1")])
    async with a.transaction() as transaction:
        assert not await transaction.claim_post(row, 65.0)
    for store in (a, b):
        await store.close()


async def test_connections_that_were_cut_while_they_waited_fail_no_request(
    place: StoreSettings, postgres_server: Postgres
) -> None:
    a = await begin(place, "a")
    await a.look(Beat())
    async with a._engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    await postgres_server.ask(
        "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database(place)
    )
    await wait_until("the driver hears of it", driver.is_closed)
    await a.look(Beat())
    await save(a, Session("s1", "jetson", "alice", 1))
    assert a.problem is None
    await a.close()


async def test_a_turn_that_a_stopped_bridge_holds_is_free_again(
    place: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends it, and rolls it back."""
    monkeypatch.setattr(postgres_store, "TURN_WITHIN_S", 5.0)
    a = await begin(place, "a")
    async with beating(a):
        b = await begin(place, "b")
    session = Session("s1", "jetson", "alice", 1)
    with pytest.raises(StoreError):
        await turn(a, session, meanwhile=lambda: save(b, replace(session, uid="bob")))  # waits for a, and gives up
    await save(b, replace(session, uid="bob"))
    for store in (a, b):
        await store.close()


async def test_commands_write_beside_bridges(place: StoreSettings) -> None:
    a = await begin(place, "a")
    beside = await open_store(place, alone=False)
    await save(beside, Device("jetson"))
    await save(a, Device("kitchen"))
    assert [device.device_id for device in await a.devices(9)] == ["jetson", "kitchen"]
    for store in (a, beside):
        await store.close()
