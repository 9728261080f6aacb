"""Where the ledger is kept: one interface, a few verbs."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from bridge.rows import ApiKey, Audit, Change, Device, Missed, PendingLogout, Promise, PushSubscription, Session
from contract.errors import SarvisError


class StoreError(SarvisError):
    """The ledger could not be read or written just now: nothing of the transaction is so. Trying again may help."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a bridge needs in memory when it starts."""

    seconds: float
    sessions: Sequence[Session]
    """Those that run."""
    pending: Sequence[PendingLogout]
    promises: Sequence[Promise]
    missed: Sequence[Missed]
    """Oldest first."""
    subscriptions: Sequence[PushSubscription] = ()
    """Oldest first."""
    left: Sequence[Audit] = field(default=(), compare=False)
    """Log-outs of whole users, the newest 10,000 lines, newest first: what is told of the rest, no state of its own."""


class Transaction(Protocol):
    """Reads see one state of the ledger; what is saved appears as a whole, when the transaction ends without error.

    A read may or may not see what the same transaction saved before.
    """

    async def device(self, device_id: str) -> Device:
        """The device's row, a fresh one for a device never seen."""
        ...

    async def active(self, device_id: str) -> Session | None:
        """The session that runs on the device."""
        ...

    async def active_of(self, uids: Collection[str]) -> dict[str, list[Session]]:
        """The running sessions of each of these users."""
        ...

    async def pending(self, device_id: str) -> list[PendingLogout]:
        """Log-outs that the device has not confirmed, oldest first."""
        ...

    async def sessions(self, session_ids: Iterable[str]) -> dict[str, Session]:
        """Those of the named sessions that are known."""
        ...

    async def claimed_by(self, uids: Collection[str]) -> dict[str, list[Device]]:
        """The free devices that claim each of these users, by name."""
        ...

    async def save(self, changes: Iterable[Change]) -> None:
        """Write rows, in this order."""
        ...


class Store(Protocol):
    """Keeps the ledger. One transaction at a time writes."""

    @property
    def problem(self) -> str | None:
        """Why the last transaction could not be carried out; None when it was."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Begin; commit at the end of the block, or nothing at all when it raises. Raises StoreError."""
        ...

    async def load(self) -> Loaded:
        """What runs, waits and was promised; raises StoreError."""
        ...

    async def api_keys(self) -> Sequence[ApiKey]:
        """All API keys; raises StoreError."""
        ...

    async def removed(self) -> set[str]:
        """The devices that an operator took out; raises StoreError."""
        ...

    async def prune(self) -> None:
        """Forget what is long over; `problem` says so when that failed."""
        ...
