"""Many devices and one who listens to all of them, at a broker; all in one thread, on raw sockets."""

import select
import socket
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from tests.support.world import HOST, PREFIX
from tools.bench.accounts import Account
from tools.bench.apps import Lost
from tools.bench.packets import DIGITS, command, device, topic, wake
from tools.fuzz.rawmqtt import CONNACK, PINGREQ, PINGRESP, PUBACK, PUBLISH, connect, publish, subscribe

STALLED_S = 20.0
ABREAST = 50
"""How many devices connect at once: fewer than a broker takes from one address that has not let them in yet."""
KEEPALIVE_S = 15
COMMAND = command(0)[:-DIGITS].encode()
SUBACK = 9


class Link:
    """One connection: bytes in, whole packets out."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection((HOST, port), timeout=STALLED_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def packets(self) -> Iterator[bytes]:
        """What one read brings."""
        data = self.sock.recv(2**18)
        if not data:
            raise Lost("the broker has hung up")
        data = self._rest + data
        start = 0
        while (end := _end(data, start)) is not None:
            yield data[start:end]
            start = end
        self._rest = data[start:]

    def expect(self, *kinds: int) -> None:
        """Read until a packet of each of these kinds has come, in this order."""
        wanted = list(kinds)
        while wanted:
            for packet in self.packets():
                if wanted and packet[0] >> 4 == wanted[0]:
                    wanted.pop(0)


class Devices:
    """Devices at a broker, as `sarvis edge` would be there: a will, three filters, a retained status.

    Raises Lost when the broker closes or stalls.
    """

    def __init__(self, port: int, name: str) -> None:
        self._port = port
        self._name = name
        self._links: list[Link] = []
        self._poller = select.epoll()
        self._by_file: dict[int, tuple[int, Link]] = {}
        self._bridge = Link(port)
        self._bridge.sock.sendall(
            connect(b"bridge", keepalive=0) + subscribe(f"{PREFIX}/devices/+/wake".encode(), qos=1)
        )
        self._bridge.expect(CONNACK, SUBACK)
        self._poller.register(self._bridge.sock, select.EPOLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._poller.close()
        for link in (self._bridge, *self._links):
            link.sock.close()

    def come(self, count: int) -> None:
        """They connect, subscribe and say that they are online."""
        for first in range(0, count, ABREAST):
            coming = [Link(self._port) for _ in range(min(ABREAST, count - first))]
            for number, link in enumerate(coming, start=first):
                link.sock.sendall(_hello(number))
            for number, link in enumerate(coming, start=first):
                link.expect(CONNACK, SUBACK, SUBACK, SUBACK, PUBACK)
                self._links.append(link)
                self._by_file[link.sock.fileno()] = number, link
                self._poller.register(link.sock, select.EPOLLIN)

    def wakes(self, qos: int, count: int, outstanding: int) -> Account:
        """This many wakes of the devices in turn, each to the client that listens."""
        account = Account(1, 0)
        acked = 0

        def send(number: int) -> None:
            device = number % len(self._links)
            self._links[device].sock.sendall(wake(self._name, number, device, qos))

        def heard(packet: bytes, now: float) -> None:
            at = packet.index(COMMAND) + len(COMMAND)
            account.came(int(packet[at : at + DIGITS]), 0, now)
            if qos:
                size = 2 + int.from_bytes(packet[2:4]) if packet[1] < 0x80 else 3 + int.from_bytes(packet[3:5])
                self._bridge.sock.sendall(b"\x40\x02" + packet[size + 2 : size + 4])

        def answered(_: int, packet: bytes, __: float) -> None:
            nonlocal acked
            acked += packet[0] >> 4 == PUBACK

        self._exchange(account, count, outstanding, send, heard, answered)
        while qos and acked < count:
            self._poll(heard, answered)
        return account

    def commands(self, count: int, outstanding: int) -> Account:
        """This many commands with QoS 1 to the devices in turn."""
        account = Account(len(self._links), 0)

        def send(number: int) -> None:
            to = f"{PREFIX}/devices/{device(number % len(self._links))}/login".encode()
            data = command(number).encode()
            self._bridge.sock.sendall(publish(to, data, qos=1, packet_id=number % 60_000 + 1))

        def heard(number: int, packet: bytes, now: float) -> None:
            account.came(int(packet[-DIGITS:]), number, now)
            size = 4 + int.from_bytes(packet[2:4])
            self._links[number].sock.sendall(b"\x40\x02" + packet[size : size + 2])

        self._exchange(account, count, outstanding, send, _nothing, heard)
        return account

    def live(self, seconds: float, wakes_per_s: float) -> Account:
        """Every device pings as often as its keep-alive asks for, and there is a wake now and then."""
        account = Account(1, 0)
        began = time.monotonic()
        pinged = answered = 0

        def heard(packet: bytes, now: float) -> None:
            at = packet.index(COMMAND) + len(COMMAND)
            account.came(int(packet[at : at + DIGITS]), 0, now)

        def pong(_: int, packet: bytes, __: float) -> None:
            nonlocal answered
            answered += packet[0] >> 4 == PINGRESP

        passed = 0.0
        while passed < seconds:
            passed = min(seconds, time.monotonic() - began)
            while pinged < passed * len(self._links) / KEEPALIVE_S:
                self._links[pinged % len(self._links)].sock.sendall(PINGREQ)
                pinged += 1
            while account.sent < passed * wakes_per_s:
                number = account.send(time.monotonic())
                self._links[number % len(self._links)].sock.sendall(
                    wake(self._name, number, number % len(self._links), 0)
                )
            self._poll(heard, pong, 0.002)
        while account.outstanding or answered < pinged:
            self._poll(heard, pong)
        return account

    def _exchange(
        self,
        account: Account,
        count: int,
        outstanding: int,
        send: Callable[[int], None],
        heard: Callable[[bytes, float], None],
        at_device: Callable[[int, bytes, float], None],
    ) -> None:
        while account.received < count:
            while account.sent < count and account.outstanding < outstanding:
                send(account.send(time.monotonic()))
            self._poll(heard, at_device)

    def _poll(
        self,
        heard: Callable[[bytes, float], None],
        at_device: Callable[[int, bytes, float], None],
        timeout_s: float | None = None,
    ) -> None:
        ready = self._poller.poll(STALLED_S if timeout_s is None else timeout_s)
        if not ready and timeout_s is None:
            raise Lost(f"nothing came for {STALLED_S:.0f} s")
        now = time.monotonic()
        for file, _ in ready:
            number, link = self._by_file.get(file, (-1, self._bridge))
            for packet in link.packets():
                if number >= 0:
                    at_device(number, packet, now)
                elif packet[0] >> 4 == PUBLISH:
                    heard(packet, now)


def _nothing(packet: bytes, now: float) -> None:
    del packet, now


def _hello(number: int) -> bytes:
    base = topic(number).removesuffix("wake")
    status = f"{base}status".encode()
    return b"".join(
        (
            connect(device(number).encode(), keepalive=KEEPALIVE_S, will=(status, b'{"state":"offline"}', 1)),
            *(subscribe(f"{base}{kind}".encode(), qos=1) for kind in ("login", "logout", "outcome")),
            publish(status, b'{"v":1,"state":"online","boot":1,"seq":1,"session":"active"}', qos=1, retain=True),
        )
    )


def _end(data: bytes, start: int) -> int | None:
    """Where the packet that starts here ends; None when not all of it is there."""
    size = 0
    for place in range(4):
        at = start + 1 + place
        if at >= len(data):
            return None
        size |= (data[at] & 0x7F) << 7 * place
        if data[at] < 0x80:
            end = at + 1 + size
            return end if end <= len(data) else None
    raise Lost("a packet without an end")
