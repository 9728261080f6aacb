"""Reading on after a request that offers another protocol, which is not taken: Java's client and `curl --http2` do so.

llhttp leaves such a request at the end of its head, whatever its body is. A second parser is given the lines of that
head that frame the body, and reads on from there.
"""

from typing import TYPE_CHECKING

import httptools

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_FRAMING = frozenset({b"connection", b"content-length", b"transfer-encoding"})


def read_on(http: "HttpToolsProtocol") -> None:
    """Give it another parser, for what follows the head that was read; raises HttpParserError if none can."""
    http.parser = httptools.HttpRequestParser(_FromTheBodyOn(http))
    http.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
    lines = [b"%b: %b\r\n" % (name, value) for name, value in http.headers if name in _FRAMING]
    head = (http.scope["method"].encode(), http.scope["http_version"].encode(), b"".join(lines))
    http.parser.feed_data(b"%b / HTTP/%b\r\nHost: x\r\n%b\r\n" % head)


class _FromTheBodyOn:
    """What a parser tells its protocol, without the first head: that was told already."""

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
