"""A ledger in memory that several bridges share, each by a store of its own."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from bridge.storage.memory import MemoryStore, MemoryTransaction, Tables
from bridge.storage.news import News, changes_in, is_news, text_of
from bridge.storage.records import Change
from bridge.storage.store import Loaded, StoreError, Transaction


class SharedLedger:
    """The tables, the number of the last turn, and the news: the run that wrote each, its number, its changes."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.turn = 0
        self.news: list[tuple[str, int, str]] = []


class BridgeStore(MemoryStore):
    """See Store: that of one bridge on a shared ledger."""

    shared = True

    def __init__(self, ledger: SharedLedger, run: str) -> None:
        self._ledger = ledger
        self._run = run
        self._followed: int | None = None
        super().__init__()

    @property
    def tables(self) -> Tables:
        """Those of all bridges."""
        return self._ledger.tables

    @tables.setter
    def tables(self, tables: Tables) -> None:
        if self._ledger.turn:  # not those of a new store
            self._ledger.tables = tables

    async def load(self) -> Loaded:
        """See `Store.load`."""
        self._followed = self._ledger.turn
        return await super().load()

    async def read_news(self) -> Sequence[News]:
        """See `Store.read_news`."""
        if self._followed is None:
            return ()
        rows = [row for row in self._ledger.news if row[1] > self._followed and row[0] != self._run]
        self._followed = self._ledger.turn
        return [News(number, changes_in(text)) for _, number, text in rows]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """See `Store.transaction`."""
        tables = self.tables.copy()
        transaction = _Transaction(tables, await self.read_news())
        yield transaction
        self.before_commit()
        if self.fail is not None:
            self.problem = self.fail
            raise StoreError(self.fail)
        self.problem = None
        self._ledger.turn += 1
        self._ledger.tables = tables
        if transaction.told:
            self._ledger.news.append((self._run, self._ledger.turn, text_of(transaction.told)))


class _Transaction(MemoryTransaction):
    def __init__(self, tables: Tables, news: Sequence[News]) -> None:
        super().__init__(tables, news)
        self.told: list[Change] = []

    async def save(self, changes: Iterable[Change]) -> None:
        changes = list(changes)
        self.told += filter(is_news, changes)
        await super().save(changes)
