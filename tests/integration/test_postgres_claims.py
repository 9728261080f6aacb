"""What is done once on a ledger in PostgreSQL: of many bridges that claim it, one may."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bridge.storage.opening import open_store
from bridge.storage.postgres.claims import KEPT_S
from bridge.storage.postgres.store import PostgresStore
from bridge.storage.records import ServiceSeconds
from bridge.storage.store import Identity
from infra.settings.bridge import StoreSettings
from tests.support.postgres import Postgres
from tests.support.programs import needs

pytestmark = [needs("postgres"), pytest.mark.usefixtures("patient_ledger")]


@pytest.fixture
async def stores(postgres_server: Postgres) -> AsyncIterator[list[PostgresStore]]:
    where = await postgres_server.database()
    stores = [await _open(where, name) for name in "abc"]
    yield stores
    for store in stores:
        await store.close()
    await postgres_server.drop(where)


async def _open(where: StoreSettings, name: str) -> PostgresStore:
    store = await open_store(where, me=Identity(name))
    assert isinstance(store, PostgresStore)
    return store


async def test_of_all_who_claim_a_name_at_once_one_has_it(stores: list[PostgresStore]) -> None:
    names = [f"push w{number}" for number in range(50)]
    given = await asyncio.gather(*(store.claim(order) for store in stores for order in (names, names[::-1])))
    assert sorted(name for mine in given for name in mine) == sorted(names)


async def test_a_name_can_be_claimed_again_after_an_hour_of_service(stores: list[PostgresStore]) -> None:
    store = stores[0]
    assert await store.claim(["push w"]) == {"push w"}
    for seconds in (KEPT_S - 1, KEPT_S + 1):
        async with store.transaction() as transaction:
            await transaction.save([ServiceSeconds(seconds)])
        await store.prune(departed_before_s=0.0)
        assert bool(await store.claim(["push w"])) == (seconds > KEPT_S)
