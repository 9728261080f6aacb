"""Which users are alive until when, and which deadline is durable: rules T1 to T4 of docs/sessions.md. No I/O.

Deadlines are in service time. Signs of life in this run count to the second; those of an earlier run count by the
durable deadline on disk.
"""

import random
from collections.abc import Callable, Iterable, Mapping

from bridge.sessions.rules.deadlines import Deadlines, ServiceTime
from bridge.storage.records import DurableDeadline
from contract.clock import Clock
from infra.settings.bridge import BridgeSettings


class Liveness:
    """All users who are alive, and for a while those who left.

    Args:
    jitter: a random number in [0, 1).
    alone: no other bridge advances the service time.
    """

    def __init__(
        self,
        settings: BridgeSettings,
        clock: Clock,
        *,
        jitter: Callable[[], float] = random.random,
        alone: bool = True,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._jitter = jitter
        self._alone = alone
        self._time = ServiceTime(clock.monotonic(), alone=alone)
        self._deadlines = Deadlines()
        self._departed = Deadlines()
        self._durable: dict[str, float] = {}
        self._floored: set[str] = set()
        self._unheard: set[str] = set()

    def __len__(self) -> int:
        return len(self._deadlines)

    def now(self) -> float:
        """Service time now: with an older value a deadline would come too early."""
        return self.now_at(self._clock.monotonic())

    def now_at(self, monotonic: float) -> float:
        """Service time of a recent moment."""
        return self._time.read(monotonic)

    def kept(self, now_s: float, monotonic: float) -> None:
        """This service time, read at `monotonic`, is on disk: time may advance (T1)."""
        self._time.keep(now_s, monotonic)

    def seen(self, seconds: float, *, sent_at: float, arrived_at: float) -> None:
        """The service time on disk, as another may have advanced it; asked and answered at these monotonic times."""
        self._time.seen(seconds, sent_at=sent_at, arrived_at=arrived_at)

    def latest(self) -> float:
        """No later service time is possible now: what was promised until then is not over."""
        return self._time.latest(self._clock.monotonic())

    # For the ledger's rules:

    def alive(self, uid: str) -> bool:
        """Whether the user connected, sent a heartbeat or logged in within the time-out without a later log-out."""
        deadline = self._deadlines.get(uid)
        return deadline is not None and deadline > self.now()

    def may_be_alive(self, uid: str) -> bool:
        """The same; if it is not surely known, True."""
        return self.alive(uid)

    def lease_s(self, uid: str) -> float:
        """T4: by the durable deadline, so that a restart neither shortens nor lengthens a device's lease."""
        promise = self._durable.get(uid)
        if promise is None:
            return 0.0
        settings = self._settings
        return promise - settings.heartbeat_coalesce_s + settings.lease_grace_s - self.latest()

    def first_lease_s(self) -> float:
        """The lease of a user who becomes alive now."""
        return self._settings.heartbeat_timeout_s + self._settings.lease_grace_s

    def may_adopt(self, uid: str) -> bool:
        """Not for a user who left within the last T."""
        return self._departed.get(uid) is None

    # Signs of life:

    def touch(self, uid: str) -> None:
        """The user sent a heartbeat or connected: the deadline moves to T from now."""
        self.touch_all([uid])

    def touch_all(self, uids: Iterable[str]) -> None:
        """The same for many at once."""
        deadline = self.now() + self._settings.heartbeat_timeout_s
        for uid in uids:
            self._departed.remove(uid)
            if uid in self._unheard:
                self._unheard.discard(uid)
                # Leases were given by the durable deadline of the earlier run: guarantee 3 counts from this.
                promised = self._durable.get(uid, 0.0) - self._settings.heartbeat_coalesce_s
                self._deadlines.put(uid, max(deadline, promised))
            else:
                self._deadlines.raise_to(uid, deadline)

    def try_heartbeat(self, uid: str) -> bool:
        """`touch`, if the user is alive and the durable deadline covers it; otherwise False, and nothing changes."""
        deadline, promise = self._deadlines.get(uid), self._durable.get(uid)
        if deadline is None or promise is None or uid in self._floored or uid in self._unheard:
            return False
        now = self.now()
        until = now + self._settings.heartbeat_timeout_s
        if deadline <= now or promise < until:
            return False
        self._deadlines.raise_to(uid, until)
        return True

    def covered(self, uid: str) -> bool:
        """Whether a sign of life now would survive a restart with the deadline on disk (T2)."""
        return self._covers(uid, self.latest())

    def promise(self, uid: str) -> DurableDeadline:
        """The row to write before a sign of life now is answered; only ever raised."""
        return self._promise(uid, self.now())

    def needed(self, uids: Iterable[str]) -> list[DurableDeadline]:
        """The rows to write before signs of life now of these users are answered; none for those who are covered."""
        now_s, latest_s = self.now(), self.latest()
        return [self._promise(uid, now_s) for uid in uids if not self._covers(uid, latest_s)]

    def _covers(self, uid: str, latest_s: float) -> bool:
        promise = self._durable.get(uid)
        needed = latest_s + self._settings.heartbeat_timeout_s
        return promise is not None and promise >= needed and uid not in self._floored

    def _promise(self, uid: str, now_s: float) -> DurableDeadline:
        settings = self._settings
        until = now_s + settings.heartbeat_timeout_s + settings.heartbeat_coalesce_s
        return DurableDeadline(uid, max(until, self._durable.get(uid, 0.0)))

    def promised(self, promise: DurableDeadline) -> None:
        """The durable deadline is on disk."""
        self._durable[promise.uid] = promise.until_s
        self._floored.discard(promise.uid)

    def begin(self, promise: DurableDeadline) -> None:
        """A user who was not alive is alive from now on: the promise is on disk."""
        self.promised(promise)
        self.touch(promise.uid)

    # The end:

    def mark_due_leaving(self, most: int) -> dict[str, float]:
        """At most `most` users whose deadline is past, oldest first, with it; they count as dead from now on."""
        return dict(self._deadlines.pop_due(self.now(), most))

    def mark_leaving(self, uid: str) -> float | None:
        """The user is about to leave and counts as dead from now on; returns the deadline for `undo_leaving`."""
        return self._deadlines.remove(uid)

    def undo_leaving(self, uid: str, deadline: float) -> None:
        """Undo `mark_leaving`: the log-out was not committed."""
        self._deadlines.raise_to(uid, deadline)

    def left(self, uid: str) -> None:
        """The log-out of the user is on disk."""
        self._deadlines.remove(uid)
        self._durable.pop(uid, None)
        self._floored.discard(uid)
        self._unheard.discard(uid)
        self._departed.raise_to(uid, self.now() + self._settings.heartbeat_timeout_s)

    def forget_long_departed(self) -> None:
        """Forget users who left long ago; call it now and then."""
        self._departed.pop_due(self.now())

    # The start:

    def load(
        self,
        seconds: float,
        durable_deadlines: Iterable[DurableDeadline],
        holders: Iterable[str],
        departed: Mapping[str, float],
        *,
        restored: bool,
    ) -> list[DurableDeadline]:
        """Take over the state of an earlier run; returns durable deadlines to write.

        Once between two heartbeats a user gets time to reconnect after a restart (T1). `holders` are users with
        sessions; one without a durable deadline gets that time, too. `departed`: who left, and when; in a ledger that
        was restored they may since have come back. `restored` (B6): every user gets T from now.
        """
        self._time = ServiceTime(self._clock.monotonic(), seconds, alone=self._alone)
        for uid, left_s in () if restored else departed.items():
            self._departed.raise_to(uid, left_s + self._settings.heartbeat_timeout_s)
        known = {promise.uid: promise for promise in durable_deadlines}
        for uid in holders:
            known.setdefault(uid, DurableDeadline(uid, seconds))
        raised = []
        for uid, old in known.items():
            promise = self._floor(old, seconds, restored=restored)
            if promise != old:
                raised.append(promise)
            self._durable[uid] = promise.until_s
            if promise.floored:
                self._floored.add(uid)
            self._unheard.add(uid)
            self._deadlines.put(uid, promise.until_s)
        return raised

    def _floor(self, old: DurableDeadline, seconds: float, *, restored: bool) -> DurableDeadline:
        settings = self._settings
        if restored:
            until = seconds + settings.heartbeat_timeout_s + settings.heartbeat_coalesce_s
            return DurableDeadline(old.uid, max(old.until_s, until))
        floor = seconds + settings.restart_grace_s + settings.expiry_spread_s * self._jitter()
        if old.floored or old.until_s >= floor:
            return old
        return DurableDeadline(old.uid, floor, floored=True)
