"""What a person wrote who logged a user out."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Extend the table; older lines have no note."""
    op.add_column("audit", sa.Column("note", sa.String, nullable=False, server_default=""))
