"""The load: many apps and their devices in one thread, as cheap as can be, so that it is not what is measured.

Apps are raw sockets that speak just enough of WebSocket; devices share one raw MQTT connection. All of them live in one
epoll loop. A wake carries its number in its command and its id, which every system passes on.
"""

import errno
import re
import select
import socket
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Self
from uuid import uuid4

from tests.bench.accounts import Account, Statuses
from tests.fuzz.rawmqtt import CONNACK, connect, publish, subscribe
from tests.support.world import HOST, PREFIX

STALLED_S = 10.0
CONNECT_WITHIN_S = 120.0
AT_ONCE = 65536
SUBACK = 9
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
NO_MASK = bytes(4)
"""A mask of zeros changes nothing: allowed, and free."""
WORD = b'"command":"wake_up '
DIGITS = 9
WAKE_ID = re.compile(rb'"id":"([^"]+)"')
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Lost(Exception):  # noqa: N818 - an event
    """A socket ended that should have stood."""


def user(app: int) -> str:
    """The uid of an app."""
    return f"user-{app:06d}"


def device(app: int) -> str:
    """The device that wakes an app."""
    return f"bench-{app:06d}"


def client_frame(payload: bytes, opcode: int = 1) -> bytes:
    """A frame of a client; at most 125 bytes."""
    assert len(payload) < 126
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + NO_MASK + payload


HEARTBEAT = client_frame(b'{"type":"heartbeat"}')
NATS_HEARTBEAT = client_frame(b"PING\r\n", 2)


class Frames:
    """Cuts a stream of server's frames into (opcode, payload)."""

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """What is whole by now."""
        if self._tail:
            data = self._tail + data
        found = []
        at, end = 0, len(data)
        while end - at >= 2:
            size, head = data[at + 1], 2
            if size == 126:
                size, head = int.from_bytes(data[at + 2 : at + 4]), 4
            elif size == 127:
                size, head = int.from_bytes(data[at + 2 : at + 10]), 10
            if end - at < head + size:
                break
            found.append((data[at] & 15, data[at + head : at + head + size]))
            at += head + size
        self._tail = data[at:]
        return found


class App:
    """One app's socket."""

    __slots__ = ("_frames", "_load", "_unread", "index", "sock")

    def __init__(self, load: "Load", index: int) -> None:
        self.index = index
        self._load = load
        self._frames = Frames()
        self._unread = b""
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def greet(self) -> None:
        """The TCP connection stands: ask for the upgrade."""
        fault = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if fault:
            raise Lost(f"app {self.index}: {errno.errorcode[fault]}")
        self.sock.sendall(self._load.upgrade(self.index))

    def read_answer(self) -> bool:
        """Read the answer to the upgrade; whether it is there."""
        self._unread += self._read()
        head, end, rest = self._unread.partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(b"HTTP/1.1 101"):
            raise Lost(f"app {self.index}: {head[:200]!r}")
        self._take(rest)
        return True

    def read(self) -> None:
        """Read frames."""
        self._take(self._read())

    def _read(self) -> bytes:
        data = self.sock.recv(AT_ONCE)
        if not data:
            raise Lost(f"app {self.index}: the server has hung up")
        return data

    def _take(self, data: bytes) -> None:
        for opcode, payload in self._frames.feed(data):
            self._heard(opcode, payload)

    def _heard(self, opcode: int, payload: bytes) -> None:
        if opcode == 1:
            self._load.heard(self, payload)
        elif opcode == 9:
            self.sock.sendall(client_frame(payload, 10))
        elif opcode == 8:
            raise Lost(f"app {self.index}: closed with {payload!r}")


class NatsApp(App):
    """A client of NATS over WebSocket, which hears what its device says itself; PING and PONG are its heartbeat."""

    __slots__ = ("_text", "_there")

    def __init__(self, load: "Load", index: int) -> None:
        super().__init__(load, index)
        self._text = b""
        self._there = False

    def read_answer(self) -> bool:
        """The server has spoken first: INFO."""
        if not super().read_answer():
            return False
        subject = f"{PREFIX}/devices/{device(self.index)}/wake".replace("/", ".")
        self.sock.sendall(client_frame(f'CONNECT {{"verbose":false}}\r\nSUB {subject} 1\r\nPING\r\n'.encode(), 2))
        return True

    def _heard(self, opcode: int, payload: bytes) -> None:
        if opcode != 2:
            super()._heard(opcode, payload)
            return
        self._text += payload
        while b"\r\n" in self._text:
            line, _, rest = self._text.partition(b"\r\n")
            if line.startswith(b"MSG "):
                size = int(line.rsplit(b" ", 1)[1])
                if len(rest) < size + 2:
                    return
                self._load.woken(self, rest[:size])
                rest = rest[size + 2 :]
            elif line == b"PONG":
                self._load.answered(self, first=not self._there)
                self._there = True
            elif line == b"PING":
                self.sock.sendall(client_frame(b"PONG\r\n", 2))
            elif not line.startswith(b"INFO "):
                raise Lost(f"app {self.index} heard {line!r}")
            self._text = rest


class Load:
    """Apps at one server, devices at one broker.

    Args:
        port: of the server.
        mqtt_port: of the broker.
        apps: how many there will be.
        v2: they speak sarvis.v2 and confirm each wake.
        nats: they speak NATS.
        tokens: by app, where credentials are required.
        api_key: for the HTTP trigger, where credentials are required.
    """

    def __init__(
        self,
        port: int,
        mqtt_port: int,
        *,
        apps: int,
        v2: bool = False,
        nats: bool = False,
        tokens: Mapping[int, str] | None = None,
        api_key: str | None = None,
    ) -> None:
        self.apps = apps
        self._port = port
        self._v2 = v2
        self._kind = NatsApp if nats else App
        self._heartbeat = NATS_HEARTBEAT if nats else HEARTBEAT
        self._tokens = tokens or {}
        self._api_key = api_key
        self._name = uuid4().hex[:12]  # an id that came before would ring nobody
        self._next = 0
        self._there: dict[int, App] = {}
        self._established = 0
        self._account = Account(apps, 0)
        self._beats: defaultdict[int, deque[int]] = defaultdict(deque)
        self._statuses = Statuses()
        self._poller = select.epoll()
        self._readers: dict[int, Callable[[], object]] = {}
        self._devices = self._mqtt(mqtt_port, b"bench-devices")
        self._listener = self._mqtt(mqtt_port, b"bench-listener")
        self._listener.sendall(subscribe(f"{PREFIX}/devices/+/outcome".encode()))
        self._expect(self._listener, SUBACK)
        self._register(self._devices, lambda: self._drop(self._devices))
        self._register(self._listener, lambda: self._statuses.feed(self._drop(self._listener)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        self._devices.close()
        self._listener.close()
        self._poller.close()

    # The apps' side.

    def come(self, count: int) -> float:
        """That many apps connect at once; seconds until the last one was greeted."""
        began = time.monotonic()
        apps = [self._kind(self, index) for index in range(count)]
        for app in apps:
            result = app.sock.connect_ex((HOST, self._port))
            if result not in {0, errno.EINPROGRESS}:
                raise Lost(f"app {app.index}: {errno.errorcode[result]}")
            self._there[app.index] = app
            self._readers[app.sock.fileno()] = self._arriving(app)
            self._poller.register(app.sock, select.EPOLLOUT)
        self._established = 0
        while self._established < count:
            self._poll(1.0)
            if time.monotonic() > began + CONNECT_WITHIN_S:
                raise Lost(f"{self._established} of {count} apps were greeted in {CONNECT_WITHIN_S:.0f} s")
        return time.monotonic() - began

    def leave(self) -> None:
        """All apps hang up."""
        for app in self._there.values():
            self._forget(app.sock)
            app.sock.close()
        self._there.clear()

    def upgrade(self, app: int) -> bytes:
        """The request with which an app begins."""
        offered = [*(["sarvis.v2"] if self._v2 else []), *([self._tokens[app]] if app in self._tokens else [])]
        protocols = f"Sec-WebSocket-Protocol: {', '.join(offered)}\r\n" if offered else ""
        path = "/" if self._kind is NatsApp else f"/ws/app/{user(app)}/"
        return (
            f"GET {path} HTTP/1.1\r\nHost: {HOST}:{self._port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {KEY.decode()}\r\nSec-WebSocket-Version: 13\r\n{protocols}\r\n"
        ).encode()

    def heard(self, app: App, payload: bytes) -> None:
        """A text frame came at an app."""
        if payload.startswith(b'{"type":"voice_command"'):
            self.woken(app, payload)
        elif payload.startswith(b'{"type":"heartbeat_ack"'):
            self.answered(app)
        elif payload.startswith(b'{"type":"connection_established"'):
            self.answered(app, first=True)
        else:
            raise Lost(f"app {app.index} heard {payload[:200]!r}")

    def woken(self, app: App, payload: bytes) -> None:
        """A wake came at an app."""
        now = time.monotonic()
        at = payload.find(WORD) + len(WORD)
        number = int(payload[at : at + DIGITS])
        if self._v2 and (found := WAKE_ID.search(payload)):
            app.sock.sendall(client_frame(b'{"type":"ack","id":"%s"}' % found[1]))
        self._account.came(number, app.index, now)

    def answered(self, app: App, *, first: bool = False) -> None:
        """An app was greeted, or a heartbeat of its was answered."""
        if first:
            self._established += 1
            return
        waiting = self._beats[app.index]
        self._account.came(waiting.popleft() if waiting else -1, app.index, time.monotonic())

    # What is measured.

    def wakes(self, qos: int, count: int, outstanding: int) -> Account:
        """Wakes, never more than that many on their way."""

        def more(account: Account) -> None:
            room = min(count - account.sent, outstanding - account.outstanding)
            if room > 0:
                now = time.monotonic()
                self._devices.sendall(b"".join(self._wake(account.send(now), qos) for _ in range(room)))

        return self._closed_loop(count, more)

    def paced(self, qos: int, count: int, per_s: float) -> Account:
        """Wakes at a fixed rate, whatever comes of them."""
        account = self._open_account()
        began = time.monotonic()
        while account.sent < count:
            now = time.monotonic()
            wait = began + account.sent / per_s - now
            if wait > 0:
                self._poll(wait)
            else:
                number = account.send(now)
                self._devices.sendall(self._wake(number, qos))
                self._poll(0)
        return self._close_account(count)

    def heartbeats(self, count: int, outstanding: int) -> Account:
        """Heartbeats, never more than that many unanswered."""

        def more(account: Account) -> None:
            now = time.monotonic()
            for _ in range(min(count - account.sent, outstanding - account.outstanding)):
                number = account.send(now)
                self._beats[number % self.apps].append(number)
                self._there[number % self.apps].sock.sendall(self._heartbeat)

        return self._closed_loop(count, more)

    def triggers(self, count: int, connections: int) -> Account:
        """The HTTP trigger on connections that stay, one request at a time on each."""
        callers = [_Caller(self._port, self._api_key) for _ in range(connections)]
        answered = 0

        def more(account: Account) -> None:
            for caller in callers:
                if not caller.busy and account.sent < count:
                    number = account.send(time.monotonic())
                    caller.ask(user(number % self.apps), command(number))

        def reader(caller: _Caller) -> Callable[[], None]:
            def read() -> None:
                nonlocal answered
                answer = caller.read()
                if answer is not None:
                    answered += 1
                    self._account.refused += not answer

            return read

        for caller in callers:
            self._register(caller.sock, reader(caller))
        try:
            account = self._closed_loop(count, more, also=lambda: answered < count)
        finally:
            for caller in callers:
                self._forget(caller.sock)
                caller.sock.close()
        if answered < count:
            account.refused += count - answered
        return account

    def outcomes(self, each: int) -> dict[str, int]:
        """What devices were told since this was asked last; waits until that many have come, and a moment longer."""
        deadline = time.monotonic() + STALLED_S
        while sum(self._statuses.counts.values()) < each and time.monotonic() < deadline:
            self._poll(0.02)
        self.rest(0.05)
        counts = self._statuses.counts
        self._statuses = Statuses()
        return counts

    def rest(self, seconds: float) -> None:
        """Only answer what comes, so that nothing is left over."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._poll(left)

    # Inside.

    def _closed_loop(
        self, count: int, more: Callable[[Account], None], also: Callable[[], bool] = lambda: False
    ) -> Account:
        account = self._open_account()
        progress, stalled_at = -1, 0.0
        while account.received < count or also():
            more(account)
            now = time.monotonic()
            if account.received != progress:
                progress, stalled_at = account.received, now + STALLED_S
            elif now > stalled_at:
                break
            self._poll(1.0)
        return self._close_account(count)

    def _open_account(self) -> Account:
        # A multiple of the apps, so that the same apps are asked first in each window.
        self._next += -self._next % self.apps
        self._account = Account(self.apps, self._next)
        return self._account

    def _close_account(self, count: int) -> Account:
        account = self._account
        deadline = time.monotonic() + STALLED_S
        while account.outstanding and time.monotonic() < deadline:
            self._poll(0.1)
        self._next += count
        self._beats.clear()
        return account

    def _wake(self, number: int, qos: int) -> bytes:
        app = number % self.apps
        payload = (
            f'{{"uid":"{user(app)}","command":"{command(number)}","timestamp":"2026-01-01T00:00:00.000000+00:00","v":1,'
            f'"id":"{self._name}-{number:0{DIGITS}d}","device_id":"{device(app)}","boot":1,"seq":{number},"age_ms":0,'
            f'"ttl_ms":10000,"score":0.9731,"model":"bench"}}'
        )
        topic = f"{PREFIX}/devices/{device(app)}/wake"
        return publish(topic.encode(), payload.encode(), qos=qos, packet_id=number % 60_000 + 1)

    def _arriving(self, app: App) -> Callable[[], None]:
        def answered() -> None:
            if app.read_answer():
                self._readers[app.sock.fileno()] = app.read

        def connected() -> None:
            app.greet()
            self._readers[app.sock.fileno()] = answered
            self._poller.modify(app.sock, select.EPOLLIN)

        return connected

    def _poll(self, timeout: float) -> None:
        readers = self._readers
        for descriptor, _ in self._poller.poll(timeout):
            readers[descriptor]()

    def _register(self, sock: socket.socket, reader: Callable[[], object]) -> None:
        self._readers[sock.fileno()] = reader
        self._poller.register(sock, select.EPOLLIN)

    def _forget(self, sock: socket.socket) -> None:
        del self._readers[sock.fileno()]
        self._poller.unregister(sock)

    def _mqtt(self, port: int, client_id: bytes) -> socket.socket:
        sock = socket.create_connection((HOST, port), timeout=STALLED_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(connect(client_id, keepalive=0))
        self._expect(sock, CONNACK)
        return sock

    @staticmethod
    def _expect(sock: socket.socket, kind: int) -> None:
        answer = sock.recv(AT_ONCE)
        if answer[:1] != bytes([kind << 4]):
            raise Lost(f"the broker answered {answer!r}")

    @staticmethod
    def _drop(sock: socket.socket) -> bytes:
        data = sock.recv(AT_ONCE)
        if not data:
            raise Lost("the broker has hung up")
        return data


class _Caller:
    """A device that posts triggers on one connection."""

    def __init__(self, port: int, api_key: str | None) -> None:
        self.busy = False
        self.sock = socket.create_connection((HOST, port), timeout=STALLED_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = f"X-API-Key: {api_key}\r\n" if api_key else ""
        self._head = (
            f"POST /api/voice-command/trigger HTTP/1.1\r\nHost: {HOST}:{port}\r\n"
            f"Content-Type: application/json\r\n{key}Content-Length: "
        )
        self._unread = b""

    def ask(self, uid: str, what: str) -> None:
        self.busy = True
        body = f'{{"uid":"{uid}","command":"{what}","timestamp":"2026-01-01T00:00:00+00:00"}}'
        self.sock.sendall(f"{self._head}{len(body)}\r\n\r\n{body}".encode())

    def read(self) -> bool | None:
        """Whether the trigger was carried out, once the answer is there."""
        data = self.sock.recv(AT_ONCE)
        if not data:
            raise Lost("the server has hung up on a trigger")
        self._unread += data
        head, end, body = self._unread.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not end or length is None or len(body) < int(length[1]):
            return None
        self._unread = b""
        self.busy = False
        return head.startswith(b"HTTP/1.1 200") and b'"success":true' in body


def command(number: int) -> str:
    """What the wake of this number says."""
    return f"wake_up {number:0{DIGITS}d}"
