"""Makes the ledger's tables in PostgreSQL, and fills them with a back-up."""

from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import Table, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.storage.postgres import server
from bridge.storage.records import BACK_UP
from bridge.storage.sql.schema import BRIDGES, METADATA, NEWS, SERVICE
from bridge.storage.sql.versions import bring_up_to_date, is_known
from contract.errors import StartError
from infra.settings.bridge import StoreSettings

OLDEST = 13
"""Earlier servers do not tell what became of a transaction (pg_xact_status)."""
LOCK_OF_TABLES = 0x53525654

_MAY_BE_LONG = text("SET LOCAL statement_timeout = 0")
_HAS_SCHEMA = text("SELECT 1 FROM pg_namespace WHERE nspname = :name")

Rows = AsyncIterator[tuple[Table, list[dict[str, Any]]]]
"""See SqlStore.rows."""


async def is_there(connection: AsyncConnection) -> bool:
    """Whether the database has a ledger's schema."""
    return (await connection.execute(_HAS_SCHEMA, {"name": server.SCHEMA})).scalar() is not None


async def make(connection: AsyncConnection, settings: StoreSettings) -> None:
    """Make the tables, or bring them up to this version; raises StartError."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    found = driver.get_server_version()
    if found.major < OLDEST:
        raise StartError(f"the ledger {settings.place}: PostgreSQL {OLDEST} or later is needed, this is {found.major}")
    await connection.execute(_MAY_BE_LONG)
    await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK_OF_TABLES})
    if not await is_there(connection):
        await connection.execute(text(f"CREATE SCHEMA {server.SCHEMA}"))
    found_version = await version(connection)
    if not is_known(found_version):
        raise StartError(
            f"the ledger {settings.place} was made by a newer version of SARVIS; it was left as it is. Start that "
            f"version, or name another database in store.url"
        )
    await bring_up_to_date(connection, found_version)
    await connection.execute(upsert(SERVICE).values(id=1).on_conflict_do_nothing())


async def version(connection: AsyncConnection) -> str | None:
    """The migration that the ledger's tables have seen last."""
    if (await connection.execute(text("SELECT to_regclass('alembic_version')"))).scalar() is None:
        return None
    found = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
    return None if found is None else str(found)


async def fill(connection: AsyncConnection, rows: Rows) -> None:
    """Write a back-up's rows into new tables, and that it is one."""
    await connection.execute(delete(SERVICE))
    async for table, some in rows:
        if table is not BRIDGES:  # those that ran when it was made
            await connection.execute(table.insert(), some)
    for table in METADATA.sorted_tables:
        if "number" in table.c and table is not NEWS:  # turns are counted by the service
            last = select(func.max(table.c.number)).scalar_subquery()
            counter = func.pg_get_serial_sequence(table.name, "number")
            # Nothing is counted in an empty table yet.
            await connection.execute(select(func.setval(counter, func.coalesce(last, 1), last.is_not(None))))
    await connection.execute(upsert(SERVICE).values(id=1).on_conflict_do_nothing())
    await connection.execute(update(SERVICE).values(opened=BACK_UP))
