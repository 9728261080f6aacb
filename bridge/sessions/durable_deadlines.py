"""Writes service time and users' deadlines to disk."""

from collections.abc import Iterable, Mapping

from bridge.sessions.ledger import LedgerTurn
from bridge.sessions.rules.deadlines import LONGEST_STEP_S
from bridge.sessions.rules.liveness import Liveness
from bridge.storage.records import Change, DurableDeadline, ServiceSeconds
from contract.clock import Clock

KEEP_TIME_EVERY_S = 1.0
KEEP_TIME_IDLE_S = 30.0
"""How often to write if no user has a deadline; a full disk then still shows in `/readyz`."""


class DurableDeadlines:
    """Writes the deadlines of Liveness."""

    def __init__(self, liveness: Liveness, clock: Clock, *, shared: bool = False) -> None:
        self._liveness = liveness
        self._shared = shared
        self._clock = clock
        self._wanted: dict[str, DurableDeadline] = {}
        self._kept_at = float("-inf")
        self._on_disk_s = float("-inf")

    def want(self, uid: str) -> None:
        """A sign of life waits for its durable deadline; the next `write` writes it."""
        self._wanted[uid] = self._liveness.promise(uid)

    def left(self, uid: str) -> None:
        """Delete the user's durable deadline."""
        self._wanted.pop(uid, None)

    def dated(self, durable_deadlines: Iterable[DurableDeadline]) -> list[Change]:
        """These rows, and the service time if that on disk is old: a deadline must not lie too far ahead of it."""
        changes: list[Change] = list(durable_deadlines)
        if self._shared:
            return changes  # reckoned from the row in this turn; who advances it looks whether it stood still
        if changes and self._liveness.now() - self._on_disk_s > LONGEST_STEP_S:
            changes.append(ServiceSeconds(self._liveness.now()))
        return changes

    async def write(self, turn: LedgerTurn) -> None:
        """One commit for all that wait; later callers find it done. Raises StoreError: then they keep waiting."""
        wanted = self._still_alive(self._wanted)
        self._wanted.clear()
        if not wanted:
            return
        try:
            async with turn.transaction() as transaction:
                await transaction.save(self.dated(wanted.values()))
        except BaseException:
            self._wanted = wanted | self._wanted
            raise
        for promise in wanted.values():
            self._liveness.promised(promise)

    def _still_alive(self, wanted: Mapping[str, DurableDeadline]) -> dict[str, DurableDeadline]:
        return {uid: promise for uid, promise in wanted.items() if self._liveness.alive(uid)}

    def is_time(self, *, idle: bool) -> bool:
        """Whether to write the service time now (T1). Without deadlines it advances in memory meanwhile."""
        mono = self._clock.monotonic()
        if mono - self._kept_at >= (KEEP_TIME_IDLE_S if idle else KEEP_TIME_EVERY_S):
            return True
        if idle:
            self._liveness.kept(self._liveness.now_at(mono), mono)
        return False

    async def keep_time(self, turn: LedgerTurn, more: list[Change]) -> None:
        """Write the service time and more rows; time advances once it is on disk (T1). Raises StoreError.

        `more` is emptied when it is on disk, whatever fails afterwards.
        """
        mono = self._clock.monotonic()
        now_s = self._liveness.now_at(mono)
        async with turn.transaction() as transaction:
            await transaction.save([ServiceSeconds(now_s), *more])
        more.clear()
        self._liveness.kept(now_s, mono)
        self._kept_at, self._on_disk_s = mono, now_s
        # Heartbeats that could not be answered count all the same: leases follow the durable deadline.
        await self.write(turn)
