"""Reads a ledger in a file of SQLite, without SQLAlchemy."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Self

from bridge.storage.reader import LedgerReader, Row
from bridge.storage.sqlite import file as sqlite_file
from bridge.storage.sqlite import run as ledger_run
from bridge.storage.store import StoreError
from infra.settings.bridge import StoreSettings

BUSY_TIMEOUT_S = 5.0


class SqliteReader(LedgerReader):
    """See LedgerReader. Make it with `open`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, settings: StoreSettings) -> Iterator[Self]:
        """The ledger at `store.url`, closed when the block ends; raises StartError if there is none or it is unfit."""
        path = settings.path
        if not sqlite_file.check(path):
            raise sqlite_file.none_there(settings)
        with ExitStack() as ended:
            if not sqlite_file.is_locked(path):
                ledger_run.check_to_read(path)
            if ledger_run.needs_a_copy(path):
                path = ended.enter_context(ledger_run.readable_copy(path))
            address = f"{path.absolute().as_uri()}?mode=ro"
            connection = ended.enter_context(closing(sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S)))
            connection.row_factory = sqlite3.Row
            yield cls(connection)

    @classmethod
    @contextmanager
    def own(cls, settings: StoreSettings) -> Iterator[Self]:
        """The ledger that this very process keeps, closed when the block ends; raises StoreError.

        SQLite alone may open its file: when a process closes a file, the kernel drops all locks that the process has on
        it, and another program could then remove the log that the bridge still writes.
        """
        address = f"{settings.path.absolute().as_uri()}?mode=ro"
        try:
            connection = sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S)
        except sqlite3.Error as error:
            raise StoreError(f"the ledger cannot be read: {error}") from error
        with closing(connection):
            connection.row_factory = sqlite3.Row
            yield cls(connection)

    def _rows(self, query: str, **values: Any) -> Sequence[Row]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"the ledger cannot be read: {error}") from error
