import asyncio

import pytest

from bridge.outbox import DEAD_AFTER_S
from bridge.rows import PendingLogout
from bridge.sessions import Sessions
from bridge.store import StoreError
from contract.sections.bridge import BridgeSettings
from tests.support.clock import ManualClock
from tests.support.memory_store import MemoryStore

A_DAY_AND_MORE = DEAD_AFTER_S + 10


def town() -> tuple[MemoryStore, ManualClock, list[PendingLogout], Sessions]:
    store, clock, posted = MemoryStore(), ManualClock(), list[PendingLogout]()

    async def over(_device_id: str) -> None:
        await asyncio.sleep(0)

    sessions = Sessions(
        store,
        BridgeSettings(),
        clock,
        send=lambda *_: True,
        on_ended=lambda _: None,
        on_gone=lambda *_: None,
        post=posted.append,
        post_over=over,
    )
    return store, clock, posted, sessions


async def test_a_dead_row_that_cannot_be_taken_out_keeps_no_other_device_from_its_post() -> None:
    store, clock, posted, sessions = town()
    tables = store.tables
    tables.seconds = A_DAY_AND_MORE
    tables.pending["a", "s1"] = PendingLogout("c1", "s1", "a", "alice", 1, "app", "x", 0.0, "http://a/")
    tables.pending["b", "s2"] = PendingLogout("c2", "s2", "b", "bob", 1, "app", "x", tables.seconds, "http://b/")
    await sessions.load()
    store.fail = "disk full"
    with pytest.raises(StoreError):
        await sessions.tick()
    store.fail = None
    for _ in range(120):
        clock.advance(1)
        await sessions.tick()
    assert {row.device_id for row in posted} == {"b"}


async def test_who_comes_back_waits_for_a_post_under_way_and_for_nothing_else() -> None:
    store, _, posted, sessions = town()
    tables = store.tables
    tables.seconds = A_DAY_AND_MORE
    tables.pending["a", "s1"] = PendingLogout("c1", "s1", "a", "alice", 1, "app", "x", 0.0, "http://a/")
    tables.pending["b", "s2"] = PendingLogout("c2", "s2", "b", "bob", 1, "app", "x", tables.seconds, "http://b/")
    await sessions.load()
    store.fail = "disk full"
    with pytest.raises(StoreError):
        await sessions.tick()
    store.fail = None
    async with asyncio.timeout(1):
        await sessions.connected("alice")
    bob = asyncio.create_task(sessions.connected("bob"))
    await asyncio.wait([bob], timeout=0.05)
    assert not bob.done()
    await sessions.posted(posted[-1], "refused")
    async with asyncio.timeout(1):
        await bob


async def test_a_post_that_was_obeyed_but_not_noted_is_repeated_ever_more_rarely() -> None:
    store, clock, posted, sessions = town()
    store.tables.pending["a", "s1"] = PendingLogout("c1", "s1", "a", "alice", 1, "app", "x", 0.0, "http://a/")
    await sessions.load()
    store.fail = "disk full"
    for _ in range(120):
        clock.advance(0.5)
        before = len(posted)
        with pytest.raises(StoreError):
            await sessions.tick()
        if len(posted) > before:
            with pytest.raises(StoreError):
                await sessions.posted(posted[-1], None)
    assert len(posted) < 12


async def test_a_row_whose_user_came_back_is_not_buried_as_dead() -> None:
    store, _, _, sessions = town()
    row = PendingLogout("c1", "s1", "a", "alice", 1, "app", "x", 0.0, "http://a/")
    store.tables.pending["a", "s1"] = row
    await sessions.load()
    await sessions.connected("alice")
    await sessions._take_out(row, "dead", "posted in vain for 24 h")
    assert [line.event for line in store.audit] == ["superseded"]
