"""The rows of the bridges on one ledger in PostgreSQL: who lives, who has which name, since when all is one era."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.storage.records import BridgeRow
from bridge.storage.sql.schema import BRIDGES, SERVICE, SESSIONS
from bridge.storage.store import Beat, Floors, Identity

_BACKEND = func.pg_backend_pid()
_SECONDS = select(SERVICE.c.seconds).where(SERVICE.c.id == 1).scalar_subquery()
_ALL = select(BRIDGES)
_CONNECTED = text("SELECT instance FROM bridges JOIN pg_stat_activity ON pid = backend")
_MINE: dict[str, Any] = {"version": bindparam("of_version"), "address": bindparam("at"), "run": bindparam("by")}
_PUT = upsert(BRIDGES).values(
    instance=bindparam("me"), seen_s=func.coalesce(_SECONDS, 0.0), beat=0, backend=_BACKEND, sockets=0, hears=True,
    draining=False, gone=False, **_MINE,
)  # fmt: skip
_PUT = _PUT.on_conflict_do_update(
    index_elements=["instance"],
    set_={column.name: _PUT.excluded[column.name] for column in BRIDGES.c if column.name != "instance"},
)
_BEAT = (
    update(BRIDGES)
    .where(BRIDGES.c.instance == bindparam("me"), BRIDGES.c.run == bindparam("by"))
    .values(
        beat=BRIDGES.c.beat + 1, seen_s=func.coalesce(_SECONDS, 0.0), backend=_BACKEND, sockets=bindparam("open"),
        hears=bindparam("is_heard"), draining=bindparam("leaves"),
    )
)  # fmt: skip
_GONE = update(BRIDGES).where(BRIDGES.c.instance == bindparam("me"), BRIDGES.c.run == bindparam("by")).values(gone=True)
_OTHERS_END = update(BRIDGES).where(BRIDGES.c.instance != bindparam("me")).values(gone=True, run="")
_ERA = update(SERVICE).values(
    opened=bindparam("by"), era_after=select(func.coalesce(func.max(SESSIONS.c.number), 0)).scalar_subquery()
)

# All who lock several of these rows do it in the order of the users: else two could wait for each other.
_RAISE = text("""
    WITH near AS (
        SELECT uid FROM promises WHERE uid = ANY(CAST(:uids AS text[])) AND left_s IS NULL ORDER BY uid FOR UPDATE
    )
    UPDATE promises SET floored = false, until_s =
        GREATEST(until_s, (SELECT coalesce(seconds, 0) FROM service WHERE id = 1) + CAST(:for_s AS float8))
    FROM near WHERE promises.uid = near.uid RETURNING promises.uid, until_s
""")
_FLOORS = text("""
    WITH near AS (
        SELECT uid FROM promises WHERE left_s IS NULL AND NOT coalesce(floored, false)
        AND until_s < CAST(:now_s AS float8) + CAST(:grace_s AS float8) ORDER BY uid FOR UPDATE
    )
    UPDATE promises SET floored = true, until_s =
        CAST(:now_s AS float8) + CAST(:grace_s AS float8) + CAST(:spread_s AS float8) * random()
    FROM near WHERE promises.uid = near.uid
""")
_WHOLE = text("""
    WITH near AS (
        SELECT uid FROM promises WHERE left_s IS NULL
        AND until_s < CAST(:now_s AS float8) + CAST(:whole_s AS float8) ORDER BY uid FOR UPDATE
    )
    UPDATE promises SET floored = false, until_s = CAST(:now_s AS float8) + CAST(:whole_s AS float8)
    FROM near WHERE promises.uid = near.uid
""")
_HOLDERS = text("""
    INSERT INTO promises (uid, until_s, floored)
    SELECT DISTINCT uid, CAST(:now_s AS float8), false FROM sessions WHERE ended IS NULL ORDER BY uid
    ON CONFLICT (uid) DO UPDATE SET until_s = excluded.until_s, floored = false, left_s = NULL
    WHERE promises.left_s IS NOT NULL
""")
_COME_BACK = text("DELETE FROM promises WHERE left_s IS NOT NULL")
_MAY_BE_LONG = text("SET LOCAL statement_timeout = 0")


@dataclass(frozen=True, slots=True)
class OwnRow:
    """The row of one process of a bridge."""

    identity: Identity
    run: str

    async def put(self, connection: AsyncConnection) -> None:
        """Take the name, in a turn."""
        await connection.execute(_PUT, self._names())

    async def beat(self, connection: AsyncConnection, beat: Beat) -> bool:
        """Say that it lives; False if the name is another's now."""
        values = {"open": beat.sockets, "is_heard": beat.hears, "leaves": beat.draining}
        written = await connection.execute(_BEAT, {"me": self.identity.instance, "by": self.run, **values})
        return bool(written.rowcount == 1)

    async def leave(self, connection: AsyncConnection) -> None:
        """Let the others know that it ended."""
        await connection.execute(_GONE, {"me": self.identity.instance, "by": self.run})

    async def begin_era(self, connection: AsyncConnection) -> None:
        """No other bridge lives: what others have in memory counts no longer. In a turn."""
        await connection.execute(_OTHERS_END, {"me": self.identity.instance})
        await connection.execute(_ERA, {"by": self.run})

    def _names(self) -> dict[str, str]:
        me = self.identity
        return {"me": me.instance, "of_version": me.version, "at": me.address, "by": self.run}


async def all_of(connection: AsyncConnection) -> Sequence[BridgeRow]:
    """The bridges that use the ledger, or did."""
    return [
        BridgeRow(
            row.instance, row.run, row.seen_s, row.hears, row.draining, row.gone, row.version, row.address,
            row.sockets, row.beat,
        )
        for row in await connection.execute(_ALL)
    ]  # fmt: skip


def others_than(instance: str) -> Select[tuple[str]]:
    """The names of the other bridges, also of those that ended."""
    return select(BRIDGES.c.instance).where(BRIDGES.c.instance != instance).order_by(BRIDGES.c.instance)


async def connected(connection: AsyncConnection) -> set[str]:
    """The instances whose last connection is still open at the server."""
    return {row.instance for row in await connection.execute(_CONNECTED)}


async def raise_deadlines(connection: AsyncConnection, uids: Sequence[str], for_s: float) -> dict[str, float]:
    """See Store.raise_deadlines."""
    found: Any = await connection.execute(_RAISE, {"uids": list(uids), "for_s": for_s})
    return {row.uid: row.until_s for row in found}


async def raise_floors(connection: AsyncConnection, floors: Floors, now_s: float, *, restored: bool = False) -> None:
    """The service was down: deadlines move, in a turn; `restored` (B6): every user gets the whole time-out."""
    await connection.execute(_MAY_BE_LONG)
    await connection.execute(_HOLDERS, {"now_s": now_s})
    if restored:
        await connection.execute(_COME_BACK)
        await connection.execute(_WHOLE, {"now_s": now_s, "whole_s": floors.whole_s})
    else:
        await connection.execute(_FLOORS, {"now_s": now_s, "grace_s": floors.grace_s, "spread_s": floors.spread_s})
