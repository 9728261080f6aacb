"""Authentication: keys of callers and operators, the user assigned to a device, and whether a device was removed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create and extend the tables."""
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String, primary_key=True),
        sa.Column("hash", sa.String, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("expires_at", sa.Float),
    )
    op.add_column("devices", sa.Column("assigned_uid", sa.String))
    op.add_column("devices", sa.Column("state", sa.String, nullable=False, server_default="seen"))
