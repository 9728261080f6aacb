"""`python -m tools.conformance.websocket [CASE ...]`: Autobahn's cases of a server, on the stream's connection.

The connection is the bridge's own, up to the message: here it sends each message back, as the cases want it.
The cases come with the package kosoku, which runs them without Python 2.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import kosoku
from websockets.http11 import Request
from websockets.server import ServerProtocol

from bridge.auth.principals import EVERYBODY
from bridge.websocket.keepalive import Wheel
from bridge.websocket.stream.connection import OPEN, Server, StreamConnection, StreamServerState
from bridge.websocket.stream.handshake import AcceptedHandshake
from contract.app_socket import MAX_FRAME_BYTES

BINARY = 0x82
ABOVE_THE_LIMIT = (
    *("1.1.6", "1.1.7", "1.1.8", "1.2.6", "1.2.7", "1.2.8"),
    *("9.1.*", "9.2.*", "9.3.*", "9.4.*", "9.5.*", "9.6.*", "10.1.1"),
)
"""Cases with messages of 64 KiB and more; ours may have 16."""
COMPRESSED = ("12.*", "13.*")
"""Cases of permessage-deflate, which the bridge does not offer."""
AT_ONCE = 4


@dataclass
class _Shared:
    """What the connections of the echo share; there is no bridge."""

    loop: asyncio.AbstractEventLoop
    wheel: Wheel[StreamConnection] = field(default_factory=lambda: Wheel(1))


@dataclass
class _Server:
    connections: set[Any] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class EchoConnection(StreamConnection):
    """The bridge's connection, which sends every message back."""

    def begin(self, handshake: bytes) -> None:
        """Open at once, without a greeting."""
        self._transport.write(handshake)
        self._become(OPEN)
        self._go_on()

    def _obey(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.send(message)
            return
        length = len(message)
        size = bytes([length]) if length < 126 else bytes([126]) + length.to_bytes(2)
        self._transport.write(bytes([BINARY]) + size + message)

    def _leave(self) -> None:
        pass


class _Handshake(asyncio.Protocol):
    """Reads the request of a connection, then hands it over."""

    def __init__(self, shared: _Shared, server: _Server) -> None:
        self._shared = shared
        self._server = server
        self._protocol = ServerProtocol(max_size=MAX_FRAME_BYTES)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._protocol.receive_data(data)
        for request in self._protocol.events_received():
            assert isinstance(request, Request)
            self._protocol.send_response(self._protocol.accept(request))
            handshake = b"".join(self._protocol.data_to_send())
            admitted = AcceptedHandshake("autobahn", "v2", EVERYBODY, None, handshake)
            shared = cast("StreamServerState", self._shared)
            connection = EchoConnection(shared, self._transport, admitted, cast("Server", self._server))
            self._transport.set_protocol(connection)
            connection.begin(handshake)


@dataclass(frozen=True)
class Case:
    """What came of a case: the verdicts on its messages and on its end, in Autobahn's words."""

    name: str
    messages: str
    end: str

    @property
    def is_strict(self) -> bool:
        """Whether the server did just what the case wants; some cases only look, and want nothing."""
        return {self.messages, self.end} <= {"OK", "INFORMATIONAL"}


async def results(
    included: Sequence[str] | None = None, excluded: Sequence[str] = (*ABOVE_THE_LIMIT, *COMPRESSED)
) -> list[Case]:
    """Run the cases, by name or pattern (None: all that are not excluded), against the echo on a free port."""
    shared, server = _Shared(asyncio.get_running_loop()), _Server()
    listener = await shared.loop.create_server(lambda: _Handshake(shared, server), "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        try:
            found = await kosoku.run_fuzzingclient(f"127.0.0.1:{port}", included, excluded, concurrency=AT_ONCE)
        except kosoku.FailureError as failure:
            found = failure.results
    return [Case(each.case_id, each.behavior.value, each.behavior_close.value) for each in found]


def main(names: Sequence[str]) -> int:
    """Print what is not strict, and counts; 0 if all is strict, else 1."""
    cases = asyncio.run(results(list(names) or None, () if names else (*ABOVE_THE_LIMIT, *COMPRESSED)))
    loose = [case for case in cases if not case.is_strict]
    for case in loose:
        print(f"{case.name}: messages {case.messages}, end {case.end}")
    print(f"{len(cases) - len(loose)} of {len(cases)} cases pass strictly")
    return int(bool(loose) or not cases)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
