"""The ledger's tables as SQLAlchemy sees them; bridge/migrations makes them."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, MetaData, String, Table

METADATA = MetaData()

SERVICE = Table(
    "service",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("seconds", Float),
    Column("opened", String),  # bridge/ledger_run.py
)
DEVICES = Table(
    "devices",
    METADATA,
    Column("device_id", String, primary_key=True),
    Column("install_id", String),
    Column("boot", BigInteger),
    Column("seq", BigInteger),
    Column("generation", BigInteger),
    Column("claim_uid", String),
    Column("logout_url", String),
    Column("assigned_uid", String),
    Column("state", String),
)
API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("key_id", String, primary_key=True),
    Column("hash", String),
    Column("role", String),
    Column("name", String),
    Column("created_at", String),
    Column("expires_at", Float),
)
SESSIONS = Table(
    "sessions",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("session_id", String),
    Column("device_id", String),
    Column("uid", String),
    Column("generation", BigInteger),
    Column("ended", String),
)
OUTBOX = Table(
    "outbox",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("device_id", String),
    Column("session_id", String),
    Column("command_id", String),
    Column("uid", String),
    Column("generation", BigInteger),
    Column("reason", String),
    Column("issued_at", String),
    Column("queued_s", Float),
    Column("url", String),
)
PROMISES = Table(
    "promises",
    METADATA,
    Column("uid", String, primary_key=True),
    Column("until_s", Float),
    Column("floored", Boolean),
)
MISSED = Table(
    "missed",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("id", String),
    Column("uid", String),
    Column("command", String),
    Column("device_id", String),
    Column("timestamp", String),
    Column("received_at", String),
)
PUSH_SUBSCRIPTIONS = Table(
    "push_subscriptions",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("uid", String),
    Column("endpoint", String),
    Column("p256dh", String),
    Column("auth", String),
)
AUDIT = Table(
    "audit",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("at", String),
    Column("event", String),
    Column("session_id", String),
    Column("device_id", String),
    Column("uid", String),
    Column("reason", String),
)
