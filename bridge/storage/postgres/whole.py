"""A ledger in PostgreSQL as a whole, for commands: whether it is there, and a back-up in its place."""

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from bridge.storage.postgres import server, tables
from bridge.storage.postgres.engine import LOCK, KeptError, make_engine, unreachable
from bridge.storage.store import Look
from contract.errors import SettingsError, StartError
from infra.settings.bridge import StoreSettings

FAILURES: tuple[type[BaseException], ...] = (SQLAlchemyError, *server.FAILURES)

_IS_KEPT = text(
    "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = CAST(:lock AS bigint) "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


async def look(settings: StoreSettings) -> Look:
    """What stands there; raises StartError when the database cannot be reached."""
    engine = make_engine(server.connector(settings), holds="nothing")
    try:
        async with engine.connect() as connection:
            if await tables.version(connection) is None:
                return "absent"
            return "kept" if (await connection.execute(_IS_KEPT, {"lock": LOCK})).scalar() else "free"
    except FAILURES as error:
        raise unreachable(settings, error) from None
    finally:
        await engine.dispose()


async def replace(settings: StoreSettings, rows: tables.Rows, *, aside: str | None) -> bool:
    """Put a back-up's rows in the place of the ledger, all at once; raises StartError, SettingsError.

    `aside` is the schema in which what was there is kept; without it an existing ledger is refused. Returns whether
    something was kept there.
    """
    engine = make_engine(server.connector(settings), holds="all")
    try:
        return await _replace(engine, settings, rows, aside)
    except KeptError:
        raise StartError(f"a bridge uses the ledger {settings.place}; stop it first") from None
    except FAILURES as error:
        raise unreachable(settings, error) from None
    finally:
        await engine.dispose()


async def _replace(engine: AsyncEngine, settings: StoreSettings, rows: tables.Rows, aside: str | None) -> bool:
    async with engine.begin() as connection:
        there = await tables.is_there(connection)
        if there and aside is None:
            raise SettingsError(
                f"there is a ledger in {settings.place}; --replace keeps it beside, in a schema of another name"
            )
        if there:
            await connection.execute(text(f"ALTER SCHEMA {server.SCHEMA} RENAME TO {aside}"))
        await tables.make(connection, settings)
        await tables.fill(connection, rows)
    return there
