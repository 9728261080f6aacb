"""The statements that create a new ledger, from the migrations."""

from pathlib import Path

from sqlalchemy import create_engine

from bridge.storage.sql.migrate import migrate
from bridge.storage.sqlite import new_ledger

PATH = Path(new_ledger.__file__).with_name(new_ledger.STATEMENTS)


def written() -> str:
    """What the file must be."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        migrate(connection)
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        statements = list(driver.iterdump())
    engine.dispose()
    assert (statements[0], statements[-1]) == ("BEGIN TRANSACTION;", "COMMIT;")
    # Alembic creates the indexes of a table in any order.
    inner = sorted(statements[1:-1], key=lambda statement: statement if " INDEX " in statement else "")
    return "".join(f"{statement}\n" for statement in inner)
