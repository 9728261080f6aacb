from alembic.script import ScriptDirectory

from bridge.storage.sql.migrate import config
from bridge.storage.sql.versions import VERSIONS


def test_the_store_knows_each_migration_in_its_order() -> None:
    scripts = ScriptDirectory.from_config(config()).walk_revisions()
    assert [script.revision for script in scripts] == list(reversed(VERSIONS))
