"""Connects to PostgreSQL: where, as whom, and how long a statement may take."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from infra.secrets import secret_of
from infra.settings.bridge import StoreSettings
from infra.tls import client_context

CONNECT_WITHIN_S = 5.0
SCHEMA = "sarvis"
"""The ledger's tables stand apart from others in the same database, and from their migrations."""

SERVER_SETTINGS = {
    "application_name": "sarvis",
    "search_path": SCHEMA,
    # A bridge that stands still within a transaction keeps all others from the ledger.
    "idle_in_transaction_session_timeout": "5s",
    "lock_timeout": "4s",
    "statement_timeout": "4s",
    # The lock of a bridge whose machine is gone ends with its connection.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    # An acknowledged log-out must be on the disk, whatever the default of the database is.
    "synchronous_commit": "on",
}

FAILURES: tuple[type[BaseException], ...] = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
"""What a connection fails with before SQLAlchemy sees it."""

Connect = Callable[[], Awaitable[Any]]


def connector(settings: StoreSettings) -> Connect:
    """What makes a connection to the server, of those in `store.url`, that takes writes.

    Raises SettingsError for a password or an authority that cannot be read.
    """
    password = secret_of(settings.password, settings.password_file, "store.password_file")
    encrypted: dict[str, Any] = {}
    if settings.ca_file is not None:
        encrypted["ssl"] = client_context(settings.ca_file, who="store")

    async def connect() -> Any:
        return await asyncpg.connect(
            settings.url,
            password=password,
            timeout=CONNECT_WITHIN_S,
            server_settings=SERVER_SETTINGS,
            target_session_attrs="read-write",
            **encrypted,
        )

    return connect
