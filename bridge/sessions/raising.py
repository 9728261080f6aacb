"""Raises durable deadlines in a shared ledger, beside its turns: one statement for all heartbeats that wait."""

import asyncio
from dataclasses import dataclass, field

from bridge.sessions.rules.shared_liveness import SharedLiveness
from bridge.storage.store import Store, StoreError


@dataclass(slots=True)
class _Batch:
    uids: set[str] = field(default_factory=set)
    there: set[str] | None = None
    """Who is there, when it is known."""
    error: StoreError | None = None


class DeadlineRaiser:
    """Group commit for heartbeats.

    Args:
        for_s: how far ahead of the service time deadlines are raised.
    """

    def __init__(self, store: Store, liveness: SharedLiveness, for_s: float) -> None:
        self._store = store
        self._liveness = liveness
        self._for_s = for_s
        self._collecting = _Batch()
        self._lock = asyncio.Lock()

    async def raised(self, uid: str) -> bool:
        """Raise the user's deadline; False if the user is not there. Raises StoreError."""
        batch = self._collecting
        batch.uids.add(uid)
        async with self._lock:
            if batch.there is None and batch.error is None:
                await self._raise(batch)
        if batch.error is not None:
            raise StoreError(str(batch.error)) from batch.error  # others of the batch get it, too
        return batch.there is not None and uid in batch.there

    async def _raise(self, batch: _Batch) -> None:
        if batch is self._collecting:
            self._collecting = _Batch()  # who comes from now on comes too late for the statement
        raised = self._liveness.raise_begins(batch.uids)
        until_s: dict[str, float] = {}
        try:
            until_s = await self._store.raise_deadlines(batch.uids, self._for_s)
        except StoreError as error:
            batch.error = error
        finally:
            there = self._liveness.raise_ends(raised, until_s)
        if batch.error is None:
            batch.there = there
