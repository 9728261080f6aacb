"""Reads a ledger in a PostgreSQL database for a command, from outside of an event loop."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from sqlalchemy import text

from bridge.storage.postgres.store import PostgresStore
from bridge.storage.reader import LedgerReader, Row
from infra.settings.bridge import StoreSettings


class PostgresReader(LedgerReader):
    """See LedgerReader. Make it with `open`."""

    def __init__(self, runner: asyncio.Runner, store: PostgresStore) -> None:
        self._runner = runner
        self._store = store

    @classmethod
    @contextmanager
    def open(cls, settings: StoreSettings) -> Iterator[Self]:
        """The ledger at `store.url`, closed when the block ends; raises StartError if there is none."""
        with asyncio.Runner() as runner:
            store = runner.run(PostgresStore.open_read_only(settings))
            try:
                yield cls(runner, store)
            finally:
                runner.run(store.close())

    def _rows(self, query: str, **values: Any) -> Sequence[Row]:
        return self._runner.run(self._store.mappings(text(query), values))
