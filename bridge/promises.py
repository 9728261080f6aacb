"""What is promised to people, on disk: the service time that goes on, and the promises that are still to be written."""

from collections.abc import Iterable, Sequence

from bridge.deadlines import LONGEST_STEP_S
from bridge.people import People
from bridge.rows import Change, Promise, ServiceSeconds
from bridge.store import Store
from contract.clock import Clock

KEEP_TIME_EVERY_S = 1.0
KEEP_TIME_IDLE_S = 30.0
"""Where nobody has a deadline; a disk that is full shows in `/readyz` all the same."""


class Promises:
    """Writes for People. Whoever calls `keep_time` or `write` is the only one who changes the ledger meanwhile."""

    def __init__(self, people: People, store: Store, clock: Clock) -> None:
        self._people = people
        self._store = store
        self._clock = clock
        self._wanted: dict[str, Promise] = {}
        self._kept_at = float("-inf")
        self._on_disk_s = float("-inf")

    def want(self, uid: str) -> None:
        """A sign of life waits for its promise; the next `write` writes it."""
        self._wanted[uid] = self._people.promise(uid)

    def left(self, uid: str) -> None:
        """Nothing is promised to this user any more."""
        self._wanted.pop(uid, None)

    def dated(self, promises: Iterable[Promise]) -> list[Change]:
        """These, with the service time if that on disk is old: a promise lies no further ahead of it than it should."""
        changes: list[Change] = list(promises)
        if changes and self._people.now() - self._on_disk_s > LONGEST_STEP_S:
            changes.append(ServiceSeconds(self._people.now()))
        return changes

    async def write(self) -> None:
        """One commit for all that wait; whoever comes later finds it done. Raises StoreError: then they wait on."""
        wanted = {uid: promise for uid, promise in self._wanted.items() if self._people.alive(uid)}
        self._wanted.clear()
        if not wanted:
            return
        try:
            async with self._store.transaction() as transaction:
                await transaction.save(self.dated(wanted.values()))
        except BaseException:
            self._wanted = wanted | self._wanted
            raise
        for promise in wanted.values():
            self._people.promised(promise)

    def is_time(self, *, idle: bool) -> bool:
        """Is the service time to be written now (T1)? Where nobody has a deadline it goes on in memory meanwhile."""
        mono = self._clock.monotonic()
        if mono - self._kept_at >= (KEEP_TIME_IDLE_S if idle else KEEP_TIME_EVERY_S):
            return True
        if idle:
            self._people.kept(self._people.now_at(mono), mono)
        return False

    async def keep_time(self, more: Sequence[Change] = ()) -> None:
        """Write the service time and more rows; it goes on when it is on disk (T1). Raises StoreError."""
        mono = self._clock.monotonic()
        now_s = self._people.now_at(mono)
        async with self._store.transaction() as transaction:
            await transaction.save([ServiceSeconds(now_s), *more])
        self._people.kept(now_s, mono)
        self._kept_at, self._on_disk_s = mono, now_s
        # Heartbeats that could not be answered count all the same: leases follow the promise.
        await self.write()
