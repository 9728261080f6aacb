"""The versions of a ledger's tables."""

from sqlalchemy.ext.asyncio import AsyncConnection

VERSIONS = tuple(f"{number:04}" for number in range(1, 15))
"""The migrations, in their order: the last one is that of this version."""


def is_known(version: str | None) -> bool:
    """Whether this version of SARVIS has that migration; None is a ledger without tables."""
    return version is None or version in VERSIONS


async def bring_up_to_date(connection: AsyncConnection, version: str | None) -> None:
    """Apply the migrations that follow `version` inside the connection's transaction; raises SQLAlchemyError."""
    if version != VERSIONS[-1]:
        from bridge.storage.sql.migrate import migrate  # noqa: PLC0415 - alembic is seldom needed

        await connection.run_sync(migrate)
