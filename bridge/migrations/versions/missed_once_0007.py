"""A missed wake has one row, also if two bridges write it."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Keep the newest row of each id, and let there be no second one."""
    op.execute(sa.text("DELETE FROM missed WHERE number NOT IN (SELECT max(number) FROM missed GROUP BY id)"))
    op.create_index("one_row_per_missed_wake", "missed", ["id"], unique=True)
