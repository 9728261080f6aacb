"""What a device runs, when it reported last, and the tags that operators give it."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Extend the table; devices of older rows have told nothing yet."""
    for name in ("tags", "version", "model"):
        op.add_column("devices", sa.Column(name, sa.String, nullable=False, server_default=""))
    op.add_column("devices", sa.Column("seen_at", sa.String))
