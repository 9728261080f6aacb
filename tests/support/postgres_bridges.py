"""Bridges' stores on one ledger in PostgreSQL, without the rest of a bridge."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from bridge.storage.opening import open_store
from bridge.storage.postgres.store import PostgresStore
from bridge.storage.records import Change
from bridge.storage.sql.store import SqlStore
from bridge.storage.store import Beat, Floors, Identity
from infra.settings.bridge import StoreSettings
from tests.support.postgres import Postgres

FLOORS = Floors(grace_s=10.0, spread_s=0.0, whole_s=60.0)


def database(place: StoreSettings) -> str:
    return place.url.rsplit("/", 1)[1]


async def save(store: SqlStore, *changes: Change) -> None:
    async with store.transaction() as transaction:
        await transaction.save(changes)


async def begin(place: StoreSettings, name: str, *, restored: bool = False) -> PostgresStore:
    """A bridge of this name that has begun."""
    store = await open_store(place, me=Identity(name, "1.0", f"{name}.home:8000"))
    assert isinstance(store, PostgresStore)
    try:
        await store.attach(FLOORS, restored=restored)
        await store.load()
    except BaseException:
        await store.close()
        raise
    return store


@asynccontextmanager
async def beating(*stores: SqlStore) -> AsyncIterator[None]:
    """Inside this block these bridges look."""

    async def beat() -> None:
        while True:
            for store in stores:
                await store.look(Beat())
            await asyncio.sleep(0.05)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def rows(place: StoreSettings, server: Postgres, question: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await server.ask(database(place), question)]
