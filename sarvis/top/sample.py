"""What a running bridge says of itself and of the fleet at one moment, and what changed between two. No I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Wake:
    """A wake, as `/api/ops/wakes` has it."""

    id: str
    uid: str
    device_id: str
    received_on: str
    state: str
    latency_ms: float


@dataclass(frozen=True)
class Sample:
    """One look at a bridge.

    Attributes:
        at: monotonic seconds.
        problem: why it is not ready; None if it is.
        figures: of `/metrics`, by name and labels.
        wakes: the newest ones, newest first; None if no stories are kept.
    """

    at: float
    problem: str | None
    figures: Mapping[tuple[str, Labels], float]
    wakes: Sequence[Wake] | None = field(default_factory=tuple)

    def value(self, name: str, **labels: str) -> float | None:
        """One figure; None if the bridge does not have it."""
        return self.figures.get((name, tuple(sorted(labels.items()))))

    def by(self, name: str, label: str) -> dict[str, float]:
        """A figure by the values of its one label, in the order of the bridge."""
        return {
            labels[0][1]: value for (of, labels), value in self.figures.items() if of == name and _is(labels, label)
        }

    @property
    def version(self) -> str:
        """The bridge's version."""
        for name, labels in self.figures:
            if name == "sarvis_build_info":
                return dict(labels).get("version", "")
        return ""


def figures(exposition: str) -> dict[tuple[str, Labels], float]:
    """Prometheus's text format; raises ValueError if it is something else."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def wakes(rows: Iterable[Mapping[str, Any]]) -> tuple[Wake, ...]:
    """The rows of `/api/ops/wakes`."""
    return tuple(Wake(**{name: row[name] for name in Wake.__slots__}) for row in rows)


def grown(now: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """How much counters grew; those of a bridge that has started anew count from zero."""
    return {
        name: value - before.get(name, 0.0) if value >= before.get(name, 0.0) else value for name, value in now.items()
    }


def quantile(share: float, buckets: Mapping[str, float]) -> float | None:
    """An upper bound of this share of what a histogram has counted, in its unit; None if that is nothing.

    `buckets`: cumulated, by upper bound. What lies above the last bound counts as infinite.
    """
    ordered = sorted((inf if bound == "+Inf" else float(bound), count) for bound, count in buckets.items())
    if not ordered or ordered[-1][1] <= 0:
        return None
    return next(bound for bound, count in ordered if count >= share * ordered[-1][1])


def to_json(it: Sample, url: str) -> dict[str, Any]:
    """A sample for programs; counters since the start of the bridge."""
    to_socket = it.by("sarvis_wake_to_socket_seconds_bucket", "le")
    return {
        "url": url,
        "version": it.version,
        "ready": it.problem is None,
        "problem": it.problem,
        "devices": it.by("sarvis_devices", "state"),
        "apps": it.value("sarvis_app_connections"),
        "sessions": it.value("sarvis_sessions"),
        "logouts_waiting": it.value("sarvis_logouts_waiting"),
        "logout_oldest_s": it.by("sarvis_logouts_oldest_seconds", "presence"),
        "wakes_settled": it.by("sarvis_wakes_settled_total", "fate"),
        "wakes_refused": it.by("sarvis_wakes_refused_total", "why"),
        "pushes": it.by("sarvis_pushes_total", "result"),
        "to_socket_p50_s": _finite(quantile(0.5, to_socket)),
        "to_socket_p99_s": _finite(quantile(0.99, to_socket)),
        "loop_lag_s": it.value("sarvis_loop_lag_seconds"),
        "ledger_writable": it.value("sarvis_ledger_writable") == 1,
        "mqtt_connected": it.value("sarvis_mqtt_connected") == 1,
        "cpu_s": it.value("process_cpu_seconds_total"),
        "memory_bytes": it.value("process_resident_memory_bytes"),
        "newest_wakes": None
        if it.wakes is None
        else [{name: getattr(wake, name) for name in Wake.__slots__} for wake in it.wakes],
    }


def _finite(seconds: float | None) -> float | None:
    return None if seconds == inf else seconds


def _is(labels: Labels, label: str) -> bool:
    return len(labels) == 1 and labels[0][0] == label
