"""The ledger's tables for SQLAlchemy; bridge/migrations creates them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
)

METADATA = MetaData()

NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""Counts rows. SQLite counts a column of its own INTEGER only; PostgreSQL's ends at 2**31."""


class Text(TypeDecorator[str]):
    """A text that any store takes: PostgreSQL has no U+0000 in a text, and U+FFFD stands there instead.

    A wake's command may hold one, and a row that is refused would be refused for ever, with all that come with it.
    """

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """See SQLAlchemy."""
        return value.replace("\0", "\ufffd") if value is not None and dialect.name == "postgresql" else value


SERVICE = Table(
    "service",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("seconds", Float),
    Column("opened", Text),  # bridge/storage/sqlite/run.py
    Column("turn", BigInteger, server_default="0"),
    Column("era_after", BigInteger, server_default="0"),
)
BRIDGES = Table(
    "bridges",
    METADATA,
    Column("instance", Text, primary_key=True),
    Column("run", Text),
    Column("version", Text),
    Column("address", Text),
    Column("seen_s", Float),
    Column("beat", BigInteger),
    Column("backend", BigInteger),
    Column("sockets", BigInteger),
    Column("hears", Boolean),
    Column("draining", Boolean),
    Column("gone", Boolean),
)
"""The bridges on this ledger; see bridge/storage/postgres/bridges.py."""
CLAIMS = Table(
    "claims",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("at_s", Float),
)
NEWS = Table(
    "news",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("run", Text),
    Column("changes", Text),
)
DEVICES = Table(
    "devices",
    METADATA,
    Column("device_id", Text, primary_key=True),
    Column("install_id", Text),
    Column("boot", BigInteger),
    Column("seq", BigInteger),
    Column("generation", BigInteger),
    Column("claim_uid", Text),
    Column("logout_url", Text),
    Column("assigned_uid", Text),
    Column("state", Text),
    Column("tags", Text, server_default=""),
    Column("version", Text, server_default=""),
    Column("model", Text, server_default=""),
    Column("seen_at", Text),
)
API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("key_id", Text, primary_key=True),
    Column("hash", Text),
    Column("role", Text),
    Column("name", Text),
    Column("created_at", Text),
    Column("expires_at", Float),
    Column("used_at", Float),
)
SESSIONS = Table(
    "sessions",
    METADATA,
    Column("number", NUMBER, primary_key=True),
    Column("session_id", Text),
    Column("device_id", Text),
    Column("uid", Text),
    Column("generation", BigInteger),
    Column("ended", Text),
)
OUTBOX = Table(
    "outbox",
    METADATA,
    Column("number", NUMBER, primary_key=True),
    Column("device_id", Text),
    Column("session_id", Text),
    Column("command_id", Text),
    Column("uid", Text),
    Column("generation", BigInteger),
    Column("reason", Text),
    Column("issued_at", Text),
    Column("queued_s", Float),
    Column("url", Text),
    Column("claimed_by", Text),
    Column("claimed_until_s", Float),
)
PROMISES = Table(
    "promises",
    METADATA,
    Column("uid", Text, primary_key=True),
    Column("until_s", Float),
    Column("floored", Boolean),
    Column("left_s", Float),
)
MISSED = Table(
    "missed",
    METADATA,
    Column("number", NUMBER, primary_key=True),
    Column("id", Text),
    Column("uid", Text),
    Column("command", Text),
    Column("device_id", Text),
    Column("timestamp", Text),
    Column("received_at", Text),
)
PUSH_SUBSCRIPTIONS = Table(
    "push_subscriptions",
    METADATA,
    Column("number", NUMBER, primary_key=True),
    Column("uid", Text),
    Column("endpoint", Text),
    Column("p256dh", Text),
    Column("auth", Text),
)
AUDIT = Table(
    "audit",
    METADATA,
    Column("number", NUMBER, primary_key=True),
    Column("at", Text),
    Column("event", Text),
    Column("session_id", Text),
    Column("device_id", Text),
    Column("uid", Text),
    Column("reason", Text),
    Column("actor", Text, server_default=""),
    Column("address", Text, server_default=""),
    Column("via", Text, server_default=""),
    Column("note", Text, server_default=""),
)
MODELS = Table(
    "models",
    METADATA,
    Column("sha256", Text, primary_key=True),
    Column("name", Text, unique=True),
    Column("manifest", Text),
    Column("signature", Text),
    Column("golden_sha256", Text),
    Column("added_at", Text),
    Column("data", LargeBinary),
    Column("golden", LargeBinary),
)
ROLLOUTS = Table(
    "rollouts",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("model", Text),
    Column("tag", Text),
    Column("stages", Text),
    Column("pause_s", Float),
    Column("most_failures", BigInteger),
    Column("state", Text),
    Column("stage", BigInteger),
    Column("settled_at", Float),
    Column("reason", Text),
    Column("began_at", Text),
)
ROLLOUT_DEVICES = Table(
    "rollout_devices",
    METADATA,
    Column("rollout", BigInteger, primary_key=True, autoincrement=False),
    Column("device_id", Text, primary_key=True),
    Column("stage", BigInteger),
    Column("state", Text),
    Column("reason", Text),
    Column("before", Text),
    Column("asked", BigInteger),
    Column("asked_at", Float),
    Column("watched", Text),
)
