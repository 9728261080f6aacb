"""Writes stories and events in a thread of its own: the loop only hands them over, and never waits for the file.

What cannot be written is kept for a while, then dropped and counted: a full disk takes a story, and no wake.
"""

import asyncio
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from prometheus_client import Counter, Gauge

from bridge.stories.file import StoriesError, StoriesFile, encoded
from bridge.stories.records import DeviceState, Event, Run, Story, StoryFields
from infra.telemetry import REGISTRY, get_logger

ALIVE_EVERY_S = 10.0
"""How often to write although nothing happened: a reader takes a longer silence for the end of the bridge."""
AGAIN_S = 30.0
PRUNE_EVERY_S = 600.0
MOST_WAITING = 20_000
"""Stories, events and states together."""
END_WITHIN_S = 5.0

LOST = Counter(
    "sarvis_stories_lost_total", "Stories and events that could not be written to the stories' file", registry=REGISTRY
)
WAITING = Gauge("sarvis_stories_waiting", "Stories and events that are not written yet", registry=REGISTRY)

log = get_logger("stories")


class _Batch(NamedTuple):
    at: float
    chunk: tuple[float, int, bytes] | None
    events: Sequence[Event]
    states: Sequence[DeviceState]

    @property
    def size(self) -> int:
        return (0 if self.chunk is None else self.chunk[1]) + len(self.events) + len(self.states)


class _Forget(NamedTuple):
    uid: str
    name: str
    done: Future[int]


class StoryWriter:
    """Writes inside of `running`; before and after that `put` drops what it gets.

    Args:
        run: of this bridge; its times are those of `now`.
        now: Unix time.
    """

    def __init__(self, path: Path, days: float, run: Run, now: Callable[[], float]) -> None:
        self._path = path
        self._days = days
        self._run = run
        self._now = now
        self._queue: queue.SimpleQueue[_Batch | _Forget | None] = queue.SimpleQueue()
        self._to_forget: list[_Forget] = []
        self._waiting = 0
        self._running = False
        self._file: StoriesFile | None = None
        self._retry_at = float("-inf")
        self._prune_at = float("-inf")
        self._lost = 0
        self._failing = False

    @asynccontextmanager
    async def running(self, known: Callable[[Sequence[DeviceState]], None]) -> AsyncIterator[None]:
        """Inside this block everything is written; `known` gets the last known states before it begins.

        A file that cannot be used is logged, and tried again; it stops no bridge.
        """
        known(await asyncio.to_thread(self._begin))
        thread = threading.Thread(target=self._write_all, name="stories", daemon=True)
        thread.start()
        self._running = True
        WAITING.set_function(lambda: self._waiting)
        try:
            yield
        finally:
            self._running = False
            self._queue.put(None)
            await asyncio.to_thread(thread.join, END_WITHIN_S)

    def put(
        self, stories: Sequence[Story | StoryFields], events: Sequence[Event] = (), states: Sequence[DeviceState] = ()
    ) -> None:
        """Write these soon; called on the loop, which it holds up only to encode them."""
        if not self._running or not (stories or events or states):
            return
        at = self._now()
        batch = _Batch(at, (at, len(stories), encoded(stories)) if stories else None, events, states)
        if self._waiting + batch.size > MOST_WAITING:
            self._lost += batch.size
            LOST.inc(batch.size)
            return
        self._waiting += batch.size
        self._queue.put(batch)

    async def forget(self, uid: str, name: str) -> int:
        """Delete the user's stories and events, see `StoriesFile.forget`; raises StoriesError."""
        if not self._running:
            raise StoriesError("the bridge ends")
        wanted = _Forget(uid, name, Future())
        self._queue.put(wanted)
        return await asyncio.wrap_future(wanted.done)

    # In the thread:

    def _begin(self) -> Sequence[DeviceState]:
        try:
            return self._open().devices()
        except (StoriesError, sqlite3.Error, OSError) as error:
            self._failed(error)
            return []

    def _open(self) -> StoriesFile:
        if self._file is None:
            self._file = StoriesFile.open(self._path, self._run)
        return self._file

    def _write_all(self) -> None:
        waiting: deque[_Batch] = deque()
        ends = False
        while not ends:
            ends = self._take(waiting)
            if ends or self._to_forget or self._now() >= self._retry_at:
                self._write(waiting)
            self._forget_all(written=not waiting)
        if self._file is None:
            return
        try:
            self._file.end(self._now())
        except sqlite3.Error as error:
            self._failed(error)
        finally:
            self._file.close()

    def _take(self, waiting: "deque[_Batch]") -> bool:
        """Wait for a batch, take all that are there; True if it was the last."""
        try:
            batch = self._queue.get(timeout=ALIVE_EVERY_S)
            while batch is not None:
                if isinstance(batch, _Forget):
                    self._to_forget.append(batch)
                else:
                    waiting.append(batch)
                batch = self._queue.get_nowait()
        except queue.Empty:
            return False
        return True

    def _write(self, waiting: "deque[_Batch]") -> None:
        now = self._now()
        lost, chunks = self._lost, [batch.chunk for batch in waiting if batch.chunk is not None]
        events = [event for batch in waiting for event in batch.events]
        if lost:
            events.append(Event(now, "lost", self._run.bridge, {"count": lost}))
        try:
            # All that was handed over before the last batch is in this commit, or in an earlier one.
            self._open().write(now, chunks, events, [state for batch in waiting for state in batch.states])
            self._waiting -= sum(batch.size for batch in waiting)
            self._lost -= lost
            waiting.clear()
            if now >= self._prune_at:
                self._prune_at = now + PRUNE_EVERY_S
                self._open().prune(now, self._days)
        except (StoriesError, sqlite3.Error, OSError) as error:
            self._failed(error)
        else:
            if self._failing:
                self._failing = False
                log.info("stories_written_again", file=str(self._path))

    def _forget_all(self, *, written: bool) -> None:
        """Only when all that came before is in the file: else it would come in later."""
        wanted, self._to_forget = self._to_forget, []
        for one in wanted:
            if not written:
                one.done.set_exception(StoriesError(f"the stories' file {self._path} cannot be written"))
                continue
            try:
                one.done.set_result(self._open().forget(one.uid, one.name))
            except (StoriesError, sqlite3.Error, OSError) as error:
                one.done.set_exception(StoriesError(f"the stories are not forgotten: {error}"))

    def _failed(self, error: Exception) -> None:
        self._retry_at = self._now() + AGAIN_S
        if not self._failing:
            self._failing = True
            log.warning(
                "stories_not_written",
                file=str(self._path),
                error=str(error),
                advice="wakes ring as before; `sarvis why` will lack what could not be written (bridge.stories_file)",
            )
