"""The report on a fleet at one moment, and whether all wakes are accounted for. No I/O."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from sarvis.fleet.attendance import Attendance
from sarvis.fleet.latencies import Latencies, Spread
from sarvis.fleet.tally import Missing, Wakes

Phase = Literal["connecting", "running", "settling", "over"]
BUSY = 0.8
"""Above this share of a core the figures measure this process and not the system."""
LATE_MS = 20.0
"""The same if one wake in a hundred is this late: other programs had the core, or a disk was slow."""


class Effort:
    """The cost of this process; process times in seconds."""

    def __init__(self, now: float, cpu_s: float) -> None:
        self._began = self._looked = (now, cpu_s)
        self.peak = 0.0
        self.mean = 0.0
        self.late = Latencies()
        """How late wakes were made."""

    def look(self, now: float, cpu_s: float) -> None:
        """Call it every second; the share of one core since the last call counts for the peak."""
        self.peak = max(self.peak, _share(self._looked, now, cpu_s))
        self.mean = _share(self._began, now, cpu_s)
        self._looked = now, cpu_s

    def begin(self, now: float, cpu_s: float) -> None:
        """Reset: connecting is over, the wakes begin."""
        self._began = self._looked = (now, cpu_s)
        self.peak = self.mean = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """One moment of a fleet.

    Attributes:
    ran_s: since the wakes began; before, since the start.
    cpu: of one core, over the same time; `cpu_peak` in the busiest second.
    late: how long after its time a wake was made: above some milliseconds this process was the bottleneck.
    """

    phase: Phase
    ran_s: float
    devices: int
    devices_connected: int
    devices_active: int
    apps: int
    apps_connected: int
    apps_stopped: int
    log_outs: int
    device_reconnects: int
    app_reconnects: int
    wakes: Wakes
    cpu: float
    cpu_peak: float
    late: Spread

    @property
    def bottleneck(self) -> bool:
        """Whether this process was so busy, or delayed so long, that its figures are not the system's alone."""
        return self.cpu > BUSY or (self.late.p99 or 0.0) > LATE_MS

    def to_json(self, event: str) -> dict[str, Any]:
        """One line for programs; missing wakes are known only at the end."""
        told = asdict(self)
        wakes = told.pop("wakes")
        app, outcome, missing = wakes.pop("app"), wakes.pop("outcome"), wakes.pop("missing")
        spreads = {"app_ms": app, "outcome_ms": outcome, "late_ms": told.pop("late")}
        told = {"event": event, **told, "bottleneck": self.bottleneck, "wakes": wakes, **spreads}
        return {**told, "missing": missing} if event == "summary" else told


def report(
    phase: Phase, ran_s: float, sizes: tuple[int, int], attendance: Attendance, wakes: Wakes, effort: Effort
) -> Report:
    """Combine the statistics; `sizes` are the numbers of devices and apps."""
    return Report(
        phase=phase,
        ran_s=round(ran_s, 1),
        devices=sizes[0],
        devices_connected=len(attendance.devices.here),
        devices_active=len(attendance.active),
        apps=sizes[1],
        apps_connected=len(attendance.apps.here),
        apps_stopped=len(attendance.stopped),
        log_outs=attendance.log_outs,
        device_reconnects=attendance.devices.reconnects,
        app_reconnects=attendance.apps.reconnects,
        wakes=wakes,
        cpu=round(effort.mean, 3),
        cpu_peak=round(effort.peak, 3),
        late=effort.late.spread(),
    )


def complaint(missing: Missing, made: int) -> str | None:
    """A sentence about wakes that are not accounted for; None if all are."""
    faults = [
        (missing.without_fate, "have no outcome: no device received one"),
        (missing.not_received, "are acked, but no app of their user rang"),
        (missing.rang_twice, "rang twice at an app"),
        (missing.astray, "rang at another user's app"),
    ]
    told = "; ".join(f"{count} {what}" for count, what in faults if count)
    return f"of {made} wakes {told}" if told else None


def _share(since: tuple[float, float], now: float, cpu_s: float) -> float:
    elapsed_s = now - since[0]
    return (cpu_s - since[1]) / elapsed_s if elapsed_s > 0 else 0.0
