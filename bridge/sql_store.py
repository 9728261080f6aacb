"""The ledger in SQLite, by SQLAlchemy Core: a write-ahead log, and each commit is on disk before it is told."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Self

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, ColumnElement, Connection, Table, delete, event, func, or_, select, true, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from bridge import ledger_run, sqlite_file
from bridge.rows import (
    LEAVING,
    ApiKey,
    Audit,
    Device,
    Missed,
    PendingLogout,
    Promise,
    PushSubscription,
    Session,
)
from bridge.schema import API_KEYS, AUDIT, DEVICES, MISSED, OUTBOX, PROMISES, PUSH_SUBSCRIPTIONS, SERVICE, SESSIONS
from bridge.sql_transaction import SqlTransaction, device_of, pending_of, session_of
from bridge.store import Loaded, StoreError, Transaction
from contract.errors import StartError
from contract.sections.bridge import StoreSettings
from contract.telemetry import get_logger

DRIVER = "sqlite+aiosqlite"
KEPT_AUDIT_LINES = 100_000
KEPT_IN_MIND = 10_000
"""Of them, when a bridge starts."""
KEPT_ENDED_SESSIONS = 100_000
BUSY_TIMEOUT_S = 5.0
HOLD_WITHIN_S = 1.0

log = get_logger("store")


class SqlStore:
    """A Store in SQLite. Make it with `open`, end it with `close`."""

    def __init__(self, engine: AsyncEngine, path: Path, lock: IO[str] | None, *, writes: bool) -> None:
        self.problem: str | None = None
        self.restored = False
        """It was a back-up of `sarvis backup` when it was opened."""

        self._engine = engine
        self._path = path
        self._lock_file = lock
        self._writes = writes
        self._one = asyncio.Lock()
        self._ended = AsyncExitStack()

    @classmethod
    async def open(cls, settings: StoreSettings, *, alone: bool = True, restored: bool = False) -> Self:
        """The ledger at `store.url`, made if it is not there; raises StartError that says what is wrong with it.

        `alone`: as the only bridge that keeps it; else something is written beside a bridge that may run. `restored`:
        whoever starts says that it is a back-up.
        """
        path = settings.path
        sqlite_file.make_room(path)
        # A command that wrote beside a bridge holds it for a moment, when it ends.
        lock = sqlite_file.hold(path, patience_s=HOLD_WITHIN_S) if alone else None
        try:
            known = sqlite_file.check(path)
            if known:
                _refuse_newer(path)
                if alone or not sqlite_file.is_held(path):
                    ledger_run.check(path, restored=restored)
            else:
                sqlite_file.begin(path)
            engine = _engine(path, new=not known)
            await _prepare(engine, path)
            store = cls(engine, path, lock, writes=True)
            if lock is not None:
                await store._begin(lock)
        except BaseException:
            if lock is not None:
                lock.close()
            raise
        return store

    @classmethod
    async def look(cls, settings: StoreSettings) -> Self:
        """The same only to read, also beside a running bridge; raises StartError when there is no ledger."""
        path = settings.path
        if not sqlite_file.check(path):
            raise StartError(f"there is no ledger at {path}; `sarvis bridge` makes it, store.url says where")
        ended = AsyncExitStack()
        if not sqlite_file.is_held(path):
            ledger_run.check_to_read(path)
        if ledger_run.needs_a_copy(path):
            path = ended.enter_context(ledger_run.readable_copy(path))
        url = URL.create(DRIVER, database=path.absolute().as_uri(), query={"mode": "ro", "uri": "true"})
        store = cls(create_async_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}), path, None, writes=False)
        store._ended = ended
        return store

    async def close(self) -> None:
        """Close the file and let another bridge have it."""
        lock = self._lock_file
        if lock is None and self._writes:
            # Whoever closes last moves the log of a bridge that was killed into the file: no run is open then.
            with suppress(StartError):
                lock = sqlite_file.hold(self._path)
        try:
            if lock is not None:
                with suppress(StoreError, SQLAlchemyError, OSError):
                    lock.seek(0)
                    sqlite_file.say(lock, ledger_run.ends(lock.read()))
                    a_run = SERVICE.c.opened != ledger_run.BACK_UP  # that stays until a bridge has started on it
                    await self._write(update(SERVICE).where(a_run).values(opened=None))
                    await self._move_log_into_file()
            await self._engine.dispose()
        finally:
            if lock is not None:
                lock.close()
            await self._ended.aclose()

    async def _begin(self, lock: IO[str]) -> None:
        """Let the file itself say which run has it open; raises StartError."""
        run = ledger_run.new_run()
        try:
            before = await self._read(select(SERVICE.c.opened))
            self.restored = [row.opened for row in before] == [ledger_run.BACK_UP]
            sqlite_file.say(lock, ledger_run.begins(run))
            await self._write(
                upsert(SERVICE).values(id=1, opened=run).on_conflict_do_update(["id"], set_={"opened": run})
            )
            if await self._move_log_into_file():
                sqlite_file.say(lock, ledger_run.runs(run))
            # So that the log names the run, too: SQLite writes no page in which nothing changed.
            await self._write(update(SERVICE).values(opened=ledger_run.said_again(run)))
        except (StoreError, SQLAlchemyError, OSError) as error:
            await self._engine.dispose()
            raise StartError(f"the ledger {self._path} cannot be kept: {_cause(error)}") from None

    async def _move_log_into_file(self) -> bool:
        """False when somebody reads just now."""
        async with self._engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            async with driver.execute("PRAGMA wal_checkpoint(TRUNCATE)") as cursor:
                busy, *_ = await cursor.fetchone()
        return not busy

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """One at a time; see Store."""
        async with self._one:
            try:
                async with self._engine.begin() as connection:
                    yield SqlTransaction(connection)
            except (SQLAlchemyError, OSError) as error:
                self._fail(error)
                raise StoreError(f"the ledger cannot be written: {self.problem}") from error
            self.problem = None

    async def load(self) -> Loaded:
        """See Store."""
        try:
            async with self._engine.connect() as connection:
                return await _load(connection)
        except (SQLAlchemyError, OSError) as error:
            self._fail(error)
            raise StoreError(f"the ledger cannot be read: {self.problem}") from error

    async def prune(self) -> None:
        """Forget old audit lines and sessions that ended long ago and whose device has confirmed it."""
        async with self._one:
            try:
                async with self._engine.begin() as connection:
                    await _prune(connection)
            except (SQLAlchemyError, OSError) as error:
                self._fail(error)

    # For operators

    async def seconds(self) -> float:
        """Service time on disk."""
        return next((row.seconds for row in await self._read(select(SERVICE.c.seconds))), 0.0)

    async def running(self, most: int, about: str | None = None) -> list[tuple[Session, Promise | None]]:
        """Running sessions (about a user, a device or a session) by device, and what is promised to their users."""
        query = (
            select(SESSIONS, PROMISES.c.until_s, PROMISES.c.floored)
            .outerjoin(PROMISES, PROMISES.c.uid == SESSIONS.c.uid)
            .where(SESSIONS.c.ended.is_(None), _concerns(SESSIONS, about))
            .order_by(SESSIONS.c.device_id)
            .limit(most)
        )
        return [(session_of(row), _promise(row)) for row in await self._read(query)]

    async def waiting(self, most: int, about: str | None = None) -> list[PendingLogout]:
        """Log-outs (about a user, a device or a session) that no device has confirmed yet, oldest first."""
        query = select(OUTBOX).where(_concerns(OUTBOX, about)).order_by(OUTBOX.c.number).limit(most)
        return [pending_of(row) for row in await self._read(query)]

    async def audit(self, about: str, most: int) -> list[Audit]:
        """The newest lines about a user, a device or a session, oldest first."""
        query = select(AUDIT).where(_concerns(AUDIT, about)).order_by(AUDIT.c.number.desc()).limit(most)
        rows = await self._read(query)
        return [Audit(row.at, row.event, row.session_id, row.device_id, row.uid, row.reason) for row in reversed(rows)]

    async def devices(self, most: int) -> list[Device]:
        """All devices that were added or seen."""
        return [device_of(row) for row in await self._read(select(DEVICES).order_by(DEVICES.c.device_id).limit(most))]

    async def removed(self) -> set[str]:
        """The devices that an operator took out."""
        query = select(DEVICES.c.device_id).where(DEVICES.c.state == "removed")
        return {row.device_id for row in await self._read(query)}

    # Keys

    async def api_keys(self) -> list[ApiKey]:
        """All keys, the oldest first; raises StoreError."""
        return [_api_key(row) for row in await self._read(select(API_KEYS).order_by(API_KEYS.c.created_at))]

    async def add_api_key(self, key: ApiKey) -> None:
        """Let a key be valid; raises StoreError."""
        await self._write(API_KEYS.insert().values(asdict(key)))

    async def drop_api_key(self, key_id: str) -> bool:
        """Let a key be invalid; False when there was none. Raises StoreError."""
        return await self._write(delete(API_KEYS).where(API_KEYS.c.key_id == key_id)) > 0

    async def _write(self, statement: Any) -> int:
        async with self._one:
            try:
                async with self._engine.begin() as connection:
                    return int((await connection.execute(statement)).rowcount)
            except (SQLAlchemyError, OSError) as error:
                raise StoreError(f"the ledger cannot be written: {_cause(error)}") from error

    async def _read(self, query: Any) -> Sequence[Any]:
        try:
            async with self._engine.connect() as connection:
                return (await connection.execute(query)).all()
        except (SQLAlchemyError, OSError) as error:
            raise StoreError(f"the ledger cannot be read: {_cause(error)}") from error

    def _fail(self, error: BaseException) -> None:
        problem = _cause(error)
        if problem != self.problem:
            log.error("ledger_problem", error=problem)
        self.problem = problem


def _api_key(row: Any) -> ApiKey:
    return ApiKey(row.key_id, row.hash, row.role, row.name, row.created_at, row.expires_at)


def _promise(row: Any) -> Promise | None:
    return None if row.until_s is None else Promise(row.uid, row.until_s, row.floored)


def _concerns(table: Table, about: str | None) -> ColumnElement[bool]:
    columns = (table.c.uid, table.c.device_id, table.c.session_id)
    return true() if about is None else or_(*(column == about for column in columns))


async def _load(connection: AsyncConnection) -> Loaded:
    seconds = (await connection.execute(select(SERVICE.c.seconds))).scalar()
    sessions = await connection.execute(select(SESSIONS).where(SESSIONS.c.ended.is_(None)))
    pending = await connection.execute(select(OUTBOX).order_by(OUTBOX.c.number))
    promises = await connection.execute(select(PROMISES))
    missed = await connection.execute(select(MISSED).order_by(MISSED.c.number))
    subscribed = await connection.execute(select(PUSH_SUBSCRIPTIONS).order_by(PUSH_SUBSCRIPTIONS.c.number))
    left = await connection.execute(
        select(AUDIT)
        .where(AUDIT.c.event.in_(["ended", "left"]), AUDIT.c.reason.in_(LEAVING))
        .order_by(AUDIT.c.number.desc())
        .limit(KEPT_IN_MIND)
    )
    return Loaded(
        seconds=seconds or 0.0,
        sessions=[session_of(row) for row in sessions],
        pending=[pending_of(row) for row in pending],
        promises=[Promise(row.uid, row.until_s, row.floored) for row in promises],
        missed=[Missed(row.id, row.uid, row.command, row.device_id, row.timestamp, row.received_at) for row in missed],
        subscriptions=tuple(PushSubscription(row.uid, row.endpoint, row.p256dh, row.auth) for row in subscribed),
        left=[Audit(row.at, row.event, row.session_id, row.device_id, row.uid, row.reason) for row in left],
    )


async def _prune(connection: AsyncConnection) -> None:
    newest = (await connection.execute(select(func.max(AUDIT.c.number)))).scalar() or 0
    await connection.execute(delete(AUDIT).where(AUDIT.c.number <= newest - KEPT_AUDIT_LINES))
    last = (await connection.execute(select(func.max(SESSIONS.c.number)))).scalar() or 0
    # A device that has not confirmed may still hold its session: that one must stay known as ended.
    await connection.execute(
        delete(SESSIONS).where(
            SESSIONS.c.ended.is_not(None),
            SESSIONS.c.number <= last - KEPT_ENDED_SESSIONS,
            SESSIONS.c.session_id.not_in(select(OUTBOX.c.session_id)),
        )
    )


def _engine(path: Path, *, new: bool) -> AsyncEngine:
    # Not written into a text: the path may contain what an address gives a meaning to.
    url = URL.create(DRIVER, database=str(path.absolute()))
    engine = create_async_engine(url, pool_size=1, max_overflow=0, connect_args={"timeout": BUSY_TIMEOUT_S})

    @event.listens_for(engine.sync_engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        # SQLAlchemy says BEGIN below: Python's driver would begin too late, after the first read.
        connection.isolation_level = None
        cursor = connection.cursor()
        if new:
            # Before anything else: a crash in the next moment must leave a file that is known as ours.
            cursor.execute(f"PRAGMA application_id={sqlite_file.APPLICATION_ID}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


async def _prepare(engine: AsyncEngine, path: Path) -> None:
    """Bring the tables up to this version; raises StartError and closes the engine when that cannot be."""
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_migrate)
    except (SQLAlchemyError, OSError) as error:
        await engine.dispose()
        raise StartError(f"the ledger {path} cannot be kept: {_cause(error)}") from None


def _refuse_newer(path: Path) -> None:
    """Raises StartError; before anything is opened to write, which would move pages from the log into the file."""
    revision = sqlite_file.revision(path)
    known = {script.revision for script in ScriptDirectory.from_config(_alembic()).walk_revisions()}
    if revision is not None and revision not in known:
        raise StartError(
            f"the ledger {path} was made by a newer version of SARVIS; it was left as it is. Start that version, "
            f"or name another file in store.url"
        )


def _migrate(connection: Connection) -> None:
    config = _alembic()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", "bridge:migrations")
    return config


def _cause(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause)
