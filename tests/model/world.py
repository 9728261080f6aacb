"""One device, two users, one bridge that may be killed, and an unreliable network: both sides' real rules.

Beside them a plain model of what people are owed, in real seconds.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from bridge.sessions.devices import Devices
from bridge.sessions.errors import DeviceBehindError
from bridge.sessions.events import Event, SessionEnded, UserLoggedOut
from bridge.sessions.service import Sessions
from bridge.storage.memory import MemoryStore, Tables
from bridge.storage.records import Session
from bridge.storage.store import StoreError
from contract.messages import Ack, Hello, Login, Logout, Message
from contract.topics import Topic
from edge_node.session.rules import Decision, EdgeSession, EdgeState
from infra.settings.bridge import BridgeSettings
from infra.settings.loader import Settings
from tests.support.clock import ManualClock
from tests.support.plain import run
from tests.support.posts import none_is_posted

T, GRACE, COALESCE, RESTART = 60.0, 20.0, 10.0, 15.0
LOOK_S, STEP_S = 1.0, 2.0
DEVICE = "jetson"
SETTINGS = Settings(
    bridge=BridgeSettings(
        heartbeat_timeout_s=T,
        lease_grace_s=GRACE,
        heartbeat_coalesce_s=COALESCE,
        restart_grace_s=RESTART,
        expiry_spread_s=0,
    )
)
M = TypeVar("M")


@dataclass
class Image:
    """A copy of the device: what its card holds and, of a machine that was saved whole, its memory."""

    disk: EdgeState
    edge: EdgeSession
    over: set[str]


class Killed(Exception):  # noqa: N818 - an event
    """The bridge is no more."""


@dataclass
class Owed:
    """What a user may expect; times are real seconds."""

    not_before: float
    """No log-out for silence before this moment."""
    credit_then: float
    lost_then: float
    sign: float


class World:
    """Messages may be lost, doubled, delayed and reordered; bridge and edge may be killed at any moment."""

    def __init__(self, *, claim: str | None = "alice") -> None:
        self.clock = ManualClock()
        self.ids = 0
        self.store = MemoryStore()
        self.down: list[Login | Logout] = []
        self.up: list[Hello | Ack] = []
        self.gone: list[tuple[str, str]] = []
        self.kill_bridge_at: str | None = None
        self.credit = 0.0
        """Real seconds that do not count against users: downtime, sleep, a dead disk, the grace after restarts."""
        self.lost = 0.0
        """The part of it that surely does not count: the bridge could hear nobody."""
        self.owed: dict[str, Owed] = {}
        self.over: set[str] = set()
        self.restored = False
        self.backup: Tables | None = None
        self.edge_disk_is_full = False
        self.image: Image | None = None
        self.claim = claim
        self.disk = EdgeState("install")
        self.sessions = self._start_bridge()
        self.edge = self._boot()

    # The processes

    def _start_bridge(self, *, restored: bool = False) -> Sessions:
        self.kill_bridge_at = None
        self.store.fail = None
        self.store.before_commit = lambda: self._maybe_die("commit")
        # Bound methods of this very world, which a copy can bind to itself.
        devices = Devices(self._send, none_is_posted)
        sessions = Sessions(self.store, SETTINGS, self.clock, devices, self._on_event)
        run(sessions.load(restored=restored))
        return sessions

    def _new_id(self) -> str:
        self.ids += 1
        return f"n{self.ids}"

    def _boot(self) -> EdgeSession:
        self.edge_disk_is_full = False
        self.disk = EdgeState(
            self.disk.install_id, self.disk.boot + 1, self.disk.generation, self.disk.held, self.disk.ended
        )
        edge = EdgeSession(self.disk, self.claim, self.clock.monotonic(), new_id=self._new_id, jitter=lambda: 0.5)
        edge.connected(self.clock.monotonic())
        return edge

    def _maybe_die(self, where: str) -> None:
        if self.kill_bridge_at == where:
            raise Killed

    def _send(self, _topic: Topic, owner: str, message: Message) -> bool:
        assert owner == DEVICE
        assert isinstance(message, Login | Logout)
        self._maybe_die("publish")
        self.down.append(message)
        return True

    def _on_event(self, event: Event) -> None:
        match event:
            case SessionEnded(session):
                self._ended(session)
            case UserLoggedOut(uid, reason):
                self.gone.append((uid, reason))

    def _ended(self, session: Session) -> None:
        """Guarantee 2: nobody is logged out who should not be."""
        if session.ended == "heartbeat_timeout":
            owed = self.owed.get(session.uid)
            if owed is not None and owed.not_before:
                deadline = owed.not_before + self.lost - owed.lost_then
                assert deadline <= self.clock.monotonic(), "logged out before the deadline"
        if session.ended == "operator":
            assert self.restored, "no operator was here"

    def ask(self, coroutine: Any) -> Any:
        """The bridge's answer; None when it was killed over it, could not store it, or the device would not hear it."""
        try:
            return run(coroutine)
        except (StoreError, DeviceBehindError):
            return None
        except Killed:
            self.bridge_restarts()
            return None

    # What people do

    def _sign_of_life(self, uid: str, *, answered: bool) -> None:
        """Answered, it must count; unanswered, it may."""
        now = self.clock.monotonic()
        before = self.owed.get(uid, Owed(0.0, 0.0, 0.0, 0.0)).not_before
        self.owed[uid] = Owed(now + T if answered else before, self.credit, self.lost, now)

    def connect(self, uid: str) -> None:
        self._sign_of_life(uid, answered=self.ask(self.sessions.connected(uid)) is not None)

    def beat(self, uid: str) -> None:
        alive = self.sessions.alive(uid)
        answered = self.ask(self.sessions.heartbeat(uid)) is not None
        if alive:
            self._sign_of_life(uid, answered=answered)

    def log_in(self, uid: str) -> None:
        was_alive = self.sessions.alive(uid)
        answered = self.ask(self.sessions.login(uid, DEVICE, "app")) is not None
        if not was_alive:
            self._sign_of_life(uid, answered=answered)

    def log_out(self, uid: str) -> None:
        """Answered or not: from now on nothing is owed to the user but that it ends."""
        if uid in self.owed:
            self.owed[uid].not_before = 0.0
        self.ask(self.sessions.logout(uid, "app"))

    def log_out_beside_the_device(self, uid: str) -> None:
        decision = self.edge.local_logout(uid, self.clock.monotonic())
        if decision is not None:
            self._carry_out(decision)

    # What time and the world do

    def time_passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            self.ask(self.sessions.tick())
            if self.store.problem is not None:
                self.credit += 1
            self._edge_looks()

    def _edge_looks(self) -> None:
        self._carry_out(self.edge.tick(self.clock.monotonic()))
        self.check()
        if self.edge.hello_due(self.clock.monotonic()):
            self.up.append(self.edge.hello(self.clock.monotonic(), version="", model=""))

    def a_calm_second(self) -> None:
        self.time_passes(1)
        self.deliver_everything()

    def a_long_silence(self) -> None:
        """Longer than every deadline, lease and grace, while the network carries nothing."""
        self.time_passes(round(T + GRACE) + 1)

    def without_the_bridge(self, seconds: int) -> None:
        """It is stopped (SIGSTOP), or down: only the edge lives."""
        self.lost += max(0.0, seconds - STEP_S)
        for _ in range(seconds):
            self.clock.advance(1)
            self.credit += 1
            self._edge_looks()

    def bridge_sleeps(self, seconds: int) -> None:
        self.without_the_bridge(seconds)

    def bridge_restarts(self, *, after_s: int = 0, restored: bool = False) -> None:
        self.without_the_bridge(after_s)
        self.credit += RESTART + COALESCE + STEP_S
        self.sessions = self._start_bridge(restored=restored)

    def back_up(self) -> None:
        self.backup = self.store.tables.copy()

    def restore(self) -> None:
        if self.backup is not None:
            self.restored = True
            self.store.tables = self.backup.copy()
            for owed in self.owed.values():
                # Whoever left after the back-up may seem to be there again.
                owed.sign = self.clock.monotonic()
                owed.not_before = 0.0
                owed.credit_then = self.credit
            self.bridge_restarts(restored=True)

    def edge_restarts(self) -> None:
        self.edge = self._boot()

    def edge_is_wiped(self) -> None:
        """A new installation on the same device: what ran there counts as ended, and what it ended it has forgotten."""
        self.disk = EdgeState(self._new_id())
        self.over.clear()
        self.edge_restarts()

    def edge_is_copied(self) -> None:
        """Its card, and its memory as a saved virtual machine has it."""
        self.image = Image(self.disk, copy(self.edge), set(self.over))

    def card_is_restored(self) -> None:
        """It starts from the copy, as often as one likes: what it ended since then counts as never done."""
        if self.image is not None:
            self.disk = self.image.disk
            self.over = set(self.image.over)
            self.edge_restarts()

    def machine_is_set_back(self) -> None:
        """The same, and it goes on where the copy was made; its connection is another one."""
        if self.image is not None:
            self.disk = self.image.disk
            self.over = set(self.image.over)
            self.edge = copy(self.image.edge)
            self.edge.disconnected()
            self.edge.connected(self.clock.monotonic())
            self._carry_out(self.edge.tick(self.clock.monotonic()))

    def a_message_passes(self, queue: list[M], deliver: Callable[[M], None], chance: Random) -> None:
        """Any one of those under way, in any order; it may be lost or doubled."""
        if not queue:
            return
        message = queue[chance.randrange(len(queue))]
        fate = chance.choice(["deliver"] * 4 + ["lose", "double"])
        if fate != "double":
            queue.remove(message)
        if fate != "lose":
            deliver(message)

    def deliver_everything(self) -> None:
        while self.up or self.down:
            if self.up:
                self.at_bridge(self.up.pop(0))
            if self.down:
                self.at_edge(self.down.pop(0))

    def at_edge(self, message: Login | Logout) -> None:
        now = self.clock.monotonic()
        if isinstance(message, Login):
            self._carry_out(self.edge.login(message, now))
        else:
            self._carry_out(self.edge.logout(message, now))

    def at_bridge(self, report: Hello | Ack) -> None:
        before = self._adopted()
        self.ask(self.sessions.reports([(DEVICE, report)]))
        if self._adopted() > before:
            assert self.restored, "a session that the ledger does not know"
            assert report.uid is not None
            self._sign_of_life(report.uid, answered=False)

    def _adopted(self) -> int:
        return sum(line.event == "adopted" for line in self.store.audit)

    def _carry_out(self, decision: Decision) -> None:
        if decision.save is not None:
            if self.edge_disk_is_full:
                self.edge.suspend()
                return
            before = self.disk.held
            self.disk = decision.save
            self.edge.stored()
            if decision.renumbered:
                self.edge.disconnected()
                self.edge.connected(self.clock.monotonic())
            if before is not None and (self.disk.held is None or self.disk.held.session_id != before.session_id):
                assert before.session_id not in self.over, "executed twice"
                self.over.add(before.session_id)
        if decision.ack is not None:
            self.up.append(self.edge.ack(*decision.ack))

    # What must always hold

    def check(self) -> None:
        held = self.disk.held
        ended = self.over | {entry.session_id for entry in self.disk.ended}
        assert held is None or held.session_id not in ended, "an ended session runs again"
        uid = self.edge.active_uid
        if uid is not None:
            assert uid in self.owed, "somebody whom we never heard"
            latest = self.owed[uid].sign + T + GRACE
            credit = self.credit - self.owed[uid].credit_then
            assert self.clock.monotonic() <= latest + credit + STEP_S, "used beyond deadline and grace"

    def agree(self) -> None:
        """When the world is kind again, device and ledger agree before the next renewal would have been due.

        QoS 1 loses messages only with a connection, so a lossy time ends with a new one.
        """
        self.store.fail = None
        self.kill_bridge_at = None
        self.edge_disk_is_full = False
        self.edge.connected(self.clock.monotonic())
        for _ in range(round((T + GRACE + COALESCE + RESTART) / 3) + 12):
            self.deliver_everything()
            for uid in list(self.owed):
                if self.sessions.alive(uid) and self.owed[uid].not_before:
                    self.beat(uid)
            self.a_calm_second()
        assert self.edge.active_uid == self.sessions.user_of(DEVICE), "device and ledger disagree"
        held = self.disk.held
        running = self.store.tables.running(DEVICE)
        assert (held.session_id if held else None) == (running.session_id if running else None), "different sessions"
        assert not self.store.tables.pending, "a log-out is not settled"
