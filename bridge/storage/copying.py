"""Copies a PostgreSQL ledger into a file of SQLite, its back-up, and any back-up into a PostgreSQL database."""

import sqlite3
from contextlib import closing
from pathlib import Path

from bridge.storage.opening import open_to_read
from bridge.storage.postgres.driver import explained
from bridge.storage.sqlite.run import mark_as_back_up
from bridge.storage.sqlite.store import SqliteStore
from infra.settings.bridge import SQLITE, StoreSettings


async def copy_to_file(settings: StoreSettings, copy: Path) -> None:
    """Write all of a ledger, of one moment, into a new file; raises StartError, StoreError."""
    source = await open_to_read(settings)
    try:
        target = await SqliteStore.open(_file(copy))
        try:
            await target.fill(source.rows())
        finally:
            await target.close()
    finally:
        await source.close()
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        mark_as_back_up(connection)


async def copy_from_file(copy: Path, settings: StoreSettings, *, aside: str | None) -> bool:
    """Put a back-up in the place of a PostgreSQL ledger, as a whole; raises StartError, SettingsError.

    `copy` is brought up to this version first, so give a temporary one. `aside` and what is returned: see
    bridge/storage/postgres/whole.py.
    """
    source = await SqliteStore.open(_file(copy), make=False, restored=True)
    try:
        with explained():
            from bridge.storage.postgres import whole  # noqa: PLC0415  # its driver is of an extra
        return await whole.replace(settings, source.rows(), aside=aside)
    finally:
        await source.close()


def _file(path: Path) -> StoreSettings:
    return StoreSettings(url=f"{SQLITE}{path.absolute()}")
