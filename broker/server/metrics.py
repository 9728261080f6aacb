"""The metrics of the embedded broker; client ids, users and topics are never labels."""

from collections.abc import Callable
from typing import Any, Protocol

from prometheus_client import Gauge

from infra.telemetry import REGISTRY, CounterFamily

MESSAGES = CounterFamily(
    "sarvis_broker_messages",
    "PUBLISH packets that were accepted from clients, last wills included, and that were sent to clients",
    "direction",
    ("received", "sent"),
).counts
DROPPED = CounterFamily(
    "sarvis_broker_dropped",
    "Messages that were dropped: without the right, of QoS 0 for slow readers, beyond the queue of an absent "
    "session; and retained ones that found no place",
    "reason",
    ("not_allowed", "slow", "queue_full", "not_retained"),
).counts
CLIENTS = Gauge("sarvis_broker_clients", "Clients that are connected", registry=REGISTRY)
ABSENT = Gauge("sarvis_broker_absent_sessions", "Persistent sessions without a connection", registry=REGISTRY)
RETAINED = Gauge("sarvis_broker_retained", "Retained messages", registry=REGISTRY)
QUEUED = Gauge("sarvis_broker_queued", "Messages that wait for absent sessions", registry=REGISTRY)
QUEUED_BYTES = Gauge("sarvis_broker_queued_bytes", "What they cost in memory", registry=REGISTRY)


class Counted(Protocol):
    """A broker, as far as it is counted at a scrape."""

    def count_sessions(self) -> tuple[int, int]:
        """How many are connected and absent."""
        ...

    def count_retained(self) -> int:
        """How many messages are retained."""
        ...

    def count_queued(self) -> tuple[int, int]:
        """How many messages wait, and their cost in bytes."""
        ...


def show(broker: Counted) -> None:
    """From now on the gauges are those of this broker."""
    found: tuple[tuple[Any, Callable[[], float]], ...] = (
        (CLIENTS, lambda: broker.count_sessions()[0]),
        (ABSENT, lambda: broker.count_sessions()[1]),
        (RETAINED, broker.count_retained),
        (QUEUED, lambda: broker.count_queued()[0]),
        (QUEUED_BYTES, lambda: broker.count_queued()[1]),
    )
    for gauge, function in found:
        gauge.set_function(function)
