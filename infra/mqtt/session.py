"""One lasting MQTT session: connects, subscribes, reconnects; sends and receives messages as objects.

paho-mqtt runs on the asyncio loop, and messages bypass it where possible (infra/mqtt/stream_client.py). Every
connection gets a new paho client with a clean session and the same client id: no message of an old connection is sent
late, and no guarantee depends on a broker's queue.
"""

import asyncio
import contextlib
import random
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from contract.clock import Clock
from contract.errors import MessageError, SettingsError
from contract.messages import Message
from contract.prefixes import doubts
from contract.topics import Topic, parse
from contract.wake_codec import QuickWake
from infra import tls
from infra.expiry import EXPIRY, of_peer
from infra.host_port import host_port
from infra.log_limit import LogLimit
from infra.mqtt.connection import ConnectionLost, ConnectionState, attach, close, explain, keep_alive
from infra.mqtt.metrics import INVALID_MESSAGES, MQTT_CONNECTED, MQTT_RECONNECTS, MQTT_UNSENT
from infra.mqtt.pacing import Pacing
from infra.mqtt.reasons import SHORT_S, Client, silent
from infra.mqtt.stream_client import StreamClient, encode_publish0, why_not
from infra.redaction import describe, redact
from infra.secrets import secret_of
from infra.settings.broker import MqttSettings
from infra.telemetry import get_logger

MAX_INFLIGHT = 1000
MAX_QUEUED = 10_000
MAX_PLACES = 100_000
NOT_YET = "not connected yet"
QUIET_S = 60.0
MOST_TOLD = 1000
"""How many topics with invalid messages are logged within that time."""

Decoder = Callable[[bytes], Message | QuickWake]
Handler = Callable[[str, bytes, bool], None]
"""Called with owner, payload and retain flag; raises MessageError, too."""
_Place = tuple[Topic, str, Decoder, Handler | None]
"""A resolved topic name: the row of the table, the owner, the decoder, and a handler that takes the place of it."""

log = get_logger("mqtt")


@dataclass(frozen=True, slots=True)
class _Access:
    """The credentials as the files have them now."""

    password: str | None
    context: ssl.SSLContext | None

    @classmethod
    def read(cls, settings: MqttSettings) -> "_Access":
        """Raises SettingsError that names the setting and the file."""
        password = secret_of(settings.password, settings.password_file, "mqtt.password_file")
        if password is not None and settings.username is None:
            raise SettingsError("setting mqtt.username is missing: MQTT sends a password only with a user name; set it")
        context = None
        if settings.tls:
            context = tls.client_context(settings.ca_file, settings.cert_file, settings.key_file, who="mqtt")
        return cls(password, context)


def check(settings: MqttSettings) -> None:
    """Read the files that a connection needs; call it before `MqttSession.run`, which only logs and retries.

    Raises SettingsError that names the setting and the file.
    """
    _Access.read(settings)
    for doubt in doubts(settings.prefix):
        log.warning(
            "mqtt_prefix_not_portable",
            prefix=settings.prefix,
            reason=f"{doubt}; `sarvis broker check` shows whether this broker does",
        )


class Wish(Protocol):
    """What a client subscribes to."""

    @property
    def qos(self) -> int:
        """The QoS that it asks for."""
        ...

    def filter(self, prefix: str) -> str:
        """The MQTT topic filter."""
        ...


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription to one kind of message, of one owner or (without owner) of all."""

    topic: Topic
    owner: str | None = None

    @property
    def qos(self) -> int:
        """That of the table."""
        return self.topic.qos

    def filter(self, prefix: str) -> str:
        """The MQTT topic filter."""
        return self.topic.filter(prefix) if self.owner is None else self.topic.name(prefix, self.owner)


@dataclass(frozen=True, slots=True)
class AnyTopic:
    """A subscription of an observer: any filter, with QoS 0, so that the broker keeps nothing for it."""

    text: str
    qos: int = 0

    def filter(self, _prefix: str) -> str:
        """The filter as it was given."""
        return self.text


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message for a topic; as last will the broker publishes it when this process is gone."""

    topic: Topic
    owner: str
    message: Message


class Acker(Protocol):
    """The connection on which a message came."""

    def ack(self, mid: int, qos: int) -> object:
        """Confirm the packet of this id and QoS; does nothing if the connection is gone."""


class Incoming:
    """A valid message that was received. Call `ack` once it is processed; until then the broker may send it again."""

    __slots__ = ("_acker", "_mid", "_qos", "message", "owner", "retained", "topic")  # one is created per message

    def __init__(
        self,
        topic: Topic,
        owner: str,
        message: Message | QuickWake,
        retained: bool,
        acker: Acker,
        mid: int,
        qos: int,
    ) -> None:
        self.topic = topic
        self.owner = owner
        self.message = message
        self.retained = retained
        self._acker = acker
        self._mid = mid
        self._qos = qos

    def ack(self) -> None:
        """Send PUBACK (QoS 1) on the connection on which it came; does nothing if that is gone."""
        self._acker.ack(self._mid, self._qos)


@dataclass
class MqttSession:
    """Keeps one client connected to the broker.

    Callbacks run on the event loop and must not block. `on_connected` runs after every SUBACK was checked; `last_will`
    is called for each connection, and its message is also published when `run` is cancelled; None: no message.
    """

    settings: MqttSettings
    """With several addresses it begins at a random one, and goes on to the next when a connection ends or fails."""

    client_id: str
    clock: Clock
    subscriptions: Sequence[Wish]
    on_message: Callable[[Incoming], None]
    last_will: Callable[[], Outgoing] | None
    on_connected: Callable[[], None] = lambda: None
    on_disconnected: Callable[[], None] = lambda: None
    admit: Callable[[Topic, str], bool] = lambda _topic, _owner: True
    """Called before a message is decoded; a message that is not admitted is acknowledged and dropped."""

    id_setting: str = "edge.device_id"
    """The setting from which the client id comes; an error names it when two clients have the same id."""

    decoders: Mapping[Topic, Decoder] = field(default_factory=dict)
    """Decoders that replace that of the topic's model; each raises MessageError, too."""

    handlers: Mapping[Topic, Handler] = field(default_factory=dict)
    """Of the most frequent topics: each takes the place of `admit`, the decoder and `on_message`; the message is
    acknowledged when it returns, together with others.
    """

    on_raw: Callable[[bytes, bytes, bool], None] | None = None
    """For an observer: called, in place of `on_message`, with topic, payload and retain flag of each message."""

    connected: bool = field(default=False, init=False)
    problem: str | None = field(default=NOT_YET, init=False)
    _client: paho.Client | None = field(default=None, init=False)
    _fast: bool = field(default=False, init=False)
    _was_up: bool = field(default=False, init=False)
    _been_up: set[str] = field(default_factory=set, init=False)
    """The addresses that have accepted a connection."""
    _short_lives: int = field(default=0, init=False)
    """How many connections in a row were accepted and soon ended."""
    _said: dict[str, str] = field(default_factory=dict, init=False)
    """The last problem that was logged of each address, since it last accepted a connection."""
    _told: LogLimit = field(default_factory=lambda: LogLimit(QUIET_S, MOST_TOLD), init=False)
    _places: dict[bytes, _Place] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._nodes = self.settings.nodes
        self._pacing = Pacing(len(self._nodes), self.settings.reconnect_max_s)
        # At random, so that a fleet spreads over the nodes of a cluster.
        self._turn = random.randrange(len(self._nodes))  # noqa: S311 - no secret

    @property
    def node(self) -> MqttSettings:
        """The settings with the one address that is connected, or tried."""
        return self._nodes[self._turn]

    @property
    def problems(self) -> Mapping[str, str]:
        """The last problem with each address that has accepted no connection since."""
        return self._said

    @property
    def _who(self) -> Client:
        filters = [wish.filter(self.settings.prefix) for wish in self.subscriptions]
        return Client(self.node, self.client_id, self.id_setting, filters)

    def send(self, topic: Topic, owner: str, message: Message, *, qos: int | None = None) -> bool:
        """Publish with the table's QoS, unless another is given, and retain flag.

        False if there is no connection or its queue is full.
        """
        return self.send_raw(topic, owner, message.encode(), qos=qos)

    def clear(self, topic: Topic, owner: str) -> bool:
        """Delete the retained message of an owner that no longer exists; False as with `send`."""
        return self.send_raw(topic, owner, b"")

    def show(self, topic: Topic, owner: str, payload: bytes) -> bool:
        """Publish an encoded message for observers: not retained, with QoS 0 whatever the table has."""
        client = self._client
        if not isinstance(client, StreamClient) or not self.connected:
            return self.send_raw(topic, owner, payload, qos=0)
        sent = client.send_soon(encode_publish0(topic.name(self.settings.prefix, owner).encode(), payload))
        if not sent:
            MQTT_UNSENT.inc()
        return sent

    def send_raw(self, topic: Topic, owner: str, payload: bytes, *, qos: int | None = None) -> bool:
        """As `send`, with an encoded message."""
        qos = topic.qos if qos is None else qos
        client = self._client
        if self.connected and qos == 0 and not topic.retained and isinstance(client, StreamClient):
            sent = client.send_soon(encode_publish0(topic.name(self.settings.prefix, owner).encode(), payload))
            if not sent:
                MQTT_UNSENT.inc()
            return sent
        return self.send_to(topic.name(self.settings.prefix, owner), payload, qos, retained=topic.retained)

    def send_to(self, name: str, payload: bytes, qos: int, *, retained: bool) -> bool:
        """As `send_raw`, to any topic name."""
        client = self._client
        sent = False
        if client is not None and self.connected:
            sent = client.publish(name, payload, qos, retained).rc == MQTTErrorCode.MQTT_ERR_SUCCESS
        if not sent:
            MQTT_UNSENT.inc()
        return sent

    def renew(self) -> None:
        """Reconnect with a new last will; messages that were sent before are written first."""
        if self._client is not None and self.connected:
            # Not inside of a callback of paho.
            asyncio.get_running_loop().call_soon(self._client.disconnect)

    async def run(self) -> None:
        """Stay connected until cancelled; never raises because of the broker, the network or a file on disk."""
        reason = why_not()
        self._fast = self.settings.fast and reason is None
        if self.settings.fast and reason is not None:
            log.warning("mqtt_fast_path_off", reason=reason)
        while True:
            started = self.clock.monotonic()
            try:
                await self._live_once()
            except OSError as error:
                self._say(explain(error, self._who))
            except ConnectionLost as error:
                self._say(f"{error}{self._doubt()}")
            except SettingsError as error:
                self._say(redact(str(error)))
            except UnicodeError as error:
                self._say(f"{self.node.host} is not a valid host name ({describe(error)}); check mqtt.url")
            finally:
                was_up, self._was_up = self._was_up, False
                if was_up:
                    self.on_disconnected()
            self._pacing.ended(self.clock.monotonic() - started)
            self._turn = (self._turn + 1) % len(self._nodes)
            await self.clock.sleep(self._pacing.pause_s())

    def _doubt(self) -> str:
        """A doubt about the prefix, as long as this broker has delivered none of our topics."""
        found = [] if self._been_up else doubts(self.settings.prefix)
        return f"; the reason may be mqtt.prefix {self.settings.prefix!r}: {found[0]}" if found else ""

    def _say(self, problem: str) -> None:
        node = self.node
        if problem != self._said.get(node.url):
            log.warning("mqtt_disconnected", reason=problem, host=node.host, port=node.port)
        self._said[node.url] = problem
        self.problem = problem if len(self._nodes) == 1 else f"{node.url}: {problem}"

    async def _live_once(self) -> None:
        """One connection from CONNECT to its end; raises ConnectionLost, SettingsError or OSError."""
        loop = asyncio.get_running_loop()
        # Read for each connection, so that a renewed certificate or password needs no restart.
        access = await loop.run_in_executor(None, _Access.read, self.settings)
        client = self._make_client(access)
        qos = [wish.qos for wish in self.subscriptions]
        node = self.node
        fate = ConnectionState(
            self._who, qos, self.clock.monotonic, short_lives=self._short_lives, been_up=node.url in self._been_up
        )
        fate.watch(client)
        try:
            # Name resolution and the handshake block in paho, so they run in a thread. paho also writes CONNECT there.
            await loop.run_in_executor(None, client.connect, node.host, node.port, node.keepalive_s)
            attach(client, loop, fate)
            within_s = self._pacing.answer_s
            await asyncio.wait([fate.ready, fate.lost], return_when=asyncio.FIRST_COMPLETED, timeout=within_s)
            if not fate.ready.done() and not fate.lost.done():
                raise ConnectionLost(silent(self._who, within_s))
            if fate.lost.done():
                fate.lost.result()
            self._client, self.connected, self._was_up, self.problem = client, True, True, None
            MQTT_CONNECTED.set(1)
            if self._been_up:
                MQTT_RECONNECTS.inc()
            self._been_up.add(node.url)
            self._said.pop(node.url, None)
            log.info("mqtt_connected", host=node.host, port=node.port, client_id=self.client_id)
            peer = of_peer(f"the certificate of {host_port(node.host, node.port)}", client.socket())
            if peer is not None:
                EXPIRY.note_peer(peer, self.clock.utc_now())
            self.on_connected()
            await keep_alive(client, fate.lost)
        except asyncio.CancelledError:
            if self.connected and self.last_will is not None:
                _farewell(client, self.last_will(), self.settings.prefix)
            raise
        finally:
            if self.connected:
                self._short_lives = self._short_lives + 1 if fate.lived_s < SHORT_S else 0
            self.connected, self._client = False, None
            MQTT_CONNECTED.set(0)
            close(client)
            for future in (fate.ready, fate.lost):
                future.cancel()

    def _make_client(self, access: _Access) -> paho.Client:
        options: dict[str, Any] = {
            "callback_api_version": CallbackAPIVersion.VERSION2,
            "client_id": self.client_id,
            "clean_session": True,
            "protocol": paho.MQTTv311,
            "manual_ack": True,
            "reconnect_on_failure": False,
        }
        if self._fast:
            client: paho.Client = StreamClient(self._hear, asyncio.get_running_loop(), **options)
        else:
            client = paho.Client(**options)
        client.connect_timeout = self._pacing.connect_s
        client.max_inflight_messages_set(MAX_INFLIGHT)
        client.max_queued_messages_set(MAX_QUEUED)
        if self.settings.username is not None:
            client.username_pw_set(self.settings.username, access.password)
        if access.context is not None:
            client.tls_set_context(access.context)
        if self.last_will is not None:
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
        try:
            name = raw.topic.encode()
        except UnicodeDecodeError as error:
            name = error.object
        self._hear(client, name, bytes(raw.payload), raw.qos, raw.retain, raw.mid)

    @property
    def _hear(self) -> Callable[[paho.Client, bytes, bytes, int, bool, int], None]:
        return self._take if self.on_raw is None else self._hand_on

    def _hand_on(self, client: paho.Client, name: bytes, payload: bytes, qos: int, retained: bool, mid: int) -> None:
        if self.on_raw is not None:
            self.on_raw(name, payload, retained)
        client.ack(mid, qos)

    def _take(self, client: paho.Client, name: bytes, payload: bytes, qos: int, retained: bool, mid: int) -> None:
        place = None
        try:
            try:
                place = self._places.get(name) or self._place(name)
                topic, owner, decode, handler = place
                if handler is not None:
                    handler(owner, payload, retained)
                    if qos == 1 and isinstance(client, StreamClient):
                        client.ack_soon(mid)
                    else:
                        client.ack(mid, qos)
                    return
                # Empty: a retained message was cleared, by an operator or by this program.
                if (topic.retained and not payload) or not self.admit(topic, owner):
                    client.ack(mid, qos)
                    return
                message = decode(payload)
            except (MessageError, UnicodeDecodeError) as error:
                self._drop(name, place, error)
                client.ack(mid, qos)
                return
            self.on_message(Incoming(topic, owner, message, retained, client, mid, qos))
        except Exception:
            # A message that raises must not stop the others; it stays unacknowledged.
            log.exception("message_handler_failed", **_whose(place))

    def _place(self, name: bytes) -> _Place:
        """The result of `parse` and the decoder; cached, because the same devices send again and again."""
        topic, owner = parse(self.settings.prefix, name.decode())
        place = topic, owner, self.decoders.get(topic, topic.model.decode), self.handlers.get(topic)
        if len(self._places) >= MAX_PLACES:
            self._places.clear()
        self._places[name] = place
        return place

    def _drop(self, name: bytes, place: _Place | None, error: Exception) -> None:
        whose = _whose(place)
        INVALID_MESSAGES.labels(whose["kind"]).inc()
        # Limited per device: one that sends many invalid messages must not hide another's.
        if self._told.is_due(name, self.clock.monotonic()):
            changed = doubts(self.settings.prefix) if place is None else []
            hint = f"; does the broker change mqtt.prefix? {changed[0]}" if changed else ""
            log.warning("invalid_message", **whose, reason=f"{error}{hint}")


def _whose(place: _Place | None) -> dict[str, str]:
    """The words by which a log line names the topic of a message."""
    if place is None:
        return {"kind": "unknown"}
    topic, owner, *_ = place
    return {"kind": topic.kind, "device_id" if topic.family == "devices" else "bridge": owner}


def _farewell(client: paho.Client, will: Outgoing, prefix: str) -> None:
    """Publish the last will's message: after a clean DISCONNECT the broker does not publish it."""
    client.publish(will.topic.name(prefix, will.owner), will.message.encode(), will.topic.qos, will.topic.retained)
    client.disconnect()
    with contextlib.suppress(OSError):
        client.loop_write()
