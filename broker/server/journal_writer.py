"""Writes the journal to disk in batches, in a thread."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from broker.server.journal import Batch, Journal
from broker.server.store import Store

log = logging.getLogger(__name__)

RETRY_S = 1.0


class JournalWriter:
    """Writes from `start` to `stop`; a failing disk is reported once, retried, and stops no client.

    Args:
    on_saved: called on the loop when `journal.saved` has moved. While the disk fails it moves all the same:
    messages are delivered, and no guarantee of SARVIS needs the broker's store.
    """

    def __init__(self, store: Store, journal: Journal, on_saved: Callable[[], None]) -> None:
        self._store = store
        self._journal = journal
        self._on_saved = on_saved
        self._dirty = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "broker-store")
        self._task: asyncio.Task[None] | None = None
        self._failed = False

    def start(self) -> None:
        """Begin to write."""
        self._journal.on_change = self._dirty.set
        self._task = asyncio.create_task(self._run(), name="broker-store")

    async def watch(self) -> None:
        """Until it stops; raises the internal error that ended it."""
        if self._task is not None:
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.result()

    async def stop(self) -> None:
        """Write the rest, then close the file."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        loop = asyncio.get_running_loop()
        batch = self._journal.take()
        if batch is not None:
            await loop.run_in_executor(self._thread, self._try, batch)
        await loop.run_in_executor(self._thread, self._store.close)
        self._thread.shutdown()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            batch = self._journal.take()
            if batch is None:
                continue
            writing = loop.run_in_executor(self._thread, self._try, batch)
            # If cancelled in between, the batch is written all the same, before the last one.
            written = await asyncio.shield(writing)
            self._journal.saved = batch.upto
            self._on_saved()
            if not written:
                self._journal.put_back(batch)
                await asyncio.sleep(RETRY_S)

    def _try(self, batch: Batch) -> bool:
        try:
            self._store.write(batch)
        except sqlite3.Error as error:
            if not self._failed:
                log.error("messages_not_saved reason=%r; going on without, and trying again", str(error))
            self._failed = True
            return False
        if self._failed:
            log.warning("messages_saved_again")
        self._failed = False
        return True
