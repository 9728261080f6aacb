"""What every store must do, on the one in SQLite and on the tests' own."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from bridge.storage.memory import MemoryStore
from bridge.storage.opening import open_store
from bridge.storage.records import (
    Audit,
    Change,
    Departed,
    Device,
    DurableDeadline,
    Missed,
    MissedTold,
    PendingLogout,
    PushSubscription,
    ServiceSeconds,
    Session,
    Settled,
    Unsubscribed,
)
from bridge.storage.sql.store import SqlStore
from bridge.storage.sqlite.store import SqliteStore
from bridge.storage.store import Loaded, StoreError
from tests.support.changes import CHANGES
from tests.support.ledgers import place
from tests.support.postgres import Postgres
from tests.support.programs import needs

AnyStore = SqlStore | MemoryStore

JETSON = Device("jetson", "install", 3, 2**52, 4, "alice", None)
OLD = Device("old-1", claim_uid="싸비스", logout_url="http://jetson/api/auth/logout")
ONE = Session("s1", "jetson", "alice", 4)
TWO = Session("s2", "old-1", "싸비스", 1)
ROW = PendingLogout("c1", "s1", "jetson", "alice", 5, "http", "then", 12.5, None)
POST = PendingLogout("c2", "s2", "old-1", "싸비스", 2, "heartbeat_timeout", "then", 13.25, OLD.logout_url)
WAKE = Missed("w1", "alice", "wake_up", "jetson", "then", "2026-01-01T09:00:00+00:00")
PHONE = PushSubscription("alice", "https://push.example/1", "p", "a")
LINE = Audit("then", "opened", "s1", "jetson", "alice", "app")


@pytest.fixture(params=["sqlite", "memory", pytest.param("postgres", marks=needs("postgres"))])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres_server")
        where = await server.database()
    else:
        where = place(tmp_path / "ledger.db")
    opened = await open_store(where)
    yield opened
    await opened.close()
    if request.param == "postgres":
        await server.drop(where)


async def save(store: AnyStore, *changes: Change) -> None:
    async with store.transaction() as transaction:
        await transaction.save(changes)


async def audit(store: AnyStore, about: str) -> list[Audit]:
    if isinstance(store, MemoryStore):
        return [line for line in store.audit if about in {line.uid, line.device_id, line.session_id}]
    return await store.audit(about, 1000)


async def missed(store: AnyStore, *uids: str) -> dict[str, list[Missed]]:
    async with store.transaction() as transaction:
        return await transaction.missed(uids or ("alice", "싸비스"))


async def everything(store: AnyStore) -> list[Any]:
    """All that can be read; in its order where there is one."""
    loaded = await store.load()
    async with store.transaction() as transaction:
        devices = await transaction.devices(names := ["d0", "d1", "d2"])
        active = await transaction.active(names)
        pending = await transaction.pending(names)
        mine = {uid: sorted(rows, key=str) for uid, rows in (await transaction.active_of(["u0", "u1"])).items()}
        claimed = await transaction.claimed_by(["u0", "u1"])
        known = await transaction.sessions([f"s{number}" for number in range(6)])
        wakes = await transaction.missed(["u0", "u1"])
        phones = await transaction.subscriptions(["u0", "u1"])
    lines = [await audit(store, uid) for uid in ("u0", "u1")]
    return [
        loaded.seconds,
        loaded.departed,
        sorted(loaded.sessions, key=str),
        list(loaded.pending),
        sorted(loaded.promises, key=str),
        wakes,
        phones,
        devices,
        active,
        pending,
        mine,
        claimed,
        known,
        lines,
    ]


# --- every kind of row, every verb ---


async def test_a_new_ledger_is_empty(store: AnyStore) -> None:
    assert await store.load() == Loaded(0.0, [], [], [])
    assert store.problem is None
    async with store.transaction() as transaction:
        assert (await transaction.devices(["jetson"]))["jetson"] == Device("jetson", state="new")
        assert await transaction.active(["jetson"]) == {}
        assert await transaction.active_of(["alice"]) == {"alice": []}
        assert await transaction.pending(["jetson"]) == {"jetson": []}
        assert await transaction.sessions(["s1"]) == {}
        assert await transaction.sessions([]) == {}
        assert await transaction.claimed_by(["alice"]) == {"alice": []}
        assert await transaction.missed(["alice"]) == {"alice": []}


async def test_a_device_is_kept_as_it_last_was(store: AnyStore) -> None:
    await save(store, Device("jetson"), JETSON, OLD)
    changed = replace(
        JETSON, boot=4, seq=0, install_id="another", claim_uid=None,
        tags="a b", version="0.2.0", model="ssabiseu", seen_at="2026-01-01T00:00:00.000000+00:00",
    )  # fmt: skip
    await save(store, changed)
    async with store.transaction() as transaction:
        assert await transaction.devices(["jetson"]) == {"jetson": changed}
        assert await transaction.devices(["old-1"]) == {"old-1": OLD}


async def test_running_sessions_are_found_by_device_by_user_and_by_id(store: AnyStore) -> None:
    second = replace(ONE, session_id="s9", device_id="kitchen")
    await save(store, ONE, TWO, second)
    async with store.transaction() as transaction:
        assert await transaction.active(["jetson", "hall"]) == {"jetson": ONE}
        mine = await transaction.active_of(["alice", "nobody", "싸비스"])
        assert sorted(mine.pop("alice"), key=str) == [ONE, second]
        assert mine == {"nobody": [], "싸비스": [TWO]}
        assert await transaction.sessions(["s2", "s9", "unknown"]) == {"s2": TWO, "s9": second}


async def test_an_ended_session_runs_nowhere_but_stays_known(store: AnyStore) -> None:
    await save(store, ONE)
    ended = replace(ONE, ended="operator")
    await save(store, ended)
    async with store.transaction() as transaction:
        assert await transaction.active(["jetson"]) == {}
        assert await transaction.active_of(["alice"]) == {"alice": []}
        assert await transaction.sessions(["s1"]) == {"s1": ended}
    assert (await store.load()).sessions == []


async def test_log_outs_wait_in_their_order_until_they_are_settled(store: AnyStore) -> None:
    later = replace(ROW, session_id="s0", command_id="c0")
    await save(store, ROW, POST, later)
    assert (await store.load()).pending == [ROW, POST, later]
    async with store.transaction() as transaction:
        waiting = {"old-1": [POST], "hall": [], "jetson": [ROW, later]}
        assert await transaction.pending(list(waiting)) == waiting
    await save(store, Settled("jetson", "s1"), Settled("jetson", "unknown"), Settled("old-1", "s0"))
    assert (await store.load()).pending == [POST, later]


async def test_a_log_out_that_is_queued_again_keeps_its_place(store: AnyStore) -> None:
    await save(store, ROW, POST)
    again = replace(ROW, command_id="c9", generation=9)
    await save(store, again)
    assert (await store.load()).pending == [again, POST]


async def test_a_promise_is_raised_and_never_lowered_until_its_user_departs(store: AnyStore) -> None:
    await save(store, DurableDeadline("alice", 10.5), DurableDeadline("bob", 20.25, floored=True))
    await save(store, DurableDeadline("alice", 30.75, floored=True), DurableDeadline("bob", 15.0))
    promises = sorted((await store.load()).promises, key=str)
    assert promises == [DurableDeadline("alice", 30.75, floored=True), DurableDeadline("bob", 20.25)]
    await save(store, DurableDeadline("alice", 40.0), Departed("bob", 12.5, "app"), Departed("carol", 13.0, "app"))
    loaded = await store.load()
    assert loaded.promises == [DurableDeadline("alice", 40.0)]
    assert loaded.departed == {"bob": 12.5, "carol": 13.0}


async def test_a_user_who_is_back_has_a_promise_of_their_own_however_long_the_old_one_was(store: AnyStore) -> None:
    await save(store, DurableDeadline("alice", 1000.0), Departed("alice", 10.0, "app"))
    await save(store, DurableDeadline("alice", 70.0))
    loaded = await store.load()
    assert loaded.promises == [DurableDeadline("alice", 70.0)]
    assert loaded.departed == {}


async def test_users_who_left_long_ago_are_forgotten(store: AnyStore) -> None:
    await save(store, Departed("alice", 10.0, "app"), Departed("bob", 20.0, "app"), DurableDeadline("carol", 5.0))
    await store.prune(departed_before_s=20.0)
    loaded = await store.load()
    assert loaded.departed == {"bob": 20.0}
    assert loaded.promises == [DurableDeadline("carol", 5.0)]


async def test_service_time_is_one_number_that_never_goes_back(store: AnyStore) -> None:
    await save(store, ServiceSeconds(1.5))
    await save(store, ServiceSeconds(2.75))
    await save(store, ServiceSeconds(2.5))
    assert (await store.load()).seconds == 2.75


async def test_missed_wakes_are_kept_in_order_until_they_are_told(store: AnyStore) -> None:
    other, later = replace(WAKE, id="w2", uid="싸비스"), replace(WAKE, id="w3", command="싸비스")
    await save(store, WAKE, other, later)
    assert await missed(store) == {"alice": [WAKE, later], "싸비스": [other]}
    await save(store, MissedTold("w1"), MissedTold("w9"))
    assert await missed(store) == {"alice": [later], "싸비스": [other]}


async def test_a_missed_wake_is_kept_once_as_it_was_written_first(store: AnyStore) -> None:
    await save(store, WAKE, replace(WAKE, id="w2"))
    await save(store, replace(WAKE, command="again"), replace(WAKE, id="w3"), replace(WAKE, id="w3", uid="싸비스"))
    assert [wake.id for wake in (await missed(store))["alice"]] == ["w1", "w2", "w3"]
    assert (await missed(store))["alice"][0] == WAKE


async def test_of_missed_wakes_the_newest_twenty_of_each_user_are_kept(store: AnyStore) -> None:
    wakes = [replace(WAKE, id=f"w{number}", uid=("alice", "bob")[number % 2]) for number in range(50)]
    await save(store, *wakes[:30])
    await save(store, *wakes[30:])
    found = await missed(store, "alice", "bob")
    assert found == {"alice": wakes[10::2], "bob": wakes[11::2]}


async def test_subscriptions_are_kept_in_order_until_they_or_their_user_leave(store: AnyStore) -> None:
    second, his = replace(PHONE, endpoint="https://push.example/2"), PushSubscription("싸비스", "https://x/", "q", "b")
    users = ["alice", "싸비스", "carol"]
    await save(store, PHONE, second, his)
    assert await store.subscriptions(users) == {"alice": [PHONE, second], "싸비스": [his], "carol": []}
    await save(store, Unsubscribed("alice", second.endpoint), Unsubscribed("싸비스", PHONE.endpoint))
    assert await store.subscriptions(users) == {"alice": [PHONE], "싸비스": [his], "carol": []}
    assert await store.count_subscriptions() == 2
    await save(store, second, Unsubscribed("alice"), Unsubscribed("nobody"))
    assert await store.subscriptions(users) == {"alice": [], "싸비스": [his], "carol": []}
    assert await store.count_subscriptions() == 1
    assert await store.subscriptions([]) == {}
    async with store.transaction() as transaction:
        assert await transaction.subscriptions(["싸비스"]) == {"싸비스": [his]}
        assert await transaction.phone(his.endpoint) == his
        assert await transaction.phone(PHONE.endpoint) is None


async def test_an_endpoint_that_is_subscribed_again_is_the_newest_and_the_last_ones(store: AnyStore) -> None:
    second = replace(PHONE, endpoint="https://push.example/2")
    again = replace(PHONE, uid="bob", p256dh="other")
    await save(store, PHONE, second, again)
    assert await store.subscriptions(["alice", "bob"]) == {"alice": [second], "bob": [again]}
    await save(store, second, PHONE)
    assert await store.subscriptions(["alice", "bob"]) == {"alice": [second, PHONE], "bob": []}


async def test_audit_lines_are_found_by_user_device_and_session_in_their_order(store: AnyStore) -> None:
    lines = [LINE, replace(LINE, event="ended", reason="http"), Audit("later", "left", "", "", "bob", "app")]
    await save(store, *lines)
    for about in ("alice", "jetson", "s1"):
        assert await audit(store, about) == lines[:2]
    assert await audit(store, "bob") == lines[2:]


async def test_only_free_devices_that_claim_a_user_are_his(store: AnyStore) -> None:
    hall, kitchen = replace(JETSON, device_id="hall"), replace(JETSON, device_id="kitchen")
    await save(store, kitchen, hall, JETSON, OLD, ONE)
    async with store.transaction() as transaction:
        claimed = {"싸비스": [], "alice": [hall, kitchen], "nobody": []}
        assert await transaction.claimed_by(list(claimed)) == {**claimed, "싸비스": [OLD]}
    await save(store, replace(ONE, ended="app"))
    async with store.transaction() as transaction:
        assert await transaction.claimed_by(["alice"]) == {"alice": [hall, JETSON, kitchen]}


async def test_more_users_than_a_statement_takes_are_read_all_the_same(store: AnyStore) -> None:
    uids = [f"user-{number}" for number in range(1201)]
    running = [Session(f"s{uid}", f"device-of-{uid}", uid, 1) for uid in uids]
    claiming = [replace(JETSON, device_id=f"free-{uid}", claim_uid=uid) for uid in uids]
    await save(store, *running, *claiming)
    async with store.transaction() as transaction:
        assert await transaction.active_of(uids) == {session.uid: [session] for session in running}
        assert await transaction.claimed_by(uids) == {uid: [row] for uid, row in zip(uids, claiming, strict=True)}
        assert len(await transaction.sessions([session.session_id for session in running])) == len(uids)
        on = {session.device_id: session for session in running}
        assert await transaction.active(on) == on
        assert await transaction.devices([*on, claiming[0].device_id]) == {
            **{device_id: Device(device_id, state="new") for device_id in on},
            claiming[0].device_id: claiming[0],
        }
        assert await transaction.pending(on) == {device_id: [] for device_id in on}


async def test_rows_of_a_kind_share_a_statement_and_keep_their_order(tmp_path: Path) -> None:
    store = await SqliteStore.open(place(tmp_path / "ledger.db"))
    said: list[str] = []
    event.listen(
        store._engine.sync_engine, "before_cursor_execute", lambda *given: said.append(" ".join(given[2].split()[:3]))
    )
    promises = [DurableDeadline(f"user-{number}", float(number)) for number in range(3)]
    again = DurableDeadline("user-0", 9.0)
    await save(
        store,
        *promises,
        again,
        ServiceSeconds(1.0),
        Departed("user-1", 1.0, "app"),
        Departed("user-2", 1.0, "app"),
        promises[2],
    )
    assert said[1:] == [  # the first is BEGIN
        "INSERT INTO promises", "INSERT INTO service", "INSERT INTO promises", "INSERT INTO promises",
    ]  # fmt: skip
    assert sorted((await store.load()).promises, key=str) == [again, promises[2]]
    await store.close()


# --- all or nothing ---

ALL: list[Change] = [JETSON, ONE, ROW, DurableDeadline("alice", 10.0), ServiceSeconds(5.0), WAKE, PHONE, LINE]


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
async def test_a_block_that_raises_leaves_nothing(store: AnyStore, error: type[BaseException]) -> None:
    async def break_off() -> None:
        async with store.transaction() as transaction:
            await transaction.save(ALL)
            raise error

    with pytest.raises(error):
        await break_off()
    assert await store.load() == Loaded(0.0, [], [], [])
    assert await audit(store, "alice") == []
    await save(store, *ALL)
    assert await store.load() == Loaded(5.0, [ONE], [ROW], [DurableDeadline("alice", 10.0)])


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(replace(ONE, session_id="s9", uid="bob"), id="a second session on the device"),
        pytest.param(replace(ONE, device_id="kitchen"), id="a session of the same id elsewhere"),
        pytest.param(replace(TWO, ended="app"), id="an end of a session that never ran"),
    ],
)
async def test_what_must_not_be_leaves_nothing_of_its_transaction(store: AnyStore, wrong: Session) -> None:
    await save(store, ONE)
    with pytest.raises(StoreError):
        await save(store, JETSON, DurableDeadline("alice", 10.0), ROW, wrong)
    assert await store.load() == Loaded(0.0, [ONE], [], [])
    async with store.transaction() as transaction:
        assert (await transaction.devices(["jetson"]))["jetson"] == Device("jetson", state="new")


async def test_a_session_ends_once_and_a_second_end_leaves_nothing(store: AnyStore) -> None:
    await save(store, ONE)
    await save(store, replace(ONE, ended="http"), ROW)
    with pytest.raises(StoreError):
        await save(
            store,
            replace(ONE, ended="heartbeat_timeout"),
            replace(ROW, command_id="c2"),
            Departed("alice", 1.0, "app"),
            LINE,
        )
    async with store.transaction() as transaction:
        assert await transaction.sessions(["s1"]) == {"s1": replace(ONE, ended="http")}
    assert (await store.load()).pending == [ROW]
    assert await audit(store, "alice") == []


async def test_of_two_who_end_the_same_session_one_succeeds(tmp_path: Path) -> None:
    bridge = await SqliteStore.open(place(tmp_path / "ledger.db"))
    beside = await SqliteStore.open(place(tmp_path / "ledger.db"), alone=False)
    await save(bridge, ONE)
    ended = await asyncio.gather(*(attempt(one, [replace(ONE, ended="http")]) for one in (bridge, beside)))
    assert sorted(ended) == [False, True]
    for one in (bridge, beside):
        await one.close()


async def test_after_the_end_the_device_is_free_for_another(store: AnyStore) -> None:
    await save(store, ONE)
    await save(store, replace(ONE, ended="replaced"), replace(ONE, session_id="s2", uid="bob"))
    async with store.transaction() as transaction:
        active = await transaction.active(["jetson"])
    assert active["jetson"].uid == "bob"


# --- on disk ---


async def test_who_opens_the_file_again_finds_everything(tmp_path: Path) -> None:
    first = await SqliteStore.open(place(tmp_path / "ledger.db"))
    await save(first, *ALL, OLD, TWO, POST)
    before = await first.load()
    await first.close()
    second = await SqliteStore.open(place(tmp_path / "ledger.db"))
    kept = Loaded(5.0, [ONE, TWO], [ROW, POST], [DurableDeadline("alice", 10.0)])
    assert await second.load() == before == kept
    assert await second.devices(10) == [JETSON, OLD]
    assert await audit(second, "s1") == [LINE]
    await second.close()


async def test_who_looks_beside_a_bridge_sees_what_was_committed(tmp_path: Path) -> None:
    bridge = await SqliteStore.open(place(tmp_path / "ledger.db"))
    await save(bridge, *ALL, OLD, TWO, POST)
    operator = await SqliteStore.open_read_only(place(tmp_path / "ledger.db"))
    assert await operator.running(10) == [(ONE, DurableDeadline("alice", 10.0)), (TWO, None)]
    assert await operator.running(10, "alice") == [(ONE, DurableDeadline("alice", 10.0))]
    assert await operator.running(1, "s2") == [(TWO, None)]
    assert await operator.waiting(1) == [ROW]
    assert await operator.waiting(10, "old-1") == [POST]
    assert await operator.seconds() == 5.0
    with pytest.raises(StoreError):
        await save(operator, ServiceSeconds(9.0))
    assert await bridge.load() == await operator.load()
    await operator.close()
    await bridge.close()


async def test_what_was_over_long_ago_is_forgotten_but_not_what_a_device_has_not_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.storage.sql.store.KEPT_ENDED_SESSIONS", 2)
    monkeypatch.setattr("bridge.storage.sql.store.KEPT_AUDIT_LINES", 2)
    store = await SqliteStore.open(place(tmp_path / "ledger.db"))
    sessions = [Session(f"s{number}", "jetson", "alice", number) for number in range(6)]
    for session in sessions:
        await save(store, session, replace(session, ended="app"), replace(LINE, session_id=session.session_id))
    await save(store, ROW, ServiceSeconds(1.0))
    await store.prune(departed_before_s=0.0)
    assert store.problem is None
    async with store.transaction() as transaction:
        assert set(await transaction.sessions([session.session_id for session in sessions])) == {"s1", "s4", "s5"}
    assert [line.session_id for line in await audit(store, "alice")] == ["s4", "s5"]
    await store.close()


async def test_a_ledger_that_cannot_be_written_says_so_until_it_can(tmp_path: Path) -> None:
    store = await SqliteStore.open(place(tmp_path / "ledger.db"))
    problems: list[str | None] = []
    for device_id in ("jetson", "kitchen"):
        await attempt(store, [ONE, replace(ONE, session_id="s9", device_id=device_id)])
        problems.append(store.problem)
    assert "UNIQUE" in str(problems[0])
    assert problems[1] is None
    await store.close()


# --- both stores are one ---


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(CHANGES, min_size=1, max_size=6), max_size=12))
def test_any_history_leaves_both_stores_equal(history: list[list[Change]]) -> None:
    async def live(folder: str) -> None:
        disk, memory = await SqliteStore.open(place(Path(folder) / "ledger.db")), MemoryStore()
        try:
            for changes in history:
                outcomes = [await attempt(store, changes) for store in (disk, memory)]
                assert outcomes[0] == outcomes[1], changes
            assert await everything(disk) == await everything(memory)
        finally:
            await disk.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live(folder))


async def attempt(store: AnyStore, changes: list[Change]) -> bool:
    try:
        await save(store, *changes)
    except StoreError:
        return False
    return True
