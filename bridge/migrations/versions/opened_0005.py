"""The run of the bridge that has the ledger open, to detect files that were copied without their log."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Extend the table."""
    op.add_column("service", sa.Column("opened", sa.String))
