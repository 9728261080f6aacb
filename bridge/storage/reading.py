"""Opens the ledger for a command that only reads it; imports what reads a file, or a database, and no more."""

from contextlib import AbstractContextManager

from bridge.storage.reader import LedgerReader
from infra.settings.bridge import StoreSettings


def open_reader(settings: StoreSettings) -> AbstractContextManager[LedgerReader]:
    """The ledger where `store.url` says, closed when the block ends; raises StartError if there is none."""
    if settings.is_file:
        from bridge.storage.sqlite.reader import SqliteReader  # noqa: PLC0415

        return SqliteReader.open(settings)
    from bridge.storage.postgres.driver import explained  # noqa: PLC0415

    with explained():
        from bridge.storage.postgres.reader import PostgresReader  # noqa: PLC0415
    return PostgresReader.open(settings)


def own_reader(settings: StoreSettings) -> AbstractContextManager[LedgerReader]:
    """The ledger that this very process keeps, closed when the block ends; not to be used on an event loop.

    Raises StoreError, StartError. `open_reader` is for other processes only: see SqliteReader.own.
    """
    if settings.is_file:
        from bridge.storage.sqlite.reader import SqliteReader  # noqa: PLC0415

        return SqliteReader.own(settings)
    return open_reader(settings)
