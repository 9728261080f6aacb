"""The interface of the ledger's storage."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from bridge.storage.news import News
from bridge.storage.records import (
    ApiKey,
    Audit,
    Change,
    Device,
    DurableDeadline,
    Missed,
    PendingLogout,
    PushSubscription,
    Session,
)
from contract.errors import SarvisError, StartError


class StoreError(SarvisError):
    """The ledger could not be read or written; the transaction changed nothing. Trying again may help."""


class LedgerLostError(StoreError):
    """The ledger has gone on without this bridge: what it has in memory is no longer true, and it has to end."""

    exit_code = StartError.exit_code


Look = Literal["absent", "free", "kept"]
"""No ledger is there; one that no bridge keeps; one that a bridge keeps."""


class LedgerKeptError(StartError):
    """Another bridge keeps the ledger."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a bridge loads into memory when it starts."""

    seconds: float
    sessions: Sequence[Session]
    """The running ones."""
    pending: Sequence[PendingLogout]
    promises: Sequence[DurableDeadline]
    departed: Mapping[str, float] = field(default_factory=dict)
    """Users who left, and at which service time; those of long ago are forgotten."""
    turn: int = field(default=0, compare=False)
    """The number of the last turn; 0 where turns are not numbered."""
    left: Sequence[Audit] = field(default=(), compare=False)
    """Log-outs of whole users, the newest 10,000 lines, newest first: for answers only, they hold no state."""


class Transaction(Protocol):
    """Reads see one state of the ledger; saved rows appear together, when the transaction ends without error.

    A read may or may not see rows that the same transaction saved before. Each verb takes as many statements for many
    as for one.
    """

    @property
    def news(self) -> Sequence[News]:
        """What others changed since this store was loaded or has read news last, in the order of their turns.

        They are facts, whatever becomes of this transaction. Empty if the store is not shared.
        """
        ...

    async def devices(self, device_ids: Collection[str]) -> dict[str, Device]:
        """The row of each of these devices; a new one for an unknown device."""
        ...

    async def active(self, device_ids: Collection[str]) -> dict[str, Session]:
        """The sessions that run on these devices, by device; a free device has none."""
        ...

    async def active_of(self, uids: Collection[str]) -> dict[str, list[Session]]:
        """The running sessions of each of these users."""
        ...

    async def pending(self, device_ids: Collection[str]) -> dict[str, list[PendingLogout]]:
        """Log-outs that each of these devices has not confirmed, oldest first."""
        ...

    async def sessions(self, session_ids: Collection[str]) -> dict[str, Session]:
        """The known ones of the named sessions."""
        ...

    async def claimed_by(self, uids: Collection[str]) -> dict[str, list[Device]]:
        """The free devices that claim each of these users, by name."""
        ...

    async def missed(self, uids: Collection[str]) -> dict[str, list[Missed]]:
        """The wakes that each of these users missed, oldest first."""
        ...

    async def subscriptions(self, uids: Collection[str]) -> dict[str, list[PushSubscription]]:
        """The phones of each of these users, oldest first."""
        ...

    async def phone(self, endpoint: str) -> PushSubscription | None:
        """The subscription behind this endpoint."""
        ...

    async def save(self, changes: Iterable[Change]) -> None:
        """Write rows; the ledger is then as if they had been written in this order."""
        ...


class Store(Protocol):
    """The ledger's storage. One transaction at a time writes."""

    @property
    def shared(self) -> bool:
        """Whether others may change what this bridge keeps in memory."""
        ...

    async def read_news(self) -> Sequence[News]:
        """The news without a transaction, see Transaction; not while one is under way. Raises StoreError."""
        ...

    @property
    def problem(self) -> str | None:
        """Why the last transaction failed; None if it succeeded."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Begin a transaction; commits at the end of the block, or changes nothing if that raises.

        Raises StoreError.
        """
        ...

    async def load(self) -> Loaded:
        """Load sessions, log-outs and durable deadlines; raises StoreError."""
        ...

    async def subscriptions(self, uids: Collection[str]) -> dict[str, list[PushSubscription]]:
        """The phones of each of these users, oldest first; raises StoreError."""
        ...

    async def count_subscriptions(self) -> int:
        """How many phones are subscribed; raises StoreError."""
        ...

    async def api_keys(self) -> Sequence[ApiKey]:
        """All API keys; raises StoreError."""
        ...

    async def removed(self) -> set[str]:
        """The devices that an operator removed; raises StoreError."""
        ...

    async def prune(self, departed_before_s: float) -> None:
        """Delete old rows, and users who left before this service time; `problem` has the reason if that failed."""
        ...
