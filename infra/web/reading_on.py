"""Continues after an `Upgrade` request that is declined, as Java's client and `curl --http2` require.

llhttp stops such a request at the end of its head, whatever its body. A second parser gets the head's lines about the
body and continues from there.
"""

from typing import TYPE_CHECKING

import httptools

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_FRAMING = frozenset({b"connection", b"content-length", b"transfer-encoding"})


def read_on(http: "HttpToolsProtocol") -> None:
    """Give the protocol another parser for the rest of the request; raises HttpParserError if that is impossible."""
    http.parser = httptools.HttpRequestParser(_FromTheBodyOn(http))
    http.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
    lines = [b"%b: %b\r\n" % (name, value) for name, value in http.headers if name in _FRAMING]
    head = (http.scope["method"].encode(), http.scope["http_version"].encode(), b"".join(lines))
    http.parser.feed_data(b"%b / HTTP/%b\r\nHost: x\r\n%b\r\n" % head)


class _FromTheBodyOn:
    """Passes a parser's events to its protocol, except those of the first head, which were passed already."""

    def __init__(self, http: "HttpToolsProtocol") -> None:
        self._http = http
        self._told = False

    def on_message_begin(self) -> None:
        if self._told:
            self._http.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._told:
            self._http.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._told:
            self._http.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._told:
            self._http.on_headers_complete()
        self._told = True

    def on_body(self, body: bytes) -> None:
        self._http.on_body(body)

    def on_message_complete(self) -> None:
        self._http.on_message_complete()
