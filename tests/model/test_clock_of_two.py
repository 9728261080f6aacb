"""Two bridges on one row of service time: random histories with delayed answers, stops and races.

The real rules of both (ServiceTime, SharedLiveness, UsersInTurn) and the real row.
A user whose heartbeat was answered is not logged out
before T later, and no lease is longer than the row allows.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from random import Random
from unittest.mock import patch

import pytest

from bridge.sessions.rules.deadlines import LONGEST_STEP_S, ServiceTime
from bridge.sessions.rules.liveness import Liveness
from bridge.sessions.rules.shared_liveness import SharedLiveness, UsersInTurn
from bridge.storage.memory import Tables
from bridge.storage.records import DurableDeadline, Lifetime, ServiceSeconds
from infra.settings.bridge import BridgeSettings
from tests.support.clock import ManualClock

T, Q, GRACE = 10.0, 3.0, 4.0
TICK_S = 0.5
STEPS = 200
ALICE = "alice"
SETTINGS = BridgeSettings(
    heartbeat_timeout_s=T, heartbeat_coalesce_s=Q, lease_grace_s=GRACE, restart_grace_s=0, expiry_spread_s=0
)


@dataclass(frozen=True)
class Answer:
    """What a question found, under way to who asked it."""

    sent_at: float
    seconds: float
    promise: DurableDeadline


class TwoBridges:
    """Each of them knows the row by late answers only; a stopped one does nothing.

    Args:
        raised_by: the service time from which a heartbeat counts, of the bridge that took it and of the row.
    """

    def __init__(self, chance: Random, raised_by: Callable[[Liveness, Tables], float]) -> None:
        self.chance = chance
        self.clock = ManualClock()
        self.began = self.clock.monotonic()
        self.tables = Tables()
        self.tables.apply(DurableDeadline(ALICE, T + Q))
        self.answered_at = self.began - T
        self.bridges = [SharedLiveness(SETTINGS, self.clock) for _ in range(2)]
        for bridge in self.bridges:
            bridge.load_shared(0.0, self.tables.promises.values(), {}, self.began)
        self.under_way: list[Answer | None] = [None, None]
        self.stopped_until = [self.began, self.began]
        self._raised_by = raised_by

    @property
    def gone(self) -> bool:
        return ALICE not in self.tables.promises

    def step(self) -> None:
        number = self.chance.randrange(2)
        what = self.chance.random()
        if what < 0.42 or self.stopped_until[number] > self.clock.monotonic():
            self.clock.advance(TICK_S)
            return
        acts: dict[Callable[[int], None], float] = {
            self.asks: 8, self.is_answered: 16, self.pushes_time_on: 10, self.hears_a_heartbeat: 14,
            self.ends_who_is_due: 5, self.stops: 2, self.grants_a_lease: 3,
        }  # fmt: skip
        self.chance.choices(list(acts), list(acts.values()))[0](number)

    def asks(self, number: int) -> None:
        """The question reaches the row at once, its answer comes later."""
        if self.under_way[number] is None:
            now = self.clock.monotonic()
            self.under_way[number] = Answer(now, self.tables.seconds, self.tables.promises[ALICE])

    def is_answered(self, number: int) -> None:
        answer, self.under_way[number] = self.under_way[number], None
        if answer is not None:
            bridge = self.bridges[number]
            bridge.seen(answer.seconds, sent_at=answer.sent_at, arrived_at=self.clock.monotonic())
            bridge.promised(answer.promise)

    def pushes_time_on(self, number: int) -> None:
        before, bridge, now = self.tables.seconds, self.bridges[number], self.clock.monotonic()
        seconds = bridge.now_at(now)
        self.tables.apply(ServiceSeconds(seconds))
        if self.tables.seconds == seconds:
            bridge.kept(seconds, now)
        assert self.tables.seconds >= before, "service time runs back"
        assert self.tables.seconds <= now - self.began, "service time runs faster than real time"
        assert self.tables.seconds <= min(each.latest() for each in self.bridges), "an upper bound is passed"

    def hears_a_heartbeat(self, number: int) -> None:
        bridge = self.bridges[number]
        if not bridge.covered(ALICE):
            self.tables.apply(DurableDeadline(ALICE, self._raised_by(bridge, self.tables) + T + Q))
            bridge.promised(self.tables.promises[ALICE])
        self.answered_at = self.clock.monotonic()

    def ends_who_is_due(self, _number: int) -> None:
        if self.tables.promises[ALICE].until_s <= self.tables.seconds:
            del self.tables.promises[ALICE]
            early = self.answered_at + T - self.clock.monotonic()
            assert early <= 0, f"logged out {early} s early"

    def grants_a_lease(self, _number: int) -> None:
        """In a turn, by the rows; any bridge may advance the service time in the next moment."""
        promise, seconds = self.tables.promises[ALICE], self.tables.seconds
        users = UsersInTurn(SETTINGS, seconds, {ALICE: Lifetime(promise.until_s)})
        latest = max(seconds, *(bridge.now() for bridge in self.bridges))
        assert users.lease_s(ALICE) <= promise.until_s - Q + GRACE - latest, "a lease is too long"

    def stops(self, number: int) -> None:
        self.stopped_until[number] = self.clock.monotonic() + self.chance.randrange(1, 30) * TICK_S


def live(seed: int, raised_by: Callable[[Liveness, Tables], float] | None = None) -> None:
    """One history; raises AssertionError when something does not hold."""
    world = TwoBridges(Random(seed), raised_by or (lambda _bridge, tables: tables.seconds))  # noqa: S311
    for _ in range(STEPS):
        if world.gone:
            return
        world.step()


def test_no_history_of_two_bridges_ends_a_session_early() -> None:
    for seed in range(1500):
        live(seed)


def _covered_by_the_lower_bound() -> AbstractContextManager[object]:
    return patch.object(Liveness, "covered", lambda self, uid: self._covers(uid, self.now()))


def _leases_by_the_row_alone() -> AbstractContextManager[object]:
    real = UsersInTurn.lease_s
    return patch.object(UsersInTurn, "lease_s", lambda self, uid: real(self, uid) + LONGEST_STEP_S)


def _others_step_is_forgotten() -> AbstractContextManager[object]:
    real = ServiceTime.latest
    return patch.object(ServiceTime, "latest", lambda self, now: real(self, now) - LONGEST_STEP_S)


def _the_upper_bound_counts_from_the_answer() -> AbstractContextManager[object]:
    def latest(self: ServiceTime, now: float) -> float:
        return self._kept + now - self._kept_at

    return patch.object(ServiceTime, "latest", latest)


def _time_is_added() -> AbstractContextManager[object]:
    real = Tables.apply

    def apply(self: Tables, change: object) -> None:
        if isinstance(change, ServiceSeconds):
            self.seconds += TICK_S
        else:
            real(self, change)  # type: ignore[arg-type]

    return patch.object(Tables, "apply", apply)


def _the_last_writer_is_right() -> AbstractContextManager[object]:
    real = Tables.apply

    def apply(self: Tables, change: object) -> None:
        if isinstance(change, ServiceSeconds):
            self.seconds = change.seconds
        else:
            real(self, change)  # type: ignore[arg-type]

    return patch.object(Tables, "apply", apply)


EARLY, LEASE, BACK, FAST = "early", "a lease is too long", "runs back", "faster than real time"
PASSED = "an upper bound is passed"
FOUND = {
    _covered_by_the_lower_bound: (3879, EARLY),
    _leases_by_the_row_alone: (1, LEASE),
    _others_step_is_forgotten: (3, PASSED),
    _the_upper_bound_counts_from_the_answer: (1, PASSED),
    _time_is_added: (0, FAST),
    _the_last_writer_is_right: (0, BACK),
}
"""Wrong rules, the history that finds each, and what does not hold in it."""


@pytest.mark.parametrize("wrong", FOUND, ids=lambda wrong: wrong.__name__.strip("_"))
def test_a_wrong_rule_is_found_by_its_history(wrong: Callable[[], AbstractContextManager[object]]) -> None:
    seed, says = FOUND[wrong]
    with wrong(), pytest.raises(AssertionError, match=says):
        live(seed)


def test_a_promise_reckoned_in_memory_ends_a_session_early() -> None:
    """So a heartbeat raises the promise in the row, from the row's own time."""
    with pytest.raises(AssertionError, match=EARLY):
        live(14161, lambda bridge, _tables: bridge.now())
