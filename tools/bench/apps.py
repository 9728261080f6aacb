"""An app's socket, as each system wants to be spoken to; just enough of each protocol, on raw sockets."""

import errno
import socket
import struct
from typing import ClassVar, Protocol

from tests.support.world import HOST
from tools.bench.frames import BINARY, CLOSE, PING, PONG, TEXT, client_frame, cut, only
from tools.bench.packets import topic, user
from tools.fuzz.rawmqtt import CONNACK, PINGREQ, PINGRESP, PUBACK, PUBLISH, connect, subscribe

AT_ONCE = 65536
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
SUBACK = 9
LOOPBACK_APPS = 20_000
"""Apps with one source address: a system lends fewer than 30,000 ports for each."""
IP_BIND_ADDRESS_NO_PORT = 24
"""linux/in.h: the port is chosen at connect(2), when it is known to whom; Python does not name it before 3.12."""


class Lost(Exception):  # noqa: N818 - an event
    """A socket ended that should have stood, or a server said what it never should."""


class Ears(Protocol):
    """To whom an app tells what it hears."""

    def offers(self, app: int) -> list[str]:
        """The subprotocols that an app offers."""

    def woken(self, app: "App", data: bytes) -> None:
        """A wake came; it is somewhere in the data."""

    def answered(self, app: "App", *, first: bool = False) -> None:
        """A heartbeat was answered; first: the app was greeted."""


class App:
    """One app that speaks JSON as the documented guide wants it."""

    __slots__ = ("_ears", "_recv", "_tail", "_unread", "index", "sock")

    OPCODE: ClassVar[int] = TEXT
    HEARTBEAT: ClassVar[bytes] = client_frame(b'{"type":"heartbeat"}')

    def __init__(self, ears: Ears, index: int) -> None:
        self.index = index
        self._ears = ears
        self._tail = b""
        self._unread = b""
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._recv = self.sock.recv

    def begin(self, port: int) -> None:
        """Connect; the socket is writable when the connection stands."""
        source = self.index // LOOPBACK_APPS
        if source:
            self.sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            self.sock.bind((f"127.0.0.{1 + source}", 0))
        result = self.sock.connect_ex((HOST, port))
        if result not in {0, errno.EINPROGRESS}:
            raise Lost(f"app {self.index}: {errno.errorcode[result]}")

    def greet(self, port: int) -> None:
        """The TCP connection stands: ask for the upgrade."""
        fault = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if fault:
            raise Lost(f"app {self.index}: {errno.errorcode[fault]}")
        offered = self._offers()
        protocols = f"Sec-WebSocket-Protocol: {', '.join(offered)}\r\n" if offered else ""
        self.sock.sendall(
            (
                f"GET {self._path()} HTTP/1.1\r\nHost: {HOST}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{protocols}\r\n"
            ).encode()
        )

    def read_answer(self) -> bool:
        """Read the answer to the upgrade; whether it is there."""
        self._unread += self._read()
        head, end, rest = self._unread.partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(b"HTTP/1.1 101"):
            raise Lost(f"app {self.index}: {head[:200]!r}")
        self._unread = b""
        self._upgraded()
        if rest:
            self._take(rest)
        return True

    def read(self) -> None:
        """Read frames."""
        data = self._recv(AT_ONCE)
        # One small whole frame is what nearly always comes.
        at = 0 if self._tail else only(data, self.OPCODE)
        if at:
            self._heard(data, at)
        else:
            self._take(data or self._lost())

    def _path(self) -> str:
        return f"/ws/app/{user(self.index)}/"

    def _offers(self) -> list[str]:
        return self._ears.offers(self.index)

    def _upgraded(self) -> None:
        """The server has agreed; it speaks first."""

    def _heard(self, data: bytes, at: int) -> None:
        """A message, from that place on; the other kinds are checked before they are taken for one."""
        if data.startswith(b'{"type":"voice_command"', at):
            self._ears.woken(self, data)
        elif data.startswith(b'{"type":"heartbeat_ack"', at):
            self._ears.answered(self)
        elif data.startswith(b'{"type":"connection_established"', at):
            self._ears.answered(self, first=True)
        else:
            raise Lost(f"app {self.index} heard {data[at:][:200]!r}")

    def _read(self) -> bytes:
        return self._recv(AT_ONCE) or self._lost()

    def _lost(self) -> bytes:
        raise Lost(f"app {self.index}: the server has hung up")

    def _take(self, data: bytes) -> None:
        found, self._tail = cut(self._tail + data)
        for opcode, payload in found:
            if opcode == self.OPCODE:
                self._heard(payload, 0)
            elif opcode == PING:
                self.sock.sendall(client_frame(payload, PONG))
            elif opcode == CLOSE:
                raise Lost(f"app {self.index}: closed with {payload!r}")


class NodeRedApp(App):
    """An app that says who it is in its first message: Node-RED's websocket node does not tell a flow the address."""

    __slots__ = ()

    def _path(self) -> str:
        return "/ws/app"

    def _upgraded(self) -> None:
        self.sock.sendall(client_frame(b'{"type":"hello","uid":"%s"}' % user(self.index).encode()))


class NatsApp(App):
    """A client of NATS over WebSocket, which hears what its device says itself; PING and PONG are its heartbeat."""

    __slots__ = ("_text", "_there")

    OPCODE = BINARY
    HEARTBEAT = client_frame(b"PING\r\n", BINARY)

    def __init__(self, ears: Ears, index: int) -> None:
        super().__init__(ears, index)
        self._text = b""
        self._there = False

    def _path(self) -> str:
        return "/"

    def _upgraded(self) -> None:
        subject = topic(self.index).replace("/", ".")
        said = f'CONNECT {{"verbose":false}}\r\nSUB {subject} 1\r\nPING\r\n'
        self.sock.sendall(client_frame(said.encode(), BINARY))

    def _heard(self, data: bytes, at: int) -> None:
        self._text += data[at:]
        while b"\r\n" in self._text:
            line, _, rest = self._text.partition(b"\r\n")
            if line.startswith(b"MSG "):
                size = int(line.rsplit(b" ", 1)[1])
                if len(rest) < size + 2:
                    return
                self._ears.woken(self, rest[:size])
                rest = rest[size + 2 :]
            elif line == b"PONG":
                self._ears.answered(self, first=not self._there)
                self._there = True
            elif line == b"PING":
                self.sock.sendall(client_frame(b"PONG\r\n", BINARY))
            elif not line.startswith(b"INFO "):
                raise Lost(f"app {self.index} heard {line!r}")
            self._text = rest


class MqttApp(App):
    """A client of MQTT over WebSocket that subscribes to what its device says; PINGREQ is its heartbeat."""

    __slots__ = ("_packets",)

    OPCODE = BINARY
    HEARTBEAT = client_frame(PINGREQ, BINARY)

    def __init__(self, ears: Ears, index: int) -> None:
        super().__init__(ears, index)
        self._packets = b""

    def _path(self) -> str:
        return "/mqtt"

    def _offers(self) -> list[str]:
        return ["mqtt"]

    def _upgraded(self) -> None:
        self.sock.sendall(client_frame(connect(user(self.index).encode(), keepalive=0), BINARY))

    def _heard(self, data: bytes, at: int) -> None:
        self._packets += data[at:]
        while (end := packet_end(self._packets)) and end <= len(self._packets):
            packet, self._packets = self._packets[:end], self._packets[end:]
            self._heard_packet(packet)

    def _heard_packet(self, packet: bytes) -> None:
        kind, flags = packet[0] >> 4, packet[0] & 15
        if kind == PUBLISH:
            if flags & 6:
                self.sock.sendall(client_frame(bytes([PUBACK << 4, 2]) + publish_id(packet), BINARY))
            self._ears.woken(self, packet)
        elif kind == PINGRESP:
            self._ears.answered(self)
        elif packet[:4] == bytes([CONNACK << 4, 2, 0, 0]):
            self.sock.sendall(client_frame(subscribe(topic(self.index).encode(), qos=1), BINARY))
        elif kind == SUBACK and packet[-1] == 1:
            self._ears.answered(self, first=True)
        else:
            raise Lost(f"app {self.index} heard {packet[:200]!r}")


def packet_end(data: bytes) -> int:
    """Where the first MQTT packet ends, 0 if its length is not there yet."""
    size = 0
    for place, byte in enumerate(data[1:5]):
        size |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return 2 + place + size
    return 0


def publish_id(packet: bytes) -> bytes:
    """The packet id of a PUBLISH with QoS 1, as it stands there."""
    at = 1
    while packet[at] & 0x80:
        at += 1
    (length,) = struct.unpack_from("!H", packet, at + 1)
    at += 3 + length
    return packet[at : at + 2]
