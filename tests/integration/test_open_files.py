"""More connections than a process may open files for: real processes with few files, and clients that say nothing."""

import contextlib
import resource
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.processes import Sarvis
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, NO_BROKER

FILES = 300
"""Half of so few are for connections."""
CROWD = 400
CONNECT, CONNACK = b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0", b"\x20\x02\0\0"
PINGREQ, PINGRESP = b"\xc0\0", b"\xd0\0"
COMMANDS = {
    "broker": ("broker", "--port", "0"),
    "bridge": ("bridge", "--port", "0", "--mqtt-url", NO_BROKER),
    "edge": ("edge", "--device-id", "jetson-1", "--source", "stdin", "--http-port", "0", "--json",
             "--mqtt-url", NO_BROKER, "--state-dir", "state"),
}  # fmt: skip


class Process:
    """A broker, a bridge or a node, with or without TLS, that may open few files."""

    def __init__(self, kind: str, folder: Path, files: str = str(FILES)) -> None:
        self._what, _, tls = kind.partition(" ")
        self._tls: ssl.SSLContext | None = None
        settings: Mapping[str, str] = {}
        if tls:
            authority = Authority(folder)
            pair = authority.issue("server", HOST)
            self._tls = ssl.create_default_context(cafile=authority.ca_file)
            section = self._what.upper()
            settings = {f"SARVIS_{section}__TLS_CERT": str(pair.cert), f"SARVIS_{section}__TLS_KEY": str(pair.key)}
        self.sarvis = Sarvis(*COMMANDS[self._what], cwd=folder, settings=settings, stdin=-1, files=files)
        with self.sarvis.starting():
            self._port = self._told_port()
        self.pid = self.sarvis.process.pid

    def _told_port(self) -> int:
        if self._what == "edge":
            told = self.sarvis.event("it listens", lambda event: event["event"] == "listening")["http"]
        else:
            told = self.sarvis.line_after(f"{self._what} listening on ")
        return int(str(told).rsplit(":", 1)[1])

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def may_open(self, files: int) -> None:
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (files, FILES))

    def told(self, words: str) -> int:
        return sum(words in line for line in self.sarvis.err)

    def idle(self) -> socket.socket:
        """A client that connects and says nothing."""
        return socket.create_connection((HOST, self._port), timeout=PATIENCE_S)

    def client(self) -> "Client | None":
        """A client that is served; None if it is not let in."""
        sock = self.idle()
        try:
            spoken = self._tls.wrap_socket(sock, server_hostname=HOST) if self._tls else sock
        except OSError:
            sock.close()
            return None
        client = Client(spoken, self._port, is_broker=self._what == "broker")
        if client.begins() and client.is_served():
            return client
        client.close()
        return None

    def newcomer(self) -> "Client":
        return wait_for("a newcomer is served", self.client)


class Client:
    """Somebody who says what a client says."""

    def __init__(self, sock: socket.socket, port: int, *, is_broker: bool) -> None:
        self._sock = sock
        self._is_broker = is_broker
        self._request = f"GET /nothing HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode()

    def begins(self) -> bool:
        return not self._is_broker or self._answer(CONNECT) == CONNACK

    def is_served(self) -> bool:
        if self._is_broker:
            return self._answer(PINGREQ) == PINGRESP
        return self._answer(self._request).startswith(b"HTTP/1.1 ")

    def close(self) -> None:
        self._sock.close()

    def _answer(self, said: bytes) -> bytes:
        with contextlib.suppress(OSError):
            self._sock.sendall(said)
            return self._sock.recv(65_536)
        return b""


def is_open(sock: socket.socket) -> bool:
    """Has the server not hung up?"""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return True
    except OSError:
        return False


@pytest.fixture(params=["broker", "broker with TLS", "bridge", "bridge with TLS", "edge"])
def process(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Process]:
    it = Process(request.param, tmp_path)
    with it.sarvis:
        yield it


def test_connections_beyond_the_open_files_are_closed_and_the_others_are_served(process: Process) -> None:
    with ExitStack() as crowd:
        device = process.newcomer()
        crowd.callback(device.close)
        before = process.open_files()
        idle = [crowd.enter_context(contextlib.closing(process.idle())) for _ in range(CROWD)]
        wait_for("the others are closed", lambda: sum(map(is_open, idle)) < FILES // 2)
        assert process.open_files() < before + FILES // 2
        assert device.is_served()
        crowd.callback(process.newcomer().close)
        assert device.is_served()
    process.newcomer().close()
    wait_for("it has said so", lambda: process.told("connections_refused"))
    assert process.told("connections_refused") == 1
    assert process.told("no_open_files_left") == 0
    assert process.told("client_rejected") <= 1
    assert process.sarvis.process.poll() is None


def test_a_process_without_free_files_reports_it_once_and_accepts_again_later(process: Process) -> None:
    with ExitStack() as crowd:
        device = process.newcomer()
        crowd.callback(device.close)
        process.may_open(process.open_files() + 3)
        for _ in range(10):
            crowd.enter_context(contextlib.closing(process.idle()))
        wait_for("it says so", lambda: process.told("no_open_files_left"))
        assert device.is_served()
        process.may_open(FILES)
        crowd.callback(process.newcomer().close)
        assert device.is_served()
    assert process.told("no_open_files_left") == 1
    assert process.told("accept") == 0


@pytest.mark.parametrize("kind", ["broker", "bridge", "edge"])
def test_a_process_raises_its_limit_of_open_files_itself(kind: str, tmp_path: Path) -> None:
    it = Process(kind, tmp_path, f"200:{FILES}")
    with it.sarvis:
        it.newcomer().close()
        assert resource.prlimit(it.pid, resource.RLIMIT_NOFILE) == (FILES, FILES)
