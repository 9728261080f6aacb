"""Who is alive until when, and what is promised about it: rules T1 to T4 of docs/sessions.md. No I/O.

Deadlines are in service time. What this run has heard counts to the second; what an earlier run had heard counts by the
promise that it left on disk.
"""

import random
from collections.abc import Callable, Iterable

from bridge.deadlines import Deadlines, ServiceTime
from bridge.rows import Promise
from contract.clock import Clock
from contract.sections.bridge import BridgeSettings


class People:
    """All users who are alive, and for a while those who left.

    Args:
        jitter: a random number in [0, 1).
    """

    def __init__(self, settings: BridgeSettings, clock: Clock, *, jitter: Callable[[], float] = random.random) -> None:
        self._settings = settings
        self._clock = clock
        self._jitter = jitter
        self._time = ServiceTime(clock.monotonic())
        self._deadlines = Deadlines()
        self._departed = Deadlines()
        self._durable: dict[str, float] = {}
        self._floored: set[str] = set()
        self._unheard: set[str] = set()

    def __len__(self) -> int:
        return len(self._deadlines)

    def now(self) -> float:
        """Service time of this very moment: a deadline set by an older one would come too early."""
        return self.now_at(self._clock.monotonic())

    def now_at(self, monotonic: float) -> float:
        """Service time of a moment that is not long past."""
        return self._time.read(monotonic)

    def kept(self, now_s: float, monotonic: float) -> None:
        """This service time, read at `monotonic`, is on disk: time may go on (T1)."""
        self._time.keep(now_s, monotonic)

    # What the ledger's rules ask

    def alive(self, uid: str) -> bool:
        """Connected, beating or logged in within the time-out, and not logged out since."""
        deadline = self._deadlines.get(uid)
        return deadline is not None and deadline > self.now()

    def lease_s(self, uid: str) -> float:
        """T4: by the promise on disk, so that no restart shortens what a device was given, nor lengthens it."""
        promise = self._durable.get(uid)
        if promise is None:
            return 0.0
        settings = self._settings
        return promise - settings.heartbeat_coalesce_s + settings.lease_grace_s - self.now()

    def first_lease_s(self) -> float:
        """The lease of a user who begins to live now."""
        return self._settings.heartbeat_timeout_s + self._settings.lease_grace_s

    def may_adopt(self, uid: str) -> bool:
        """Not for a user whom we saw leaving."""
        return self._departed.get(uid) is None

    # Signs of life

    def heard(self, uid: str) -> None:
        """The user beat or connected: the deadline moves to T from now."""
        self.all_heard([uid])

    def all_heard(self, uids: Iterable[str]) -> None:
        """The same for many at once."""
        deadline = self.now() + self._settings.heartbeat_timeout_s
        for uid in uids:
            self._departed.remove(uid)
            if uid in self._unheard:
                self._unheard.discard(uid)
                # Leases were given on the promise of the earlier run: guarantee 3 counts from this.
                promised = self._durable.get(uid, 0.0) - self._settings.heartbeat_coalesce_s
                self._deadlines.put(uid, max(deadline, promised))
            else:
                self._deadlines.raise_to(uid, deadline)

    def beat(self, uid: str) -> bool:
        """`heard`, where the user is alive and that is covered; False, and nothing has changed, where not."""
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
        """Would a sign of life now survive a restart as things stand on disk (T2)?"""
        return self._covers(uid, self.now())

    def promise(self, uid: str) -> Promise:
        """What must be on disk before a sign of life now is answered; only ever raised."""
        return self._promise(uid, self.now())

    def needed(self, uids: Iterable[str]) -> list[Promise]:
        """What must be on disk before a sign of life now of these users is answered; nothing for who is covered."""
        now_s = self.now()
        return [self._promise(uid, now_s) for uid in uids if not self._covers(uid, now_s)]

    def _covers(self, uid: str, now_s: float) -> bool:
        promise = self._durable.get(uid)
        needed = now_s + self._settings.heartbeat_timeout_s
        return promise is not None and promise >= needed and uid not in self._floored

    def _promise(self, uid: str, now_s: float) -> Promise:
        settings = self._settings
        until = now_s + settings.heartbeat_timeout_s + settings.heartbeat_coalesce_s
        return Promise(uid, max(until, self._durable.get(uid, 0.0)))

    def promised(self, promise: Promise) -> None:
        """The promise is on disk."""
        self._durable[promise.uid] = promise.until_s
        self._floored.discard(promise.uid)

    # The end

    def take_due(self, most: int) -> dict[str, float]:
        """At most so many users whose deadline is past, oldest first, with it; they count as dead from now on."""
        return dict(self._deadlines.pop_due(self.now(), most))

    def take(self, uid: str) -> float | None:
        """The user is about to leave and counts as dead from now on; the deadline, for `put_back`."""
        return self._deadlines.remove(uid)

    def put_back(self, uid: str, deadline: float) -> None:
        """It could not be stored that the user left: it is not so."""
        self._deadlines.raise_to(uid, deadline)

    def left(self, uid: str) -> None:
        """It is on disk that the user left."""
        self._deadlines.remove(uid)
        self._durable.pop(uid, None)
        self._floored.discard(uid)
        self._unheard.discard(uid)
        self._departed.raise_to(uid, self.now() + self._settings.heartbeat_timeout_s)

    def forget_long_departed(self) -> None:
        """Call now and then."""
        self._departed.pop_due(self.now())

    # The start

    def load(
        self, seconds: float, promises: Iterable[Promise], holders: Iterable[str], *, restored: bool
    ) -> list[Promise]:
        """Take over what an earlier run left; returns promises to write.

        Once between two heartbeats a user gets time to come back after a restart (T1). `holders` are users with
        sessions; one without a promise gets that time, too. `restored` (B6): everybody gets T from now.
        """
        self._time = ServiceTime(self._clock.monotonic(), seconds)
        known = {promise.uid: promise for promise in promises}
        for uid in holders:
            known.setdefault(uid, Promise(uid, seconds))
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

    def _floor(self, old: Promise, seconds: float, *, restored: bool) -> Promise:
        settings = self._settings
        if restored:
            until = seconds + settings.heartbeat_timeout_s + settings.heartbeat_coalesce_s
            return Promise(old.uid, max(old.until_s, until))
        floor = seconds + settings.restart_grace_s + settings.expiry_spread_s * self._jitter()
        if old.floored or old.until_s >= floor:
            return old
        return Promise(old.uid, floor, floored=True)
