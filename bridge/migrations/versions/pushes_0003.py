"""Pushes: the subscriptions of users' phones."""

import sqlalchemy as sa
from alembic import op

from bridge.migrations.types import NUMBER

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "push_subscriptions",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("uid", sa.String, nullable=False, index=True),
        sa.Column("endpoint", sa.String, nullable=False, unique=True),
        sa.Column("p256dh", sa.String, nullable=False),
        sa.Column("auth", sa.String, nullable=False),
    )
