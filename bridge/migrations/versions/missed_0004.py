"""Missed wakes: when the bridge received them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; existing rows have no value."""
    op.add_column("missed", sa.Column("received_at", sa.String))
