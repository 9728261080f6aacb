"""Sends spans to a collector of OpenTelemetry, by OTLP over HTTP. Everything here blocks."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from bridge.stories.spans import Span
from contract.errors import StartError

TIMEOUT_S = 5.0
_LIBRARY = "opentelemetry.exporter.otlp.proto.http"


class _LastWords(logging.Handler):
    """Keeps what the library says of a failure, in the place of its lines in the log: one for each attempt."""

    def __init__(self) -> None:
        super().__init__()
        self.said = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.said = record.getMessage()


class Collector:
    """A collector at an address; made and used by one thread, but for `close`.

    Its library also reads OTEL_EXPORTER_OTLP_... from the environment: headers, certificates.
    """

    def __init__(self, endpoint: str, version: str) -> None:
        """Raises StartError if the library is not installed."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - an extra
                OTLPSpanExporter,
            )
        except ImportError:
            raise StartError(
                "traces.endpoint needs a library that is not installed: pip install 'sarvis[otel]'"
            ) from None
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=TIMEOUT_S)
        self._to_library = _converter(version)
        self._words = _LastWords()
        logger = logging.getLogger(_LIBRARY)
        logger.handlers, logger.propagate = [self._words], False

    def send(self, spans: Sequence[Span]) -> str | None:
        """Send them, for at most 5 s; None if the collector has taken them, else why not."""
        from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415 - an extra

        self._words.said = ""
        try:
            result = self._exporter.export([self._to_library(span) for span in spans])
        except Exception as error:  # noqa: BLE001 - a library of others must not end the thread
            return f"{type(error).__name__}: {error}"
        return None if result is SpanExportResult.SUCCESS else self._words.said or "the collector did not take them"

    def close(self) -> None:
        """End also what is being sent; may be called from any thread."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call] # of a library of others


def _converter(version: str) -> Callable[[Span], Any]:
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.trace import Event, ReadableSpan  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415 - an extra
    from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags  # noqa: PLC0415 - an extra

    scope = InstrumentationScope("sarvis", version)
    resources = {
        name: Resource({"service.namespace": "sarvis", "service.name": f"sarvis-{name}"})
        for name in ("edge", "bridge", "app")
    }

    def context(trace_id: int, span_id: int) -> SpanContext:
        return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    def converted(span: Span) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=context(span.trace_id, span.span_id),
            parent=None if span.parent_id is None else context(span.trace_id, span.parent_id),
            resource=resources[span.service],
            attributes=span.attributes,
            events=[Event(name, told, _ns(at)) for at, name, told in span.events],
            status=Status(StatusCode.UNSET) if span.failed is None else Status(StatusCode.ERROR, span.failed),
            start_time=_ns(span.start),
            end_time=_ns(span.end),
            instrumentation_scope=scope,
        )

    return converted


def _ns(moment: float) -> int:
    return round(moment * 1e9)
