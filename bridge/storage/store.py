"""The interface of the ledger's storage."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from bridge.storage.news import News
from bridge.storage.records import (
    ApiKey,
    Audit,
    BridgeRow,
    Change,
    Device,
    DurableDeadline,
    Forgotten,
    Lifetime,
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
class Identity:
    """A bridge as it names itself in a shared ledger; see BridgeRow."""

    instance: str
    version: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Beat:
    """What a bridge writes of itself at each look; see BridgeRow."""

    hears: bool = True
    draining: bool = False
    sockets: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at a shared ledger found.

    Attributes:
    seconds: the service time.
    news: see Transaction.
    bridges: all that have a row, this one, too.
    """

    seconds: float
    news: Sequence[News]
    bridges: Sequence[BridgeRow]


@dataclass(frozen=True, slots=True)
class Floors:
    """How far deadlines are raised after the service was down, in seconds.

    Attributes:
    grace_s, spread_s: a deadline that is nearer than the first moves to there, and up to the second beyond.
    whole_s: after a back-up was restored, no deadline is nearer than this.
    """

    grace_s: float
    spread_s: float
    whole_s: float


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
    earlier: Collection[str] = field(default=(), compare=False)
    """The running sessions that were opened before this era of a shared ledger."""
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

    @property
    def number(self) -> int:
        """The number of this turn; 0 if the store is not shared."""
        ...

    @property
    def seconds(self) -> float:
        """The service time on disk; 0 if the store is not shared."""
        ...

    async def lifetimes(self, uids: Collection[str]) -> dict[str, Lifetime]:
        """The known ones of these users: until when they are there, or when they left."""
        ...

    async def due(self, seconds: float, most: int) -> list[str]:
        """Users whose durable deadline is not after this service time, the first ones first, at most `most`.

        One whose deadline is being raised is left out. Until the transaction ends, none of them can be raised.
        """
        ...

    async def raise_floors(self, floors: Floors) -> None:
        """The service was down for a while: users whose deadline is near get time to reconnect."""
        ...

    async def claim_post(self, row: PendingLogout, until_s: float) -> bool:
        """Let only this bridge post a log-out until this service time; False if it is settled or another may."""
        ...

    async def posting_elsewhere(self, device_ids: Collection[str]) -> set[str]:
        """Those of these devices to which another bridge may be posting a log-out now."""
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

    @property
    def era(self) -> str:
        """The name of the era that this bridge has begun or joined; empty if the ledger is not shared."""
        ...

    async def attach(self, floors: Floors, *, restored: bool) -> None:
        """Join the bridges of a shared ledger, before `load`: alone, it begins an era with these floors.

        Waits some seconds if it cannot tell whether others live. `restored`: it is a back-up, which no other bridge
        may use. Raises StoreError; StartError if a bridge of this name lives.
        """
        ...

    async def other_bridges(self) -> list[str]:
        """The names of other bridges that use a shared ledger, or did; raises StoreError."""
        ...

    async def look(self, beat: Beat) -> Seen | None:
        """Write this bridge's own row and read what others did; None if not shared.

        Not while a transaction is under way. Raises StoreError.
        """
        ...

    async def raise_deadlines(self, uids: Collection[str], for_s: float) -> dict[str, float]:
        """Raise the durable deadlines of those who are there to `for_s` from now; returns theirs. Raises StoreError.

        Only for a shared store; also while a transaction is under way.
        """
        ...

    async def claim(self, names: Collection[str]) -> set[str]:
        """Those of these names that no bridge has claimed within the last hour; from now on this one has.

        If the answer is lost, no bridge may act on them. A store that is not shared returns them all.
        Raises StoreError.
        """
        ...

    async def present(self, uids: Collection[str]) -> set[str]:
        """Those of these users who are there, in a shared ledger; raises StoreError."""
        ...

    @property
    def problem(self) -> str | None:
        """Why the last transaction failed; None if it succeeded."""
        ...

    def transaction(self, *, with_news: bool = False) -> AbstractAsyncContextManager[Transaction]:
        """Begin a transaction; commits at the end of the block, or changes nothing if that raises.

        `with_news`: the caller lets memory follow the news; each is handed out once.

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

    async def keys_used(self, used: Mapping[str, float]) -> None:
        """Note when these API keys, by id, were last used (Unix time); unknown ones are ignored. Raises StoreError."""
        ...

    async def forget(self, uid: str, name: str) -> Forgotten:
        """Delete what is kept of a user, or put `name` in its place, also in free space; raises StoreError.

        Running sessions, and log-outs that no device has confirmed, stay.
        """
        ...

    async def removed(self) -> set[str]:
        """The devices that an operator removed; raises StoreError."""
        ...

    async def prune(self, departed_before_s: float) -> None:
        """Delete old rows, and users who left before this service time; `problem` has the reason if that failed."""
        ...
