"""A ledger forgets a user, also where SQLite does not overwrite what it deletes."""

from dataclasses import replace
from pathlib import Path

from sqlalchemy import text

from bridge.storage.records import (
    Audit,
    Change,
    Departed,
    DurableDeadline,
    Forgotten,
    Missed,
    PendingLogout,
    PushSubscription,
    Session,
)
from bridge.storage.sqlite.store import SqliteStore
from tests.support.ledgers import place


def line(uid: str, actor: str = "") -> Audit:
    return Audit("2026-01-01T00:00:00+00:00", "left", "", "", uid, "app", actor)


def named(folder: Path) -> list[str]:
    """The files that name the user, also in free space."""
    return [path.name for path in folder.iterdir() if b"alice" in path.read_bytes()]


ROWS: tuple[Change, ...] = (
    Session("s1", "jetson", "alice", 1),
    Session("s1", "jetson", "alice", 1, "app"),
    replace(line("alice", "app:alice"), note="of alice"),
    replace(line("carol", "app:alice"), note="of carol"),
    line("carol", "app:carol"),
    *(Missed(f"m{number}", "alice", "wake_up", "jetson", "t") for number in range(60)),
    Missed("mc", "carol", "wake_up", "jetson", "t"),
    PushSubscription("alice", "https://push.example/alice", "p", "a"),
    DurableDeadline("alice", 5.0),
    Departed("alice", 6.0, "app"),
    DurableDeadline("carol", 5.0),
)


async def test_what_is_kept_of_a_user_is_gone_or_bears_another_name(tmp_path: Path) -> None:
    store = await SqliteStore.open(place(tmp_path / "ledger.db"))
    async with store._engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.execute("PRAGMA secure_delete = OFF")
    async with store.transaction() as transaction:
        await transaction.save(ROWS)
    forgotten = await store.forget("alice", "forgotten-1")
    assert forgotten == Forgotten(audit=2, sessions=1, missed=20, subscriptions=1, deadlines=1)
    assert named(tmp_path) == []
    lines = [(one.uid, one.actor) for name in ("forgotten-1", "carol") for one in await store.audit(name, 10)]
    notes = [one.note for name in ("forgotten-1", "carol") for one in await store.audit(name, 10)]
    assert sorted(notes) == ["", "", "of carol"], "what was written about alice is gone"
    assert lines == [("forgotten-1", "app:forgotten-1"), ("carol", "app:forgotten-1"), ("carol", "app:carol")]
    async with store.transaction() as transaction:
        assert [one.id for one in (await transaction.missed(["carol"]))["carol"]] == ["mc"]
    async with store._engine.connect() as connection:
        found = await connection.execute(text("SELECT opened FROM service"))
        assert found.scalar(), "the ledger still says which run has it open"
    await store.close()
    again = await SqliteStore.open(place(tmp_path / "ledger.db"))
    await again.close()


async def test_a_log_out_that_waits_stays(tmp_path: Path) -> None:
    store = await SqliteStore.open(place(tmp_path / "ledger.db"))
    row = PendingLogout("c1", "s1", "jetson", "alice", 1, "app", "2026-01-01T00:00:00+00:00")
    async with store.transaction() as transaction:
        await transaction.save([row])
    await store.forget("alice", "forgotten-1")
    assert list((await store.load()).pending) == [row]
    await store.close()
