import asyncio
from typing import cast

from broker.server.closing import abort, abort_transport


class ClosedTwice:
    """A TLS transport of Python 3.11.2 that was closed twice: it has forgotten its protocol."""

    _ssl_protocol: asyncio.Protocol | None = None

    def abort(self) -> None:
        self._ssl_protocol._abort()  # type: ignore[union-attr]


class Open:
    aborted = 0

    def abort(self) -> None:
        self.aborted += 1


def test_a_transport_that_is_closed_already_may_be_aborted() -> None:
    abort_transport(cast("asyncio.WriteTransport", ClosedTwice()))


def test_one_that_is_open_is_aborted() -> None:
    class Writer:
        transport = Open()

    abort(cast("asyncio.StreamWriter", Writer))
    assert Writer.transport.aborted == 1
