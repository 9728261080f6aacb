"""Liveness where several bridges share a ledger: its rows decide, memory only saves questions. No I/O."""

from collections.abc import Collection, Iterable, Mapping

from bridge.sessions.rules.deadlines import LONGEST_STEP_S, ServiceTime
from bridge.sessions.rules.liveness import Liveness
from bridge.storage.records import DurableDeadline, Lifetime
from contract.clock import Clock
from infra.settings.bridge import BridgeSettings

SMALLEST_COALESCE_S = LONGEST_STEP_S
"""Q is at least one step of the service time: a heartbeat is then safe although the row advances while it is stored."""


class SharedLiveness(Liveness):
    """What one bridge knows of users: durable deadlines that it has raised or read, until it hears that they left.

    A user who is alive by this is; others may be, by another bridge. Users are logged out at their durable deadline
    (T3), which is found in the rows.
    """

    def __init__(self, settings: BridgeSettings, clock: Clock) -> None:
        super().__init__(settings, clock, alone=False)
        self._leaving: set[str] = set()
        self._raises: list[set[str]] = []

    def __len__(self) -> int:
        return len(self._durable)

    def alive(self, uid: str) -> bool:
        """See Liveness; False also for a user whom this bridge does not know."""
        promise = self._durable.get(uid)
        return promise is not None and promise > self.now() and uid not in self._leaving

    def may_be_alive(self, uid: str) -> bool:
        """See Liveness."""
        return uid not in self._leaving and self.may_adopt(uid)

    def ahead_s(self, monotonic: float) -> float:
        """How much the service time surely is ahead of its row."""
        return self._time.read(monotonic) - self._time.kept_s

    def touch_all(self, uids: Iterable[str]) -> None:
        """See Liveness; the durable deadline holds for more than T."""
        for uid in uids:
            self._departed.remove(uid)

    def try_heartbeat(self, uid: str) -> bool:
        """See Liveness."""
        return uid not in self._leaving and self.covered(uid)

    def raise_begins(self, uids: Collection[str]) -> set[str]:
        """Deadlines are being raised in the ledger; give the result to `raise_ends`."""
        raised = set(uids)
        self._raises.append(raised)
        return raised

    def raise_ends(self, raised: set[str], until_s: Mapping[str, float]) -> set[str]:
        """The deadlines that the ledger now has; returns who is there. None of them left meanwhile."""
        self._raises.remove(raised)
        there = raised & until_s.keys()
        for uid in there:
            self.promised(DurableDeadline(uid, until_s[uid]))
        return there

    def mark_leaving(self, uid: str) -> float | None:
        """See Liveness."""
        self._leaving.add(uid)
        return self._durable.get(uid, 0.0)

    def undo_leaving(self, uid: str, deadline: float) -> None:
        """See Liveness."""
        del deadline
        self._leaving.discard(uid)

    def left(self, uid: str) -> None:
        """See Liveness."""
        super().left(uid)
        self._leaving.discard(uid)
        for raised in self._raises:
            raised.discard(uid)

    def load_shared(
        self,
        seconds: float,
        durable_deadlines: Iterable[DurableDeadline],
        departed: Mapping[str, float],
        asked_at: float,
    ) -> None:
        """Take over what was read from the ledger, asked for at this monotonic time."""
        self._time = ServiceTime(asked_at, seconds, alone=False)
        for uid, left_s in departed.items():
            self._departed.raise_to(uid, left_s + self._settings.heartbeat_timeout_s)
        for promise in durable_deadlines:
            self._durable[promise.uid] = promise.until_s
            if promise.floored:
                self._floored.add(promise.uid)


class UsersInTurn:
    """What the rules ask of users, by rows that were read in the turn at this service time."""

    def __init__(self, settings: BridgeSettings, seconds: float, lifetimes: Mapping[str, Lifetime]) -> None:
        self._settings = settings
        self._seconds = seconds
        self._lifetimes = lifetimes

    def alive(self, uid: str) -> bool:
        """See UserLiveness."""
        lifetime = self._lifetimes.get(uid)
        return lifetime is not None and lifetime.left_s is None and lifetime.until_s > self._seconds

    def lease_s(self, uid: str) -> float:
        """See UserLiveness: T4. The row may advance by a step at once: no lease is too long."""
        lifetime = self._lifetimes.get(uid)
        if lifetime is None or lifetime.left_s is not None:
            return 0.0
        settings = self._settings
        begins = lifetime.until_s - settings.heartbeat_coalesce_s + settings.lease_grace_s
        return begins - self._seconds - LONGEST_STEP_S

    def first_lease_s(self) -> float:
        """See UserLiveness."""
        return self._settings.heartbeat_timeout_s + self._settings.lease_grace_s - LONGEST_STEP_S

    def may_adopt(self, uid: str) -> bool:
        """See UserLiveness."""
        lifetime = self._lifetimes.get(uid)
        if lifetime is None or lifetime.left_s is None:
            return True
        return lifetime.left_s + self._settings.heartbeat_timeout_s <= self._seconds
