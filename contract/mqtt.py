"""One lasting MQTT session: connects, subscribes, checks, reconnects; messages are objects on both sides.

paho-mqtt runs on the asyncio loop, and messages go past it where they can (contract/fast_mqtt.py). Every connection
gets a fresh paho client with a clean session and the same client id: nothing that an old connection left behind is ever
sent late, and no guarantee rests on a broker's queue.
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

from contract import tls
from contract.clock import Clock
from contract.errors import MessageError, SettingsError
from contract.expiry import EXPIRY, of_peer
from contract.fast_mqtt import FastClient, encode_publish0, why_not
from contract.messages import Message
from contract.mqtt_reasons import SHORT_S, Client, silent
from contract.paho_loop import ConnectionLost, Fate, attach, close, explain, keep_alive
from contract.prefixes import doubts
from contract.quick_wake import QuickWake
from contract.rarely import Rarely
from contract.redaction import describe, redact
from contract.secrets import secret_of
from contract.sections.broker import MqttSettings
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
MAX_PLACES = 100_000
QUIET_S = 60.0
MOST_TOLD = 1000
"""Topics with invalid messages that are told within that time."""

Decoder = Callable[[bytes], Message | QuickWake]
_Place = tuple[Topic, str, Decoder]
"""What a topic name means: the row of the table, the owner, and how to decode what comes there."""

log = get_logger("mqtt")


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
    for doubt in doubts(settings.prefix):
        log.warning("mqtt_prefix_not_portable", prefix=settings.prefix, reason=f"{doubt}; sarvis broker check tells")


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


class Acker(Protocol):
    """What a message came by."""

    def ack(self, mid: int, qos: int) -> object:
        """Confirm the packet of this id and QoS; without effect when the connection is gone."""


class Incoming:
    """A valid message that came. Call `ack` when it is dealt with; until then the broker may send it again."""

    __slots__ = ("_acker", "_mid", "_qos", "message", "owner", "retained", "topic")  # one is made per message

    def __init__(
        self, topic: Topic, owner: str, message: Message | QuickWake, retained: bool, acker: Acker, mid: int, qos: int
    ) -> None:
        self.topic = topic
        self.owner = owner
        self.message = message
        self.retained = retained
        self._acker = acker
        self._mid = mid
        self._qos = qos

    def ack(self) -> None:
        """Send PUBACK (QoS 1) on the connection it came by; without effect when that is gone."""
        self._acker.ack(self._mid, self._qos)


@dataclass
class MqttSession:
    """Keeps one client connected to the broker.

    Callbacks run on the event loop and must not block. `on_connected` runs after every SUBACK was checked;
    `last_will` is asked anew for each connection and is also published when `run` is cancelled; None leaves nothing.
    """

    settings: MqttSettings
    client_id: str
    clock: Clock
    subscriptions: Sequence[Subscription]
    on_message: Callable[[Incoming], None]
    last_will: Callable[[], Outgoing] | None
    on_connected: Callable[[], None] = lambda: None
    on_disconnected: Callable[[], None] = lambda: None
    admit: Callable[[Topic, str], bool] = lambda _topic, _owner: True
    """Asked before a message is decoded; what is not admitted is acknowledged and dropped."""

    id_setting: str = "edge.device_id"
    """The setting that the client id is made of: what to look at when two have the same."""

    decoders: Mapping[Topic, Decoder] = field(default_factory=dict)
    """Other ways to decode than that of the topic's model; each raises MessageError, too."""

    connected: bool = field(default=False, init=False)
    problem: str | None = field(default="not connected yet", init=False)
    _client: paho.Client | None = field(default=None, init=False)
    _fast: bool = field(default=False, init=False)
    _was_up: bool = field(default=False, init=False)
    _been_up: bool = field(default=False, init=False)
    _short_lives: int = field(default=0, init=False)
    """How many connections one after the other stood and soon ended."""
    _told: Rarely = field(default_factory=lambda: Rarely(QUIET_S, MOST_TOLD), init=False)
    _places: dict[bytes, _Place] = field(default_factory=dict, init=False)

    @property
    def _who(self) -> Client:
        filters = [wish.filter(self.settings.prefix) for wish in self.subscriptions]
        return Client(self.settings, self.client_id, self.id_setting, filters)

    def send(self, topic: Topic, owner: str, message: Message) -> bool:
        """Publish by the table's QoS and retain flag; False when there is no connection or its queue is full."""
        return self.send_raw(topic, owner, message.encode())

    def clear(self, topic: Topic, owner: str) -> bool:
        """Make the broker forget the retained message of an owner that is no more; False as with `send`."""
        return self.send_raw(topic, owner, b"")

    def show(self, topic: Topic, owner: str, payload: bytes) -> bool:
        """Publish an encoded message for onlookers, not retained, with QoS 0 whatever the table says."""
        client = self._client
        if not isinstance(client, FastClient) or not self.connected:
            return self.send_raw(topic, owner, payload)
        sent = client.send_soon(encode_publish0(topic.name(self.settings.prefix, owner).encode(), payload))
        if not sent:
            MQTT_UNSENT.inc()
        return sent

    def send_raw(self, topic: Topic, owner: str, payload: bytes) -> bool:
        """As `send`, with a message that is encoded already."""
        client = self._client
        if client is None or not self.connected:
            sent = False
        elif topic.qos == 0 and not topic.retained and isinstance(client, FastClient):
            sent = client.send_soon(encode_publish0(topic.name(self.settings.prefix, owner).encode(), payload))
        else:
            info = client.publish(topic.name(self.settings.prefix, owner), payload, topic.qos, topic.retained)
            sent = info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS
        if not sent:
            MQTT_UNSENT.inc()
        return sent

    def renew(self) -> None:
        """Connect anew, with a last will of this moment; what was said before goes out first."""
        if self._client is not None and self.connected:
            # Not inside of a callback of paho's.
            asyncio.get_running_loop().call_soon(self._client.disconnect)

    async def run(self) -> None:
        """Stay connected until cancelled; never raises for what the broker, the network or a file on disk does."""
        reason = why_not()
        self._fast = self.settings.fast and reason is None
        if self.settings.fast and reason is not None:
            log.warning("mqtt_fast_path_off", reason=reason)
        attempt = 0
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
                self._say(f"{self.settings.host} cannot be a host name ({describe(error)}); check mqtt.url")
            finally:
                was_up, self._was_up = self._was_up, False
                if was_up:
                    self.on_disconnected()
            stood = self.clock.monotonic() - started
            attempt = 0 if stood > STABLE_AFTER_S else attempt + 1
            ceiling = min(self.settings.reconnect_max_s, BACKOFF_FIRST_S * 2 ** min(attempt, 16))
            await asyncio.sleep(random.uniform(ceiling / 10, ceiling))  # noqa: S311 - jitter is no secret

    def _doubt(self) -> str:
        """A prefix that this broker may not carry, as long as it has carried none of ours."""
        found = [] if self._been_up else doubts(self.settings.prefix)
        return f"; the reason may be mqtt.prefix {self.settings.prefix!r}: {found[0]}" if found else ""

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("mqtt_disconnected", reason=problem, host=self.settings.host, port=self.settings.port)
        self.problem = problem

    async def _live_once(self) -> None:
        """One connection from CONNECT to its end; raises ConnectionLost, SettingsError or OSError."""
        loop = asyncio.get_running_loop()
        # Read anew each time, so that a renewed certificate or password needs no restart.
        access = await loop.run_in_executor(None, _Access.read, self.settings)
        client = self._make_client(access)
        qos = [wish.topic.qos for wish in self.subscriptions]
        fate = Fate(self._who, qos, self.clock.monotonic, short_lives=self._short_lives, been_up=self._been_up)
        fate.watch(client)
        try:
            # Name resolution and the handshake block in paho: off the loop. paho writes CONNECT there, too.
            await loop.run_in_executor(
                None, client.connect, self.settings.host, self.settings.port, self.settings.keepalive_s
            )
            attach(client, loop, fate)
            await asyncio.wait([fate.ready, fate.lost], return_when=asyncio.FIRST_COMPLETED, timeout=ANSWER_TIMEOUT_S)
            if not fate.ready.done() and not fate.lost.done():
                raise ConnectionLost(silent(self._who, ANSWER_TIMEOUT_S))
            if fate.lost.done():
                fate.lost.result()
            self._client, self.connected, self._was_up, self.problem = client, True, True, None
            MQTT_CONNECTED.set(1)
            if self._been_up:
                MQTT_RECONNECTS.inc()
            self._been_up = True
            log.info("mqtt_connected", host=self.settings.host, port=self.settings.port, client_id=self.client_id)
            peer = of_peer(f"the certificate of {self.settings.host}:{self.settings.port}", client.socket())
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
            client: paho.Client = FastClient(self._take, asyncio.get_running_loop(), **options)
        else:
            client = paho.Client(**options)
        client.connect_timeout = CONNECT_TIMEOUT_S
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
        self._take(client, name, bytes(raw.payload), raw.qos, raw.retain, raw.mid)

    def _take(self, client: paho.Client, name: bytes, payload: bytes, qos: int, retained: bool, mid: int) -> None:
        place = None
        try:
            try:
                place = self._places.get(name) or self._place(name)
                topic, owner, decode = place
                if not self.admit(topic, owner):
                    client.ack(mid, qos)
                    return
                if topic.retained and not payload:
                    client.ack(mid, qos)  # an operator cleared a retained message
                    return
                message = decode(payload)
            except (MessageError, UnicodeDecodeError) as error:
                self._drop(name, place, error)
                client.ack(mid, qos)
                return
            self.on_message(Incoming(topic, owner, message, retained, client, mid, qos))
        except Exception:
            # One message that we cannot handle must not stop the others; it stays unacknowledged.
            log.exception("message_handler_failed", **_whose(place))

    def _place(self, name: bytes) -> _Place:
        """What `parse` says, and how to decode; remembered, as the same devices speak again and again."""
        topic, owner = parse(self.settings.prefix, name.decode())
        place = topic, owner, self.decoders.get(topic, topic.model.decode)
        if len(self._places) >= MAX_PLACES:
            self._places.clear()
        self._places[name] = place
        return place

    def _drop(self, name: bytes, place: _Place | None, error: Exception) -> None:
        whose = _whose(place)
        INVALID_MESSAGES.labels(whose["kind"]).inc()
        # Of each device: the one that is loudest must not hide that another has a fault, too.
        if self._told.is_due(name, self.clock.monotonic()):
            changed = doubts(self.settings.prefix) if place is None else []
            hint = f"; does the broker change mqtt.prefix? {changed[0]}" if changed else ""
            log.warning("invalid_message", **whose, reason=f"{error}{hint}")


def _whose(place: _Place | None) -> dict[str, str]:
    """What a log line says of the topic that a message came on."""
    if place is None:
        return {"kind": "unknown"}
    topic, owner, _ = place
    return {"kind": topic.kind, "device_id" if topic.family == "devices" else "bridge": owner}


def _farewell(client: paho.Client, will: Outgoing, prefix: str) -> None:
    """Say what the last will would say: a clean DISCONNECT makes the broker forget the will."""
    client.publish(will.topic.name(prefix, will.owner), will.message.encode(), will.topic.qos, will.topic.retained)
    client.disconnect()
    with contextlib.suppress(OSError):
        client.loop_write()
