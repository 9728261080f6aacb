"""The state of each wake, and the one table of its transitions. Decides, sends nothing."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Literal, get_args

from msgspec import Struct

from bridge.storage.records import Missed
from bridge.stories.records import Step, forgotten
from bridge.wakes.missed import MissedWakes
from contract.messages import OutcomeStatus, Wake
from contract.wake_codec import QuickWake

REMEMBERED_WAKES = 10_000
AGAIN_S = 2.0
PUSH_AFTER_S = 1.5
"""How long a socket has to accept a wake: a half-open socket of a sleeping phone swallows it silently."""

State = Literal[
    "received",
    "user_not_connected",
    "elsewhere",  # no socket here, but at another bridge
    "sent",
    "sent_legacy",  # an app that cannot confirm has it
    "pushed",
    "acked",
    "expired",
    "rejected",
    "missed",
    "stopped",  # stops ringing, and is not missed
    "forgotten",  # too many newer wakes came
    "pushed_late",  # a push service accepted it just when it stopped ringing
]
Reach = Literal["unreached", "reached", "reached_legacy"]
"""The sockets' result for a frame: none accepted it, one accepted it, one accepted it whose app cannot confirm."""
First = Reach | Literal["stale", "refused"]
Event = First | Literal[
    "acked", "push_accepted", "over", "logged_out", "crowded_out",
    "elsewhere",  # another bridge rang it, or has pushed it
    "acked_elsewhere",
]  # fmt: skip
Confirmation = Literal["counts", "late", "ignored"]

TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    "received": {
        "stale": "expired",
        "refused": "rejected",
        "unreached": "user_not_connected",
        "reached": "sent",
        "reached_legacy": "sent_legacy",
    },
    "user_not_connected": {
        "reached": "sent",
        "push_accepted": "pushed",
        "elsewhere": "elsewhere",
        "acked_elsewhere": "acked",
        "over": "missed",
        "logged_out": "stopped",
        "crowded_out": "forgotten",
    },
    "elsewhere": {
        "reached": "sent",
        "acked": "acked",  # an app that the other bridge rang, and that is here now
        "acked_elsewhere": "acked",
        "over": "stopped",
        "logged_out": "stopped",
        "crowded_out": "forgotten",
    },
    "sent": {
        "acked": "acked",
        "push_accepted": "pushed",
        "acked_elsewhere": "acked",
        "over": "missed",
        "logged_out": "stopped",
        "crowded_out": "forgotten",
    },
    "sent_legacy": {
        "acked": "acked",
        "acked_elsewhere": "acked",
        "over": "stopped",
        "logged_out": "stopped",
        "crowded_out": "forgotten",
    },
    "pushed": {
        "acked": "acked",
        "acked_elsewhere": "acked",
        "over": "missed",
        "logged_out": "stopped",
        "crowded_out": "forgotten",
    },
    "stopped": {"acked": "acked"},  # an app that had it before its user logged out, and reconnected
    "missed": {"push_accepted": "pushed_late"},
    "forgotten": {"push_accepted": "pushed_late"},
    "acked": {},
    "expired": {},
    "rejected": {},
    "pushed_late": {},
}
"""Every change of a wake's state; no other code changes it."""

RINGING: frozenset[State] = frozenset({"user_not_connected", "elsewhere", "sent", "sent_legacy", "pushed"})
"""In these states a wake is repeated, and rings an app that connects."""
_PUSHABLE: frozenset[State] = frozenset(state for state in RINGING if "push_accepted" in TRANSITIONS[state])
_TAKEN: frozenset[State] = frozenset({"sent_legacy", "acked", "stopped"})
_TOLD: Mapping[State, OutcomeStatus] = {
    "user_not_connected": "user_not_connected",
    "elsewhere": "sent",
    "sent": "sent",
    "sent_legacy": "sent",
    "pushed": "pushed",
    "pushed_late": "pushed",
    "acked": "acked",
    "expired": "expired",
    "rejected": "rejected",
}
"""The outcome of a state; in other states a wake keeps its outcome."""
Fate = Literal["acked", "delivered", "pushed", "missed", "stopped", "forgotten", "expired", "rejected", "elsewhere"]
"""What became of a wake in the end; delivered: to an app that cannot confirm; stopped: its user logged out; elsewhere:
another bridge has it.
"""
FATES: tuple[Fate, ...] = get_args(Fate)
_OVER: Mapping[State, Fate] = {"sent_legacy": "delivered", "pushed": "pushed", "elsewhere": "elsewhere"}
_ENDS: Mapping[Event, Fate] = {
    "acked": "acked",
    "acked_elsewhere": "elsewhere",
    "logged_out": "stopped",
    "crowded_out": "forgotten",
}


def _fate(before: State, event: Event, after: State) -> Fate | None:
    """What becomes of a wake by a transition that ends its ringing; else None."""
    if before not in RINGING or after in RINGING:
        return None
    return _OVER.get(before, "missed") if event == "over" else _ENDS[event]


_STEPS: Mapping[State, Mapping[Event, tuple[State, OutcomeStatus | None, Fate | None]]] = {
    before: {event: (after, _TOLD.get(after), _fate(before, event, after)) for event, after in row.items()}
    for before, row in TRANSITIONS.items()
}
"""The table with all effects of a transition, computed once because each wake uses it."""


class TransitionError(RuntimeError):
    """An internal error: the table has no such transition."""


# A Struct: a dataclass takes twice as long to create. It is in no cycle, so no garbage collection looks at it.
class Delivery(Struct, eq=False, gc=False):
    """One wake; only `Deliveries` changes it. Times are monotonic seconds."""

    wake: Wake | QuickWake
    device_id: str
    received_at: float
    expires_at: float
    received_on: str = ""
    """The date of `received_at`, for display."""
    steps: list[Step] | None = None
    """What happened to it, see `StoryBook`; None if stories are off."""

    state: State = "received"
    status: OutcomeStatus = "user_not_connected"
    """The outcome for its device."""
    latency_ms: float = 0.0
    again_at: float = 0.0
    push_due: bool = True
    """Whether no push was requested yet."""

    def age_ms(self, now: float) -> int:
        """How long ago its word was said, as far as the device's reports tell."""
        return self.wake.ttl_ms - round((self.expires_at - now) * 1000)

    @property
    def taken(self) -> bool:
        """Whether no phone needs to ring for it: an app surely has it, or its user is logged out."""
        return self.state in _TAKEN


Watch = Callable[[Delivery, State, Fate | None], None]
"""Called with a wake that changed, its state before, and what became of it if it no longer rings."""


def received(
    wake: Wake | QuickWake, device_id: str, now: float, date: str, steps: list[Step] | None = None
) -> Delivery:
    """A new wake; the device reported its age."""
    return Delivery(wake, device_id, now, now + (wake.ttl_ms - wake.age_ms) / 1000, date, steps)


class Deliveries:
    """All recent wakes by id, the ringing ones by user; bounded.

    Args:
        missed: gets the missed ones.
        changed: gets each wake whose state changes, by its id; None if stories are off.
        settled: counts what became of those that no longer ring.
    """

    def __init__(
        self,
        missed: MissedWakes,
        changed: dict[str, Delivery] | None = None,
        settled: dict[str, int] | None = None,
    ) -> None:
        self._missed = missed
        self._changed = changed
        self._settled: dict[str, int] = dict.fromkeys(FATES, 0) if settled is None else settled
        self._known: dict[str, Delivery] = {}
        self._order: deque[Delivery] = deque()  # all recorded ones, oldest first
        self._living: dict[str, list[Delivery]] = {}

    def known(self, wake_id: str) -> Delivery | None:
        """The outcome of a wake that came before."""
        return self._known.get(wake_id)

    def add(self, delivery: Delivery, first: First, now: float) -> None:
        """Record a received wake and its first outcome; the oldest of too many is forgotten."""
        self._move(delivery, first, now)
        self._known[delivery.wake.id] = delivery
        self._order.append(delivery)
        if len(self._order) > REMEMBERED_WAKES:
            oldest = self._order.popleft()
            del self._known[oldest.wake.id]
            if oldest.state in RINGING:
                self._move(oldest, "crowded_out", now)
        if delivery.state in RINGING:
            delivery.again_at = delivery.received_at + AGAIN_S
            living = self._living.get(delivery.wake.uid)
            if living is None:
                self._living[delivery.wake.uid] = [delivery]
            else:
                living.append(delivery)

    def repeated(self, delivery: Delivery, age_ms: int, now: float) -> None:
        """Its device published it again, with its age at that time: a broker may have held the first for seconds."""
        delivery.expires_at = min(delivery.expires_at, now + (delivery.wake.ttl_ms - age_ms) / 1000)

    def reached(self, delivery: Delivery, now: float) -> bool:
        """An app that connected received it; False if its device had that outcome before."""
        if "reached" not in TRANSITIONS[delivery.state]:
            return False
        self._move(delivery, "reached", now)
        return True

    def acked(self, delivery: Delivery, now: float) -> Confirmation:
        """An app rang: the first confirmation counts, and none after the end of the wake's life."""
        if delivery.status not in {"sent", "pushed"}:
            return "ignored"
        if delivery.expires_at <= now:
            return "late"  # the app rings too late: the wake is missed
        self._move(delivery, "acked", now)
        return "counts"

    def pushed(self, delivery: Delivery, now: float) -> bool:
        """A push service accepted it; False if one did before, an app has the wake, or the user logged out."""
        if delivery.status == "pushed" or "push_accepted" not in TRANSITIONS[delivery.state]:
            return False
        self._move(delivery, "push_accepted", now)
        return True

    def elsewhere(self, delivery: Delivery, status: OutcomeStatus, now: float) -> None:
        """Another bridge told the device this outcome: what that one does with the wake, this one need not do."""
        if status == "pushed":
            delivery.push_due = False
        event: Event = "acked_elsewhere" if status == "acked" else "elsewhere"
        if status in {"sent", "pushed", "acked"} and event in TRANSITIONS[delivery.state]:
            self._move(delivery, event, now)

    def logged_out(self, uid: str, now: float) -> None:
        """Stop all ringing wakes of this user."""
        for delivery in self.living_of(uid, now):
            self._move(delivery, "logged_out", now)

    def living_of(self, uid: str, now: float) -> list[Delivery]:
        """The user's wakes that may still ring, oldest first."""
        return [delivery for delivery in self._living.get(uid, ()) if delivery.expires_at > now]

    def due_again(self, now: float) -> list[Delivery]:
        """Ringing wakes to send again now; expired ones stop, and are missed if no app accepted them."""
        due: list[Delivery] = []
        over: list[Delivery] = []
        for fates in self._living.values():
            for delivery in fates:
                if delivery.expires_at <= now:
                    over.append(delivery)
                elif delivery.again_at <= now:
                    delivery.again_at = now + AGAIN_S
                    due.append(delivery)
        for delivery in over:
            self._move(delivery, "over", now)
            if delivery.state == "missed":
                self._miss(delivery)
        return due

    def due_for_push(self, now: float) -> list[Delivery]:
        """Ringing wakes that no socket accepted in time; each once."""
        due = [
            delivery
            for fates in self._living.values()
            for delivery in fates
            if delivery.push_due
            and delivery.state in _PUSHABLE
            and delivery.received_at + PUSH_AFTER_S <= now < delivery.expires_at
        ]
        for delivery in due:
            delivery.push_due = False
        return due

    def forget(self, uid: str, name: str) -> None:
        """Put `name` in the place of a user who is logged out, in all wakes that are still known."""
        for delivery in self._order:
            wake = delivery.wake
            if wake.uid == uid and delivery.state not in RINGING:
                delivery.wake = QuickWake(name, "", "", id=wake.id, age_ms=wake.age_ms, ttl_ms=wake.ttl_ms)
            if delivery.steps is not None:
                delivery.steps[:] = [forgotten(step, uid, name) for step in delivery.steps]

    def _move(self, delivery: Delivery, event: Event, now: float) -> None:
        """The one place that changes a state; raises TransitionError."""
        step = _STEPS[delivery.state].get(event)
        if step is None:
            raise TransitionError(f"{event}: there is no such transition of a wake that is {delivery.state}")
        delivery.state, status, fate = step
        if self._changed is not None:
            self._changed[delivery.wake.id] = delivery
        if status is not None:
            delivery.status = status
            # Thousandths; rounding to digits takes twice as long.
            delivery.latency_ms = round((now - delivery.received_at) * 1e6) / 1000
        if fate is not None:
            self._settled[fate] += 1
            self._silence(delivery)

    def _silence(self, delivery: Delivery) -> None:
        uid = delivery.wake.uid
        living = self._living[uid]
        if len(living) == 1:
            del self._living[uid]
        else:
            living.remove(delivery)

    def _miss(self, delivery: Delivery) -> None:
        wake = delivery.wake
        self._missed.add(
            Missed(wake.id, wake.uid, wake.command, delivery.device_id, wake.timestamp, delivery.received_on)
        )


class WatchedDeliveries(Deliveries):
    """Tells each change of a wake; a class of its own, so that a bridge without a listener pays nothing for it."""

    def __init__(
        self,
        missed: MissedWakes,
        changed: dict[str, Delivery] | None = None,
        settled: dict[str, int] | None = None,
        *,
        watch: Watch,
    ) -> None:
        super().__init__(missed, changed, settled)
        self._watch = watch

    def _move(self, delivery: Delivery, event: Event, now: float) -> None:
        before = delivery.state
        super()._move(delivery, event, now)
        self._watch(delivery, before, _STEPS[before][event][2])
