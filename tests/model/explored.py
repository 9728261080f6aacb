"""The world of the random histories, made ready to be searched: what can happen in it, and where searches begin."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bridge.sessions.events import Event, UserLoggedOut
from bridge.sessions.service import Sessions
from edge_node.session.rules import Decision
from tests.model.world import DEVICE, LOOK_S, STEP_S, World
from tests.model.world import T as TIME_OUT

MOST_UNDER_WAY = 3
# The three kinds of time are told apart by their size, so that a fingerprint can make each relative to its own now.
MONOTONIC_FROM, SERVICE_FROM = 1e6, 1e4
Moment = Literal["before", "after"]
Direction = Literal["up", "down"]
Fate = Literal["deliver", "lose", "double"]

ENOUGH_SLEEP_S = round(TIME_OUT) + 5


class Explored(World):
    """The world of the random histories with an edge that dies at its write, bounded queues and one more promise."""

    acknowledges_first = False
    """E1 the wrong way round."""

    def __init__(self) -> None:
        self.begun = False
        self.edge_dies: Moment | None = None
        self.outage_s = 0.0
        """For how long the ledger could not be written."""
        self.ended_before_a_wipe: set[str] = set()
        super().__init__()

    def _start_bridge(self, *, restored: bool = False) -> Sessions:
        if not self.begun:
            self.begun = True
            self.clock.advance(MONOTONIC_FROM - self.clock.monotonic())
            self.store.tables.seconds = SERVICE_FROM
        sessions = super()._start_bridge(restored=restored)
        # A bound method of this very world, which a copy can bind to itself; and the latest repetition that there is.
        self.store.before_commit = self._before_commit
        sessions._outbox._jitter = _one
        return sessions

    def _before_commit(self) -> None:
        self._maybe_die("commit")

    def _on_event(self, event: Event) -> None:
        if not isinstance(event, UserLoggedOut):  # no check reads these: they would only be copied
            super()._on_event(event)

    # What must hold, besides what World knows

    def check(self) -> None:
        super().check()
        held = self.disk.held
        # A late report of what was there before a wipe may end a session that the new installation was just given.
        # Its next hello ends it there, too.
        if held is not None and held.session_id not in self.ended_before_a_wipe:
            known = self.store.tables.sessions.get(held.session_id)
            is_owed = known is not None and known.ended is not None
            assert not is_owed or (DEVICE, held.session_id) in self.store.tables.pending, "a log-out is lost"

    def agree(self) -> None:
        self.edge_dies = None
        super().agree()

    # Time

    def time_passes(self, seconds: int) -> None:
        """A dead disk counts against users as little as a sleep does."""
        for _ in range(seconds):
            super().time_passes(1)
            self.outage_s = 0.0 if self.store.problem is None else self.outage_s + LOOK_S
            self.lost += LOOK_S if self.outage_s > STEP_S else 0.0

    def until_hello_s(self) -> int:
        at = self.edge._next_hello
        return 0 if at is None else math.ceil(at - self.clock.monotonic())

    def until_lapse_s(self) -> int:
        """To the last look at which the lease is not over."""
        return 0 if self.disk.held is None else math.ceil(self.edge._lease_ends - self.clock.monotonic()) - 1

    def a_moment(self) -> None:
        """Both sides do what is due now."""
        self.ask(self.sessions.tick())
        self._edge_looks()

    def calm_seconds(self) -> None:
        for _ in range(5):
            self.a_calm_second()

    # The network and the edge

    def passes(self, direction: Direction, index: int, fate: Fate) -> None:
        if direction == "up":
            report = self.up[index] if fate == "double" else self.up.pop(index)
            if fate != "lose":
                self.at_bridge(report)
        else:
            command = self.down[index] if fate == "double" else self.down.pop(index)
            if fate != "lose":
                self.at_edge(command)

    def forget_what_is_too_much(self) -> None:
        """Of too many messages the oldest one and the newest ones are left: losing is the network's right."""
        self.store.tables.audit.clear()
        for queue in (self.up, self.down):
            del queue[1 : max(1, len(queue) - MOST_UNDER_WAY + 1)]

    def _carry_out(self, decision: Decision) -> None:
        dies = self.edge_dies if decision.save is not None else None
        if self.acknowledges_first and decision.ack is not None:
            self.up.append(self.edge.ack(*decision.ack))
            decision = replace(decision, ack=None)
        if dies != "before":
            super()._carry_out(decision if dies is None else replace(decision, ack=None))
        if dies is not None:
            self.edge_dies = None
            self.edge_restarts()

    def edge_is_wiped(self) -> None:
        self.ended_before_a_wipe |= {entry.session_id for entry in self.disk.ended}
        super().edge_is_wiped()

    def card_is_restored(self) -> None:
        self._forget()
        super().card_is_restored()

    def machine_is_set_back(self) -> None:
        self._forget()
        super().machine_is_set_back()

    def _forget(self) -> None:
        self.ended_before_a_wipe |= self.over | {entry.session_id for entry in self.disk.ended}

    def someone_logs_out_beside_the_device(self) -> None:
        if self.edge.state.held is not None:
            self.log_out_beside_the_device(self.edge.state.held.uid)


def _one() -> float:
    return 1.0


@dataclass(frozen=True)
class Step:
    """One thing that people, machines or the network do.

    Attributes:
        faults: how much of the budget of faults it takes.
    """

    name: str
    do: Callable[[Explored], None]
    faults: int = 0
    may: Callable[[Explored], bool] = lambda _world: True


def _passing(direction: Direction, index: int, fate: Fate) -> Step:
    def queue(world: Explored) -> Sequence[object]:
        return world.up if direction == "up" else world.down

    def may(world: Explored) -> bool:
        under_way = queue(world)
        return index < len(under_way) and under_way[index] not in under_way[:index]

    def do(world: Explored) -> None:
        world.passes(direction, index, fate)

    return Step(f"{fate} {direction} {index}", do, int(fate != "deliver"), may)


def _arm(where: str) -> Callable[[Explored], None]:
    return lambda world: setattr(world, "kill_bridge_at", where)


def _doom(moment: Moment) -> Callable[[Explored], None]:
    return lambda world: setattr(world, "edge_dies", moment)


def _disk(full: bool) -> Callable[[Explored], None]:
    return lambda world: setattr(world, "edge_disk_is_full", full)


def _ledger(problem: str | None) -> Callable[[Explored], None]:
    return lambda world: setattr(world.store, "fail", problem)


STEPS = (
    Step("alice connects", lambda w: w.connect("alice")),
    Step("alice beats", lambda w: w.beat("alice"), may=lambda w: w.sessions.alive("alice")),
    Step("alice logs out", lambda w: w.log_out("alice"), may=lambda w: "alice" in w.owed),
    Step("bob logs in", lambda w: w.log_in("bob")),
    Step("log-out beside the device", lambda w: w.someone_logs_out_beside_the_device()),
    *(
        _passing(direction, index, fate)
        for fate in ("deliver", "lose", "double")
        for direction in ("up", "down")
        for index in range(MOST_UNDER_WAY)
    ),
    Step("a second", lambda w: w.time_passes(1)),
    Step("five seconds", lambda w: w.time_passes(5)),
    Step("until the next hello", lambda w: w.time_passes(w.until_hello_s()), may=lambda w: w.until_hello_s() > 1),
    Step(
        "until just before the lapse", lambda w: w.time_passes(w.until_lapse_s()), may=lambda w: w.until_lapse_s() > 1
    ),
    Step("past the deadline", lambda w: w.time_passes(round(TIME_OUT) + 1)),
    Step("past the lease", lambda w: w.a_long_silence()),
    Step("five calm seconds", lambda w: w.calm_seconds()),
    Step("edge restarts", lambda w: w.edge_restarts(), 1),
    Step("edge is wiped", lambda w: w.edge_is_wiped(), 1),
    Step("edge is copied", lambda w: w.edge_is_copied(), 1),
    Step("card is restored", lambda w: w.card_is_restored(), 0, lambda w: w.image is not None),
    Step("machine is set back", lambda w: w.machine_is_set_back(), 0, lambda w: w.image is not None),
    Step("edge dies before its next write", _doom("before"), 1, lambda w: w.edge_dies is None),
    Step("edge dies after its next write", _doom("after"), 1, lambda w: w.edge_dies is None),
    Step("edge's disk fills", _disk(full=True), 1, lambda w: not w.edge_disk_is_full),
    Step("edge's disk has room", _disk(full=False), 0, lambda w: w.edge_disk_is_full),
    Step("bridge restarts", lambda w: w.bridge_restarts(), 1),
    Step("bridge dies at its next commit", _arm("commit"), 1, lambda w: w.kill_bridge_at is None),
    Step("bridge dies at its next publish", _arm("publish"), 1, lambda w: w.kill_bridge_at is None),
    Step("bridge sleeps", lambda w: w.bridge_sleeps(ENOUGH_SLEEP_S), 1),
    Step("ledger fails", _ledger("disk full"), 1, lambda w: w.store.fail is None),
    Step("ledger heals", _ledger(None), 0, lambda w: w.store.fail is not None),
    Step("back-up", lambda w: w.back_up(), 1),
    Step("restore", lambda w: w.restore(), 0, lambda w: w.backup is not None),
)
A_MOMENT = Step("a moment", lambda w: w.a_moment())
BY_NAME = {step.name: step for step in (*STEPS, A_MOMENT)}
WITHIN_ONE_MOMENT = (
    A_MOMENT,
    *(
        step
        for step in STEPS
        if step.name.startswith(
            ("deliver", "lose", "double", "alice connects", "alice logs out", "bob logs in", "log-out")
        )
        or step.name.startswith(("edge restarts", "edge is wiped", "edge dies", "bridge restarts", "bridge dies"))
        or step.name in {"card is restored", "machine is set back"}
    ),
)
ALPHABETS: dict[str, tuple[Step, ...]] = {
    "all": STEPS,
    # No time passes: far fewer states, far longer traces. What races with what is all here.
    "moment": WITHIN_ONE_MOMENT,
}

ALICE_IS_IN = ("alice connects", "five calm seconds")
TWO_MORE = ("bob logs in", "five calm seconds", "alice connects", "log-out beside the device", "five calm seconds")
PREFIXES: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "alice is in": ALICE_IS_IN,
    "her log-out is under way": (*ALICE_IS_IN, "alice logs out"),
    "her grant and her hello are under way": ("alice connects", "a second", "double up 0"),
    "her renewal is under way": (*ALICE_IS_IN, "until the next hello", "deliver up 0"),
    "hellos in vain": ("past the deadline", "alice connects", "deliver up 2"),
    "log-out in vain": (*ALICE_IS_IN, "alice logs out", "past the deadline", "five seconds", *(("lose down 0",) * 3)),
    "old card": (*ALICE_IS_IN, "edge is copied", *(("edge restarts", "five calm seconds") * 3), "card is restored"),
    "old card again and again": (
        *ALICE_IS_IN, "edge is copied", *(("edge restarts", "five calm seconds") * 2),
        *(("card is restored", "five calm seconds") * 2), "card is restored",
    ),
    "set back to before her log-out": (
        *ALICE_IS_IN, "edge is copied", "alice logs out", "five calm seconds", "machine is set back",
    ),
    "old back-up": (*ALICE_IS_IN, "back-up", *(TWO_MORE * 5), "restore"),
}  # fmt: skip


def carry_out(world: Explored, step: Step) -> None:
    """Do it in this world; raises AssertionError when something does not hold then."""
    step.do(world)
    world.forget_what_is_too_much()
    world.check()
