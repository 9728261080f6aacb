import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine

from bridge.storage.sql.migrate import config, migrate
from bridge.storage.sql.versions import VERSIONS
from bridge.storage.sqlite import new_ledger
from bridge.storage.sqlite.store import SqliteStore
from infra.settings.bridge import StoreSettings


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def tables(path: Path) -> set[tuple[str, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return set(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


def test_the_store_knows_each_migration_in_its_order() -> None:
    scripts = ScriptDirectory.from_config(config()).walk_revisions()
    assert [script.revision for script in scripts] == list(reversed(VERSIONS))


async def test_a_new_ledger_is_what_all_migrations_leave(tmp_path: Path, empty: Connection) -> None:
    migrate(empty)
    empty.commit()
    store = await SqliteStore.open(StoreSettings(url=f"sqlite:///{tmp_path / 'new.db'}"))
    await store.close()
    assert tables(tmp_path / "new.db") == tables(tmp_path / "migrated.db")


async def test_what_a_new_ledger_lacks_is_migrated(
    tmp_path: Path, empty: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def older(connection: Connection) -> None:
        command.upgrade(config(connection), VERSIONS[-2])

    monkeypatch.setattr(new_ledger, "create", older)
    migrate(empty)
    empty.commit()
    store = await SqliteStore.open(StoreSettings(url=f"sqlite:///{tmp_path / 'new.db'}"))
    await store.close()
    assert tables(tmp_path / "new.db") == tables(tmp_path / "migrated.db")
