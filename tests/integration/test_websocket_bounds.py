"""What one WebSocket may make the bridge keep; tests/fuzz attacks the rest."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fuzz.rawsocket import CONTINUATION, PING, TEXT, frame, handshake
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, Bridge, unique

NO_BROKER = "mqtt://127.0.0.1:9"


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    it = Bridge(tmp_path_factory.mktemp("bridge"), NO_BROKER)
    it.start(ready=False)
    yield it
    it.stop()


@contextmanager
def app_that_reads_nothing(bridge: Bridge) -> Iterator[socket.socket]:
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(PATIENCE_S)
        raw.connect((HOST, bridge.port))
        raw.sendall(handshake(f"/ws/app/{unique('user')}/", {}))
        assert raw.recv(12) == b"HTTP/1.1 101"
        yield raw


def is_cut_off(raw: socket.socket, data: bytes) -> bool:
    """Whether the bridge ends this connection while it is sent the same over and over, up to 200 MB."""
    try:
        for _ in range(200 * 1024 * 1024 // len(data)):
            raw.sendall(data)
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def test_who_pings_and_reads_no_pong_is_cut_off(bridge: Bridge) -> None:
    before = bridge.metric("sarvis_app_connections")
    with app_that_reads_nothing(bridge) as raw:
        assert is_cut_off(raw, frame(PING, b"x" * 125) * 500)
        wait_for("it is no connection", lambda: bridge.metric("sarvis_app_connections") == before)


def test_a_message_of_endless_empty_fragments_is_cut_off(bridge: Bridge) -> None:
    with app_that_reads_nothing(bridge) as raw:
        raw.sendall(frame(TEXT, b"", fin=False))
        assert is_cut_off(raw, frame(CONTINUATION, b"", fin=False) * 1000)


def test_a_message_in_many_fragments_is_understood(bridge: Bridge) -> None:
    with app_that_reads_nothing(bridge) as raw:
        text = b'{"type":"heartbeat"}'
        pieces = [frame(CONTINUATION, bytes([byte]), fin=False) for byte in text]
        raw.sendall(frame(TEXT, b"", fin=False) + b"".join(pieces) + frame(CONTINUATION, b""))
        raw.settimeout(PATIENCE_S)
        wait_for("it is answered", lambda: b"heartbeat_ack" in raw.recv(65536, socket.MSG_PEEK))
