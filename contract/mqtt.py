"""One lasting MQTT session: connects, subscribes, checks, reconnects; messages are objects on both sides.

paho-mqtt runs on the asyncio loop. Every connection gets a fresh paho client with a clean session and the same client
id: nothing that an old connection left behind is ever sent late, and no guarantee rests on a broker's queue.
"""

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from contract import tls
from contract.clock import Clock
from contract.errors import MessageError, SettingsError
from contract.messages import Message
from contract.secrets import secret_of
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
READS_AT_ONCE = 64
BAD_CREDENTIALS = frozenset({134, 135})
"""What paho makes of the return codes 4 and 5 of a CONNACK."""

log = get_logger("mqtt")


class _ConnectionLost(Exception):  # noqa: N818 - an event, not a fault of ours
    """The connection ended or never came to be; the text says why."""


@dataclass(frozen=True, slots=True)
class _Access:
    """What lets us in, as it lies on disk at the moment."""

    password: str | None
    context: ssl.SSLContext | None

    @classmethod
    def read(cls, settings: MqttSettings) -> "_Access":
        """Raises SettingsError that names the setting and the file."""
        password = secret_of(settings.password, settings.password_file, "mqtt.password_file")
        if password is not None and settings.username is None:
            raise SettingsError("setting mqtt.username is missing: MQTT sends no password without a name")
        context = None
        if settings.tls:
            context = tls.client_context(settings.ca_file, settings.cert_file, settings.key_file, who="mqtt")
        return cls(password, context)


def check(settings: MqttSettings) -> None:
    """Read the files that a connection needs; call it before `MqttSession.run`, which only reports and tries again.

    Raises SettingsError that names the setting and the file.
    """
    _Access.read(settings)


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
    admit: Callable[[Topic, str], bool] = lambda _topic, _owner: True
    """Asked before a message is decoded; what is not admitted is acknowledged and dropped."""

    connected: bool = field(default=False, init=False)
    problem: str | None = field(default="not connected yet", init=False)
    _client: paho.Client | None = field(default=None, init=False)
    _was_up: bool = field(default=False, init=False)
    _quiet_until: dict[str, float] = field(default_factory=dict, init=False)

    def send(self, topic: Topic, owner: str, message: Message) -> bool:
        """Publish by the table's QoS and retain flag; False when there is no connection or its queue is full."""
        return self._publish(topic, owner, message.encode())

    def clear(self, topic: Topic, owner: str) -> bool:
        """Make the broker forget the retained message of an owner that is no more; False as with `send`."""
        return self._publish(topic, owner, b"")

    def _publish(self, topic: Topic, owner: str, payload: bytes) -> bool:
        if not self.connected or self._client is None:
            MQTT_UNSENT.inc()
            return False
        info = self._client.publish(
            topic.name(self.settings.prefix, owner), payload, qos=topic.qos, retain=topic.retained
        )
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            MQTT_UNSENT.inc()
            return False
        return True

    async def run(self) -> None:
        """Stay connected until cancelled; never raises for what the broker, the network or a file on disk does."""
        attempt = 0
        while True:
            started = self.clock.monotonic()
            try:
                await self._live_once()
            except OSError as error:
                self._say(_explain(error, self.settings))
            except (_ConnectionLost, SettingsError, UnicodeError) as error:
                # UnicodeError: a host name that cannot be one.
                self._say(str(error))
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
        """One connection from CONNECT to its end; raises _ConnectionLost, SettingsError or OSError."""
        loop = asyncio.get_running_loop()
        # Read anew each time, so that a renewed certificate or password needs no restart.
        access = await loop.run_in_executor(None, _Access.read, self.settings)
        client = self._make_client(access)
        fate = _Fate(
            self.settings, [(wish.filter(self.settings.prefix), wish.topic.qos) for wish in self.subscriptions]
        )
        fate.watch(client)
        try:
            # Name resolution and the handshake block in paho: off the loop. paho writes CONNECT there, too.
            await loop.run_in_executor(
                None, client.connect, self.settings.host, self.settings.port, self.settings.keepalive_s
            )
            _attach(client, loop, fate)
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await asyncio.wait([fate.ready, fate.lost], return_when=asyncio.FIRST_COMPLETED)
            if fate.lost.done():
                fate.lost.result()
            self._client, self.connected, self._was_up, self.problem = client, True, True, None
            MQTT_CONNECTED.set(1)
            log.info("mqtt_connected", host=self.settings.host, port=self.settings.port, client_id=self.client_id)
            self.on_connected()
            await _keep_alive(client, fate.lost)
        except asyncio.CancelledError:
            if self.connected:
                _farewell(client, self.last_will(), self.settings.prefix)
            raise
        finally:
            self.connected, self._client = False, None
            MQTT_CONNECTED.set(0)
            _close(client)
            for future in (fate.ready, fate.lost):
                future.cancel()

    def _make_client(self, access: _Access) -> paho.Client:
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
            client.username_pw_set(self.settings.username, access.password)
        if access.context is not None:
            client.tls_set_context(access.context)
        will = self.last_will()
        client.will_set(
            will.topic.name(self.settings.prefix, will.owner),
            will.message.encode(),
            will.topic.qos,
            will.topic.retained,
        )
        client.on_message = self._received
        return client

    def _received(self, client: paho.Client, _data: Any, raw: paho.MQTTMessage) -> None:
        def ack() -> None:
            client.ack(raw.mid, raw.qos)

        kind = "unknown"
        try:
            topic, owner = parse(self.settings.prefix, raw.topic)
            kind = topic.kind
            if not self.admit(topic, owner):
                ack()
                return
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


class _Fate:
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
            self.lost.set_exception(_ConnectionLost(reason))

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._answered = True
        if reason.is_failure:
            self._lose(_refused(reason, self._settings))
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
            self._lose(_explain(self.fault, self._settings))
        else:
            hint = "" if self._answered else _hint_before_an_answer(self._settings)
            self._lose(f"the connection ended: {reason}{hint}")


def _explain(error: OSError, settings: MqttSettings) -> str:
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


def _attach(client: paho.Client, loop: asyncio.AbstractEventLoop, fate: _Fate) -> None:
    """Let the loop drive paho's socket; `fate` is told the TLS error that ends it."""
    sock = client.socket()
    if not isinstance(sock, socket.socket):
        raise _ConnectionLost("the connection ended at once")
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
