"""The turn to change the ledger: only its holder can begin a transaction."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType

from bridge.storage.news import News
from bridge.storage.store import Beat, Seen, Store, Transaction
from contract.clock import Clock

Follow = Callable[[Sequence[News]], None]
OnTime = Callable[[float, float], None]


class LedgerTurn(ABC):
    """Proof that its holder alone changes the ledger. Only `Ledger.exclusive` creates one; it ends with the block."""

    __slots__ = ()

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Begin a transaction, see Store; raises RuntimeError if the turn is over.

        Memory has followed what others changed before.
        """

    @abstractmethod
    async def look(self, beat: Beat) -> Seen | None:
        """See Store; memory has followed the news. Raises StoreError."""


class Ledger:
    """The ledger, changed by one task at a time, in the order in which they ask.

    Args:
        follow: lets memory follow what others have changed; called before this bridge reads or changes anything.
        on_time: called with the service time on disk if the ledger is shared, and the monotonic time of the question.

    Attributes:
        turn: the number of this bridge's last turn, if the ledger is shared: memory knows all turns before it.
    """

    def __init__(self, store: Store, follow: Follow, clock: Clock, on_time: OnTime) -> None:
        self._store = store
        self._follow = follow
        self._clock = clock
        self._on_time = on_time
        self.turn = 0
        self._lock = asyncio.Lock()

    @property
    def is_busy(self) -> bool:
        """Whether a task has the turn."""
        return self._lock.locked()

    def exclusive(self) -> AbstractAsyncContextManager[LedgerTurn]:
        """Wait for the turn, and hold it inside the block."""
        return _Exclusive(_Turn(self, self._store, self._follow, self._clock, self._on_time), self._lock)


class _Turn(LedgerTurn):
    __slots__ = ("_clock", "_follow", "_ledger", "_on_time", "_store", "is_over")

    def __init__(self, ledger: Ledger, store: Store, follow: Follow, clock: Clock, on_time: OnTime) -> None:
        self.is_over = False
        self._ledger = ledger
        self._store = store
        self._follow = follow
        self._clock = clock
        self._on_time = on_time

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        if self.is_over:
            raise RuntimeError("the turn to change the ledger is over; ask for another by Ledger.exclusive")
        return self._after_news() if self._store.shared else self._store.transaction()

    async def look(self, beat: Beat) -> Seen | None:
        if not self._store.shared:
            return None
        asked_at = self._clock.monotonic()
        seen = await self._store.look(beat)
        if seen is not None:
            self._on_time(seen.seconds, asked_at)
            self._follow(seen.news)
        return seen

    @asynccontextmanager
    async def _after_news(self) -> AsyncIterator[Transaction]:
        asked_at = self._clock.monotonic()
        async with self._store.transaction(with_news=True) as transaction:
            self._on_time(transaction.seconds, asked_at)
            self._follow(transaction.news)
            yield transaction
        self._ledger.turn = transaction.number


class _Exclusive(AbstractAsyncContextManager[LedgerTurn]):
    __slots__ = ("_lock", "_turn")

    def __init__(self, turn: _Turn, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._turn = turn

    async def __aenter__(self) -> LedgerTurn:
        await self._lock.acquire()
        return self._turn

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turn.is_over = True
        self._lock.release()
