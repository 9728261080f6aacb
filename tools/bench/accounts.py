"""What was sent, what came of it, and what several rounds say together. No input, no output."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

BUSY = 0.85
"""A load that needs more than this share of its core may be what limits the rate."""
CAME = -1.0
"""In the place of the moment at which a message was sent: it is here."""

Row = dict[str, float | None]


@dataclass(slots=True)
class Account:
    """Numbered messages: number n is for the app n modulo `apps`, and must come there once."""

    apps: int
    first: int
    sent: int = 0
    latencies: list[float] = field(default_factory=list)
    unexpected: int = 0
    astray: int = 0
    refused: int = 0
    _sent_at: list[float] = field(default_factory=list)

    def send(self, now: float, count: int = 1) -> int:
        """The number of the first of these messages, which go out now."""
        number = self.first + self.sent
        self.sent += count
        self._sent_at.extend([now] * count)
        return number

    def came(self, number: int, app: int, now: float) -> None:
        """A message came at an app; a second time, or one that was never sent, is a fault."""
        place = number - self.first
        if not 0 <= place < self.sent or (sent_at := self._sent_at[place]) == CAME:
            self.unexpected += 1
            return
        self._sent_at[place] = CAME
        if number % self.apps != app:
            self.astray += 1
        else:
            self.latencies.append(now - sent_at)

    @property
    def received(self) -> int:
        """How many came where they should."""
        return len(self.latencies)

    @property
    def outstanding(self) -> int:
        """How many are on their way."""
        return self.sent - len(self.latencies) - self.astray

    def faults(self, told: Mapping[str, int], expected: Iterable[str]) -> list[str]:
        """What is wrong, as sentences; nothing when each came once and each outcome was told once per wake."""
        found = []
        if self.received != self.sent:
            found.append(f"{self.sent} were sent and {self.received} received")
        for count, what in (
            (self.unexpected, "came a second time or unasked"),
            (self.astray, "came at another app"),
            (self.refused, "were answered by a refusal"),
        ):
            if count:
                found.append(f"{count} {what}")
        wanted = dict.fromkeys(expected, self.sent)
        return found + [
            f"{told.get(status, 0)} outcomes {status}, not {wanted.get(status, 0)}"
            for status in sorted({*told, *wanted})
            if told.get(status, 0) != wanted.get(status, 0)
        ]


class Statuses:
    """Counts the outcomes in a stream of MQTT packets, whole or in pieces, by their status.

    Pieces are only kept while wakes are on their way, and counted together later.
    """

    KNOWN = ("sent", "acked", "pushed", "expired", "user_not_connected", "rejected")
    AT_MOST = 2**20

    def __init__(self) -> None:
        self._patterns = {status: b'"status":"%s"' % status.encode() for status in self.KNOWN}
        self._keep = max(map(len, self._patterns.values())) - 1
        self._pieces: list[bytes] = []
        self._size = 0
        self._tail = b""
        self._seen = dict.fromkeys(self.KNOWN, 0)

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self.AT_MOST:
            self._count()

    @property
    def counts(self) -> dict[str, int]:
        """How many of each status that came at all."""
        self._count()
        counts = {status: seen + self._tail.count(self._patterns[status]) for status, seen in self._seen.items()}
        return {status: count for status, count in counts.items() if count}

    def _count(self) -> None:
        text = self._tail + b"".join(self._pieces)
        tail = text[-self._keep :]
        for status, pattern in self._patterns.items():
            # What lies wholly in the tail is counted with the next piece, too: so it is taken off now.
            self._seen[status] += text.count(pattern) - tail.count(pattern)
        self._tail = tail
        self._pieces.clear()
        self._size = 0


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that this part of all does not exceed; NaN of nothing."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def per_event_us(cpu_s: float, events: int) -> float:
    """Microseconds for each event; NaN of nothing."""
    return cpu_s / events * 1e6 if events else math.nan


def middle(rounds: Sequence[Row]) -> Row:
    """The median of each number over the rounds; None where no round has it."""
    return {key: _median([row.get(key) for row in rounds]) for key in _keys(rounds)}


def spread(rounds: Sequence[Row]) -> dict[str, tuple[float, float]]:
    """The smallest and the largest of each number over the rounds."""
    found = {}
    for key in _keys(rounds):
        values = [value for row in rounds if (value := row.get(key)) is not None]
        if values:
            found[key] = (min(values), max(values))
    return found


def _keys(rounds: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in rounds for key in row))


def _median(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None
