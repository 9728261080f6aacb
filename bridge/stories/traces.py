"""Turns stories that are over into traces, in a thread of its own: the loop only hands them over.

What a collector does not take is kept for a while, then dropped and counted; no wake waits for it.
"""

import asyncio
import queue
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol

from prometheus_client import Counter, Gauge

from bridge.stories.file import decoded
from bridge.stories.records import Story
from bridge.stories.spans import ENDED, Span, spans_of, trace_id_of
from contract.clock import Clock
from infra.telemetry import REGISTRY, get_logger

LOOK_EVERY_S = 0.25
AFTER_S = 1.0
"""How long after its end a wake is sent: confirmations of further apps are part of it."""
AGAIN_S = 10.0
MOST_WAITING = 10_000
"""Wakes that are not sent yet; the oldest are dropped."""
AT_ONCE = 200
REMEMBERED = 10_000
RANDOM = 2**56
"""The last 56 bits of a trace id are random (W3C Trace Context, level 2); in a UUID the bits before them are not."""
END_WITHIN_S = 3.0

SENT = Counter("sarvis_traces_sent_total", "Wakes that a collector took as traces", registry=REGISTRY)
LOST = Counter("sarvis_traces_lost_total", "Wakes that were not sent as traces and are dropped", registry=REGISTRY)
WAITING = Gauge("sarvis_traces_waiting", "Wakes that are not sent as traces yet", registry=REGISTRY)

log = get_logger("traces")


class Target(Protocol):
    """Where traces go: see `bridge.stories.otlp.Collector`."""

    def send(self, spans: Sequence[Span]) -> str | None:
        """None if they were taken, else why not."""
        ...

    def close(self) -> None:
        """Called once, from another thread than `send`."""
        ...


class _Kept(NamedTuple):
    story: Story
    ended_at: float | None


class Traces:
    """Sends inside of `running`; before and after that `put` drops what it gets.

    Args:
        bridge: the name of this bridge.
        share: of the wakes, between 0 and 1; the same wakes at each bridge.
    """

    def __init__(self, target: Target, bridge: str, clock: Clock, share: float = 1.0) -> None:
        self._target = target
        self._bridge = bridge
        self._clock = clock
        self._below = round(share * RANDOM)
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._handed_over = 0
        self._taken = 0
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._sent: OrderedDict[str, None] = OrderedDict()
        self._running = False
        self._failing = False
        self._retry_at = float("-inf")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Inside this block wakes are sent; at its end also those that are not over, within 3 s."""
        thread = threading.Thread(target=self._send_all, name="traces", daemon=True)
        thread.start()
        self._running = True
        WAITING.set_function(lambda: len(self._kept))
        try:
            yield
        finally:
            self._running = False
            self._queue.put(None)
            await asyncio.to_thread(thread.join, END_WITHIN_S)
            await asyncio.to_thread(self._target.close)

    def put(self, chunk: bytes, count: int) -> None:
        """Stories with news, encoded, and their number; called on the loop, and does not wait."""
        if not self._running:
            return
        if self._handed_over - self._taken + count > MOST_WAITING:
            LOST.inc(count)
            return
        self._handed_over += count
        self._queue.put(chunk)

    # In the thread:

    def _send_all(self) -> None:
        ends = False
        while not ends:
            ends = self._take()
            now = self._clock.monotonic()
            if ends or now >= self._retry_at:
                self._send([one for one in list(self._kept.values()) if ends or _is_due(one, now)])

    def _take(self) -> bool:
        """Wait a moment for stories, take all that are there; True if none will follow."""
        try:
            chunk = self._queue.get(timeout=LOOK_EVERY_S)
            while chunk is not None:
                stories = decoded(chunk)
                self._taken += len(stories)
                for story in stories:
                    self._keep(story)
                chunk = self._queue.get_nowait()
        except queue.Empty:
            return False
        return True

    def _keep(self, story: Story) -> None:
        if story.id in self._sent or trace_id_of(story.id) % RANDOM >= self._below:
            return
        before = self._kept.get(story.id)
        ended_at = None if before is None else before.ended_at
        if ended_at is None and story.state in ENDED:
            ended_at = self._clock.monotonic()
        self._kept[story.id] = _Kept(story, ended_at)
        while len(self._kept) > MOST_WAITING:
            self._kept.popitem(last=False)
            LOST.inc()

    def _send(self, due: Sequence[_Kept]) -> None:
        for begin in range(0, len(due), AT_ONCE):
            some = [one.story for one in due[begin : begin + AT_ONCE]]
            why = self._target.send([span for story in some for span in spans_of(story, self._bridge)])
            if why is not None:
                self._failed(why)
                return
            SENT.inc(len(some))
            for story in some:
                del self._kept[story.id]
                self._sent[story.id] = None
            while len(self._sent) > REMEMBERED:
                self._sent.popitem(last=False)
            if self._failing:
                self._failing = False
                log.info("traces_sent_again")

    def _failed(self, why: str) -> None:
        self._retry_at = self._clock.monotonic() + AGAIN_S
        if not self._failing:
            self._failing = True
            log.warning(
                "traces_not_sent",
                error=why,
                advice=f"wakes ring as before; the newest {MOST_WAITING} are kept for the collector (traces.endpoint)",
            )


def _is_due(one: _Kept, now: float) -> bool:
    return one.ended_at is not None and now >= one.ended_at + AFTER_S
