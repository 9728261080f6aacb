"""The load: many apps and their devices in one thread, as cheap as can be, so that it is not what is measured.

Apps are raw sockets that speak just enough of their system's protocol; devices share one raw MQTT connection. All of
them live in one epoll loop. A wake carries its number in its command and its id, which every system passes on. What a
window sends is made before the window begins.
"""

import select
import socket
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Self
from uuid import uuid4

from tests.support.world import HOST, PREFIX
from tools.bench.accounts import Account, Statuses
from tools.bench.apps import AT_ONCE, SUBACK, App, Lost
from tools.bench.callers import Caller
from tools.bench.frames import client_frame
from tools.bench.packets import DIGITS, command, user, wake, wake_id
from tools.fuzz.rawmqtt import CONNACK, connect, subscribe

STALLED_S = 10.0
CONNECT_WITHIN_S = 120.0
CONNECTS_PER_S = 100.0
"""Slower than this, many apps are given up."""
BEGUN_AT_MOST = 2_000
"""Connections that wait for their greeting. More than a server's backlog (2,048 here) would have their SYN dropped and
begin again a second later: that would measure the kernel's clock."""
BEGUN_TOGETHER = 100
ASIDE_EVERY_S = 0.002
WORD = b'"command":"wake_up '
ID = b'"id":"'
SOME_ID = wake_id("0123456789ab", 0).encode()
ACK_TEXT = b'{"type":"ack","id":"%s"}'
ACK, ACK_END = client_frame(ACK_TEXT % SOME_ID).split(SOME_ID)
"""What stands around an id of that length in the frame that confirms it."""

Window = Callable[[], Account]


class Load:
    """Apps at one server, devices at one broker.

    Args:
        port: of the server.
        mqtt_port: of the broker.
        apps: how many there will be.
        kind: what they speak.
        v2: they speak sarvis.v2 and confirm each wake.
        tokens: by app, where credentials are required.
        api_key: for the HTTP trigger, where credentials are required.
    """

    def __init__(
        self,
        port: int,
        mqtt_port: int,
        *,
        apps: int,
        kind: type[App] = App,
        v2: bool = False,
        tokens: Mapping[int, str] | None = None,
        api_key: str | None = None,
    ) -> None:
        self.apps = apps
        self._port = port
        self._v2 = v2
        self._kind = kind
        self._tokens = tokens or {}
        self._api_key = api_key
        self._name = uuid4().hex[:12]  # an id that came before would ring no app
        self._next = 0
        self._there: dict[int, App] = {}
        self._established = 0
        self._wakes = Account(apps, 0)
        self._beats = Account(apps, 0)
        self._unanswered: defaultdict[int, deque[int]] = defaultdict(deque)
        self._statuses = Statuses()
        self._poller = select.epoll()
        self._aside = select.poll()
        self._aside_at = 0.0
        self._readers: dict[int, Callable[[], object]] = {}
        self._devices = self._mqtt(mqtt_port, b"bench-devices")
        self._listener = self._mqtt(mqtt_port, b"bench-listener")
        self._listener.sendall(subscribe(f"{PREFIX}/devices/+/outcome".encode()))
        self._expect(self._listener, SUBACK)
        self._aside.register(self._devices, select.POLLIN)
        self._aside.register(self._listener, select.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        self._devices.close()
        self._listener.close()
        self._poller.close()

    # The apps' side.

    def come(self, count: int) -> float:
        """That many apps connect as fast as can be; seconds until the last one was greeted. Raises Lost."""
        began = time.monotonic()
        within_s = max(CONNECT_WITHIN_S, count / CONNECTS_PER_S)
        begun = self._established = 0
        while self._established < count:
            together = min(count - begun, BEGUN_AT_MOST - (begun - self._established), BEGUN_TOGETHER)
            for index in range(begun, begun + together):
                self._begin(index)
            begun += together
            self._poll(0.0 if together else 1.0)
            if time.monotonic() > began + within_s:
                raise Lost(f"{self._established} of {count} apps were greeted in {within_s:.0f} s")
        return time.monotonic() - began

    def leave(self) -> None:
        """All apps hang up."""
        for app in self._there.values():
            self._forget(app.sock)
            app.sock.close()
        self._there.clear()

    def offers(self, app: int) -> list[str]:
        """The subprotocols that an app offers."""
        return [*(["sarvis.v2"] if self._v2 else []), *([self._tokens[app]] if app in self._tokens else [])]

    def woken(self, app: App, data: bytes) -> None:
        """A wake came at an app; it is somewhere in the data."""
        now = time.monotonic()
        at = data.find(WORD)
        if at < 0:
            raise Lost(f"app {app.index} was woken without a number: {data[:200]!r}")
        number = int(data[at + len(WORD) : at + len(WORD) + DIGITS])
        if self._v2 and (at := data.find(ID) + len(ID)) >= len(ID):
            end = data.find(b'"', at)
            # A wake of this load has its id; the bridge names those that came by HTTP.
            ours = end - at == len(SOME_ID)
            app.sock.send(ACK + data[at:end] + ACK_END if ours else client_frame(ACK_TEXT % data[at:end]))
        self._wakes.came(number, app.index, now)

    def answered(self, app: App, *, first: bool = False) -> None:
        """An app was greeted, or a heartbeat of its was answered."""
        if first:
            self._established += 1
            return
        waiting = self._unanswered[app.index]
        self._beats.came(waiting.popleft() if waiting else -1, app.index, time.monotonic())

    # What is measured. Each makes what it will send and returns what sends it and waits for all that comes of it; call
    # that before the next is made.

    def wakes(self, qos: int, count: int, outstanding: int) -> Window:
        """Wakes, never more than that many on their way and hardly fewer: some always go out together."""
        packets = self._packets(qos, count)
        together = max(outstanding // 8, 1)

        def more(account: Account) -> None:
            left = count - account.sent
            room = min(left, outstanding - account.outstanding)
            if room >= min(together, left) and room:
                at = account.sent
                account.send(time.monotonic(), room)
                self._devices.sendall(b"".join(packets[at : at + room]))

        def run() -> Account:
            self._wakes = self._account()
            return self._closed_loop(self._wakes, count, more)

        return run

    def paced(self, qos: int, count: int, per_s: float) -> Window:
        """Wakes at a fixed rate, whatever comes of them."""
        packets = self._packets(qos, count)

        def run() -> Account:
            account = self._wakes = self._account()
            began = time.monotonic()
            while account.sent < count:
                now = time.monotonic()
                wait = began + account.sent / per_s - now
                if wait > 0:
                    self._poll(wait)
                else:
                    packet = packets[account.sent]
                    account.send(now)
                    self._devices.sendall(packet)
                    self._poll(0)
            return self._close(account, count)

        return run

    def heartbeats(self, count: int, outstanding: int) -> Window:
        """Heartbeats, never more than that many unanswered."""

        def more(account: Account) -> None:
            now = time.monotonic()
            for _ in range(min(count - account.sent, outstanding - account.outstanding)):
                self._beat(now)

        def run() -> Account:
            self._beats = self._account()
            self._unanswered.clear()
            return self._closed_loop(self._beats, count, more)

        return run

    def living(
        self, seconds: float, *, beat_every_s: float, wakes_per_s: float
    ) -> Callable[[], tuple[Account, Account]]:
        """A quiet time: each app beats so often, in turn, and wakes (QoS 1) go on; the accounts of wakes and beats."""
        packets = self._packets(1, int(seconds * wakes_per_s))
        beats = int(seconds * self.apps / beat_every_s)

        def run() -> tuple[Account, Account]:
            self._wakes, self._beats = self._account(), self._account()
            self._unanswered.clear()
            began = time.monotonic()
            while (now := time.monotonic()) < began + seconds:
                passed = (now - began) / seconds
                while self._wakes.sent < passed * len(packets):
                    packet = packets[self._wakes.sent]
                    self._wakes.send(now)
                    self._devices.sendall(packet)
                while self._beats.sent < passed * beats:
                    self._beat(now)
                self._poll(min(seconds / max(beats, len(packets), 1), began + seconds - now))
            return self._close(self._wakes, self._wakes.sent), self._close(self._beats, self._beats.sent)

        return run

    def one_beat(self, app: int) -> float:
        """One heartbeat of one app and nothing else; seconds until it was answered. Raises Lost."""
        account = self._beats = Account(self.apps, app)
        self._unanswered.clear()
        began = time.monotonic()
        self._beat(began)
        while account.outstanding and time.monotonic() < began + CONNECT_WITHIN_S:
            self._poll(1.0)
        if account.faults({}, ()):
            raise Lost(f"app {app}: a heartbeat was not answered once within {CONNECT_WITHIN_S:.0f} s")
        return account.latencies[0]

    def triggers(self, count: int, connections: int) -> Window:
        """The HTTP trigger on connections that stay, one request at a time on each."""

        def run() -> Account:
            self._wakes = self._account()
            callers = [Caller(self._port, self._api_key, STALLED_S) for _ in range(connections)]
            answered = 0

            def more(account: Account) -> None:
                for caller in callers:
                    if not caller.busy and account.sent < count:
                        number = account.send(time.monotonic())
                        caller.ask(user(number % self.apps), command(number))

            def reader(caller: Caller) -> Callable[[], None]:
                def read() -> None:
                    nonlocal answered
                    answer = caller.read()
                    if answer is not None:
                        answered += 1
                        self._wakes.refused += not answer

                return read

            for caller in callers:
                self._register(caller.sock, reader(caller))
            try:
                account = self._closed_loop(self._wakes, count, more, also=lambda: answered < count)
            finally:
                for caller in callers:
                    self._forget(caller.sock)
                    caller.sock.close()
            account.refused += max(count - answered, 0)
            return account

        return run

    def outcomes(self, each: int) -> dict[str, int]:
        """What devices were told since this was asked last; waits until that many have come, and a moment longer."""
        deadline = time.monotonic() + STALLED_S
        while sum(self._statuses.counts.values()) < each and time.monotonic() < deadline:
            self.rest(0.02)
        self.rest(0.05)
        counts = self._statuses.counts
        self._statuses = Statuses()
        return counts

    def rest(self, seconds: float) -> None:
        """Only answer what comes, so that nothing is left over."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._poll(min(left, 0.05))
            self._look_aside()

    # Inside.

    def _closed_loop(
        self, account: Account, count: int, more: Callable[[Account], None], also: Callable[[], bool] = lambda: False
    ) -> Account:
        progress, stalled_at = -1, 0.0
        while account.received < count or also():
            more(account)
            now = time.monotonic()
            if account.received != progress:
                progress, stalled_at = account.received, now + STALLED_S
            elif now > stalled_at:
                break
            self._poll(1.0)
        return self._close(account, count)

    def _account(self) -> Account:
        # A multiple of the apps, so that the same apps are asked first in each window.
        self._next += -self._next % self.apps
        return Account(self.apps, self._next)

    def _close(self, account: Account, count: int) -> Account:
        deadline = time.monotonic() + STALLED_S
        while account.outstanding and time.monotonic() < deadline:
            self._poll(0.1)
        self._next += count
        return account

    def _packets(self, qos: int, count: int) -> list[bytes]:
        first = self._account().first
        return [wake(self._name, number, number % self.apps, qos) for number in range(first, first + count)]

    def _beat(self, now: float) -> None:
        number = self._beats.send(now)
        app = number % self.apps
        self._unanswered[app].append(number)
        self._there[app].sock.send(self._kind.HEARTBEAT)

    def _begin(self, index: int) -> None:
        app = self._there[index] = self._kind(self, index)
        app.begin(self._port)
        self._readers[app.sock.fileno()] = self._arriving(app)
        self._poller.register(app.sock, select.EPOLLOUT)

    def _arriving(self, app: App) -> Callable[[], None]:
        def answered() -> None:
            if app.read_answer():
                self._readers[app.sock.fileno()] = app.read

        def connected() -> None:
            app.greet(self._port)
            self._readers[app.sock.fileno()] = answered
            self._poller.modify(app.sock, select.EPOLLIN)

        return connected

    def _poll(self, timeout: float) -> None:
        readers = self._readers
        for descriptor, _ in self._poller.poll(timeout):
            readers[descriptor]()
        if time.monotonic() >= self._aside_at:
            self._look_aside()

    def _look_aside(self) -> None:
        """What the broker says to devices, PUBACKs and outcomes, can wait a moment: one read takes many."""
        self._aside_at = time.monotonic() + ASIDE_EVERY_S
        for descriptor, _ in self._aside.poll(0):
            if descriptor == self._listener.fileno():
                self._statuses.feed(self._drop(self._listener))
            else:
                self._drop(self._devices)

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
        data = sock.recv(2**20)
        if not data:
            raise Lost("the broker has hung up")
        return data
