"""Logs and counters: an event word and fields, on standard error; no tokens, no audio."""

import contextlib
import logging
import sys
from collections.abc import Iterable
from typing import TextIO, cast

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from contract.redaction import redact
from contract.sections.log import LogSettings

REGISTRY = CollectorRegistry()
"""What `/metrics` shows; uid and device id are never labels."""

INVALID_MESSAGES = Counter(
    "sarvis_mqtt_invalid_messages_total", "MQTT messages that were no valid message", ["kind"], registry=REGISTRY
)
MQTT_CONNECTED = Gauge(
    "sarvis_mqtt_connected", "1 while the broker is reached and all subscriptions stand", registry=REGISTRY
)
MQTT_RECONNECTS = Counter(
    "sarvis_mqtt_reconnects_total", "Connections to the broker that had to be made again", registry=REGISTRY
)
MQTT_UNSENT = Counter("sarvis_mqtt_unsent_total", "Messages not sent because no broker was reached", registry=REGISTRY)


class Tally(Collector):
    """A counter for what happens at every wake: the library's takes a lock each time, this a tenth of its time.

    Only one thread may count.

    Attributes:
        counts: by the value of the label (without a label there is one, the empty one); whoever counts adds to it.
    """

    def __init__(self, name: str, told: str, label: str | None = None, values: Iterable[str] = ("",)) -> None:
        self.counts = dict.fromkeys(values, 0)
        self._name, self._told, self._labels = name, told, [] if label is None else [label]
        REGISTRY.register(self)

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        family = CounterMetricFamily(self._name, self._told, labels=self._labels)
        for value, count in self.counts.items():
            family.add_metric([value][: len(self._labels)], count)
        yield family


class Unbreakable:
    """A text stream that swallows what it cannot write: a log that nobody reads must stop nothing.

    Every log line passes here, tracebacks and those of libraries too, so here known secrets are taken out of them.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write without known secrets, or not."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(redact(text))
        return len(text)

    def flush(self) -> None:
        """Flush, or not."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure_logging(settings: LogSettings) -> None:
    """Set up structlog and the standard library's loggers; call once at start of a process."""
    level = getattr(logging, settings.level.upper())
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer]
        if settings.format == "json"
        else [*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", Unbreakable(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(Unbreakable(sys.stderr))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.processors.format_exc_info] if settings.format == "json" else shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger; call it with an event word and fields."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(component=name)
    return logger
