"""Mosquitto as we configure it loses no wake on its way to a bridge that also publishes.

Mosquitto 2.0 counts what is on its way to a client. If that client publishes or pings between its acknowledgements, the
count is soon wrong: each message waits for the next one, then messages are dropped. Without a limit nothing is counted.
"""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.provisioning import mosquitto
from tests.support.waiting import PATIENCE_S
from tests.support.world import HOST, Mosquitto
from tests.unit.broker.provisioning.test_renderers import PLAN
from tools.fuzz.rawmqtt import connect, publish, subscribe

WAKES, AT_ONCE = 60_000, 4
OUTCOME = publish(b"outcome", b"x" * 70)
ROOT = Path(__file__).parents[2]
OURS = {
    "config/mosquitto.conf": (ROOT / "config" / "mosquitto.conf").read_text(),
    "sarvis broker config": mosquitto.config(PLAN),
}


@contextmanager
def running(limits: str, folder: Path) -> Iterator[int]:
    with Mosquitto(folder, f"set_tcp_nodelay true\n{limits}") as broker:
        yield broker.port


@contextmanager
def client(port: int, client_id: bytes) -> Iterator[socket.socket]:
    with socket.create_connection((HOST, port), timeout=PATIENCE_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(connect(client_id))
        assert sock.recv(4)[0] == 0x20
        yield sock


class Bridge:
    """Acknowledges each wake and tells its outcome, like a bridge, on one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._unread = b""
        sock.sendall(subscribe(b"wake", qos=1))
        assert sock.recv(5)[0] == 0x90

    def hear(self) -> int:
        """How many wakes came with what can be read now."""
        self._unread += self._sock.recv(65_536)
        answers = []
        while len(self._unread) >= 2 and len(self._unread) >= 2 + self._unread[1]:
            packet, self._unread = self._unread[2 : 2 + self._unread[1]], self._unread[2 + self._unread[1] :]
            name = 2 + int.from_bytes(packet[:2])
            answers.append(b"\x40\x02" + packet[name : name + 2] + OUTCOME)
        self._sock.sendall(b"".join(answers))
        return len(answers)


@pytest.mark.parametrize("config", OURS)
def test_every_wake_comes_and_none_waits_for_the_next(config: str, tmp_path: Path) -> None:
    limits = "\n".join(re.findall(r"^max_(?:inflight|queued)\w* .*$", OURS[config], re.MULTILINE))
    with running(limits, tmp_path) as port, client(port, b"bridge") as one, client(port, b"devices") as devices:
        bridge, sent, heard = Bridge(one), 0, 0
        while heard < WAKES:
            while sent < min(heard + AT_ONCE, WAKES):
                sent += 1
                devices.sendall(publish(b"wake", b"x" * 100, qos=1, packet_id=sent % 60_000 + 1))
            heard += bridge.hear()  # raises TimeoutError when what was sent does not come
            devices.setblocking(False)
            try:
                devices.recv(65_536)
            except BlockingIOError:
                pass
            finally:
                devices.settimeout(PATIENCE_S)
        assert heard == sent == WAKES
