"""Paces the end of a bridge: apps are told to reconnect a few at a time, those that ring last. No I/O."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from infra.settings.loader import Settings

SLICE_S = 0.05
"""How often `Drain.due` is called."""

AT_LEAST_PER_S = 200
SETTLE_S = 5.0
"""How much of `bridge.drain_s` is left after the last close: reports and requests that are in hand then."""

RETRY_WITHIN_MS = 1000
"""An app waits a random time up to this before it reconnects; the closes are spread already."""

ALONE_S, ALONE_LEAD_S = 2.0, 0.0
"""The defaults where no other bridge takes the apps: they wait until this one is back."""

BESIDE_OTHERS_S, BESIDE_OTHERS_LEAD_S = 30.0, 3.0

Socket = TypeVar("Socket")


@dataclass(frozen=True, slots=True)
class Times:
    """How long a bridge leaves, in seconds.

    Attributes:
    lead_s: it is no longer ready, and still accepts: for a proxy to see that.
    closing_s: then sockets are closed.
    rest_s: how long after the lead it waits for apps at most.
    """

    lead_s: float
    closing_s: float
    rest_s: float

    @classmethod
    def of(cls, settings: Settings) -> "Times":
        """As configured; the defaults depend on whether other bridges may share the ledger."""
        alone = settings.store.is_file
        total, lead = settings.bridge.drain_s, settings.bridge.drain_lead_s
        if total is None:
            total = ALONE_S if alone else BESIDE_OTHERS_S
        if lead is None:
            lead = ALONE_LEAD_S if alone else BESIDE_OTHERS_LEAD_S
        rest_s = max(total - lead, 0.0)
        return cls(min(lead, total), max(rest_s - SETTLE_S, rest_s / 2), rest_s)


class Drain(Generic[Socket]):
    """The sockets that are still to be closed. `now` is monotonic."""

    def __init__(self, sockets: Iterable[Socket], closing_s: float, now: float, random: Callable[[], float]) -> None:
        self._left = list(sockets)
        self._ends = now + closing_s
        per_s = max(AT_LEAST_PER_S, len(self._left) / closing_s) if closing_s else math.inf
        self._slice = max(1, math.ceil(per_s * SLICE_S)) if math.isfinite(per_s) else len(self._left)
        self._random = random

    def __len__(self) -> int:
        return len(self._left)

    def due(self, now: float, rings: Callable[[Socket], bool]) -> list[tuple[Socket, int]]:
        """The sockets to close now, each with the milliseconds that its app waits before it reconnects.

        `rings`: a wake of its user rings and is not confirmed; such a socket is closed at the end of the time.
        """
        if now >= self._ends:
            due, self._left = self._left, []
        else:
            due = []
            kept: list[Socket] = []
            for socket in self._left:
                (due if len(due) < self._slice and not rings(socket) else kept).append(socket)
            self._left = kept
        return [(socket, round(self._random() * RETRY_WITHIN_MS)) for socket in due]
