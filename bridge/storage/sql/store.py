"""The ledger in an SQL database, by SQLAlchemy Core; each commit is on disk before anything is told."""

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Executable,
    Row,
    Table,
    case,
    delete,
    func,
    inspect,
    or_,
    select,
    true,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bridge.storage.records import (
    LEAVING,
    ApiKey,
    Audit,
    Change,
    Device,
    DurableDeadline,
    Forgotten,
    PendingLogout,
    PushSubscription,
    Session,
)
from bridge.storage.sql.schema import (
    API_KEYS,
    AUDIT,
    DEVICES,
    METADATA,
    MISSED,
    OUTBOX,
    PROMISES,
    PUSH_SUBSCRIPTIONS,
    SERVICE,
    SESSIONS,
)
from bridge.storage.sql.transaction import (
    ALONE,
    Product,
    SqlTransaction,
    Turn,
    record,
    statements,
    subscriptions_of,
)
from bridge.storage.store import Beat, Floors, Loaded, Seen, StoreError, Transaction
from infra.telemetry import HistogramFamily, get_logger

KEPT_AUDIT_LINES = 100_000
KEPT_IN_MIND = 10_000
"""Of them, when a bridge starts."""
KEPT_ENDED_SESSIONS = 100_000
KEPT_MISSED = 200_000
KEPT_SUBSCRIPTIONS = 1_000_000
ROWS_AT_ONCE = 500

COMMITS = HistogramFamily(
    "sarvis_ledger_commit_seconds",
    "Transactions of the ledger that were committed, from their begin to the end of the commit",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)

log = get_logger("store")


class SqlStore:
    """A Store in an SQL database; what is a product's own stands in its class. End it with `close`.

    Attributes:
        problem: see Store.
        restored: it was a back-up of `sarvis backup` when it was opened.
        lost: set when the ledger has gone on without this bridge: it has to end and to start again; see `problem`.
    """

    shared = False
    era = ""
    FAILURES: tuple[type[BaseException], ...] = (SQLAlchemyError, OSError)
    """What the product's driver raises when a statement or a connection fails."""

    def __init__(self, engine: AsyncEngine, product: Product) -> None:
        self.problem: str | None = None
        self.restored = False
        self.lost = asyncio.Event()
        self._engine = engine
        self.product = product
        self._statements = statements(product)
        self._one = asyncio.Lock()

    @abstractmethod
    async def close(self) -> None:
        """Let another bridge have the ledger."""

    def _reading(self, *, long: bool = False) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection whose reads see one state of the ledger; `long` if they may take minutes."""
        del long  # a file answers
        return self._engine.connect()

    def _writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection in a transaction that is the only one to change the ledger, committed at the end."""
        return self._engine.begin()

    async def _begun(self, connection: AsyncConnection, *, with_news: bool) -> Turn:
        """The turn that has just begun in a shared ledger."""
        raise NotImplementedError

    def _transaction(self, connection: AsyncConnection, turn: Turn, told: list[Change] | None) -> Transaction:
        return SqlTransaction(connection, self._statements, turn, told)

    async def _tell(self, connection: AsyncConnection, changes: Sequence[Change]) -> None:
        """Let others know what this turn changed."""

    async def _forget(self, connection: AsyncConnection) -> None:
        """Delete what only this product keeps and no bridge needs."""

    async def attach(self, floors: Floors, *, restored: bool) -> None:
        """See Store."""

    async def other_bridges(self) -> list[str]:
        """See Store."""
        return []

    async def look(self, beat: Beat) -> Seen | None:
        """See Store."""
        del beat
        return None

    async def raise_deadlines(self, uids: Collection[str], for_s: float) -> dict[str, float]:
        """See Store."""
        raise NotImplementedError

    async def claim(self, names: Collection[str]) -> set[str]:
        """See Store."""
        return set(names)

    async def present(self, uids: Collection[str]) -> set[str]:
        """See Store."""
        query = select(PROMISES.c.uid).where(
            PROMISES.c.uid.in_(uids),
            PROMISES.c.left_s.is_(None),
            PROMISES.c.until_s > select(SERVICE.c.seconds).scalar_subquery(),
        )
        return {row.uid for row in await self._read(query)} if uids else set()

    @asynccontextmanager
    async def transaction(self, *, with_news: bool = False) -> AsyncIterator[Transaction]:
        """One at a time; see Store."""
        async with self._one:
            began = time.perf_counter()
            try:
                async with self._writing() as connection:
                    told: list[Change] | None = [] if self.shared else None
                    turn = await self._begun(connection, with_news=with_news) if self.shared else ALONE
                    yield self._transaction(connection, turn, told)
                    if told:
                        await self._tell(connection, told)
            except self.FAILURES as error:
                self._fail(error)
                raise StoreError(f"the ledger cannot be written: {self.problem}") from error
            self.problem = None
            COMMITS.observe_ms([(time.perf_counter() - began) * 1000])

    async def load(self) -> Loaded:
        """See Store."""
        try:
            async with self._reading() as connection:
                return await _load(connection)
        except self.FAILURES as error:
            self._fail(error)
            raise StoreError(f"the ledger cannot be read: {self.problem}") from error

    async def subscriptions(self, uids: Collection[str]) -> dict[str, list[PushSubscription]]:
        """See Store."""
        try:
            async with self._reading() as connection:
                return await subscriptions_of(connection, self._statements.subscriptions, uids)
        except self.FAILURES as error:
            self._fail(error)
            raise StoreError(f"the ledger cannot be read: {self.problem}") from error

    async def count_subscriptions(self) -> int:
        """See Store."""
        (row,) = await self._read(select(func.count()).select_from(PUSH_SUBSCRIPTIONS))
        return int(row[0])

    async def prune(self, departed_before_s: float) -> None:
        """Forget the oldest of too many rows, who left long ago, and sessions that ended and are confirmed."""
        async with self._one:
            try:
                async with self._writing() as connection:
                    await _prune(connection)
                    await connection.execute(delete(PROMISES).where(PROMISES.c.left_s < departed_before_s))
                    await self._forget(connection)
            except self.FAILURES as error:
                self._fail(error)

    async def rows(self) -> AsyncIterator[tuple[Table, list[dict[str, Any]]]]:
        """All that the ledger holds, some rows of one table at a time, of one moment; raises StoreError.

        A ledger that an earlier version has written last lacks what came later.
        """
        try:
            async with self._reading(long=True) as connection:
                for table in METADATA.sorted_tables:
                    columns = await connection.run_sync(_columns_there, table)
                    if not columns:
                        continue
                    found = await connection.stream(select(*columns))
                    async for some in found.mappings().partitions(ROWS_AT_ONCE):
                        yield table, [dict(row) for row in some]
        except self.FAILURES as error:
            raise StoreError(f"the ledger cannot be read: {cause(error)}") from error

    # For operators

    async def mappings(self, query: Executable, values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """The rows that a query finds, by the names of their columns; raises StoreError."""
        try:
            async with self._reading() as connection:
                return [dict(row) for row in (await connection.execute(query, values)).mappings()]
        except self.FAILURES as error:
            raise StoreError(f"the ledger cannot be read: {cause(error)}") from error

    async def seconds(self) -> float:
        """Service time on disk."""
        return next((row.seconds for row in await self._read(select(SERVICE.c.seconds))), 0.0)

    async def running(self, most: int, about: str | None = None) -> list[tuple[Session, DurableDeadline | None]]:
        """Running sessions (about a user, a device or a session) by device, and what is promised to their users."""
        query = (
            select(SESSIONS, PROMISES.c.until_s, PROMISES.c.floored)
            .outerjoin(PROMISES, PROMISES.c.uid == SESSIONS.c.uid)
            .where(SESSIONS.c.ended.is_(None), _concerns(SESSIONS, about))
            .order_by(SESSIONS.c.device_id)
            .limit(most)
        )
        return [(record(Session, row), _promise(row)) for row in await self._read(query)]

    async def waiting(self, most: int, about: str | None = None) -> list[PendingLogout]:
        """Log-outs (about a user, a device or a session) that no device has confirmed yet, oldest first."""
        query = select(OUTBOX).where(_concerns(OUTBOX, about)).order_by(OUTBOX.c.number).limit(most)
        return [record(PendingLogout, row) for row in await self._read(query)]

    async def audit(self, about: str, most: int) -> list[Audit]:
        """The newest lines about a user, a device or a session, oldest first."""
        query = select(AUDIT).where(_concerns(AUDIT, about)).order_by(AUDIT.c.number.desc()).limit(most)
        rows = await self._read(query)
        return [record(Audit, row) for row in reversed(rows)]

    async def devices(self, most: int) -> list[Device]:
        """All devices that were added or seen."""
        try:
            async with self._reading() as connection:
                # A ledger that an earlier version has written last lacks what came later.
                columns = await connection.run_sync(_columns_there, DEVICES)
                query = select(*columns).order_by(DEVICES.c.device_id).limit(most)
                return [Device(**row) for row in (await connection.execute(query)).mappings()]
        except self.FAILURES as error:
            raise StoreError(f"the ledger cannot be read: {cause(error)}") from error

    async def removed(self) -> set[str]:
        """The devices that an operator took out."""
        query = select(DEVICES.c.device_id).where(DEVICES.c.state == "removed")
        return {row.device_id for row in await self._read(query)}

    # Keys

    async def api_keys(self) -> list[ApiKey]:
        """All keys, the oldest first; raises StoreError."""
        return [record(ApiKey, row) for row in await self._read(select(API_KEYS).order_by(API_KEYS.c.created_at))]

    async def forget(self, uid: str, name: str) -> Forgotten:
        """See `Store.forget`."""
        actor, ended = f"app:{uid}", SESSIONS.c.ended.is_not(None)
        renamed = {
            "uid": case((AUDIT.c.uid == uid, name), else_=AUDIT.c.uid),
            "actor": case((AUDIT.c.actor == actor, f"app:{name}"), else_=AUDIT.c.actor),
            "note": case((AUDIT.c.uid == uid, ""), else_=AUDIT.c.note),
        }
        changes = (
            AUDIT.update().where((AUDIT.c.uid == uid) | (AUDIT.c.actor == actor)).values(**renamed),
            SESSIONS.update().where(SESSIONS.c.uid == uid, ended).values(uid=name),
            delete(MISSED).where(MISSED.c.uid == uid),
            delete(PUSH_SUBSCRIPTIONS).where(PUSH_SUBSCRIPTIONS.c.uid == uid),
            delete(PROMISES).where(PROMISES.c.uid == uid, PROMISES.c.left_s.is_not(None)),
        )
        async with self._one:
            try:
                async with self._writing() as connection:
                    counts = [(await connection.execute(change)).rowcount for change in changes]
                await self._clear_free_space()
            except self.FAILURES as error:
                raise StoreError(f"the ledger cannot be written: {cause(error)}") from error
        return Forgotten(*map(int, counts))

    async def _clear_free_space(self) -> None:
        """Let nothing of deleted rows stay in the files, where the product keeps it."""

    async def keys_used(self, used: Mapping[str, float]) -> None:
        """See `Store.keys_used`."""
        for key_id, at in used.items():
            await self._write(API_KEYS.update().where(API_KEYS.c.key_id == key_id).values(used_at=at))

    async def add_api_key(self, key: ApiKey) -> None:
        """Let a key be valid; raises StoreError."""
        await self._write(API_KEYS.insert().values(asdict(key)))

    async def drop_api_key(self, key_id: str) -> bool:
        """Let a key be invalid; False when there was none. Raises StoreError."""
        return await self._write(delete(API_KEYS).where(API_KEYS.c.key_id == key_id)) > 0

    async def apply(self, changes: Sequence[tuple[Any, Any]]) -> bool:
        """Execute statements with their rows in one transaction; raises StoreError.

        If the first one changes nothing, the others are left out: then False.
        """
        async with self._one:
            try:
                async with self._writing() as connection:
                    for number, (statement, rows) in enumerate(changes):
                        found = await connection.execute(statement, rows)
                        if number == 0 and found.rowcount == 0:
                            return False
            except self.FAILURES as error:
                raise StoreError(f"the ledger cannot be written: {cause(error)}") from error
        return True

    async def _write(self, statement: Any) -> int:
        async with self._one:
            try:
                async with self._writing() as connection:
                    return int((await connection.execute(statement)).rowcount)
            except self.FAILURES as error:
                raise StoreError(f"the ledger cannot be written: {cause(error)}") from error

    async def _read(self, query: Any) -> Sequence[Any]:
        try:
            async with self._reading() as connection:
                return (await connection.execute(query)).all()
        except self.FAILURES as error:
            raise StoreError(f"the ledger cannot be read: {cause(error)}") from error

    def _fail(self, error: BaseException) -> None:
        problem = cause(error)
        if problem != self.problem:
            log.error("ledger_problem", error=problem)
        self.problem = problem


def _columns_there(connection: Connection, table: Table) -> list[Column[Any]]:
    """The columns of a table that this ledger has."""
    looked = inspect(connection)
    if not looked.has_table(table.name):
        return []
    there = {column["name"] for column in looked.get_columns(table.name)}
    return [column for column in table.columns if column.name in there]


def _promise(row: Row[Any]) -> DurableDeadline | None:
    return None if row.until_s is None else record(DurableDeadline, row)


def _concerns(table: Table, about: str | None) -> ColumnElement[bool]:
    columns = (table.c.uid, table.c.device_id, table.c.session_id)
    return true() if about is None else or_(*(column == about for column in columns))


async def _load(connection: AsyncConnection) -> Loaded:
    service = (await connection.execute(select(SERVICE.c.seconds, SERVICE.c.turn, SERVICE.c.era_after))).one_or_none()
    sessions = (await connection.execute(select(SESSIONS).where(SESSIONS.c.ended.is_(None)))).all()
    era_after = (service and service.era_after) or 0
    pending = await connection.execute(select(OUTBOX).order_by(OUTBOX.c.number))
    promises = (await connection.execute(select(PROMISES))).all()
    left = await connection.execute(
        select(AUDIT)
        .where(AUDIT.c.event.in_(["ended", "left"]), AUDIT.c.reason.in_(LEAVING))
        .order_by(AUDIT.c.number.desc())
        .limit(KEPT_IN_MIND)
    )
    return Loaded(
        seconds=(service and service.seconds) or 0.0,
        turn=(service and service.turn) or 0,
        sessions=[record(Session, row) for row in sessions],
        pending=[record(PendingLogout, row) for row in pending],
        promises=[record(DurableDeadline, row) for row in promises if row.left_s is None],
        departed={row.uid: row.left_s for row in promises if row.left_s is not None},
        earlier={row.session_id for row in sessions if row.number <= era_after},
        left=[record(Audit, row) for row in left],
    )


async def _prune(connection: AsyncConnection) -> None:
    for table, kept in (
        (AUDIT, KEPT_AUDIT_LINES),
        (MISSED, KEPT_MISSED),
        (PUSH_SUBSCRIPTIONS, KEPT_SUBSCRIPTIONS),
    ):
        newest = (await connection.execute(select(func.max(table.c.number)))).scalar() or 0
        await connection.execute(delete(table).where(table.c.number <= newest - kept))
    last = (await connection.execute(select(func.max(SESSIONS.c.number)))).scalar() or 0
    # A device that has not confirmed may still hold its session: that one must stay known as ended.
    await connection.execute(
        delete(SESSIONS).where(
            SESSIONS.c.ended.is_not(None),
            SESSIONS.c.number <= last - KEPT_ENDED_SESSIONS,
            SESSIONS.c.session_id.not_in(select(OUTBOX.c.session_id)),
        )
    )


def cause(error: BaseException) -> str:
    """What the driver says, without SQLAlchemy's statement and its parameters."""
    of_driver = getattr(error, "orig", None) or error
    return str(of_driver) or type(of_driver).__name__
