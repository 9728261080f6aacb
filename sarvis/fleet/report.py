"""All that there is to tell about a fleet at one moment, and whether it is as it should be. No I/O."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from sarvis.fleet.attendance import Attendance
from sarvis.fleet.tally import Missing, Wakes

Phase = Literal["connecting", "running", "settling", "over"]
BUSY = 0.8
"""From this share of a core on, what is measured is this process and not the system."""


class Effort:
    """What this process itself costs; process times in seconds."""

    def __init__(self, now: float, cpu_s: float) -> None:
        self._began = self._looked = (now, cpu_s)
        self.peak = 0.0
        self.mean = 0.0
        self.behind_s = 0.0
        """How late a wake was made at most."""

    def look(self, now: float, cpu_s: float) -> None:
        """Call it every second; the share of one core since the last call counts for the peak."""
        self.peak = max(self.peak, _share(self._looked, now, cpu_s))
        self.mean = _share(self._began, now, cpu_s)
        self._looked = now, cpu_s

    def begin(self, now: float, cpu_s: float) -> None:
        """Forget what was: connecting is over, the wakes begin."""
        self._began = self._looked = (now, cpu_s)
        self.peak = self.mean = 0.0

    def late(self, behind_s: float) -> None:
        """A wake was made so long after its time."""
        self.behind_s = max(self.behind_s, behind_s)


@dataclass(frozen=True, slots=True)
class Report:
    """One moment of a fleet.

    Attributes:
        ran_s: since the first wake could be made.
        cpu: of one core, since the wakes began; `cpu_peak` in the busiest second.
        behind_ms: how late a wake was made at most: above some milliseconds this process was in the way.
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
    behind_ms: float

    @property
    def bottleneck(self) -> bool:
        """Was this process so busy that its figures are its own?"""
        return self.cpu > BUSY

    def to_json(self, event: str) -> dict[str, Any]:
        """One line for programs; what is missing is known only at the end."""
        told = asdict(self)
        wakes = told.pop("wakes")
        app, outcome, missing = wakes.pop("app"), wakes.pop("outcome"), wakes.pop("missing")
        told = {"event": event, **told, "wakes": wakes, "app_ms": app, "outcome_ms": outcome}
        return {**told, "bottleneck": self.bottleneck, "missing": missing} if event == "summary" else told


def report(
    phase: Phase, ran_s: float, sizes: tuple[int, int], attendance: Attendance, wakes: Wakes, effort: Effort
) -> Report:
    """Put together what the books say; `sizes` are the numbers of devices and apps."""
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
        behind_ms=round(effort.behind_s * 1000, 2),
    )


def complaint(missing: Missing, made: int) -> str | None:
    """A sentence about wakes that are not accounted for; None when all are."""
    faults = [
        (missing.without_fate, "have no fate: no device heard what became of them"),
        (missing.not_received, "are acked, but no app of their user rang"),
        (missing.rang_twice, "rang twice at an app"),
        (missing.astray, "rang at another user's app"),
    ]
    told = "; ".join(f"{count} {what}" for count, what in faults if count)
    return f"of {made} wakes {told}" if told else None


def _share(since: tuple[float, float], now: float, cpu_s: float) -> float:
    elapsed_s = now - since[0]
    return (cpu_s - since[1]) / elapsed_s if elapsed_s > 0 else 0.0
