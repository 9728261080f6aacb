import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.sessions import http_logouts as module
from bridge.sessions.rules.outbox import DEAD_AFTER_S
from bridge.storage.records import PendingLogout
from bridge.storage.store import StoreError
from tests.support.harness.sessions import SessionsHarness
from tests.support.posts import Posts
from tests.support.waiting import wait_until

A_DAY_AND_MORE = DEAD_AFTER_S + 10
ALICE = PendingLogout("c1", "s1", "a", "alice", 1, "app", "x", 0.0, "http://a/")


class PostHarness(SessionsHarness):
    """Sessions, their ledger, and the posts of their log-outs."""

    def __init__(self, *, posts_end_at_once: bool = False) -> None:
        self.posts = Posts(at_once=posts_end_at_once)
        super().__init__(post=self.posts.post)

    @asynccontextmanager
    async def with_rows(self, *rows: PendingLogout, seconds: float = 0.0) -> AsyncIterator[None]:
        self.store.tables.seconds = seconds
        for row in rows:
            self.store.tables.pending[row.device_id, row.session_id] = row
        await self.sessions.load()
        async with self.sessions.running():
            yield

    async def posted(self) -> PendingLogout:
        """The first post is under way."""
        await self.sessions.tick()
        await wait_until("it is under way", lambda: self.posts.rows)
        return self.posts.rows[0]

    async def over(self) -> None:
        await wait_until("no post is under way", lambda: not self.sessions._http_logouts._under_way)


def bob(seconds: float) -> PendingLogout:
    return PendingLogout("c2", "s2", "b", "bob", 1, "app", "x", seconds, "http://b/")


async def test_a_dead_row_that_cannot_be_taken_out_keeps_no_other_device_from_its_post() -> None:
    harness = PostHarness()
    async with harness.with_rows(ALICE, bob(A_DAY_AND_MORE), seconds=A_DAY_AND_MORE):
        harness.store.fail = "disk full"
        with pytest.raises(StoreError):
            await harness.sessions.tick()
        harness.store.fail = None
        for _ in range(120):
            harness.clock.advance(1)
            await harness.sessions.tick()
        await harness.posted()
        assert {row.device_id for row in harness.posts.rows} == {"b"}


async def test_who_comes_back_waits_for_a_post_under_way_and_for_nothing_else() -> None:
    harness = PostHarness()
    async with harness.with_rows(ALICE, bob(A_DAY_AND_MORE), seconds=A_DAY_AND_MORE):
        harness.store.fail = "disk full"
        with pytest.raises(StoreError):
            await harness.sessions.tick()
        harness.store.fail = None
        async with asyncio.timeout(1):
            await harness.sessions.connected("alice")
        back = asyncio.create_task(harness.sessions.connected("bob"))
        await asyncio.wait([back], timeout=0.05)
        assert not back.done()
        harness.posts.end(harness.posts.rows[-1], "refused")
        async with asyncio.timeout(1):
            await back


async def test_a_post_that_was_obeyed_but_not_noted_is_repeated_ever_more_rarely() -> None:
    harness = PostHarness(posts_end_at_once=True)
    async with harness.with_rows(ALICE):
        harness.store.fail = "disk full"
        for _ in range(120):
            harness.clock.advance(0.5)
            with pytest.raises(StoreError):
                await harness.sessions.tick()
            await harness.over()
        assert 3 <= len(harness.posts.rows) < 12
        harness.store.fail = None
        for _ in range(120):
            harness.clock.advance(1)
            await harness.sessions.tick()
            await harness.over()
    assert harness.sessions.waiting == 0


async def test_a_row_whose_user_came_back_is_not_buried_as_dead() -> None:
    harness = PostHarness()
    async with harness.with_rows(ALICE):
        await harness.sessions.connected("alice")
        await harness.sessions._http_logouts.take_out(ALICE, "dead", "posted in vain for 24 h")
    assert [line.event for line in harness.store.audit] == ["superseded"]


async def test_a_log_in_waits_until_a_post_to_its_device_is_over() -> None:
    harness = PostHarness()
    async with harness.with_rows(ALICE):
        row = await harness.posted()
        login = asyncio.create_task(harness.sessions.login("bob", "a", "app"))
        await asyncio.wait([login], timeout=0.05)
        assert not login.done()
        harness.posts.end(row, None)
        async with asyncio.timeout(1):
            assert (await login).uid == "bob"
    assert harness.sessions.waiting == 0


async def test_at_the_end_a_post_under_way_is_dropped_and_its_row_stays() -> None:
    harness = PostHarness()
    async with harness.with_rows(ALICE):
        await harness.posted()
    assert (harness.events, harness.sessions.waiting, len(harness.store.tables.pending)) == ([], 1, 1)


async def test_a_post_that_fails_by_a_fault_ends_nothing_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    faults: list[str] = []
    monkeypatch.setattr(module.log, "exception", lambda event, **_: faults.append(event))
    harness = PostHarness()

    async def fail(_row: PendingLogout) -> str | None:
        raise RuntimeError("an internal error")

    harness.sessions._http_logouts._devices.post = fail
    async with harness.with_rows(ALICE):
        await harness.sessions.tick()
        await harness.over()
        assert faults == ["post_failed"]
        harness.sessions._http_logouts._devices.post = harness.posts.post
        for _ in range(70):
            harness.clock.advance(1)
            await harness.sessions.tick()
        await harness.posted()


async def test_a_device_that_obeyed_over_http_is_named_in_the_audit() -> None:
    harness = PostHarness(posts_end_at_once=True)
    async with harness.with_rows(ALICE):
        await harness.posted()
        await harness.over()
    assert [(line.event, line.actor, line.via) for line in harness.store.audit] == [("settled", "device:a", "http")]
