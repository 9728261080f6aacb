"""Random histories of one device, two users and an unreliable network: both sides' real rules against a plain model."""

from collections.abc import Callable
from itertools import count
from random import Random
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.ledger import Session
from bridge.sessions import Sessions
from bridge.store import MemoryStore
from contract.messages import Ack, Hello, Login, Logout, Message
from contract.settings import BridgeSettings
from contract.topics import Topic
from edge_node.session import Decision, EdgeSession, EdgeState
from tests.support.clock import ManualClock
from tests.support.plain import run

T, GRACE = 60.0, 20.0
DEVICE = "jetson"
M = TypeVar("M")


class World:
    """Messages may be lost, doubled, delayed and reordered; the edge may be killed at any moment."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.ids = count(1)
        self.down: list[Login | Logout] = []
        self.up: list[Hello | Ack] = []
        self.sessions = Sessions(
            MemoryStore(),
            BridgeSettings(heartbeat_timeout_s=T, lease_grace_s=GRACE),
            self.clock,
            send=self._send,
            on_ended=self._ended,
            on_gone=lambda _uid, _reason: None,
        )
        self.disk = EdgeState("install")
        self.edge = self._boot()
        # The plain model: what must be true, in real seconds.
        self.deadline: dict[str, float] = {}
        self.longest: dict[str, float] = {}
        self.over: set[str] = set()

    def _new_id(self) -> str:
        return f"n{next(self.ids)}"

    def _boot(self) -> EdgeSession:
        self.disk = EdgeState(
            self.disk.install_id, self.disk.boot + 1, self.disk.generation, self.disk.held, self.disk.ended
        )
        edge = EdgeSession(self.disk, "alice", self.clock.monotonic(), new_id=self._new_id, jitter=lambda: 0.5)
        edge.connected(self.clock.monotonic())
        return edge

    def _send(self, _topic: Topic, owner: str, message: Message) -> bool:
        assert owner == DEVICE
        assert isinstance(message, Login | Logout)
        self.down.append(message)
        return True

    def _ended(self, session: Session) -> None:
        """Guarantee 2: nobody is logged out who should not be."""
        if session.ended in {"heartbeat_timeout", "app"}:
            assert self.deadline.get(session.uid, 0.0) <= self.clock.monotonic(), "logged out before the deadline"

    def _live(self, uid: str) -> None:
        self.deadline[uid] = self.longest[uid] = self.clock.monotonic() + T

    # What people do

    def connect(self, uid: str) -> None:
        self._live(uid)
        run(self.sessions.connected(uid))

    def beat(self, uid: str) -> None:
        if run(self.sessions.heartbeat(uid)) is not None:
            self._live(uid)

    def log_in(self, uid: str) -> None:
        if not self.sessions.alive(uid):
            self._live(uid)
        run(self.sessions.login(uid, DEVICE, "app"))

    def log_out(self, uid: str) -> None:
        self.deadline.pop(uid, None)
        run(self.sessions.logout(uid, "app"))

    def log_out_beside_the_device(self, uid: str) -> None:
        decision = self.edge.local_logout(uid, self.clock.monotonic())
        if decision is not None:
            self._carry_out(decision)

    # What time and the world do

    def time_passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            run(self.sessions.tick())
            self._carry_out(self.edge.tick(self.clock.monotonic()))
            self.check()
            if self.edge.hello_due(self.clock.monotonic()):
                self.up.append(self.edge.hello(self.clock.monotonic(), version="", model=""))

    def a_calm_second(self) -> None:
        self.time_passes(1)
        self._deliver_everything()

    def a_long_silence(self) -> None:
        """Longer than every deadline, lease and grace, while the network carries nothing."""
        self.time_passes(round(T + GRACE) + 1)

    def the_edge_is_killed(self) -> None:
        self.edge = self._boot()

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

    def _deliver_everything(self) -> None:
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
        run(self.sessions.report(DEVICE, report))

    def _carry_out(self, decision: Decision) -> None:
        if decision.save is not None:
            before = self.disk.held
            self.disk = decision.save
            self.edge.stored()
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
        assert uid is None or self.clock.monotonic() <= self.longest[uid] + GRACE, "used beyond deadline and grace"

    def agree(self) -> None:
        """When the world is kind again, device and ledger agree before the next renewal would have been due.

        QoS 1 loses messages only with a connection, so a lossy time ends with a new one.
        """
        self.edge.connected(self.clock.monotonic())
        for _ in range(round((T + GRACE) / 3) + 12):
            self._deliver_everything()
            for uid in list(self.deadline):
                self.beat(uid)
            self.a_calm_second()
        assert self.edge.active_uid == self.sessions.user_of(DEVICE), "device and ledger disagree"


STEPS = (
    ["connect"] * 6
    + ["beat", "log_in", "log_out"] * 4
    + ["log_out_beside_the_device"] * 2
    + ["the_edge_is_killed"] * 3
    + ["a_long_silence"] * 5
    + ["time_passes"] * 15
    + ["a_calm_second"] * 17
    + ["down", "up"] * 20
)


@settings(max_examples=600, deadline=None, print_blob=True)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=40, max_size=80), chance=st.randoms(use_true_random=False))
def test_no_history_breaks_a_guarantee(steps: list[str], chance: Random) -> None:
    world = World()
    for step in steps:
        if step == "down":
            world.a_message_passes(world.down, world.at_edge, chance)
        elif step == "up":
            world.a_message_passes(world.up, world.at_bridge, chance)
        elif step == "time_passes":
            world.time_passes(chance.choice([1, 1, 2, 5, 15]))
        elif step in {"a_calm_second", "a_long_silence", "the_edge_is_killed"}:
            getattr(world, step)()
        else:
            getattr(world, step)(chance.choice(["alice", "alice", "bob"]))
        world.check()
    world.agree()
