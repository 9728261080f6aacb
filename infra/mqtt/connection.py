"""One paho-mqtt connection on the asyncio loop, and how it ended."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as paho

from infra import tls
from infra.mqtt import reasons as mqtt_reasons
from infra.mqtt.reasons import Client, Ending, Stage
from infra.redaction import describe

READS_AT_ONCE = 64


class ConnectionLost(Exception):  # noqa: N818 - an event, not an error
    """The connection ended or was never established; the text says why."""


class ConnectionState:
    """The state of one connection: `ready` once every SUBACK was checked, `lost` with the reason of its end.

    Args:
        qos: of each filter.
        now: the monotonic clock.
        short_lives, been_up: facts about earlier connections, see `Ending`.
    """

    def __init__(
        self, client: Client, qos: Sequence[int], now: Callable[[], float], *, short_lives: int, been_up: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.fault: ssl.SSLError | None = None
        self._client = client
        self._wishes = list(zip(client.filters, qos, strict=True))
        self._now = now
        self._short_lives = short_lives
        self._been_up = been_up
        self._answered_at: float | None = None

    def watch(self, client: paho.Client) -> None:
        """Install paho's callbacks, and subscribe once the broker has accepted the connection."""
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect

    @property
    def lived_s(self) -> float:
        """Seconds since the broker accepted the connection."""
        return 0.0 if self._answered_at is None else self._now() - self._answered_at

    def _lose(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_exception(ConnectionLost(reason))

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._lose(mqtt_reasons.refused(self._client, reason.value, str(reason)))
            return
        self._answered_at = self._now()
        if not self._wishes:
            self.ready.set_result(None)
        else:
            client.subscribe(self._wishes)

    def _on_subscribe(
        self, _client: paho.Client, _data: Any, _mid: int, reasons: Sequence[Any], _properties: Any
    ) -> None:
        answers = zip(self._wishes, reasons, strict=False)
        refused = [name for (name, _), reason in answers if reason.is_failure]
        if refused or len(reasons) != len(self._wishes):
            self._lose(f"the broker refused the subscription to {', '.join(refused) or 'some filters'}")
        elif not self.ready.done():
            self.ready.set_result(None)

    def _on_disconnect(self, _client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if self.fault is not None:
            self._lose(explain(self.fault, self._client))
            return
        stage: Stage = "standing" if self.ready.done() else "unanswered" if self._answered_at is None else "subscribing"
        ending = Ending(str(reason), stage, self.lived_s, self._short_lives, self._been_up)
        self._lose(mqtt_reasons.ended(self._client, ending))


def explain(error: OSError, client: Client) -> str:
    """One line about a connection that failed, which names the setting to look at."""
    settings = client.settings
    if settings.tls:
        told = tls.explain(error, settings.host, who="mqtt", peer="the broker", shows_certificate=True)
        if told is not None:
            return told + mqtt_reasons.about_port(settings)
    if isinstance(error, TimeoutError):
        return "the broker did not answer; check host and port in mqtt.url"
    return mqtt_reasons.not_reached(client, error) or describe(error)


def attach(client: paho.Client, loop: asyncio.AbstractEventLoop, fate: ConnectionState) -> None:
    """Let the loop drive paho's socket; `fate` receives the TLS error that ends it."""
    sock = client.socket()
    if not isinstance(sock, socket.socket):
        raise ConnectionLost("the connection ended at once")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    read: Callable[[], object] = client.loop_read
    if isinstance(sock, ssl.SSLSocket):
        read = _tls_reader(client, sock, loop)

    def write() -> None:
        wanted = client.want_write()
        client.loop_write()
        if not wanted:
            read()  # TLS had to write before it could continue to read

    def on_close(_client: paho.Client, _data: Any, closing: Any) -> None:
        fate.fault = tls.fault_of(closing)
        loop.remove_reader(closing)
        loop.remove_writer(closing)

    def on_want_write(_client: paho.Client, _data: Any, wanting: Any) -> None:
        loop.add_writer(wanting, write)

    def on_wrote(_client: paho.Client, _data: Any, written: Any) -> None:
        loop.remove_writer(written)

    client.on_socket_close = on_close
    client.on_socket_register_write = on_want_write
    client.on_socket_unregister_write = on_wrote
    loop.add_reader(sock, read)
    if client.want_write():
        loop.add_writer(sock, write)


def _tls_reader(client: paho.Client, sock: ssl.SSLSocket, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Also reads data that TLS has already decrypted: for that data the socket does not become readable again."""

    def read() -> None:
        for _ in range(READS_AT_ONCE):
            client.loop_read()
            if client.socket() is not sock or not sock.pending():
                return
        loop.call_soon(read_on)  # let other tasks run

    def read_on() -> None:
        if client.socket() is sock:
            read()

    return read


async def keep_alive(client: paho.Client, lost: asyncio.Future[None]) -> None:
    """Let paho send pings and detect silence until the connection is lost; raises the reason."""
    while True:
        done, _ = await asyncio.wait([lost], timeout=1.0)
        if done:
            lost.result()
        client.loop_misc()


def close(client: paho.Client) -> None:
    """Close the socket in any state of paho."""
    sock = client.socket()
    if sock is None:
        return
    client.disconnect()
    with contextlib.suppress(OSError):
        client.loop_write()
    still_open = client.socket()
    if still_open is not None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(still_open)
        loop.remove_writer(still_open)
        still_open.close()
