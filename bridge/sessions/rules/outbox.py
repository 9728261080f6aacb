"""When an unconfirmed log-out is sent again. Decides, sends nothing."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from bridge.storage.records import PendingLogout

FIRST_AGAIN_S = 2.0
LAST_AGAIN_S = 60.0
DEAD_AFTER_S = 24 * 3600.0


@dataclass(slots=True)
class _Queue:
    """The rows of one device, oldest first, and the time of its next turn."""

    rows: dict[str, PendingLogout] = field(default_factory=dict)
    delay_s: float = FIRST_AGAIN_S
    due: float = 0.0
    busy: bool = False
    """A post is running."""


class Due(NamedTuple):
    """Rows to send now."""

    publish: list[PendingLogout]
    post: list[PendingLogout]
    dead: list[PendingLogout]
    """Posted without success for a day."""


class Outbox:
    """Rows that wait for their device's confirmation.

    MQTT: all rows of a device that is online, in their order. HTTP: the oldest row of a device, one post at a time.
    Each device has its own growing pause, up to a minute, with jitter: none delays another.
    """

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._queues: dict[str, _Queue] = {}
        # Lazily valid: an entry counts if its time is that of its queue. Offline devices have none.
        self._heap: list[tuple[float, str]] = []
        self._asleep: set[str] = set()
        self._posted: dict[str, dict[str, PendingLogout]] = {}

    def __len__(self) -> int:
        return sum(len(queue.rows) for queue in self._queues.values())

    def add(self, row: PendingLogout, now: float) -> None:
        """A row was committed. The caller sends its command at once over MQTT; `due` returns it for HTTP."""
        queue = self._queues.setdefault(row.device_id, _Queue())
        queue.rows[row.session_id] = row
        if row.url is not None:
            self._posted.setdefault(row.uid, {})[row.session_id] = row
            if len(queue.rows) == 1:
                self._schedule(row.device_id, queue, now)
        else:
            queue.delay_s = FIRST_AGAIN_S
            self._schedule(row.device_id, queue, now + FIRST_AGAIN_S)

    def queued_s(self, device_id: str, session_id: str) -> float | None:
        """The service time at which a row that waits was queued; None if there is none."""
        queue = self._queues.get(device_id)
        row = None if queue is None else queue.rows.get(session_id)
        return None if row is None else row.queued_s

    def settled(self, device_id: str, session_id: str) -> None:
        """The row is done."""
        queue = self._queues.get(device_id)
        row = queue.rows.pop(session_id, None) if queue is not None else None
        if queue is None or row is None:
            return
        mine = self._posted.get(row.uid, {})
        mine.pop(session_id, None)
        if not mine:
            self._posted.pop(row.uid, None)
        if not queue.rows and not queue.busy:
            self._queues.pop(device_id)
            self._asleep.discard(device_id)

    def awake(self, device_id: str, now: float) -> None:
        """The device came online."""
        if device_id in self._asleep:
            self._asleep.discard(device_id)
            queue = self._queues[device_id]
            queue.delay_s = FIRST_AGAIN_S
            self._schedule(device_id, queue, now + FIRST_AGAIN_S)

    def broker_reached(self, now: float) -> None:
        """Reset the pauses of MQTT log-outs after an outage: no device received them meanwhile."""
        for device_id, queue in self._queues.items():
            if any(row.url is None for row in queue.rows.values()):
                queue.delay_s = FIRST_AGAIN_S
                self._schedule(device_id, queue, now + FIRST_AGAIN_S * self._jitter())

    def due(
        self,
        now: float,
        online: Callable[[str, float], bool],
        seconds: float = 0.0,
        mine: Callable[[str], bool] = lambda _: True,
    ) -> Due:
        """What to send now; an HTTP device whose row is returned is busy until `posted`.

        Args:
        now: monotonic.
        online: whether this device was online at that time.
        seconds: service time.
        mine: whether this bridge repeats log-outs to this device; else it looks again soon.
        """
        due = Due([], [], [])
        while self._heap and self._heap[0][0] <= now:
            at, device_id = heapq.heappop(self._heap)
            queue = self._queues.get(device_id)
            if queue is None or queue.due != at or queue.busy or not queue.rows:
                continue
            if not mine(device_id):
                self._schedule(device_id, queue, now + FIRST_AGAIN_S)
                continue
            oldest = next(iter(queue.rows.values()))
            if oldest.url is not None and seconds - oldest.queued_s >= DEAD_AFTER_S:
                due.dead.append(oldest)
                self._back_off(device_id, queue, now)
            elif oldest.url is not None:
                due.post.append(oldest)
                queue.busy = True
            elif online(device_id, now):
                due.publish.extend(queue.rows.values())
                self._back_off(device_id, queue, now)
            else:
                self._asleep.add(device_id)
        return due

    def oldest_s(self, now: float, online: Callable[[str, float], bool], seconds: float, *, wanted: bool) -> float:
        """How long the oldest row waits in service time, of devices that are online, or of the others; 0 if none."""
        ages = [
            seconds - row.queued_s
            for device_id, queue in self._queues.items()
            if online(device_id, now) == wanted
            for row in queue.rows.values()
        ]
        return max(ages, default=0.0)

    # HTTP devices:

    def posted(self, device_id: str, now: float, *, taken: bool) -> None:
        """A post ended; after a failure the device's next turn comes later."""
        queue = self._queues.get(device_id)
        if queue is None:
            return
        queue.busy = False
        if not queue.rows:
            self._queues.pop(device_id)
        elif taken:
            queue.delay_s = FIRST_AGAIN_S
            self._schedule(device_id, queue, now)
        else:
            self._back_off(device_id, queue, now)

    def busy(self, device_id: str) -> bool:
        """Whether a post to this device is running."""
        queue = self._queues.get(device_id)
        return queue is not None and queue.busy

    def waiting_at(self, uid: str) -> list[str]:
        """The devices that have not confirmed a log-out of this user."""
        return [name for name, queue in self._queues.items() if any(row.uid == uid for row in queue.rows.values())]

    def posted_of(self, uid: str) -> list[PendingLogout]:
        """The user's rows at HTTP devices."""
        return list(self._posted.get(uid, {}).values())

    def posted_at(self, device_id: str) -> list[PendingLogout]:
        """The rows of an HTTP device."""
        queue = self._queues.get(device_id)
        return [row for row in queue.rows.values() if row.url is not None] if queue is not None else []

    def _back_off(self, device_id: str, queue: _Queue, now: float) -> None:
        queue.delay_s = min(queue.delay_s * 2, LAST_AGAIN_S)
        self._schedule(device_id, queue, now + queue.delay_s * (0.5 + self._jitter() / 2))

    def _schedule(self, device_id: str, queue: _Queue, due: float) -> None:
        queue.due = due
        self._asleep.discard(device_id)
        heapq.heappush(self._heap, (due, device_id))
