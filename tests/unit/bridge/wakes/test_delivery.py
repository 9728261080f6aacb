"""The whole table of a wake's transitions, walked by the methods of its owner."""

from collections.abc import Callable
from typing import get_args

import pytest

from bridge.wakes import delivery as module
from bridge.wakes.delivery import (
    FATES,
    RINGING,
    TRANSITIONS,
    Deliveries,
    Delivery,
    Event,
    Fate,
    First,
    State,
    TransitionError,
    received,
)
from bridge.wakes.missed import MissedWakes
from contract.messages import OutcomeStatus, Wake

TABLE: dict[tuple[State, Event], tuple[State, OutcomeStatus]] = {
    ("received", "stale"): ("expired", "expired"),
    ("received", "refused"): ("rejected", "rejected"),
    ("received", "unreached"): ("user_not_connected", "user_not_connected"),
    ("received", "reached"): ("sent", "sent"),
    ("received", "reached_legacy"): ("sent_legacy", "sent"),
    ("user_not_connected", "reached"): ("sent", "sent"),
    ("user_not_connected", "push_accepted"): ("pushed", "pushed"),
    ("user_not_connected", "over"): ("missed", "user_not_connected"),
    ("user_not_connected", "logged_out"): ("stopped", "user_not_connected"),
    ("user_not_connected", "crowded_out"): ("forgotten", "user_not_connected"),
    ("user_not_connected", "elsewhere"): ("elsewhere", "sent"),
    ("user_not_connected", "acked_elsewhere"): ("acked", "acked"),
    ("elsewhere", "reached"): ("sent", "sent"),
    ("elsewhere", "acked"): ("acked", "acked"),
    ("elsewhere", "acked_elsewhere"): ("acked", "acked"),
    ("elsewhere", "over"): ("stopped", "sent"),
    ("elsewhere", "logged_out"): ("stopped", "sent"),
    ("elsewhere", "crowded_out"): ("forgotten", "sent"),
    ("sent", "acked_elsewhere"): ("acked", "acked"),
    ("sent_legacy", "acked_elsewhere"): ("acked", "acked"),
    ("pushed", "acked_elsewhere"): ("acked", "acked"),
    ("sent", "acked"): ("acked", "acked"),
    ("sent", "push_accepted"): ("pushed", "pushed"),
    ("sent", "over"): ("missed", "sent"),
    ("sent", "logged_out"): ("stopped", "sent"),
    ("sent", "crowded_out"): ("forgotten", "sent"),
    ("sent_legacy", "acked"): ("acked", "acked"),
    ("sent_legacy", "over"): ("stopped", "sent"),
    ("sent_legacy", "logged_out"): ("stopped", "sent"),
    ("sent_legacy", "crowded_out"): ("forgotten", "sent"),
    ("pushed", "acked"): ("acked", "acked"),
    ("pushed", "over"): ("missed", "pushed"),
    ("pushed", "logged_out"): ("stopped", "pushed"),
    ("pushed", "crowded_out"): ("forgotten", "pushed"),
    ("stopped", "acked"): ("acked", "acked"),
    ("missed", "push_accepted"): ("pushed_late", "pushed"),
    ("forgotten", "push_accepted"): ("pushed_late", "pushed"),
}
"""What the table must say, and what the device hears then."""

PATHS: dict[State, tuple[Event, ...]] = {
    "received": (),
    "user_not_connected": ("unreached",),
    "elsewhere": ("unreached", "elsewhere"),
    "sent": ("reached",),
    "sent_legacy": ("reached_legacy",),
    "pushed": ("unreached", "push_accepted"),
    "acked": ("reached", "acked"),
    "expired": ("stale",),
    "rejected": ("refused",),
    "missed": ("reached", "over"),
    "stopped": ("reached", "logged_out"),
    "forgotten": ("reached", "crowded_out"),
    "pushed_late": ("reached", "over", "push_accepted"),
}
FIRST: tuple[First, ...] = ("stale", "refused", "unreached", "reached", "reached_legacy")
LATER: tuple[Event, ...] = (
    *("reached", "acked", "push_accepted", "over", "logged_out", "crowded_out", "elsewhere", "acked_elsewhere"),
)
EVENTS: tuple[Event, ...] = tuple(dict.fromkeys((*FIRST, *LATER)))


def wake(wake_id: str, uid: str = "alice") -> Wake:
    return Wake(id=wake_id, uid=uid, command="c", timestamp="t")


class Owner:
    """One wake among those of its owner, which remembers three."""

    def __init__(self) -> None:
        self.now = 100.0
        self.missed = MissedWakes()
        self.settled: dict[str, int] = dict.fromkeys(FATES, 0)
        self.deliveries = Deliveries(self.missed, settled=self.settled)
        self.delivery = received(wake("w1"), "jetson", self.now, "date")
        self._later: dict[Event, Callable[[], object]] = {
            "reached": lambda: self.deliveries.reached(self.delivery, self.now),
            "acked": self._ack,
            "push_accepted": lambda: self.deliveries.pushed(self.delivery, self.now),
            "over": self._over,
            "logged_out": lambda: self.deliveries.logged_out("alice", self.now),
            "crowded_out": self._crowd_out,
            "elsewhere": lambda: self.deliveries.elsewhere(self.delivery, "sent", self.now),
            "acked_elsewhere": lambda: self.deliveries.elsewhere(self.delivery, "acked", self.now),
        }

    def walk(self, state: State) -> Delivery:
        """By the methods alone."""
        for event in PATHS[state]:
            self.happens(event)
        assert self.delivery.state == state
        return self.delivery

    def happens(self, event: Event) -> None:
        self.now += 0.001
        if self.delivery.state == "received":
            (first,) = (first for first in FIRST if first == event)
            self.deliveries.add(self.delivery, first, self.now)
        else:
            self._later[event]()

    def rings(self) -> bool:
        return self.delivery in self.deliveries._living.get("alice", [])

    def _ack(self) -> None:
        known = self.deliveries.known("w1")  # an app knows a wake by its id alone
        if known is not None:
            self.deliveries.acked(known, self.now)

    def _over(self) -> None:
        self.now = max(self.now, self.delivery.expires_at)
        self.deliveries.due_again(self.now)

    def _crowd_out(self) -> None:
        for number in range(module.REMEMBERED_WAKES):
            other = received(wake(f"other-{number}", "bob"), "jetson", self.now, "date")
            self.deliveries.add(other, "reached", self.now)


@pytest.fixture
def owner(monkeypatch: pytest.MonkeyPatch) -> Owner:
    monkeypatch.setattr(module, "REMEMBERED_WAKES", 3)
    return Owner()


def test_the_table_has_these_transitions_and_no_others() -> None:
    states = {(state, event): after for state, row in TRANSITIONS.items() for event, after in row.items()}
    assert states == {step: after for step, (after, _) in TABLE.items()}
    assert set(TRANSITIONS) == set(get_args(State)) == set(PATHS)


@pytest.mark.parametrize(("state", "event"), TABLE)
def test_each_transition_of_the_table_is_made_by_a_method(owner: Owner, state: State, event: Event) -> None:
    delivery = owner.walk(state)
    owner.happens(event)
    assert (delivery.state, delivery.status) == TABLE[state, event]
    assert owner.rings() == (delivery.state in RINGING)
    assert [missed.id for missed in owner.missed.take("alice", [])] == (
        ["w1"] if "missed" in {state, delivery.state} else []
    )


@pytest.mark.parametrize(
    ("state", "event"),
    [(state, event) for state in PATHS if state != "received" for event in LATER if (state, event) not in TABLE],
)
def test_what_happens_in_any_other_state_changes_nothing(owner: Owner, state: State, event: Event) -> None:
    delivery = owner.walk(state)
    before = (delivery.status, delivery.latency_ms)
    owner.happens(event)
    assert (delivery.state, delivery.status, delivery.latency_ms) == (state, *before)
    assert owner.rings() == (state in RINGING)


@pytest.mark.parametrize(
    ("state", "event"), [(state, event) for state in PATHS for event in EVENTS if (state, event) not in TABLE]
)
def test_a_transition_that_the_table_does_not_have_is_a_fault(owner: Owner, state: State, event: Event) -> None:
    delivery = owner.walk(state)
    before = (delivery.status, delivery.latency_ms)
    with pytest.raises(TransitionError, match=f"{event}: there is no such transition of a wake that is {state}"):
        owner.deliveries._move(delivery, event, owner.now)
    assert (delivery.state, delivery.status, delivery.latency_ms) == (state, *before)
    assert owner.rings() == (state in RINGING)


@pytest.mark.parametrize(
    ("before", "event", "fate"),
    [
        ("sent", "acked", "acked"),
        ("pushed", "acked", "acked"),
        ("sent", "over", "missed"),
        ("user_not_connected", "over", "missed"),
        ("pushed", "over", "pushed"),
        ("sent_legacy", "over", "delivered"),
        ("sent", "logged_out", "stopped"),
        ("pushed", "crowded_out", "forgotten"),
        ("sent", "push_accepted", None),
        ("elsewhere", "over", "elsewhere"),
        ("sent", "acked_elsewhere", "elsewhere"),
        ("user_not_connected", "elsewhere", None),
    ],
)
def test_a_wake_that_no_longer_rings_is_counted_once(
    owner: Owner, before: State, event: Event, fate: Fate | None
) -> None:
    owner.walk(before)
    owner.happens(event)
    counted = {name: count for name, count in owner.settled.items() if count}
    assert counted == ({} if fate is None else {fate: 1})
