"""Connections to the ledger's database, and what is said when there are none."""

from typing import Any, Literal

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from bridge.storage.postgres import server
from bridge.storage.records import BridgeRow
from bridge.storage.sql.store import cause
from bridge.storage.store import LedgerKeptError
from contract.errors import StartError
from infra.settings.bridge import StoreSettings

HINTS = {
    "28P01": "check store.password_file",
    "28000": "check the user in store.url, store.password_file, and pg_hba.conf on the server",
    "3D000": "create the database on the server (CREATE DATABASE), or check store.url",
    "42501": "let the user of store.url create a schema there: GRANT CREATE ON DATABASE",
}

LOCK = 0x53525653
"""The advisory lock of bridges; such locks are a database's own."""
MOST_CONNECTIONS = 4

Holds = Literal["all", "a part", "nothing"]
"""Who may use the ledger beside a connection: no other; others that hold a part, too; all."""

_ASKS: dict[Holds, str | None] = {
    "all": "SELECT pg_try_advisory_lock($1)",
    "a part": "SELECT pg_try_advisory_lock_shared($1)",
    "nothing": None,
}


class KeptError(ConnectionError):
    """Another connection holds the lock of the bridge."""

    def __init__(self) -> None:
        super().__init__("another bridge uses it, or the server has not given up this bridge's last connection yet")


def make_engine(connect: server.Connect, *, holds: Holds) -> AsyncEngine:
    """Connections to the database; a connection of what `holds` the ledger raises KeptError where others do."""
    ask = _ASKS[holds]

    async def create() -> Any:
        connection = await connect()
        if ask is not None and not await connection.fetchval(ask, LOCK):
            await connection.close(timeout=server.CONNECT_WITHIN_S)
            raise KeptError
        return connection

    # A turn, a look, a heartbeat's deadline, and a read: each may be under way at the same time.
    connections = MOST_CONNECTIONS if holds == "a part" else 1
    engine = create_async_engine("postgresql+asyncpg://", async_creator=create, pool_size=connections, max_overflow=0)
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


def _refuse_closed(connection: Any, _record: object, _proxy: object) -> None:
    """A connection that the server has closed while it waited in the pool: the pool makes a new one in its place.

    asyncpg knows it without asking, so this costs no round trip.
    """
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def unreachable(settings: StoreSettings, error: BaseException) -> StartError:
    """What is said when the ledger cannot be opened, with what to check."""
    hint = HINTS.get(state_of(error) or "", "check store.url")
    return StartError(f"the ledger {settings.place} cannot be used: {cause(error)}; {hint}")


def taken(place: str, by: BridgeRow) -> LedgerKeptError:
    """What is said when a living bridge has the name."""
    return LedgerKeptError(
        f"another bridge uses the ledger {place} with this name, bridge.instance = {by.instance!r} "
        f"(version {by.version or 'unknown'}, at {by.address or 'an unknown address'}); stop it, or give this one "
        f"another name in bridge.instance"
    )


def state_of(error: BaseException) -> str | None:
    """PostgreSQL's five signs for what went wrong."""
    state = getattr(getattr(error, "orig", None) or error, "sqlstate", None)
    return state if isinstance(state, str) else None
