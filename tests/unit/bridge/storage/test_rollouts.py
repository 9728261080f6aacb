"""Models and rollouts in the ledger, in a file and in a database."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.storage.opening import open_store
from bridge.storage.records import By, Device
from bridge.storage.rollouts import Candidate, Model, Rollout, RolloutDevice, line_of
from bridge.storage.sql.rollouts import SqlRollouts
from bridge.storage.sql.store import SqlStore
from bridge.storage.sqlite.store import SqliteStore
from bridge.storage.store import StoreError
from tests.support.ledgers import place
from tests.support.postgres import Postgres
from tests.support.programs import needs

MODEL = Model("a" * 64, "two", "{}", "s", "b" * 64, "2026-01-01T00:00:00+00:00")
ROLLOUT = Rollout(1, MODEL.sha256, "", "1,100", 0.0, 3, "running", 0, None, "", "then")
LINE = line_of(1, "began", "then", By("user:me", via="cli"))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=needs("postgres"))])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlStore]:
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres_server")
        where = await server.database()
    else:
        where = place(tmp_path / "ledger.db")
    opened = await open_store(where)
    yield opened
    await opened.close()
    if request.param == "postgres":
        await server.drop(where)


async def test_a_model_is_kept_with_its_bytes_once(store: SqlStore) -> None:
    it = SqlRollouts(store)
    await it.add_model(MODEL, b"\0data\xff", b"golden")
    assert await it.models() == [MODEL]
    assert await it.blob(MODEL.sha256) == b"\0data\xff"
    assert await it.blob(MODEL.golden_sha256) == b"golden"
    assert await it.blob("c" * 64) is None
    with pytest.raises(StoreError):
        await it.add_model(replace(MODEL, sha256="c" * 64), b"", b"")


async def test_a_rollout_and_its_devices_are_written_together_unless_another_changed_it(store: SqlStore) -> None:
    it = SqlRollouts(store)
    await it.begin(ROLLOUT, LINE)
    one, two = RolloutDevice(1, "a", 0), RolloutDevice(1, "b", 0, "running", asked=1, asked_at=7.5)
    after = replace(ROLLOUT, stage=1, settled_at=8.5)
    assert await it.save(ROLLOUT, after, [one, two], [LINE])
    assert await it.rollouts() == [after]
    assert await it.devices_of(1) == {"a": one, "b": two}
    changed = replace(one, state="failed", reason="why")
    assert await it.save(after, replace(after, state="paused"), [changed], [])
    assert not await it.save(after, replace(after, state="done"), [two, one], [LINE])
    assert [row.state for row in await it.rollouts()] == ["paused"]
    assert await it.devices_of(1) == {"a": changed, "b": two}
    assert await it.devices_of(2) == {}


async def test_devices_on_mqtt_that_reported_and_were_not_removed_may_get_a_model(store: SqlStore) -> None:
    async with store.transaction() as transaction:
        await transaction.save([
            Device("a", "i", tags="x y"), Device("b", "i", state="removed"), Device("c", "i", logout_url="http://c/"),
            Device("d"), Device("e", "i", state="added"),
        ])  # fmt: skip
    assert await SqlRollouts(store).candidates() == [Candidate("a", frozenset("xy")), Candidate("e", frozenset())]


async def test_a_back_up_has_models_and_rollouts(store: SqlStore, tmp_path: Path) -> None:
    it = SqlRollouts(store)
    await it.add_model(MODEL, b"\0data\xff", b"golden")
    await it.begin(ROLLOUT, LINE)
    await it.save(ROLLOUT, ROLLOUT, [RolloutDevice(1, "a", 0)], [])
    copy = await SqliteStore.open(place(tmp_path / "copy.db"))
    await copy.fill(store.rows())
    there = SqlRollouts(copy)
    assert (await there.models(), await there.rollouts()) == ([MODEL], [ROLLOUT])
    assert await there.blob(MODEL.sha256) == b"\0data\xff"
    assert await there.devices_of(1) == {"a": RolloutDevice(1, "a", 0)}
    await copy.close()
