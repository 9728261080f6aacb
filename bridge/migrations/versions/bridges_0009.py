"""Several bridges on one ledger: each has a row, a POST of a log-out belongs to one of them, ends are found by row."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the table of bridges; a ledger in a file has it, too, and never a row there."""
    op.create_table(
        "bridges",
        sa.Column("instance", sa.String, primary_key=True),
        sa.Column("run", sa.String, nullable=False),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("address", sa.String, nullable=False),
        sa.Column("seen_s", sa.Float, nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
        sa.Column("backend", sa.BigInteger, nullable=False),
        sa.Column("sockets", sa.BigInteger, nullable=False),
        sa.Column("hears", sa.Boolean, nullable=False),
        sa.Column("draining", sa.Boolean, nullable=False),
        sa.Column("gone", sa.Boolean, nullable=False),
    )
    op.add_column("service", sa.Column("era_after", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("outbox", sa.Column("claimed_by", sa.String))
    op.add_column("outbox", sa.Column("claimed_until_s", sa.Float))
    if op.get_bind().dialect.name == "postgresql":  # a bridge on a file has its deadlines in memory
        op.create_index("promises_due", "promises", ["until_s"], postgresql_where=sa.text("left_s IS NULL"))
