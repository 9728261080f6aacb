"""The ledger in a file of SQLite."""

import json
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import IO, Any, Self

from sqlalchemy import (
    URL,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    String,
    Table,
    TypeDecorator,
    bindparam,
    delete,
    event,
    func,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from bridge.storage.records import BACK_UP
from bridge.storage.sql.schema import SERVICE
from bridge.storage.sql.store import SqlStore, cause
from bridge.storage.sql.transaction import Product
from bridge.storage.sql.versions import bring_up_to_date, is_known
from bridge.storage.sqlite import file as sqlite_file
from bridge.storage.sqlite import new_ledger
from bridge.storage.sqlite import run as ledger_run
from bridge.storage.store import StoreError
from contract.errors import StartError
from infra.settings.bridge import StoreSettings

DRIVER = "sqlite+aiosqlite"
BUSY_TIMEOUT_S = 5.0
HOLD_WITHIN_S = 1.0


class _Texts(TypeDecorator[Collection[str]]):
    """Texts in one parameter, as JSON: SQLite has no lists, and allows older programs 999 parameters only."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Collection[str] | None, dialect: Dialect) -> str:
        """See SQLAlchemy."""
        del dialect
        return json.dumps(list(value or ()))


def _any_of(column: Column[str]) -> ColumnElement[bool]:
    return column.in_(select(func.json_each(bindparam("any_of", type_=_Texts)).table_valued("value").c.value))


PRODUCT = Product(upsert, _any_of, func.max)


class SqliteStore(SqlStore):
    """A Store in SQLite. Create it with `open`, end it with `close`."""

    def __init__(self, engine: AsyncEngine, path: Path, lock: IO[str] | None, *, writes: bool) -> None:
        super().__init__(engine, PRODUCT)
        self._path = path
        self._lock_file = lock
        self._may_write = writes
        self._ended = AsyncExitStack()

    @classmethod
    async def open(
        cls, settings: StoreSettings, *, alone: bool = True, make: bool = True, restored: bool = False
    ) -> Self:
        """The ledger at `store.url`; raises StartError that says what is wrong with it.

        `alone`: as the only bridge that uses it; otherwise beside a bridge that may run. `make`: create it if it is
        missing. `restored`: the caller declares that it is a back-up.
        """
        path = settings.path
        if make:
            sqlite_file.make_ledger_folder(path)
        elif not sqlite_file.check(path):
            raise sqlite_file.none_there(settings)
        # A command that writes beside a bridge holds the lock for a moment when it ends.
        lock = sqlite_file.lock(path, patience_s=HOLD_WITHIN_S) if alone else None
        try:
            known = sqlite_file.check(path)
            if known:
                _refuse_newer(path)
                if alone or not sqlite_file.is_locked(path):
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
    async def open_read_only(cls, settings: StoreSettings) -> Self:
        """Open read-only; safe while a bridge is running. Raises StartError if there is no ledger."""
        path = settings.path
        if not sqlite_file.check(path):
            raise sqlite_file.none_there(settings)
        ended = AsyncExitStack()
        if not sqlite_file.is_locked(path):
            ledger_run.check_to_read(path)
        if ledger_run.needs_a_copy(path):
            path = ended.enter_context(ledger_run.readable_copy(path))
        url = URL.create(DRIVER, database=path.absolute().as_uri(), query={"mode": "ro", "uri": "true"})
        store = cls(create_async_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}), path, None, writes=False)
        store._ended = ended
        return store

    async def fill(self, rows: AsyncIterator[tuple[Table, list[dict[str, Any]]]]) -> None:
        """Write what another store's `rows` gives into this new one, all at once; raises StoreError."""
        try:
            async with self._writing() as connection:
                await connection.execute(delete(SERVICE))
                async for table, some in rows:
                    await connection.execute(table.insert(), some)
        except self.FAILURES as error:
            raise StoreError(f"the ledger {self._path} cannot be written: {cause(error)}") from error

    async def close(self) -> None:
        """Close the file and let another bridge use it."""
        lock = self._lock_file
        if lock is None and self._may_write:
            # The last one to close moves the log of a killed bridge into the file: no run is open then.
            with suppress(StartError):
                lock = sqlite_file.lock(self._path)
        try:
            if lock is not None:
                with suppress(StoreError, SQLAlchemyError, OSError):
                    lock.seek(0)
                    sqlite_file.say(lock, ledger_run.ends(lock.read()))
                    a_run = SERVICE.c.opened != BACK_UP  # this stays until a bridge has started on it
                    await self._write(update(SERVICE).where(a_run).values(opened=None))
                    await self._move_log_into_file()
            await self._engine.dispose()
        finally:
            if lock is not None:
                lock.close()
            await self._ended.aclose()

    async def _begin(self, lock: IO[str]) -> None:
        """Write into the file which run has it open; raises StartError."""
        run = ledger_run.new_run()
        try:
            before = await self._read(select(SERVICE.c.opened))
            self.restored = [row.opened for row in before] == [BACK_UP]
            sqlite_file.say(lock, ledger_run.begins(run))
            await self._write(
                upsert(SERVICE).values(id=1, opened=run).on_conflict_do_update(["id"], set_={"opened": run})
            )
            if await self._move_log_into_file():
                sqlite_file.say(lock, ledger_run.runs(run))
            # So that the log names the run, too: SQLite writes no unchanged page.
            await self._write(update(SERVICE).values(opened=ledger_run.said_again(run)))
        except (StoreError, SQLAlchemyError, OSError) as error:
            await self._engine.dispose()
            raise StartError(f"the ledger {self._path} cannot be kept: {cause(error)}") from None

    async def _clear_free_space(self) -> None:
        async with self._engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            # Debian's SQLite overwrites what it deletes; others do not.
            await driver.execute("VACUUM")
        if not await self._move_log_into_file():
            raise StoreError("another process reads the ledger, whose log still has what was deleted; try again")

    async def _move_log_into_file(self) -> bool:
        """False if another process reads at the moment."""
        async with self._engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            async with driver.execute("PRAGMA wal_checkpoint(TRUNCATE)") as cursor:
                busy, *_ = await cursor.fetchone()
        return not busy


def _engine(path: Path, *, new: bool) -> AsyncEngine:
    # Not formatted into a URL: the path may contain characters with a meaning there.
    url = URL.create(DRIVER, database=str(path.absolute()))
    engine = create_async_engine(url, pool_size=1, max_overflow=0, connect_args={"timeout": BUSY_TIMEOUT_S})

    @event.listens_for(engine.sync_engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        # SQLAlchemy emits BEGIN below: Python's driver would begin too late, after the first read.
        connection.isolation_level = None
        cursor = connection.cursor()
        if new:
            # Before anything else: a crash in the next moment must leave a file that is recognised as a ledger.
            cursor.execute(f"PRAGMA application_id={sqlite_file.APPLICATION_ID}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


async def _prepare(engine: AsyncEngine, path: Path) -> None:
    """Create the tables, or migrate them to this version; raises StartError and closes the engine on failure."""
    try:
        async with engine.begin() as connection:
            version = await connection.run_sync(_version)
            if version is None:
                await connection.run_sync(new_ledger.create)
                version = await connection.run_sync(_version)
            await bring_up_to_date(connection, version)
    except (SQLAlchemyError, OSError) as error:
        await engine.dispose()
        raise StartError(f"the ledger {path} cannot be kept: {cause(error)}") from None


def _version(connection: Connection) -> str | None:
    tables = "SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'"
    if not connection.exec_driver_sql(tables).scalar():
        return None
    version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if version is None else str(version)


def _refuse_newer(path: Path) -> None:
    """Raises StartError; before anything is opened to write, which would move pages from the log into the file."""
    if not is_known(sqlite_file.revision(path)):
        raise StartError(
            f"the ledger {path} was made by a newer version of SARVIS; it was left as it is. Start that version, "
            f"or name another file in store.url"
        )
