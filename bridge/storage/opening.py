"""Opens the ledger where `store.url` says: a file of SQLite or a PostgreSQL database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.storage.postgres.driver import explained
from bridge.storage.sql.store import SqlStore
from bridge.storage.sqlite import creation
from bridge.storage.sqlite import file as sqlite_file
from bridge.storage.sqlite.store import SqliteStore
from bridge.storage.store import Identity, Look
from infra.settings.bridge import StoreSettings

if TYPE_CHECKING:
    from bridge.storage.postgres.store import PostgresStore


async def open_store(
    settings: StoreSettings,
    *,
    alone: bool = True,
    make: bool = True,
    restored: bool = False,
    me: Identity | None = None,
) -> SqlStore:
    """The ledger to write; raises StartError that says what is wrong with it.

    `alone`: as the only bridge that keeps it; else something is written beside a bridge that may run. `make`: it is
    made if it is not there. `restored`: the caller says that it is a back-up. `me`: how a bridge names itself beside
    others.
    """
    if settings.is_file:
        return await SqliteStore.open(settings, alone=alone, make=make, restored=restored)
    # No user has a second one by mistake: the address names the same database for every user.
    return await postgres().open(settings, alone=alone, me=me)


async def open_to_read(settings: StoreSettings) -> SqlStore:
    """The ledger only to read, also beside a running bridge; raises StartError when there is none."""
    if settings.is_file:
        return await SqliteStore.open_read_only(settings)
    return await postgres().open_read_only(settings)


async def look(settings: StoreSettings) -> Look:
    """What stands where `store.url` says; raises StartError when that cannot be read."""
    if not settings.is_file:
        with explained():
            from bridge.storage.postgres import whole  # noqa: PLC0415  # its driver is of an extra
        return await whole.look(settings)
    if not sqlite_file.check(settings.path):
        return "absent"
    return "kept" if sqlite_file.is_locked(settings.path) else "free"


@asynccontextmanager
async def ledger(settings: StoreSettings, prepared: Path | None, *, alone: bool = False) -> AsyncIterator[SqlStore]:
    """The ledger for a command that changes it, closed when the block ends; raises StartError when there is none.

    `prepared` is what `creation.prepared_by` found: then the ledger is made where the settings say.
    """
    make = settings.is_file and (prepared is not None or creation.is_prepared(settings.path))
    store = await open_store(settings, alone=alone, make=make)
    try:
        creation.settle(prepared, settings.path if settings.is_file else None)
        yield store
    finally:
        await store.close()


def postgres() -> "type[PostgresStore]":
    """The store of PostgreSQL; raises StartError when its driver is not installed."""
    with explained():
        from bridge.storage.postgres.store import PostgresStore  # noqa: PLC0415  # its driver is of an extra
    return PostgresStore
