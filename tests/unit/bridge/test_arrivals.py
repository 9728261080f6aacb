"""Users who connect share commits, on the ledger in SQLite and on the tests' own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge import arrivals
from bridge.rows import Change, Device, PendingLogout, Session
from bridge.sessions import Sessions
from bridge.sql_store import SqlStore
from bridge.store import Loaded, StoreError, Transaction
from contract.messages import Hello, LogoutReason, Message
from contract.sections.bridge import BridgeSettings
from contract.topics import Topic
from tests.support.clock import ManualClock
from tests.support.ledgers import place
from tests.support.memory_store import MemoryStore
from tests.support.waiting import wait_until

URL = "http://device/api/auth/logout"
Answer = list[dict[str, str]] | StoreError


class HeldStore:
    """A store whose commits wait until they may, are counted, and fail when told to."""

    def __init__(self, store: SqlStore | MemoryStore) -> None:
        self.store = store
        self.commits = 0
        self.fail = False
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self.asked = asyncio.Event()

    @property
    def problem(self) -> str | None:
        return self.store.problem

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with self.store.transaction() as transaction:
            yield transaction
            self.asked.set()
            await self.may_commit.wait()
            if self.fail:
                raise StoreError("disk full")
        self.commits += 1

    async def load(self) -> Loaded:
        return await self.store.load()

    async def put(self, *changes: Change) -> None:
        async with self.store.transaction() as transaction:
            await transaction.save(changes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class Town:
    """Sessions, and all that they told in its order."""

    def __init__(self, store: SqlStore | MemoryStore) -> None:
        self.store = HeldStore(store)
        self.clock = ManualClock()
        self.told: list[str] = []
        self.posts: list[PendingLogout] = []
        self.answers: dict[str, list[Answer]] = {}
        self.sessions = self.new()

    def new(self) -> Sessions:
        return Sessions(
            self.store,
            BridgeSettings(),
            self.clock,
            send=self._send,
            on_opened=lambda session: self.told.append(f"{session.uid} in on {session.device_id}"),
            on_ended=lambda session: self.told.append(f"{session.uid} out on {session.device_id}"),
            on_gone=self._gone,
            post=self.posts.append,
        )

    def _send(self, topic: Topic, owner: str, _message: Message) -> bool:
        self.told.append(f"{topic.kind} to {owner}")
        return True

    def _gone(self, uid: str, _reason: LogoutReason) -> None:
        self.told.append(f"{uid} gone")

    def connect(self, *uids: str) -> None:
        for uid in uids:
            self.sessions.connect_soon(uid, self.note(uid))

    def note(self, uid: str) -> Callable[[Answer], None]:
        def note(answer: Answer) -> None:
            self.answers.setdefault(uid, []).append(answer)
            self.told.append(f"{uid} answered")

        return note

    async def hold(self) -> "asyncio.Task[Session]":
        """Somebody's log-in holds the ledger until `release`."""
        self.store.may_commit.clear()
        self.store.asked.clear()
        task = asyncio.create_task(self.sessions.login("holder", "elsewhere", "app"))
        await self.store.asked.wait()
        return task

    async def release(self) -> None:
        self.store.may_commit.set()
        await self.over()

    async def over(self) -> None:
        """All turns are."""
        await wait_until("all turns are over", lambda: not self.sessions._arrivals._turns)

    async def promised(self) -> set[str]:
        return {promise.uid for promise in (await self.store.load()).promises}

    async def running(self) -> set[tuple[str, str]]:
        return {(session.uid, session.device_id) for session in (await self.store.load()).sessions}


@pytest.fixture(params=["sqlite", "memory"])
async def town(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Town]:
    opened = MemoryStore() if request.param == "memory" else await SqlStore.open(place(tmp_path / "ledger.db"))
    town = Town(opened)
    yield town
    await town.sessions.stop()
    if isinstance(opened, SqlStore):
        await opened.close()


def not_stored(answers: list[Answer]) -> list[str]:
    return [str(answer) for answer in answers if isinstance(answer, StoreError)]


# --- who goes with whom ---


async def test_users_who_come_together_share_a_commit_up_to_so_many(town: Town) -> None:
    users = [f"user-{number}" for number in range(arrivals.MOST_AT_ONCE * 2 + 1)]
    town.connect(*users)
    await town.over()
    assert town.store.commits == 3
    assert town.answers == {uid: [[]] for uid in users}
    assert await town.promised() == set(users)
    assert all(town.sessions.alive(uid) for uid in users)


async def test_who_comes_alone_is_served_at_once_and_who_comes_meanwhile_goes_together(town: Town) -> None:
    town.store.may_commit.clear()
    first = asyncio.create_task(town.sessions.connected("first"))
    await town.store.asked.wait()
    town.connect("a", "b")
    more = [asyncio.create_task(town.sessions.connected(uid)) for uid in ("c", "d")]
    await asyncio.sleep(0.01)
    town.connect("e")
    assert not first.done()
    assert town.answers == {}
    town.store.may_commit.set()
    assert await asyncio.gather(first, *more) == [[], [], []]
    await town.over()
    assert town.store.commits == 2
    assert await town.promised() == {"first", "a", "b", "c", "d", "e"}


async def test_a_user_who_comes_twice_is_served_once_and_answered_twice(town: Town) -> None:
    await town.store.put(Device("jetson", claim_uid="alice"), Device("old", claim_uid="alice", logout_url=URL))
    town.connect("alice", "bob", "alice")
    await town.over()
    assert town.store.commits == 1
    assert [[row["device_id"] for row in answer] for answer in town.answers["alice"]] == [["old"], ["old"]]  # type: ignore[union-attr]
    assert town.told.count("login to jetson") == 1
    assert town.told.count("alice in on old") == 1


async def test_who_has_a_promise_on_disk_gets_the_sessions_all_the_same(town: Town) -> None:
    session = await town.sessions.login("alice", "jetson", "app")
    town.connect("alice", "bob")
    await town.over()
    row = {"session_id": session.session_id, "device_id": "jetson"}
    assert town.answers == {"alice": [[row]], "bob": [[]]}


async def test_no_wake_waits_until_hundreds_of_apps_are_welcomed(town: Town) -> None:
    answered_before = []
    loop = asyncio.get_running_loop()
    count = arrivals.ANSWERED_AT_ONCE * 3

    def first(_answer: Answer) -> None:
        loop.call_soon(lambda: answered_before.append(len(town.answers)))

    town.sessions.connect_soon("first", first)
    town.connect(*(f"user-{number}" for number in range(count)))
    await town.over()
    assert answered_before[0] < arrivals.ANSWERED_AT_ONCE
    assert len(town.answers) == count


# --- what is claimed ---


async def test_each_user_of_a_batch_gets_what_claims_them(town: Town) -> None:
    taken = Session("s1", "taken", "dora", 1)
    await town.store.put(
        Device("kitchen", claim_uid="alice"),
        Device("hall", claim_uid="alice"),
        Device("old-1", claim_uid="bob", logout_url=URL),
        Device("old-2", claim_uid="bob", logout_url=URL),
        Device("taken", claim_uid="carol"),
        taken,
    )
    await town.sessions.load()
    town.connect("bob", "alice", "carol", "dora")
    await town.over()
    assert await town.running() == {("bob", "old-1"), ("bob", "old-2"), ("dora", "taken")}
    assert [told for told in town.told if "answered" not in told] == [
        "bob in on old-1", "bob in on old-2", "login to hall", "login to kitchen",
    ]  # fmt: skip
    seen = {uid: sorted(row["device_id"] for row in rows[0]) for uid, rows in town.answers.items()}  # type: ignore[union-attr]
    assert seen == {"bob": ["old-1", "old-2"], "alice": [], "carol": [], "dora": ["taken"]}
    assert town.sessions.user_of("old-1") == "bob"


@pytest.mark.parametrize("order", [("alice", "bob"), ("bob", "alice")])
async def test_a_batch_leaves_what_one_after_another_would(tmp_path: Path, order: tuple[str, str]) -> None:
    """Alice claims the device to which Bob's log-out waits to be posted."""
    seen = []
    for together in (True, False):
        store = await SqlStore.open(place(tmp_path / f"{together}.db"))
        town = Town(store)
        await town.store.put(
            Device("old", claim_uid="alice", logout_url=URL),
            PendingLogout("c1", "s1", "old", "bob", 1, "app", "then", 0.0, URL),
            PendingLogout("c2", "s2", "other", "bob", 1, "app", "then", 0.0, URL),
            Device("jetson", claim_uid="bob"),
        )
        await town.sessions.load()
        if together:
            town.connect(*order)
            await town.over()
        else:
            for uid in order:
                await town.sessions.connected(uid)
        assert town.sessions.waiting == 0
        loaded = await town.store.load()
        lines = [(line.event, line.device_id, line.uid) for uid in order for line in await store.audit(uid, 100)]
        running = [(session.uid, session.device_id, session.generation) for session in loaded.sessions]
        told = {told for told in town.told if "answered" not in told}
        seen.append((sorted(loaded.promises, key=str), running, loaded.pending, sorted(lines), told))
        await store.close()
    assert seen[0] == seen[1]
    assert seen[0][1] == [("alice", "old", 1)]


async def test_a_claim_that_changes_before_the_turn_counts_as_it_is_then(town: Town) -> None:
    claims = Hello(install_id="i", boot=1, seq=1, nonce="n", claim_uid="alice")
    await town.sessions.report("jetson", claims)
    holder = await town.hold()
    report = asyncio.create_task(town.sessions.report("jetson", replace_claim(claims, "bob")))
    await asyncio.sleep(0)
    town.connect("alice", "bob")
    await town.release()
    await asyncio.gather(holder, report)
    assert town.told.count("login to jetson") == 1
    assert town.sessions.user_of("jetson") is None


def replace_claim(hello: Hello, uid: str) -> Hello:
    return hello.model_copy(update={"claim_uid": uid, "seq": hello.seq + 1})


# --- what goes wrong ---


async def test_what_cannot_be_stored_is_so_for_nobody_of_the_batch_and_may_be_tried_again(town: Town) -> None:
    await town.store.put(Device("old", claim_uid="alice", logout_url=URL), Device("jetson", claim_uid="bob"))
    town.store.fail = True
    town.connect("alice", "bob", "carol")
    waiting = asyncio.create_task(town.sessions.connected("alice"))
    await town.over()
    assert {uid: not_stored(answers) for uid, answers in town.answers.items()} == {
        uid: ["disk full"] for uid in ("alice", "bob", "carol")
    }
    with pytest.raises(StoreError, match="disk full"):
        await waiting
    assert not any(town.sessions.alive(uid) for uid in town.answers)
    assert await town.promised() == set()
    assert await town.running() == set()
    assert [told for told in town.told if "answered" not in told] == []
    town.store.fail = False
    town.answers.clear()
    town.connect("alice", "bob", "carol")
    await town.over()
    assert not_stored([answer for answers in town.answers.values() for answer in answers]) == []
    assert await town.running() == {("alice", "old")}
    assert await town.promised() == {"alice", "bob", "carol"}


async def test_nobody_is_answered_before_the_commit_and_a_kill_until_then_leaves_nothing(town: Town) -> None:
    town.store.may_commit.clear()
    town.connect("alice", "bob")
    await town.store.asked.wait()
    await asyncio.sleep(0.01)
    assert town.answers == {}
    assert not town.sessions.alive("alice")
    for turn in town.sessions._arrivals._turns:
        turn.cancel()  # as good as a kill: what follows the commit is not run
    await town.over()
    assert await town.promised() == set()


async def test_a_waiter_who_is_cancelled_harms_nobody_else(town: Town) -> None:
    town.store.may_commit.clear()
    waiters = [asyncio.create_task(town.sessions.connected(uid)) for uid in ("first", "alice", "bob", "carol")]
    await town.store.asked.wait()
    waiters[0].cancel()  # serves itself
    waiters[2].cancel()  # is in a batch, as is the next
    await asyncio.sleep(0.01)
    town.store.may_commit.set()
    outcomes = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [
        asyncio.CancelledError, list, asyncio.CancelledError, list,
    ]  # fmt: skip
    assert {"alice", "carol"} <= await town.promised()


async def test_a_caller_who_fails_at_the_answer_harms_nobody_else(town: Town) -> None:
    def fail(_answer: Answer) -> None:
        raise RuntimeError("a socket")

    town.sessions.connect_soon("alice", fail)
    town.connect("alice", "bob")
    await town.over()
    assert town.answers == {"alice": [[]], "bob": [[]]}


async def test_a_fault_leaves_nobody_without_an_answer(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(_uids: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(town.sessions.people, "all_heard", fault)
    town.connect("alice", "bob")
    await town.over()
    assert [not_stored(town.answers[uid]) for uid in ("alice", "bob")] == [["a fault of the bridge"]] * 2
    monkeypatch.undo()
    town.connect("carol")
    await town.over()
    assert town.answers["carol"] == [[]]


# --- HTTP devices with a post under way ---


async def under_way(town: Town, uid: str) -> PendingLogout:
    """A log-out of this user is being posted to the device `old`."""
    await town.store.put(PendingLogout("c1", "s1", "old", uid, 1, "app", "then", 0.0, URL))
    await town.sessions.load()
    await town.sessions.tick()
    (row,) = town.posts
    return row


async def test_a_user_whose_log_out_is_being_posted_waits_while_others_go_on(town: Town) -> None:
    row = await under_way(town, "alice")
    town.connect("alice", "bob")
    waiting = asyncio.create_task(town.sessions.connected("alice"))
    await town.over()
    assert town.answers == {"bob": [[]]}
    assert not town.sessions.alive("alice")
    await town.sessions.posted(row, "refused")
    await town.over()
    assert town.answers == {"bob": [[]], "alice": [[]]}
    assert await waiting == []
    assert town.sessions.waiting == 0


async def test_a_user_alone_waits_for_the_post_as_well(town: Town) -> None:
    row = await under_way(town, "alice")
    waiting = asyncio.create_task(town.sessions.connected("alice"))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await town.sessions.posted(row, None)
    assert await waiting == []


async def test_a_user_whom_a_busy_device_claims_waits_while_others_go_on(town: Town) -> None:
    await town.store.put(Device("old", claim_uid="alice", logout_url=URL))
    row = await under_way(town, "bob")
    town.connect("alice", "carol")
    await town.over()
    assert town.answers == {"carol": [[]]}
    assert await town.running() == set()
    await town.sessions.posted(row, None)
    await town.over()
    assert await town.running() == {("alice", "old")}
    assert len(town.answers["alice"]) == 1


async def test_a_post_that_ends_during_the_commit_is_not_waited_for(town: Town) -> None:
    row = await under_way(town, "alice")
    town.store.asked.clear()
    town.store.may_commit.clear()
    town.connect("alice", "bob")
    await town.store.asked.wait()
    await town.sessions.posted(row, "refused")
    await town.release()
    assert town.answers == {"bob": [[]], "alice": [[]]}


async def test_no_post_begins_while_its_user_comes_back(town: Town) -> None:
    await town.store.put(
        Device("old", claim_uid="alice", logout_url=URL),
        PendingLogout("c1", "s1", "old", "alice", 1, "app", "then", 0.0, URL),
    )
    await town.sessions.load()
    town.store.may_commit.clear()
    town.connect("alice")
    await town.store.asked.wait()
    tick = asyncio.create_task(town.sessions.tick())
    await asyncio.sleep(0.01)
    await town.release()
    await tick
    assert town.posts == []
    assert await town.running() == {("alice", "old")}


# --- log-outs ---


async def test_who_connects_before_a_log_out_leaves_and_who_connects_after_it_lives(town: Town) -> None:
    session = await town.sessions.login("alice", "jetson", "app")
    holder = await town.hold()
    town.connect("alice", "bob")
    await asyncio.sleep(0)  # it has its place
    log_outs = [asyncio.create_task(town.sessions.logout(uid, "http")) for uid in ("alice", "bob")]
    await asyncio.sleep(0)
    town.connect("bob")
    await town.release()
    await asyncio.gather(holder, *log_outs)
    told = [told for told in town.told if told.split()[0] in {"alice", "bob"}]
    assert told[1:] == [
        "alice answered", "bob answered", "alice out on jetson", "alice gone", "bob gone", "bob answered",
    ]  # fmt: skip
    assert not town.sessions.alive("alice")
    assert town.sessions.alive("bob")
    async with town.store.transaction() as transaction:
        assert (await transaction.sessions([session.session_id]))[session.session_id].ended == "http"
    assert (await town.running()) == {("holder", "elsewhere")}
    assert await town.promised() == {"bob", "holder"}


async def test_who_is_nearly_due_and_waits_in_a_batch_is_not_logged_out(town: Town) -> None:
    await town.sessions.connected("alice")
    town.sessions.people._deadlines.put("alice", town.sessions.people.now())
    holder = await town.hold()
    town.connect("alice")
    await asyncio.sleep(0)
    tick = asyncio.create_task(town.sessions.tick())
    await town.release()
    await asyncio.gather(holder, tick)
    assert "alice gone" not in town.told
    assert town.sessions.alive("alice")


# --- the end ---


async def test_a_bridge_that_stops_tells_all_who_wait_and_leaves_no_task(town: Town) -> None:
    await under_way(town, "alice")
    town.connect("alice")
    await town.over()
    town.store.asked.clear()
    town.store.may_commit.clear()
    town.connect("bob")
    await town.store.asked.wait()
    town.connect("carol")  # its turn has not even begun
    waiting = asyncio.create_task(town.sessions.connected("dora"))
    await asyncio.sleep(0)
    await town.sessions.stop()
    await asyncio.sleep(0)
    assert {uid: not_stored(answers) for uid, answers in town.answers.items()} == {
        uid: ["the bridge stops"] for uid in ("alice", "bob", "carol")
    }
    with pytest.raises(StoreError, match="stops"):
        await waiting
    assert {task.get_name() for task in asyncio.all_tasks()} & {"connects"} == set()
    town.connect("erin")
    await asyncio.sleep(0)
    assert not_stored(town.answers["erin"]) == ["the bridge stops"]
    town.store.may_commit.set()
    assert await town.promised() == set()
