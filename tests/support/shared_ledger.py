"""A ledger in memory that several bridges share, each by a store of its own."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from bridge.storage.memory import MemoryStore, MemoryTransaction, Tables
from bridge.storage.news import News, NewsCursor, is_news, text_of
from bridge.storage.records import BridgeRow, Change
from bridge.storage.store import Beat, Floors, Loaded, Seen, StoreError, Transaction

KEPT = 1_000


@dataclass(frozen=True)
class Row:
    number: int
    run: str
    changes: str


@dataclass
class SharedLedger:
    """The tables, the number of the last turn, the news, the rows of bridges."""

    tables: Tables = field(default_factory=Tables)
    turn: int = 0
    news: list[Row] = field(default_factory=list)
    bridges: dict[str, BridgeRow] = field(default_factory=dict)
    earlier: set[str] = field(default_factory=set)
    """Sessions from before this era."""


class BridgeStore(MemoryStore):
    """See Store: that of one bridge on a shared ledger. The first one that attaches begins the era."""

    shared = True
    era = "first"

    def __init__(self, ledger: SharedLedger, run: str) -> None:
        self._ledger = ledger
        self._run = run
        self._cursor: NewsCursor | None = None
        super().__init__()

    @property
    def tables(self) -> Tables:
        """Those of all bridges."""
        return self._ledger.tables

    @tables.setter
    def tables(self, tables: Tables) -> None:
        if self._ledger.turn:  # not those of a new store
            self._ledger.tables = tables

    async def attach(self, floors: Floors, *, restored: bool) -> None:
        """See `Store.attach`."""
        assert not restored
        ledger = self._ledger
        if not ledger.bridges:
            ledger.earlier = {one.session_id for one in ledger.tables.sessions.values() if one.ended is None}
            await MemoryTransaction(ledger.tables).raise_floors(floors)
        ledger.bridges[self._run] = BridgeRow(self._run, self._run, ledger.tables.seconds)

    async def load(self) -> Loaded:
        """See `Store.load`."""
        self._cursor = NewsCursor(self._run, self._ledger.turn, KEPT)
        return replace(await super().load(), turn=self._ledger.turn, earlier=self._ledger.earlier)

    async def look(self, beat: Beat) -> Seen | None:
        """See `Store.look`."""
        if self.fail is not None:
            self.problem = self.fail
            raise StoreError(self.fail)
        self.problem = None
        mine = self._ledger.bridges[self._run]
        self._ledger.bridges[self._run] = replace(
            mine, seen_s=self.tables.seconds, beat=mine.beat + 1, hears=beat.hears, draining=beat.draining,
            sockets=beat.sockets,
        )  # fmt: skip
        return Seen(self.tables.seconds, self._read(), list(self._ledger.bridges.values()))

    @asynccontextmanager
    async def transaction(self, *, with_news: bool = False) -> AsyncIterator[Transaction]:
        """See `Store.transaction`."""
        tables = self.tables.copy()
        transaction = _Transaction(tables, self._read() if with_news else (), self._ledger.turn + 1, self._run)
        yield transaction
        self.before_commit()
        if self.fail is not None:
            self.problem = self.fail
            raise StoreError(self.fail)
        self.problem = None
        self._ledger.turn += 1
        self._ledger.tables = tables
        if transaction.told:
            self._ledger.news.append(Row(self._ledger.turn, self._run, text_of(transaction.told)))

    def _read(self) -> Sequence[News]:
        if self._cursor is None:
            return ()
        rows = [row for row in self._ledger.news if row.number >= self._cursor.first]
        return self._cursor.read(rows, self._ledger.turn)


class _Transaction(MemoryTransaction):
    def __init__(self, tables: Tables, news: Sequence[News], number: int, run: str) -> None:
        super().__init__(tables, news, number, run)
        self.told: list[Change] = []

    async def save(self, changes: Iterable[Change]) -> None:
        changes = list(changes)
        self.told += filter(is_news, changes)
        await super().save(changes)
