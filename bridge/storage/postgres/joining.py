"""Whether a bridge that starts is the only one on its ledger. No I/O.

A living bridge writes its row twice a second, whatever else happens; so a row that does not change is that of a bridge
which was killed, or which cannot reach the ledger.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from bridge.storage.records import BridgeRow

STILL_S = 3.0
"""A bridge whose row does not change for so long is not counted on."""
ENDED_S = 1.0
"""The same, if its connection to the database is gone, too."""

Verdict = Literal["wait", "first", "joins", "taken"]


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    beats: dict[str, tuple[str, int]]


class Joining:
    """What one bridge sees of the others before it begins. `now` is monotonic.

    Attributes:
    instance: its own name.
    """

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self._before: _Look | None = None

    def look(self, rows: Collection[BridgeRow], connected: Collection[str], now: float) -> Verdict:
        """Answers "first": no other bridge lives; "joins": another one does; "taken": a bridge of this name does.

        Args:
        rows: of all bridges.
        connected: the instances whose connection to the database is still there.
        now: monotonic.
        """
        here = [row for row in rows if not row.gone]
        beats = {row.instance: (row.run, row.beat) for row in here}
        if self._before is None:
            self._before = _Look(now, beats)
        moved = {instance for instance, beat in beats.items() if self._before.beats.get(instance) != beat}
        if self.instance in moved:
            return "taken"
        waited_s = now - self._before.at
        awaited = {
            name for name in beats if name not in moved and waited_s < (STILL_S if name in connected else ENDED_S)
        }
        if self.instance in awaited:
            return "wait"
        if moved:
            return "joins"
        return "wait" if awaited else "first"
