"""The tables of a new ledger: what all migrations leave in a new file, without carrying out one after another.

`new_ledger.sql` is made from the migrations (`python -m tests.documents`). If it is older than the last one, the rest
is migrated.
"""

from importlib.resources import files

from sqlalchemy import Connection

STATEMENTS = "new_ledger.sql"
END = ";\n"


def create(connection: Connection) -> None:
    """Create the tables and their first rows inside the connection's transaction; raises SQLAlchemyError."""
    script = files(__package__).joinpath(STATEMENTS).read_text(encoding="utf-8")
    for statement in script.removesuffix(END).split(END):
        connection.exec_driver_sql(statement)
