"""Who caused each change of a session, and when each API key was last used."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Extend the table; older lines name no actor."""
    for name in ("actor", "address", "via"):
        op.add_column("audit", sa.Column(name, sa.String, nullable=False, server_default=""))
    op.add_column("api_keys", sa.Column("used_at", sa.Float))
