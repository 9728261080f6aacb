"""Writes recordings in a thread of its own."""

import contextlib
import queue
import threading
from collections.abc import Callable
from datetime import datetime
from functools import partial

from edge_node.metrics import KEPT
from edge_node.recordings.folder import Limits, TriggerFolder
from edge_node.recordings.selection import Selection
from infra.telemetry import get_logger

WAITING = 8
PRUNE_EVERY_S = 3600.0

log = get_logger("triggers")


class Writer:
    """Stores selections in a folder, within limits, from `start` to `stop`; a full disk loses selections, nothing else.

    Args:
    now: aware UTC.
    """

    def __init__(
        self, folder: TriggerFolder, limits: Limits, now: Callable[[], datetime], prune_every_s: float = PRUNE_EVERY_S
    ) -> None:
        self._folder = folder
        self._limits = limits
        self._now = now
        self._prune_every_s = prune_every_s
        self._failing = False
        self._waiting: queue.Queue[tuple[Selection, datetime] | None] = queue.Queue(WAITING)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="triggers", daemon=True)

    def start(self) -> None:
        """Once."""
        self._thread.start()

    def put(self, find: Selection) -> None:
        """Queue a selection; returns at once. Dropped and counted if too many wait."""
        try:
            self._waiting.put_nowait((find, self._now()))
        except queue.Full:
            KEPT.labels("dropped").inc()

    def stop(self, timeout_s: float) -> None:
        """Write the queued ones, as many as fit into the time."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):  # then it checks `_stopping` after each
            self._waiting.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        self._try(self._folder.clear_up)
        self._try(lambda: self._folder.prune(self._limits, self._now()))
        while True:
            try:
                given = self._waiting.get(timeout=self._prune_every_s)
            except queue.Empty:
                self._try(lambda: self._folder.prune(self._limits, self._now()))
                continue
            if given is not None:
                KEPT.labels("kept" if self._try(partial(self._keep, *given)) else "failed").inc()
            if self._stopping.is_set() and self._waiting.empty():
                return

    def _keep(self, find: Selection, at: datetime) -> None:
        self._folder.prune(self._limits, at, room_for=2 * len(find.samples))
        kept = self._folder.keep(find, at)
        log.info("trigger_kept", id=kept.id, kind=kept.kind, score=round(kept.score, 3))

    def _try(self, action: Callable[[], None]) -> bool:
        """Whether it worked; a failure is logged once until it works again."""
        try:
            action()
        except OSError as error:
            if not self._failing:
                log.error("trigger_not_kept", folder=str(self._folder.path), error=error.strerror)
            self._failing = True
            return False
        self._failing = False
        return True
