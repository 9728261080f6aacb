"""Names that one of several bridges has taken: what it does, no other does."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make the table; a ledger in a file has it, too, and never a row there."""
    op.create_table(
        "claims",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("at_s", sa.Float, nullable=False),
    )
