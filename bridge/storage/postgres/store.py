"""The ledger in PostgreSQL, for one bridge at a time and for the commands beside it."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    String,
    Table,
    any_,
    bindparam,
    cast,
    delete,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from bridge.storage.news import News, UnknownNewsError, changes_in, text_of
from bridge.storage.postgres import server
from bridge.storage.records import BACK_UP, Change
from bridge.storage.sql.schema import METADATA, NEWS, SERVICE, Text
from bridge.storage.sql.store import SqlStore, cause
from bridge.storage.sql.transaction import Product
from bridge.storage.sql.versions import bring_up_to_date, is_known
from bridge.storage.store import LedgerKeptError, LedgerLostError, Loaded, Look, StoreError
from contract.errors import SettingsError, StartError
from infra.settings.bridge import StoreSettings
from infra.telemetry import get_logger

COMMAND = "command"
"""The name in news of what is not a bridge."""

TURN_WITHIN_S = 5.0
"""A transaction that changes the ledger, all its statements together."""
READ_WITHIN_S = 60.0
HOLD_WITHIN_S = 5.0
"""The server needs a moment to see that a killed bridge is gone."""
PAUSE_S = 0.2

KEPT_TURNS = 100_000
"""News of more turns are forgotten: a bridge looks every half second."""

OLDEST = 13
"""Earlier servers do not tell what became of a transaction (pg_xact_status)."""

READ_ONLY = "25006"
"""The server has become a standby."""
IN_THE_FUTURE = "22023"
"""Of a transaction: the server that took over has never seen it."""
HINTS = {
    "28P01": "check store.password_file",
    "28000": "check the user in store.url, store.password_file, and pg_hba.conf on the server",
    "3D000": "create the database on the server (CREATE DATABASE), or check store.url",
    "42501": "let the user of store.url create a schema there: GRANT CREATE ON DATABASE",
}

_LOCK = 0x53525653
"""The advisory lock of the bridge that keeps the ledger; such locks are a database's own."""
_LOCK_OF_TABLES = _LOCK + 1
_TURN = (
    update(SERVICE)
    .where(SERVICE.c.id == 1)
    .values(turn=SERVICE.c.turn + 1)
    .returning(SERVICE.c.opened, SERVICE.c.turn, cast(func.pg_current_xact_id(), String))
)
_NEWS = select(NEWS).where(NEWS.c.number > bindparam("after"), NEWS.c.run != bindparam("mine")).order_by(NEWS.c.number)
_OLD_NEWS = delete(NEWS).where(NEWS.c.number <= select(SERVICE.c.turn).scalar_subquery() - bindparam("kept"))
_STATUS = text("SELECT pg_xact_status(CAST(CAST(:turn AS text) AS xid8))")
_MAY_BE_LONG = text("SET LOCAL statement_timeout = 0")
_IS_KEPT = text(
    "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = CAST(:lock AS bigint) "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_HAS_SCHEMA = text("SELECT 1 FROM pg_namespace WHERE nspname = :name")

Rows = AsyncIterator[tuple[Table, list[dict[str, Any]]]]
"""See SqlStore.rows."""

log = get_logger("store")


def _any_of(column: Column[str]) -> ColumnElement[bool]:
    return column == any_(bindparam("any_of", type_=ARRAY(Text)))


PRODUCT = Product(upsert, _any_of, func.greatest)


class PostgresStore(SqlStore):
    """A Store in PostgreSQL. Make it with `open` or `open_read_only`, end it with `close`.

    A transaction that changes the ledger first locks the row of the service, so that all who write do it one after
    another. A bridge also keeps an advisory lock on its only connection and finds its own name in that row each time:
    a bridge that was cut off and replaced can change nothing.
    """

    FAILURES = (*SqlStore.FAILURES, *server.FAILURES)
    shared = True

    def __init__(self, engine: AsyncEngine, run: str | None) -> None:
        super().__init__(engine, PRODUCT)
        self._run = run
        """The name of this run of the bridge; None for a command beside it."""
        self._unknown: str | None = None
        """A transaction of which it is not known whether it was committed."""
        self._turn = 0
        """The number of the turn under way."""
        self._followed: int | None = None
        """The last turn whose changes the bridge has in its memory; None before it is loaded, and for commands."""

    @classmethod
    async def open(cls, settings: StoreSettings, *, alone: bool = True) -> Self:
        """The ledger at `store.url`, made if the database has none; raises StartError that says what is wrong.

        `alone`: as the only bridge that keeps it; else something is written beside a bridge that may run.
        """
        store = cls(_engine(server.connector(settings), alone=alone), secrets.token_hex(8) if alone else None)
        try:
            await store._begin(settings)
        except BaseException:
            await store.close()
            raise
        return store

    @classmethod
    async def open_read_only(cls, settings: StoreSettings) -> Self:
        """The ledger only to read, also beside a running bridge; raises StartError when there is none."""
        store = cls(_engine(server.connector(settings), alone=False), None)
        try:
            async with store._engine.connect() as connection:
                version = await _version(connection)
        except cls.FAILURES as error:
            await store.close()
            raise _unreachable(settings, error) from None
        if version is None:
            await store.close()
            raise StartError(
                f"there is no ledger in {settings.place}, and only the bridge makes one: start `sarvis bridge` "
                f"once with these settings, or name another database with --store-url (store.url)"
            )
        return store

    @classmethod
    async def look(cls, settings: StoreSettings) -> Look:
        """What stands there; raises StartError when the database cannot be reached."""
        store = cls(_engine(server.connector(settings), alone=False), None)
        try:
            async with store._engine.connect() as connection:
                if await _version(connection) is None:
                    return "absent"
                return "kept" if (await connection.execute(_IS_KEPT, {"lock": _LOCK})).scalar() else "free"
        except cls.FAILURES as error:
            raise _unreachable(settings, error) from None
        finally:
            await store.close()

    @classmethod
    async def replace(cls, settings: StoreSettings, rows: Rows, *, aside: str | None) -> bool:
        """Put a back-up's rows in the place of the ledger, all at once; raises StartError, SettingsError.

        `aside` is the schema in which what was there is kept; without it an existing ledger is refused. Returns
        whether something was kept there.
        """
        store = cls(_engine(server.connector(settings), alone=True), None)
        try:
            return await store._replace(settings, rows, aside)
        except _KeptError:
            raise StartError(f"a bridge uses the ledger {settings.place}; stop it first") from None
        except cls.FAILURES as error:
            raise _unreachable(settings, error) from None
        finally:
            await store.close()

    async def close(self) -> None:
        """Let another bridge have the ledger: its lock ends with the connection."""
        with suppress(*self.FAILURES):
            await self._engine.dispose()

    async def _begin(self, settings: StoreSettings) -> None:
        deadline = asyncio.get_running_loop().time() + HOLD_WITHIN_S
        while True:
            try:
                return await self._prepare(settings)
            except _KeptError:
                if asyncio.get_running_loop().time() > deadline:
                    raise LedgerKeptError(
                        f"another bridge uses the ledger {settings.place}; stop it, or name another database in "
                        f"store.url"
                    ) from None
                await asyncio.sleep(PAUSE_S)
            except self.FAILURES as error:
                raise _unreachable(settings, error) from None

    async def _prepare(self, settings: StoreSettings) -> None:
        async with self._engine.begin() as connection:
            await _make_tables(connection, settings)
            if self._run is not None:
                before = (await connection.execute(select(SERVICE.c.opened))).scalar()
                self.restored = before == BACK_UP
                await connection.execute(update(SERVICE).values(opened=self._run))

    async def _replace(self, settings: StoreSettings, rows: Rows, aside: str | None) -> bool:
        async with self._engine.begin() as connection:
            there = (await connection.execute(_HAS_SCHEMA, {"name": server.SCHEMA})).scalar() is not None
            if there and aside is None:
                raise SettingsError(
                    f"there is a ledger in {settings.place}; --replace keeps it beside, in a schema of another name"
                )
            if there:
                await connection.execute(text(f"ALTER SCHEMA {server.SCHEMA} RENAME TO {aside}"))
            await _make_tables(connection, settings)
            await _fill(connection, rows)
        return there

    @asynccontextmanager
    async def _reading(self, *, long: bool = False) -> AsyncIterator[AsyncConnection]:
        async with asyncio.timeout(None if long else READ_WITHIN_S), self._engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            await connection.execute(_MAY_BE_LONG)
            yield connection

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        committing: str | None = None
        try:
            async with self._engine.connect() as connection:
                async with asyncio.timeout(TURN_WITHIN_S):
                    turn = await self._take_turn(connection)
                    yield connection
                committing = turn
                async with asyncio.timeout(TURN_WITHIN_S):
                    await connection.commit()
                committing = None
        except self.FAILURES as error:
            if _state(error) == READ_ONLY:
                await self._engine.dispose()  # the next connection looks for the server that takes writes
            if committing is None or not await self._was_committed(committing):
                raise
        except BaseException:
            self._unknown = self._unknown or committing
            raise

    async def _take_turn(self, connection: AsyncConnection) -> str:
        """Be the only one who writes until the transaction ends; returns its number."""
        if self._unknown is not None:
            await self._settle(connection, self._unknown)
        # With the row locked, each statement that follows reads what was committed last.
        opened, self._turn, turn = (await connection.execute(_TURN)).one()
        if self._run is not None and opened != self._run:
            raise self._is_lost("another bridge took the ledger over while this one was cut off from it")
        return str(turn)

    async def load(self) -> Loaded:
        """See Store."""
        loaded = await super().load()
        self._followed = loaded.turn
        return loaded

    async def read_news(self) -> Sequence[News]:
        """See Store."""
        try:
            async with self._reading() as connection:
                return await self._others(connection)
        except self.FAILURES as error:
            self._fail(error)
            raise StoreError(f"the ledger cannot be read: {self.problem}") from error

    async def _news(self, connection: AsyncConnection) -> Sequence[News]:
        news = await self._others(connection)
        if self._followed is not None:
            self._followed = self._turn - 1  # all before this turn were committed, and are read
        return news

    async def _others(self, connection: AsyncConnection) -> Sequence[News]:
        if self._followed is None:
            return ()
        rows = (await connection.execute(_NEWS, {"after": self._followed, "mine": self._run})).all()
        try:
            news = [News(row.number, changes_in(row.changes)) for row in rows]
        except UnknownNewsError:
            raise self._is_lost("a newer version of SARVIS has changed the ledger") from None
        if news:
            self._followed = news[-1].number
        return news

    async def _tell(self, connection: AsyncConnection, changes: Sequence[Change]) -> None:
        row = {"number": self._turn, "run": self._run or COMMAND, "changes": text_of(changes)}
        await connection.execute(NEWS.insert(), row)

    async def _forget(self, connection: AsyncConnection) -> None:
        await connection.execute(_OLD_NEWS, {"kept": KEPT_TURNS})

    async def _settle(self, connection: AsyncConnection, turn: str) -> None:
        status = (await connection.execute(_STATUS, {"turn": turn})).scalar()
        if status == "committed":
            raise self._is_lost("the ledger holds a change that this bridge was never told of")
        if status != "aborted":
            raise StoreError("the ledger cannot be written: a transaction that was cut off has not ended yet")
        self._unknown = None

    async def _was_committed(self, turn: str) -> bool:
        """Whether a transaction was committed whose COMMIT got no answer; False, too, if the server does not say."""
        deadline = asyncio.get_running_loop().time() + TURN_WITHIN_S
        while True:
            try:
                async with asyncio.timeout(TURN_WITHIN_S), self._engine.connect() as connection:
                    status = (await connection.execute(_STATUS, {"turn": turn})).scalar()
            except self.FAILURES as error:
                if _state(error) == IN_THE_FUTURE:
                    return False
                status = None
            if status in {"committed", "aborted"}:
                log.warning("ledger_commit_unanswered", outcome=status)
                return bool(status == "committed")
            if asyncio.get_running_loop().time() > deadline:
                self._unknown = turn
                return False
            await asyncio.sleep(PAUSE_S)

    def _is_lost(self, problem: str) -> LedgerLostError:
        self.problem = problem
        self.lost.set()
        return LedgerLostError(f"{problem}; start the bridge again, it then reads the ledger anew")


class _KeptError(ConnectionError):
    """Another connection holds the lock of the bridge."""

    def __init__(self) -> None:
        super().__init__("another bridge uses it, or the server has not given up this bridge's last connection yet")


def _engine(connect: server.Connect, *, alone: bool) -> AsyncEngine:
    async def create() -> Any:
        connection = await connect()
        if alone and not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
            await connection.close(timeout=server.CONNECT_WITHIN_S)
            raise _KeptError
        return connection

    # One connection: the lock is that connection's, and what is written goes one after another anyway.
    return create_async_engine("postgresql+asyncpg://", async_creator=create, pool_size=1, max_overflow=0)


async def _make_tables(connection: AsyncConnection, settings: StoreSettings) -> None:
    """Make the tables, or bring them up to this version; raises StartError."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    found = driver.get_server_version()
    if found.major < OLDEST:
        raise StartError(f"the ledger {settings.place}: PostgreSQL {OLDEST} or later is needed, this is {found.major}")
    await connection.execute(_MAY_BE_LONG)
    await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK_OF_TABLES})
    if not (await connection.execute(_HAS_SCHEMA, {"name": server.SCHEMA})).scalar():
        await connection.execute(text(f"CREATE SCHEMA {server.SCHEMA}"))
    version = await _version(connection)
    if not is_known(version):
        raise StartError(
            f"the ledger {settings.place} was made by a newer version of SARVIS; it was left as it is. Start that "
            f"version, or name another database in store.url"
        )
    await bring_up_to_date(connection, version)
    await connection.execute(upsert(SERVICE).values(id=1).on_conflict_do_nothing())


async def _version(connection: AsyncConnection) -> str | None:
    """The migration that the ledger's tables have seen last."""
    if (await connection.execute(text("SELECT to_regclass('alembic_version')"))).scalar() is None:
        return None
    version = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
    return None if version is None else str(version)


async def _fill(connection: AsyncConnection, rows: Rows) -> None:
    await connection.execute(delete(SERVICE))
    async for table, some in rows:
        await connection.execute(table.insert(), some)
    for table in METADATA.sorted_tables:
        if "number" in table.c and table is not NEWS:  # turns are counted by the service
            last = select(func.max(table.c.number)).scalar_subquery()
            counter = func.pg_get_serial_sequence(table.name, "number")
            # Nothing is counted in an empty table yet.
            await connection.execute(select(func.setval(counter, func.coalesce(last, 1), last.is_not(None))))
    await connection.execute(upsert(SERVICE).values(id=1).on_conflict_do_nothing())
    await connection.execute(update(SERVICE).values(opened=BACK_UP))


def _unreachable(settings: StoreSettings, error: BaseException) -> StartError:
    hint = HINTS.get(_state(error) or "", "check store.url")
    return StartError(f"the ledger {settings.place} cannot be used: {cause(error)}; {hint}")


def _state(error: BaseException) -> str | None:
    """PostgreSQL's five signs for what went wrong."""
    state = getattr(getattr(error, "orig", None) or error, "sqlstate", None)
    return state if isinstance(state, str) else None
