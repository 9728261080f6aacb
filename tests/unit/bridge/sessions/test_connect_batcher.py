"""Users who connect share commits, on the ledger in SQLite and on the tests' own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.sessions import connect_batcher as arrivals
from bridge.sessions.connect import UserData
from bridge.sessions.events import Event, SessionEnded, SessionOpened, UserLoggedOut
from bridge.sessions.service import describe
from bridge.storage.memory import MemoryStore
from bridge.storage.records import Change, Device, PendingLogout, Session
from bridge.storage.sqlite.store import SqliteStore
from bridge.storage.store import Loaded, StoreError, Transaction
from contract.messages import Hello, Message
from contract.topics import Topic
from tests.support.harness.sessions import SessionsHarness
from tests.support.ledgers import place
from tests.support.posts import Posts
from tests.support.waiting import wait_until

URL = "http://device/api/auth/logout"
Answer = list[dict[str, str]] | StoreError


class HeldStore:
    """A store whose commits wait until they may, are counted, and fail when told to."""

    def __init__(self, store: SqliteStore | MemoryStore) -> None:
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


class BatchHarness(SessionsHarness):
    """Sessions, and all that they told in its order."""

    store: HeldStore

    def __init__(self, store: SqliteStore | MemoryStore) -> None:
        self.told: list[str] = []
        self.posts = Posts()
        self.answers: dict[str, list[Answer]] = {}
        super().__init__(store=HeldStore(store), post=self.posts.post)

    def _send(self, topic: Topic, owner: str, message: Message) -> bool:
        self.told.append(f"{topic.kind} to {owner}")
        return super()._send(topic, owner, message)

    def _on_event(self, event: Event) -> None:
        match event:
            case SessionOpened(session):
                self.told.append(f"{session.uid} in on {session.device_id}")
            case SessionEnded(session):
                self.told.append(f"{session.uid} out on {session.device_id}")
            case UserLoggedOut(uid):
                self.told.append(f"{uid} gone")

    async def post_ends(self, row: PendingLogout, problem: str | None) -> None:
        self.posts.end(row, problem)
        await self.sessions._http_logouts.over(row.device_id)

    def connect(self, *uids: str) -> None:
        for uid in uids:
            self.sessions.connect_soon(uid, self.note(uid))

    def note(self, uid: str) -> Callable[[UserData | StoreError], None]:
        def note(answer: UserData | StoreError) -> None:
            sessions = answer if isinstance(answer, StoreError) else [describe(row) for row in answer.sessions]
            self.answers.setdefault(uid, []).append(sessions)
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
        await wait_until("all turns are over", lambda: not self.sessions._connect_batcher._turns)

    async def promised(self) -> set[str]:
        return {promise.uid for promise in (await self.store.load()).promises}

    async def running(self) -> set[tuple[str, str]]:
        return {(session.uid, session.device_id) for session in (await self.store.load()).sessions}


@pytest.fixture(params=["sqlite", "memory"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BatchHarness]:
    opened = MemoryStore() if request.param == "memory" else await SqliteStore.open(place(tmp_path / "ledger.db"))
    harness = BatchHarness(opened)
    async with harness.sessions.running():
        yield harness
        await harness.sessions.stop()
    if isinstance(opened, SqliteStore):
        await opened.close()


def not_stored(answers: list[Answer]) -> list[str]:
    return [str(answer) for answer in answers if isinstance(answer, StoreError)]


# --- who goes with whom ---


async def test_users_who_come_together_share_a_commit_up_to_so_many(harness: BatchHarness) -> None:
    users = [f"user-{number}" for number in range(arrivals.MOST_AT_ONCE * 2 + 1)]
    harness.connect(*users)
    await harness.over()
    assert harness.store.commits == 3
    assert harness.answers == {uid: [[]] for uid in users}
    assert await harness.promised() == set(users)
    assert all(harness.sessions.alive(uid) for uid in users)


async def test_who_comes_alone_is_served_at_once_and_who_comes_meanwhile_goes_together(harness: BatchHarness) -> None:
    harness.store.may_commit.clear()
    first = asyncio.create_task(harness.sessions.connected("first"))
    await harness.store.asked.wait()
    harness.connect("a", "b")
    more = [asyncio.create_task(harness.sessions.connected(uid)) for uid in ("c", "d")]
    await asyncio.sleep(0.01)
    harness.connect("e")
    assert not first.done()
    assert harness.answers == {}
    harness.store.may_commit.set()
    assert await asyncio.gather(first, *more) == [UserData([], [])] * 3
    await harness.over()
    assert harness.store.commits == 2
    assert await harness.promised() == {"first", "a", "b", "c", "d", "e"}


async def test_a_user_who_comes_twice_is_served_once_and_answered_twice(harness: BatchHarness) -> None:
    await harness.store.put(Device("jetson", claim_uid="alice"), Device("old", claim_uid="alice", logout_url=URL))
    harness.connect("alice", "bob", "alice")
    await harness.over()
    assert harness.store.commits == 1
    assert [[row["device_id"] for row in answer] for answer in harness.answers["alice"]] == [["old"], ["old"]]  # type: ignore[union-attr]
    assert harness.told.count("login to jetson") == 1
    assert harness.told.count("alice in on old") == 1


async def test_who_has_a_promise_on_disk_gets_the_sessions_all_the_same(harness: BatchHarness) -> None:
    session = await harness.sessions.login("alice", "jetson", "app")
    harness.connect("alice", "bob")
    await harness.over()
    row = {"session_id": session.session_id, "device_id": "jetson"}
    assert harness.answers == {"alice": [[row]], "bob": [[]]}


async def test_no_wake_waits_until_hundreds_of_apps_are_welcomed(harness: BatchHarness) -> None:
    answered_before = []
    loop = asyncio.get_running_loop()
    count = arrivals.ANSWERED_AT_ONCE * 3

    def first(_answer: UserData | StoreError) -> None:
        loop.call_soon(lambda: answered_before.append(len(harness.answers)))

    harness.sessions.connect_soon("first", first)
    harness.connect(*(f"user-{number}" for number in range(count)))
    await harness.over()
    assert answered_before[0] < arrivals.ANSWERED_AT_ONCE
    assert len(harness.answers) == count


# --- what is claimed ---


async def test_each_user_of_a_batch_gets_what_claims_them(harness: BatchHarness) -> None:
    taken = Session("s1", "taken", "dora", 1)
    await harness.store.put(
        Device("kitchen", claim_uid="alice"),
        Device("hall", claim_uid="alice"),
        Device("old-1", claim_uid="bob", logout_url=URL),
        Device("old-2", claim_uid="bob", logout_url=URL),
        Device("taken", claim_uid="carol"),
        taken,
    )
    await harness.sessions.load()
    harness.connect("bob", "alice", "carol", "dora")
    await harness.over()
    assert await harness.running() == {("bob", "old-1"), ("bob", "old-2"), ("dora", "taken")}
    assert [told for told in harness.told if "answered" not in told] == [
        "bob in on old-1", "bob in on old-2", "login to hall", "login to kitchen",
    ]  # fmt: skip
    seen = {uid: sorted(row["device_id"] for row in rows[0]) for uid, rows in harness.answers.items()}  # type: ignore[union-attr]
    assert seen == {"bob": ["old-1", "old-2"], "alice": [], "carol": [], "dora": ["taken"]}
    assert harness.sessions.user_of("old-1") == "bob"


@pytest.mark.parametrize("order", [("alice", "bob"), ("bob", "alice")])
async def test_a_batch_leaves_what_one_after_another_would(tmp_path: Path, order: tuple[str, str]) -> None:
    """Alice claims the device to which Bob's log-out waits to be posted."""
    seen = []
    for together in (True, False):
        store = await SqliteStore.open(place(tmp_path / f"{together}.db"))
        harness = BatchHarness(store)
        await harness.store.put(
            Device("old", claim_uid="alice", logout_url=URL),
            PendingLogout("c1", "s1", "old", "bob", 1, "app", "then", 0.0, URL),
            PendingLogout("c2", "s2", "other", "bob", 1, "app", "then", 0.0, URL),
            Device("jetson", claim_uid="bob"),
        )
        await harness.sessions.load()
        if together:
            harness.connect(*order)
            await harness.over()
        else:
            for uid in order:
                await harness.sessions.connected(uid)
        assert harness.sessions.waiting == 0
        loaded = await harness.store.load()
        lines = [(line.event, line.device_id, line.uid) for uid in order for line in await store.audit(uid, 100)]
        running = [(session.uid, session.device_id, session.generation) for session in loaded.sessions]
        told = {told for told in harness.told if "answered" not in told}
        seen.append((sorted(loaded.promises, key=str), running, loaded.pending, sorted(lines), told))
        await store.close()
    assert seen[0] == seen[1]
    assert seen[0][1] == [("alice", "old", 1)]


async def test_a_claim_that_changes_before_the_turn_counts_as_it_is_then(harness: BatchHarness) -> None:
    claims = Hello(install_id="i", boot=1, seq=1, nonce="n", claim_uid="alice")
    await harness.sessions.reports([("jetson", claims)])
    holder = await harness.hold()
    report = asyncio.create_task(harness.sessions.reports([("jetson", replace_claim(claims, "bob"))]))
    await asyncio.sleep(0)
    harness.connect("alice", "bob")
    await harness.release()
    await asyncio.gather(holder, report)
    assert harness.told.count("login to jetson") == 1
    assert harness.sessions.user_of("jetson") is None


def replace_claim(hello: Hello, uid: str) -> Hello:
    return hello.model_copy(update={"claim_uid": uid, "seq": hello.seq + 1})


# --- what goes wrong ---


async def test_what_cannot_be_stored_is_so_for_nobody_of_the_batch_and_may_be_tried_again(
    harness: BatchHarness,
) -> None:
    await harness.store.put(Device("old", claim_uid="alice", logout_url=URL), Device("jetson", claim_uid="bob"))
    harness.store.fail = True
    harness.connect("alice", "bob", "carol")
    waiting = asyncio.create_task(harness.sessions.connected("alice"))
    await harness.over()
    assert {uid: not_stored(answers) for uid, answers in harness.answers.items()} == {
        uid: ["disk full"] for uid in ("alice", "bob", "carol")
    }
    with pytest.raises(StoreError, match="disk full"):
        await waiting
    assert not any(harness.sessions.alive(uid) for uid in harness.answers)
    assert await harness.promised() == set()
    assert await harness.running() == set()
    assert [told for told in harness.told if "answered" not in told] == []
    harness.store.fail = False
    harness.answers.clear()
    harness.connect("alice", "bob", "carol")
    await harness.over()
    assert not_stored([answer for answers in harness.answers.values() for answer in answers]) == []
    assert await harness.running() == {("alice", "old")}
    assert await harness.promised() == {"alice", "bob", "carol"}


async def test_nobody_is_answered_before_the_commit_and_a_kill_until_then_leaves_nothing(harness: BatchHarness) -> None:
    harness.store.may_commit.clear()
    harness.connect("alice", "bob")
    await harness.store.asked.wait()
    await asyncio.sleep(0.01)
    assert harness.answers == {}
    assert not harness.sessions.alive("alice")
    for turn in harness.sessions._connect_batcher._turns:
        turn.cancel()  # as good as a kill: what follows the commit is not run
    await harness.over()
    assert await harness.promised() == set()


async def test_a_waiter_who_is_cancelled_harms_nobody_else(harness: BatchHarness) -> None:
    harness.store.may_commit.clear()
    waiters = [asyncio.create_task(harness.sessions.connected(uid)) for uid in ("first", "alice", "bob", "carol")]
    await harness.store.asked.wait()
    waiters[0].cancel()  # serves itself
    waiters[2].cancel()  # is in a batch, as is the next
    await asyncio.sleep(0.01)
    harness.store.may_commit.set()
    outcomes = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [
        asyncio.CancelledError, UserData, asyncio.CancelledError, UserData,
    ]  # fmt: skip
    assert {"alice", "carol"} <= await harness.promised()


async def test_a_caller_who_fails_at_the_answer_harms_nobody_else(harness: BatchHarness) -> None:
    def fail(_answer: UserData | StoreError) -> None:
        raise RuntimeError("a socket")

    harness.sessions.connect_soon("alice", fail)
    harness.connect("alice", "bob")
    await harness.over()
    assert harness.answers == {"alice": [[]], "bob": [[]]}


async def test_a_fault_leaves_nobody_without_an_answer(harness: BatchHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(_uids: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(harness.sessions.liveness, "touch_all", fault)
    harness.connect("alice", "bob")
    await harness.over()
    assert [not_stored(harness.answers[uid]) for uid in ("alice", "bob")] == [["an internal error of the bridge"]] * 2
    monkeypatch.undo()
    harness.connect("carol")
    await harness.over()
    assert harness.answers["carol"] == [[]]


# --- HTTP devices with a post under way ---


async def under_way(harness: BatchHarness, uid: str) -> PendingLogout:
    """A log-out of this user is being posted to the device `old`."""
    await harness.store.put(PendingLogout("c1", "s1", "old", uid, 1, "app", "then", 0.0, URL))
    await harness.sessions.load()
    await harness.sessions.tick()
    await wait_until("it is under way", lambda: harness.posts.rows)
    (row,) = harness.posts.rows
    return row


async def test_a_user_whose_log_out_is_being_posted_waits_while_others_go_on(harness: BatchHarness) -> None:
    row = await under_way(harness, "alice")
    harness.connect("alice", "bob")
    waiting = asyncio.create_task(harness.sessions.connected("alice"))
    await harness.over()
    assert harness.answers == {"bob": [[]]}
    assert not harness.sessions.alive("alice")
    await harness.post_ends(row, "refused")
    await harness.over()
    assert harness.answers == {"bob": [[]], "alice": [[]]}
    assert await waiting == UserData([], [])
    assert harness.sessions.waiting == 0


async def test_a_user_alone_waits_for_the_post_as_well(harness: BatchHarness) -> None:
    row = await under_way(harness, "alice")
    waiting = asyncio.create_task(harness.sessions.connected("alice"))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await harness.post_ends(row, None)
    assert await waiting == UserData([], [])


async def test_a_user_whom_a_busy_device_claims_waits_while_others_go_on(harness: BatchHarness) -> None:
    await harness.store.put(Device("old", claim_uid="alice", logout_url=URL))
    row = await under_way(harness, "bob")
    harness.connect("alice", "carol")
    await harness.over()
    assert harness.answers == {"carol": [[]]}
    assert await harness.running() == set()
    await harness.post_ends(row, None)
    await harness.over()
    assert await harness.running() == {("alice", "old")}
    assert len(harness.answers["alice"]) == 1


async def test_a_post_that_ends_during_the_commit_is_not_waited_for(harness: BatchHarness) -> None:
    row = await under_way(harness, "alice")
    harness.store.asked.clear()
    harness.store.may_commit.clear()
    harness.connect("alice", "bob")
    await harness.store.asked.wait()
    await harness.post_ends(row, "refused")
    await harness.release()
    assert harness.answers == {"bob": [[]], "alice": [[]]}


async def test_no_post_begins_while_its_user_comes_back(harness: BatchHarness) -> None:
    await harness.store.put(
        Device("old", claim_uid="alice", logout_url=URL),
        PendingLogout("c1", "s1", "old", "alice", 1, "app", "then", 0.0, URL),
    )
    await harness.sessions.load()
    harness.store.may_commit.clear()
    harness.connect("alice")
    await harness.store.asked.wait()
    tick = asyncio.create_task(harness.sessions.tick())
    await asyncio.sleep(0.01)
    await harness.release()
    await tick
    await asyncio.sleep(0.01)
    assert harness.posts.rows == []
    assert await harness.running() == {("alice", "old")}


# --- log-outs ---


async def test_who_connects_before_a_log_out_leaves_and_who_connects_after_it_lives(harness: BatchHarness) -> None:
    session = await harness.sessions.login("alice", "jetson", "app")
    holder = await harness.hold()
    harness.connect("alice", "bob")
    await asyncio.sleep(0)  # it has its place
    log_outs = [asyncio.create_task(harness.sessions.logout(uid, "http")) for uid in ("alice", "bob")]
    await asyncio.sleep(0)
    harness.connect("bob")
    await harness.release()
    await asyncio.gather(holder, *log_outs)
    told = [told for told in harness.told if told.split()[0] in {"alice", "bob"}]
    assert told[1:] == [
        "alice answered", "bob answered", "alice out on jetson", "alice gone", "bob gone", "bob answered",
    ]  # fmt: skip
    assert not harness.sessions.alive("alice")
    assert harness.sessions.alive("bob")
    async with harness.store.transaction() as transaction:
        assert (await transaction.sessions([session.session_id]))[session.session_id].ended == "http"
    assert (await harness.running()) == {("holder", "elsewhere")}
    assert await harness.promised() == {"bob", "holder"}


async def test_who_is_nearly_due_and_waits_in_a_batch_is_not_logged_out(harness: BatchHarness) -> None:
    await harness.sessions.connected("alice")
    harness.sessions.liveness._deadlines.put("alice", harness.sessions.liveness.now())
    holder = await harness.hold()
    harness.connect("alice")
    await asyncio.sleep(0)
    tick = asyncio.create_task(harness.sessions.tick())
    await harness.release()
    await asyncio.gather(holder, tick)
    assert "alice gone" not in harness.told
    assert harness.sessions.alive("alice")


# --- the end ---


async def test_a_bridge_that_stops_tells_all_who_wait_and_leaves_no_task(harness: BatchHarness) -> None:
    await under_way(harness, "alice")
    harness.connect("alice")
    await harness.over()
    harness.store.asked.clear()
    harness.store.may_commit.clear()
    harness.connect("bob")
    await harness.store.asked.wait()
    harness.connect("carol")  # its turn has not even begun
    waiting = asyncio.create_task(harness.sessions.connected("dora"))
    await asyncio.sleep(0)
    await harness.sessions.stop()
    await asyncio.sleep(0)
    assert {uid: not_stored(answers) for uid, answers in harness.answers.items()} == {
        uid: ["the bridge stops"] for uid in ("alice", "bob", "carol")
    }
    with pytest.raises(StoreError, match="stops"):
        await waiting
    assert {task.get_name() for task in asyncio.all_tasks()} & {"connects"} == set()
    harness.connect("erin")
    await asyncio.sleep(0)
    assert not_stored(harness.answers["erin"]) == ["the bridge stops"]
    harness.store.may_commit.set()
    assert await harness.promised() == set()
