"""Which run of a bridge has the ledger open: a copy of the file without its log, or another ledger's log, is known."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Extend the table."""
    op.add_column("service", sa.Column("opened", sa.String))
