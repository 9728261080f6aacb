"""Gauges of the whole bridge, computed at each scrape."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from prometheus_client import Gauge, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from bridge.apps.connection import AppConnection
from bridge.apps.hub import Hub
from bridge.chronicle import Chronicle
from bridge.sessions.service import Sessions
from bridge.storage.store import Store
from bridge.stories.history import DEVICE_STATES, most_common
from infra.telemetry import REGISTRY

MOST_KINDS = 20

OLDEST = Gauge(
    "sarvis_logouts_oldest_seconds",
    "Service time that the oldest unconfirmed log-out waits, of devices that are online and others",
    ["presence"],
    registry=REGISTRY,
)
LEDGER_WRITABLE = Gauge("sarvis_ledger_writable", "1 while the ledger can be written", registry=REGISTRY)
SERVICE_SECONDS = Gauge(
    "sarvis_service_seconds", "Service time, in which deadlines count: it stands still in an outage", registry=REGISTRY
)
DEVICES = Gauge(
    "sarvis_devices", "Devices by what they last said: deaf ones have an alarm", ["state"], registry=REGISTRY
)
CONNECTIONS = Gauge("sarvis_app_connections", "Apps' sockets that are open", registry=REGISTRY)
RUNNING = Gauge("sarvis_sessions", "Sessions that run", registry=REGISTRY)
PEERS = Gauge("sarvis_peers", "Other bridges of the same ledger that are alive", registry=REGISTRY)
WAITING = Gauge("sarvis_logouts_waiting", "Log-outs that no device has confirmed yet", registry=REGISTRY)


class Kinds(Collector):
    """How many devices have each of the most frequent values of a kind, and how many another one."""

    def __init__(self, name: str, told: str, label: str) -> None:
        self._name, self._told, self._label = name, told, label
        self.counts: Callable[[], Mapping[str, int]] = dict
        REGISTRY.register(self)

    def collect(self) -> Iterable[Metric]:
        """Collect as prometheus_client requires."""
        family = GaugeMetricFamily(self._name, self._told, labels=[self._label])
        for value, count in most_common(self.counts(), MOST_KINDS).items():
            family.add_metric([value], count)
        yield family


VERSIONS = Kinds("sarvis_device_versions", "Known devices by their version of the software", "version")
MODELS = Kinds("sarvis_device_models", "Known devices by their wake-word model", "model")


def show(hub: Hub[AppConnection], sessions: Sessions, store: Store, chronicle: Chronicle) -> None:
    """From now on they are those of this bridge."""
    for presence, online in (("online", True), ("offline", False)):
        OLDEST.labels(presence).set_function(partial(sessions.oldest_logout_s, online=online))
    LEDGER_WRITABLE.set_function(lambda: store.problem is None)
    SERVICE_SECONDS.set_function(sessions.liveness.now)
    for state in DEVICE_STATES:
        DEVICES.labels(state).set_function(partial(chronicle.count, state))
    CONNECTIONS.set_function(lambda: len(hub))
    RUNNING.set_function(lambda: sessions.active)
    WAITING.set_function(lambda: sessions.waiting)
    VERSIONS.counts, MODELS.counts = chronicle.versions, chronicle.models
    PEERS.set_function(lambda: len(sessions.peers.others))
