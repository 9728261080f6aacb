"""Wake-word models, their rollouts, and what each device did in one."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "models",
        sa.Column("sha256", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False, unique=True),
        sa.Column("manifest", sa.String, nullable=False),
        sa.Column("signature", sa.String, nullable=False),
        sa.Column("golden_sha256", sa.String, nullable=False),
        sa.Column("added_at", sa.String, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("golden", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "rollouts",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("tag", sa.String, nullable=False),
        sa.Column("stages", sa.String, nullable=False),
        sa.Column("pause_s", sa.Float, nullable=False),
        sa.Column("most_failures", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("stage", sa.BigInteger, nullable=False),
        sa.Column("settled_at", sa.Float),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("began_at", sa.String, nullable=False),
    )
    op.create_table(
        "rollout_devices",
        sa.Column("rollout", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("device_id", sa.String, primary_key=True),
        sa.Column("stage", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("before", sa.String, nullable=False),
        sa.Column("asked", sa.BigInteger, nullable=False),
        sa.Column("asked_at", sa.Float),
        sa.Column("watched", sa.String, nullable=False),
    )
