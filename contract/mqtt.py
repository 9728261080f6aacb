"""One lasting MQTT session: connects, subscribes, checks, reconnects; messages are objects on both sides.

paho-mqtt runs on the asyncio loop. Every connection gets a fresh paho client with a clean session and the same client
id: nothing that an old connection left behind is ever sent late, and no guarantee rests on a broker's queue.
"""

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from contract.clock import Clock
from contract.errors import MessageError
from contract.messages import Message
from contract.settings import MqttSettings
from contract.telemetry import (
    INVALID_MESSAGES,
    MQTT_CONNECTED,
    MQTT_RECONNECTS,
    MQTT_UNSENT,
    get_logger,
)
from contract.topics import Topic, parse

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 10.0
BACKOFF_FIRST_S = 0.25
STABLE_AFTER_S = 30.0
MAX_INFLIGHT = 1000
MAX_QUEUED = 10_000
QUIET_S = 60.0

log = get_logger("mqtt")


class _ConnectionLost(Exception):  # noqa: N818 - an event, not a fault of ours
    """The connection ended or never came to be; the text says why."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A wish to hear one kind of message, of one owner or (without) of all."""

    topic: Topic
    owner: str | None = None

    def filter(self, prefix: str) -> str:
        """The MQTT topic filter."""
        return self.topic.filter(prefix) if self.owner is None else self.topic.name(prefix, self.owner)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message for a topic; as last will it is what the world hears when this process is gone."""

    topic: Topic
    owner: str
    message: Message


@dataclass(frozen=True, slots=True)
class Incoming:
    """A valid message that came. Call `ack` when it is dealt with; until then the broker may send it again."""

    topic: Topic
    owner: str
    message: Message
    retained: bool
    _ack: Callable[[], None]

    def ack(self) -> None:
        """Send PUBACK (QoS 1) on the connection it came by; without effect when that is gone."""
        self._ack()


@dataclass
class MqttSession:
    """Keeps one client connected to the broker.

    Callbacks run on the event loop and must not block. `on_connected` runs after every SUBACK was checked;
    `last_will` is asked anew for each connection and is also published when `run` is cancelled.
    """

    settings: MqttSettings
    client_id: str
    clock: Clock
    subscriptions: Sequence[Subscription]
    on_message: Callable[[Incoming], None]
    last_will: Callable[[], Outgoing]
    on_connected: Callable[[], None] = lambda: None
    on_disconnected: Callable[[], None] = lambda: None

    connected: bool = field(default=False, init=False)
    problem: str | None = field(default="not connected yet", init=False)
    _client: paho.Client | None = field(default=None, init=False)
    _was_up: bool = field(default=False, init=False)
    _quiet_until: dict[str, float] = field(default_factory=dict, init=False)

    def send(self, topic: Topic, owner: str, message: Message) -> bool:
        """Publish by the table's QoS and retain flag; False when there is no connection or its queue is full."""
        if not self.connected or self._client is None:
            MQTT_UNSENT.inc()
            return False
        info = self._client.publish(
            topic.name(self.settings.prefix, owner), message.encode(), qos=topic.qos, retain=topic.retained
        )
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            MQTT_UNSENT.inc()
            return False
        return True

    async def run(self) -> None:
        """Stay connected until cancelled; never raises for what the broker or the network does."""
        attempt = 0
        while True:
            started = self.clock.monotonic()
            try:
                await self._live_once()
            except (_ConnectionLost, OSError, TimeoutError, UnicodeError) as error:
                # UnicodeError: a host name that cannot be one.
                self._say(str(error) or "the broker did not answer")
            finally:
                was_up, self._was_up = self._was_up, False
                if was_up:
                    self.on_disconnected()
            stood = self.clock.monotonic() - started
            attempt = 0 if stood > STABLE_AFTER_S else attempt + 1
            MQTT_RECONNECTS.inc()
            ceiling = min(self.settings.reconnect_max_s, BACKOFF_FIRST_S * 2 ** min(attempt, 16))
            await asyncio.sleep(random.uniform(ceiling / 10, ceiling))  # noqa: S311 - jitter is no secret

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("mqtt_disconnected", reason=problem, host=self.settings.host, port=self.settings.port)
        self.problem = problem

    async def _live_once(self) -> None:
        """One connection from CONNECT to its end; raises _ConnectionLost, OSError or TimeoutError."""
        loop = asyncio.get_running_loop()
        lost: asyncio.Future[None] = loop.create_future()
        ready: asyncio.Future[None] = loop.create_future()
        client = self._make_client(ready, lost)
        try:
            # Name resolution and the handshake block in paho: off the loop. paho writes CONNECT there, too.
            await loop.run_in_executor(
                None, client.connect, self.settings.host, self.settings.port, self.settings.keepalive_s
            )
            _attach(client, loop)
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await asyncio.wait([ready, lost], return_when=asyncio.FIRST_COMPLETED)
            if lost.done():
                lost.result()
            self._client, self.connected, self._was_up, self.problem = client, True, True, None
            MQTT_CONNECTED.set(1)
            log.info("mqtt_connected", host=self.settings.host, port=self.settings.port, client_id=self.client_id)
            self.on_connected()
            await _keep_alive(client, lost)
        except asyncio.CancelledError:
            if self.connected:
                _farewell(client, self.last_will(), self.settings.prefix)
            raise
        finally:
            self.connected, self._client = False, None
            MQTT_CONNECTED.set(0)
            _close(client)
            for future in (ready, lost):
                future.cancel()

    def _make_client(self, ready: asyncio.Future[None], lost: asyncio.Future[None]) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            clean_session=True,
            protocol=paho.MQTTv311,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(MAX_INFLIGHT)
        client.max_queued_messages_set(MAX_QUEUED)
        if self.settings.username is not None:
            password = self.settings.password.get_secret_value() if self.settings.password else None
            client.username_pw_set(self.settings.username, password)
        will = self.last_will()
        client.will_set(
            will.topic.name(self.settings.prefix, will.owner),
            will.message.encode(),
            will.topic.qos,
            will.topic.retained,
        )
        wishes: list[tuple[str, int]] = [
            (wish.filter(self.settings.prefix), wish.topic.qos) for wish in self.subscriptions
        ]

        def lose(reason: str) -> None:
            if not lost.done():
                lost.set_exception(_ConnectionLost(reason))

        def on_connect(client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            if reason.is_failure:
                lose(f"the broker refused the connection: {reason}")
            else:
                client.subscribe(wishes)

        def on_subscribe(_client: paho.Client, _data: Any, _mid: int, reasons: Sequence[Any], _properties: Any) -> None:
            refused = [name for (name, _), reason in zip(wishes, reasons, strict=False) if reason.is_failure]
            if refused or len(reasons) != len(wishes):
                lose(f"the broker refused the subscription to {', '.join(refused) or 'some filters'}")
            elif not ready.done():
                ready.set_result(None)

        def on_disconnect(_client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            lose(f"the connection ended: {reason}")

        client.on_connect = on_connect
        client.on_subscribe = on_subscribe
        client.on_disconnect = on_disconnect
        client.on_message = self._received
        return client

    def _received(self, client: paho.Client, _data: Any, raw: paho.MQTTMessage) -> None:
        def ack() -> None:
            client.ack(raw.mid, raw.qos)

        kind = "unknown"
        try:
            topic, owner = parse(self.settings.prefix, raw.topic)
            kind = topic.kind
            if topic.retained and not raw.payload:
                ack()  # an operator cleared a retained message
                return
            message = topic.model.decode(bytes(raw.payload))
        except (MessageError, UnicodeDecodeError) as error:
            INVALID_MESSAGES.labels(kind).inc()
            if self.clock.monotonic() >= self._quiet_until.get(kind, 0.0):
                self._quiet_until[kind] = self.clock.monotonic() + QUIET_S
                log.warning("invalid_message", kind=kind, reason=str(error))
            ack()
            return
        try:
            self.on_message(Incoming(topic, owner, message, raw.retain, ack))
        except Exception:
            # One message that we cannot handle must not stop the others; it stays unacknowledged.
            log.exception("message_handler_failed", kind=kind)


def _attach(client: paho.Client, loop: asyncio.AbstractEventLoop) -> None:
    """Let the loop drive paho's socket."""
    sock = client.socket()
    if not isinstance(sock, socket.socket):
        raise _ConnectionLost("the connection ended at once")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def on_close(_client: paho.Client, _data: Any, closing: Any) -> None:
        loop.remove_reader(closing)
        loop.remove_writer(closing)

    def on_want_write(_client: paho.Client, _data: Any, wanting: Any) -> None:
        loop.add_writer(wanting, client.loop_write)

    def on_wrote(_client: paho.Client, _data: Any, written: Any) -> None:
        loop.remove_writer(written)

    client.on_socket_close = on_close
    client.on_socket_register_write = on_want_write
    client.on_socket_unregister_write = on_wrote
    loop.add_reader(sock, client.loop_read)
    if client.want_write():
        loop.add_writer(sock, client.loop_write)


async def _keep_alive(client: paho.Client, lost: asyncio.Future[None]) -> None:
    """Let paho ping and notice silence, until the connection is lost; raises why."""
    while True:
        done, _ = await asyncio.wait([lost], timeout=1.0)
        if done:
            lost.result()
        client.loop_misc()


def _farewell(client: paho.Client, will: Outgoing, prefix: str) -> None:
    """Say what the last will would say: a clean DISCONNECT makes the broker forget the will."""
    client.publish(will.topic.name(prefix, will.owner), will.message.encode(), will.topic.qos, will.topic.retained)
    client.disconnect()
    with contextlib.suppress(OSError):
        client.loop_write()


def _close(client: paho.Client) -> None:
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
