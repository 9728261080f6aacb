"""When a user left: the row stays for a while, so that a late sign of life or report is not taken for a new one."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Extend the table; users with a row have not left."""
    op.add_column("promises", sa.Column("left_s", sa.Float))
