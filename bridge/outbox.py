"""When a log-out that is not yet confirmed is published again. Decides, sends nothing."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from bridge.ledger import PendingLogout

FIRST_AGAIN_S = 2.0
LAST_AGAIN_S = 60.0


@dataclass(slots=True)
class _Waiting:
    row: PendingLogout
    delay_s: float
    due: float


class Outbox:
    """Rows that wait for their device's report. A command is repeated only to a device that was seen online (B1)."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._waiting: dict[str, dict[str, _Waiting]] = {}
        self._online: set[str] = set()

    def __len__(self) -> int:
        return sum(len(rows) for rows in self._waiting.values())

    def add(self, row: PendingLogout, now: float) -> None:
        """A row was committed and its command goes out for the first time."""
        self._waiting.setdefault(row.device_id, {})[row.session_id] = _Waiting(row, FIRST_AGAIN_S, now + FIRST_AGAIN_S)

    def settled(self, device_id: str, session_id: str) -> None:
        """The device confirmed."""
        rows = self._waiting.get(device_id, {})
        rows.pop(session_id, None)
        if not rows:
            self._waiting.pop(device_id, None)

    def seen(self, device_id: str, *, online: bool) -> None:
        """The device's status came."""
        if online:
            self._online.add(device_id)
        else:
            self._online.discard(device_id)

    def due(self, now: float) -> list[PendingLogout]:
        """Rows to publish again now, per device in their order; doubles their delay up to a minute, with jitter."""
        again: list[PendingLogout] = []
        for device_id, rows in self._waiting.items():
            if device_id not in self._online:
                continue
            for waiting in rows.values():
                if waiting.due <= now:
                    waiting.delay_s = min(waiting.delay_s * 2, LAST_AGAIN_S)
                    waiting.due = now + waiting.delay_s * (0.5 + self._jitter() / 2)
                    again.append(waiting.row)
        return again
