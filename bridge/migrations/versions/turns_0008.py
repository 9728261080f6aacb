"""Turns are numbered, and each tells what it changed: for the memory of other bridges on one ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Number the turns from here on."""
    op.add_column("service", sa.Column("turn", sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "news",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("run", sa.String, nullable=False),
        sa.Column("changes", sa.String, nullable=False),
    )
