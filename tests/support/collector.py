"""A collector of OpenTelemetry: takes traces by OTLP over HTTP, decodes them with OpenTelemetry's own definitions."""

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

HOST = "127.0.0.1"
PATH = "/v1/traces"


@dataclass(frozen=True)
class Got:
    """A span as it came; ids in hex, times in nanoseconds, `failed` is the message of an error status."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    told: dict[str, Any]
    events: list[str]
    failed: str | None


class Collector:
    """Listens inside of `with`; `spans` are all that came."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.spans: list[Got] = []
        self.headers: list[dict[str, str]] = []

    def __enter__(self) -> Self:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path != PATH:
                    self.send_error(404)
                    return
                collector.headers.append(dict(self.headers))
                collector.spans += decoded(body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """In silence."""

        self._server = ThreadingHTTPServer((HOST, self.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def of(self, trace: str) -> list[Got]:
        """The spans of a trace, in the order in which they came."""
        return [span for span in list(self.spans) if span.trace == trace]


def decoded(body: bytes) -> list[Got]:
    """The spans of a request."""
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    return [
        Got(
            _told(group.resource.attributes)["service.name"],
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            _told(span.attributes),
            [event.name for event in span.events],
            span.status.message if span.status.code == span.status.STATUS_CODE_ERROR else None,
        )
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def _told(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
