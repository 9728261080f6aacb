"""Counters, and what of the log every room uses."""

import platform
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Gauge, GCCollector, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from infra.log import Unbreakable, configure_logging, get_logger

__all__ = [
    "REGISTRY",
    "CounterFamily",
    "HistogramFamily",
    "Unbreakable",
    "configure_logging",
    "get_logger",
    "tell_of_process",
]

REGISTRY = CollectorRegistry()
"""The registry behind `/metrics`; uid and device id are never labels."""

_TOLD: list[str] = []


class CounterFamily(Collector):
    """A counter for events at every wake: the library's takes a lock each time, this one costs a tenth.

    Only one thread may count.

    Attributes:
        counts: by label value (without a label one entry, the empty text); callers add to it.
    """

    def __init__(self, name: str, told: str, label: str | None = None, values: Iterable[str] = ("",)) -> None:
        self.counts = dict.fromkeys(values, 0)
        self._name, self._told, self._labels = name, told, [] if label is None else [label]
        REGISTRY.register(self)

    def collect(self) -> Iterable[Metric]:
        """Collect as prometheus_client requires."""
        family = CounterMetricFamily(self._name, self._told, labels=self._labels)
        for value, count in self.counts.items():
            family.add_metric([value][: len(self._labels)], count)
        yield family


class HistogramFamily(Collector):
    """A histogram for what happens at every wake, as `CounterFamily` without a lock: only one thread may observe.

    Args:
        bounds: upper bounds of the buckets, in seconds, ascending; one without a bound follows.
    """

    def __init__(
        self, name: str, told: str, bounds: Sequence[float], label: str | None = None, values: Iterable[str] = ("",)
    ) -> None:
        self._bounds = tuple(bounds)
        self._counts = {value: [0] * (len(self._bounds) + 1) for value in values}
        self._bounds_ms = [bound * 1000 for bound in bounds]
        self._sums_ms = dict.fromkeys(self._counts, 0.0)
        self._name, self._told, self._labels = name, told, [] if label is None else [label]
        REGISTRY.register(self)

    def observe_ms(self, milliseconds: list[float], value: str = "") -> None:
        """Count all of these, with this label value, and empty the list: once for many costs the least."""
        if not milliseconds:
            return
        milliseconds.sort()
        counts, below = self._counts[value], 0
        for number, bound in enumerate(self._bounds_ms):
            up_to = bisect_right(milliseconds, bound)
            counts[number] += up_to - below
            below = up_to
        counts[-1] += len(milliseconds) - below
        self._sums_ms[value] += sum(milliseconds)
        milliseconds.clear()

    def collect(self) -> Iterable[Metric]:
        """Collect as prometheus_client requires."""
        family = HistogramMetricFamily(self._name, self._told, labels=self._labels)
        names = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        for value, counts in self._counts.items():
            total = 0
            buckets = []
            for name, count in zip(names, list(counts), strict=True):
                total += count
                buckets.append((name, total))
            family.add_metric([value][: len(self._labels)], buckets, self._sums_ms[value] / 1000)
        yield family


def tell_of_process(component: str, version: str) -> None:
    """Add what every process has: its build, processor time, memory, open files, garbage collections."""
    if _TOLD:
        return  # a test runs several commands in one process
    _TOLD.append(component)
    build = Gauge("sarvis_build_info", "Always 1", ["component", "version", "python"], registry=REGISTRY)
    build.labels(component, version, platform.python_version()).set(1)
    ProcessCollector(registry=REGISTRY)
    GCCollector(registry=REGISTRY)
