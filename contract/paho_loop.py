"""One connection of paho-mqtt on the asyncio loop: how its socket is driven, and what became of it."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as paho

from contract import tls
from contract.sections.broker import MqttSettings

READS_AT_ONCE = 64
BAD_CREDENTIALS = frozenset({134, 135})
"""What paho makes of the return codes 4 and 5 of a CONNACK."""


class ConnectionLost(Exception):  # noqa: N818 - an event, not a fault of ours
    """The connection ended or never came to be; the text says why."""


class Fate:
    """What became of one connection: `ready` once every SUBACK was checked, `lost` with the reason of its end."""

    def __init__(self, settings: MqttSettings, wishes: list[tuple[str, int]]) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.fault: ssl.SSLError | None = None
        self._settings = settings
        self._wishes = wishes
        self._answered = False

    def watch(self, client: paho.Client) -> None:
        """Hear what paho tells, and subscribe when the broker has accepted."""
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect

    def _lose(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_exception(ConnectionLost(reason))

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._answered = True
        if reason.is_failure:
            self._lose(_refused(reason, self._settings))
        elif not self._wishes:
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
            self._lose(explain(self.fault, self._settings))
        else:
            hint = "" if self._answered else _hint_before_an_answer(self._settings)
            self._lose(f"the connection ended: {reason}{hint}")


def explain(error: OSError, settings: MqttSettings) -> str:
    """One line about a connection that failed, which names the setting to look at."""
    if settings.tls:
        told = tls.explain(error, settings.host, who="mqtt", peer="the broker", shows_certificate=True)
        if told is not None:
            return told
    if isinstance(error, TimeoutError):
        return "the broker did not answer; check host and port in mqtt.url"
    return str(error)


def _refused(reason: Any, settings: MqttSettings) -> str:
    text = f"the broker refused the connection: {reason}"
    if reason.value not in BAD_CREDENTIALS:
        return text
    if settings.username is not None:
        secret = "mqtt.password" if settings.password is not None else "mqtt.password_file"
        return f"{text}; check mqtt.username and {secret}"
    if settings.cert_file is not None:
        return f"{text}; check that the broker knows the name in mqtt.cert_file, or set mqtt.username"
    return f"{text}; set mqtt.username and mqtt.password_file"


def _hint_before_an_answer(settings: MqttSettings) -> str:
    if not settings.tls:
        return "; if the broker speaks TLS there, write mqtts:// in mqtt.url"
    if settings.cert_file is None:
        return "; if the broker wants a client certificate, set mqtt.cert_file and mqtt.key_file"
    return "; check that the broker accepts the certificate in mqtt.cert_file"


def attach(client: paho.Client, loop: asyncio.AbstractEventLoop, fate: Fate) -> None:
    """Let the loop drive paho's socket; `fate` is told the TLS error that ends it."""
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
            read()  # it was TLS that had to write before it could go on reading

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
    """Reads also what TLS has decrypted already: for that the socket does not become readable again."""

    def read() -> None:
        for _ in range(READS_AT_ONCE):
            client.loop_read()
            if client.socket() is not sock or not sock.pending():
                return
        loop.call_soon(read_on)  # others have their turn, too

    def read_on() -> None:
        if client.socket() is sock:
            read()

    return read


async def keep_alive(client: paho.Client, lost: asyncio.Future[None]) -> None:
    """Let paho ping and notice silence, until the connection is lost; raises why."""
    while True:
        done, _ = await asyncio.wait([lost], timeout=1.0)
        if done:
            lost.result()
        client.loop_misc()


def close(client: paho.Client) -> None:
    """Close the socket whatever state paho is in."""
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
