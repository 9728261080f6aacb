"""The first ledger: devices, sessions, outbox, durable deadlines, missed wakes, audit."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from bridge.migrations.types import NUMBER

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table("service", sa.Column("id", sa.Integer, primary_key=True), sa.Column("seconds", sa.Float))
    op.create_table(
        "devices",
        sa.Column("device_id", sa.String, primary_key=True),
        sa.Column("install_id", sa.String),
        sa.Column("boot", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("claim_uid", sa.String, index=True),
        sa.Column("logout_url", sa.String),
    )
    op.create_table(
        "sessions",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("session_id", sa.String, nullable=False, unique=True),
        sa.Column("device_id", sa.String, nullable=False),
        sa.Column("uid", sa.String, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.String),
    )
    running = sa.text("ended IS NULL")
    where: dict[str, Any] = {"sqlite_where": running, "postgresql_where": running}
    op.create_index("one_session_per_device", "sessions", ["device_id"], unique=True, **where)
    op.create_index("sessions_of_user", "sessions", ["uid"], **where)
    op.create_table(
        "outbox",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("device_id", sa.String, nullable=False),
        sa.Column("session_id", sa.String, nullable=False),
        sa.Column("command_id", sa.String, nullable=False),
        sa.Column("uid", sa.String, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("issued_at", sa.String, nullable=False),
        sa.Column("queued_s", sa.Float, nullable=False),
        sa.Column("url", sa.String),
        sa.UniqueConstraint("device_id", "session_id"),
    )
    op.create_table(
        "promises",
        sa.Column("uid", sa.String, primary_key=True),
        sa.Column("until_s", sa.Float, nullable=False),
        sa.Column("floored", sa.Boolean, nullable=False),
    )
    op.create_table(
        "missed",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("uid", sa.String, nullable=False, index=True),
        sa.Column("command", sa.String, nullable=False),
        sa.Column("device_id", sa.String, nullable=False),
        sa.Column("timestamp", sa.String, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("at", sa.String, nullable=False),
        sa.Column("event", sa.String, nullable=False),
        sa.Column("session_id", sa.String, nullable=False, index=True),
        sa.Column("device_id", sa.String, nullable=False, index=True),
        sa.Column("uid", sa.String, nullable=False, index=True),
        sa.Column("reason", sa.String, nullable=False),
    )
