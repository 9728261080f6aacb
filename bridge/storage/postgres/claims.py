"""Names of things that are done once on a ledger in PostgreSQL: the first bridge that asks does it."""

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

KEPT_S = 3600.0
"""In service time: far longer than a wake may live."""

# In the order of the names: else two bridges that claim several could wait for each other.
_CLAIM = text("""
    INSERT INTO claims (name, at_s)
    SELECT name, (SELECT coalesce(seconds, 0) FROM service WHERE id = 1) FROM unnest(CAST(:names AS text[])) AS name
    ORDER BY name ON CONFLICT (name) DO NOTHING RETURNING name
""")
_FORGET = text("DELETE FROM claims WHERE at_s < (SELECT coalesce(seconds, 0) FROM service WHERE id = 1) - :kept_s")


async def claim(connection: AsyncConnection, names: Collection[str]) -> set[str]:
    """Those of the names that were not claimed before."""
    return {row.name for row in await connection.execute(_CLAIM, {"names": list(names)})}


async def forget(connection: AsyncConnection) -> None:
    """Delete claims of long ago."""
    await connection.execute(_FORGET, {"kept_s": KEPT_S})
