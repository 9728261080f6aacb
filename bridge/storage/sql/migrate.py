"""Brings the tables of a ledger up to this version, by alembic."""

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def migrate(connection: Connection) -> None:
    """Apply the migrations that are missing, inside the transaction of this connection."""
    command.upgrade(config(connection), "head")


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration: where the migrations are, and the connection to migrate over."""
    found = Config()
    found.set_main_option("script_location", "bridge:migrations")
    found.attributes["connection"] = connection
    return found
