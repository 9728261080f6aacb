"""The node's metrics for `/metrics`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from contract.messages import OutcomeStatus
from infra.telemetry import REGISTRY

THERMAL = Path("/sys/class/thermal")

SCORES = Histogram(
    "sarvis_edge_score",
    "Scores of the wake word, frame by frame",
    buckets=[0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    registry=REGISTRY,
)
WAKES = Counter("sarvis_edge_wakes_total", "Wakes that were recognised while a user was logged in", registry=REGISTRY)
KEPT = Counter(
    "sarvis_edge_triggers_kept_total",
    "Triggers and near-misses whose sound was to be stored",
    ["result"],
    registry=REGISTRY,
)
OUTCOMES = Counter("sarvis_edge_outcomes_total", "Outcomes of wakes that were received", ["status"], registry=REGISTRY)
for _status in get_args(OutcomeStatus):
    OUTCOMES.labels(_status)  # a rate sees the first one only if there was a zero before


@dataclass(frozen=True, slots=True)
class Numbers:
    """The counters of a node since its start, and fill levels.

    Attributes:
    frames: received, of 80 ms.
    scored: frames that got a score.
    gaps: how often sound was lost, because the device or the node was late.
    lost_s: how much of it, as far as known.
    ring: how full the ring between capture and detector is, from 0 to 1.
    returns: how often a lost microphone came back.
    waiting: wakes without an outcome.
    dropped: wakes that were dropped, because they were too old or too many, or their user was logged out.
    """

    frames: int = 0
    scored: int = 0
    gaps: int = 0
    lost_s: float = 0.0
    ring: float = 0.0
    returns: int = 0
    waiting: int = 0
    dropped: int = 0


def exposition(numbers: Callable[[], Numbers], thermal: Path = THERMAL) -> Callable[[], bytes]:
    """The metrics of this process, in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(_NodeCollector(numbers, thermal))
    return lambda: generate_latest(REGISTRY) + generate_latest(registry)


def temperatures(thermal: Path) -> Iterator[tuple[str, float]]:
    """The kernel's thermal zones by name, in degrees Celsius; unreadable ones are left out."""
    for zone in sorted(thermal.glob("thermal_zone*")):
        try:
            yield (zone / "type").read_text().strip(), int((zone / "temp").read_text()) / 1000
        except (OSError, ValueError):
            continue  # the zone of a part that is switched off cannot be read


class _NodeCollector(Collector):
    def __init__(self, numbers: Callable[[], Numbers], thermal: Path) -> None:
        self._numbers = numbers
        self._thermal = thermal

    def collect(self) -> Iterator[Metric]:
        now = self._numbers()
        for name, told, count in (
            ("frames", "Frames of 80 ms that were received", now.frames),
            ("scored", "Frames that got a score", now.scored),
            ("xruns", "How often sound was lost, because the device or the node was late", now.gaps),
            ("lost_seconds", "Sound that was lost, as far as its length is known", now.lost_s),
            ("microphone_returns", "How often a lost microphone came back", now.returns),
            ("wakes_dropped", "Wakes too old or too many, or of a user who was logged out", now.dropped),
        ):
            yield CounterMetricFamily(f"sarvis_edge_{name}", told, value=count)
        yield GaugeMetricFamily("sarvis_edge_ring", "How full the ring before the detector is, 0 to 1", value=now.ring)
        yield GaugeMetricFamily("sarvis_edge_wakes_waiting", "Wakes without an outcome", value=now.waiting)
        heat = GaugeMetricFamily("sarvis_edge_temperature_celsius", "Of the kernel's thermal zones", labels=["zone"])
        for zone, degrees in temperatures(self._thermal):
            heat.add_metric([zone], degrees)
        yield heat
