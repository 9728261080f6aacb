"""Brings the journal to disk, batch by batch in a thread: while one is written, the next one gathers."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from broker.journal import Batch, Journal
from broker.store import Store

log = logging.getLogger(__name__)

RETRY_S = 1.0


class Saver:
    """Writes from `start` to `stop`; a disk that fails is reported once, tried again, and stops nobody.

    Args:
        on_saved: called on the loop when `journal.saved` has moved. While the disk fails it moves all the same:
            messages go on, and what a broker kept is no guarantee of the system's.
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
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Write what is left, then give the file back."""
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
            # Cancelled in between, the batch is written all the same, and before the last one.
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
