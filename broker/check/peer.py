"""A client of the checked broker, by paho, which records what it receives and when."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from broker.check.target import Credential, Target
from contract.errors import SarvisError, StartError
from infra import tls
from infra.host_port import host_port

WITHIN_S = 5.0
LOOK_S = 0.005
REFUSED = 0x80
KEEPALIVE_S = 60


class ProbeError(SarvisError):
    """The broker's behaviour makes a probe impossible."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A message, and its arrival time by the monotonic clock."""

    topic: str
    payload: bytes
    retained: bool
    at: float


def wait(condition: Callable[[], bool], within_s: float = WITHIN_S) -> bool:
    """Whether the condition became true in time."""
    ends = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > ends:
            return condition()
        time.sleep(LOOK_S)
    return True


class Peer:
    """Connects when it is created; raises StartError if the broker cannot be reached.

    `keeps_will`: its last will is retained.

    Attributes:
    code: return code of the CONNACK, 0 for success; None if there was none.
    present: whether the broker had its session.
    heard: all messages so far.
    ended: set when the connection is gone.
    place: host and port of its node.
    """

    def __init__(
        self,
        target: Target,
        credential: Credential,
        role: str,
        *,
        clean: bool = True,
        keepalive_s: int = KEEPALIVE_S,
        will: tuple[str, bytes] | None = None,
        keeps_will: bool = False,
        mqtt_5: bool = False,
    ) -> None:
        self.code: int | None = None
        self.present = False
        self.heard: list[Heard] = []
        self.ended = threading.Event()
        self._codes: dict[int | None, list[int]] = {}
        version = MQTTProtocolVersion.MQTTv5 if mqtt_5 else MQTTProtocolVersion.MQTTv311
        options: dict[str, Any] = {} if mqtt_5 else {"clean_session": clean}
        self._paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            target.client_id(credential, role),
            protocol=version,
            reconnect_on_failure=False,
            **options,
        )
        self._paho.max_inflight_messages_set(1000)
        self._paho.on_connect = self._on_connect
        self._paho.on_message = self._on_message
        self._paho.on_subscribe = self._on_subscribe
        self._paho.on_unsubscribe = self._on_unsubscribe
        self._paho.on_disconnect = self._on_disconnect
        context = credential.context or target.plain
        if context is not None:
            self._paho.tls_set_context(context)
        if credential.username is not None:
            self._paho.username_pw_set(credential.username, credential.password)
        if will is not None:
            self._paho.will_set(*will, 1, keeps_will)
        node = target.next_node()
        self.place = host_port(*node)
        self._connect(target, node, keepalive_s)

    def _connect(self, target: Target, node: tuple[str, int], keepalive_s: int) -> None:
        host, port = node
        try:
            self._paho.connect(host, port, keepalive_s)
        except ssl.SSLError as error:
            self._end()
            why = tls.explain(error, host, who="mqtt", peer="the broker")
            raise StartError(f"{f'{self.place}: ' if target.others else ''}{why or error}") from error
        except OSError as error:
            self._end()
            raise StartError(
                f"no broker answers at {self.place} ({error}); check the address, and that it runs"
            ) from error
        self._paho.loop_start()
        wait(lambda: self.code is not None or self.ended.is_set())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    @property
    def welcome(self) -> bool:
        """Whether it was accepted and is still connected."""
        return self.code == 0 and not self.ended.is_set()

    def subscribe(self, *filters: str, qos: int = 1) -> list[int]:
        """The codes of SUBACK; raises ProbeError if none comes."""
        _, packet_id = self._paho.subscribe([(name, qos) for name in filters])
        return self._answered(packet_id, f"SUBSCRIBE to {filters[0]}")

    def unsubscribe(self, topic_filter: str) -> None:
        """Wait for UNSUBACK; raises ProbeError if none comes."""
        _, packet_id = self._paho.unsubscribe(topic_filter)
        self._answered(packet_id, f"UNSUBSCRIBE from {topic_filter}")

    def _answered(self, packet_id: int | None, to: str) -> list[int]:
        if wait(lambda: packet_id in self._codes or self.ended.is_set()) and packet_id in self._codes:
            return self._codes[packet_id]
        if self.ended.is_set():
            raise ProbeError(f"the broker ended the connection at {to}")
        raise ProbeError(f"no answer to {to} within {WITHIN_S:g} s")

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> paho.MQTTMessageInfo:
        """Publish with QoS 1, without waiting."""
        return self._paho.publish(topic, payload, 1, retain)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Publish with QoS 1; whether it was acknowledged in time."""
        info = self.say(topic, payload, retain=retain)
        if info.rc != paho.MQTT_ERR_SUCCESS:  # the connection is gone
            return False
        return wait(lambda: info.is_published() or self.ended.is_set()) and info.is_published()

    def payloads(self, topic: str) -> list[bytes]:
        """The messages received on a topic."""
        return [each.payload for each in tuple(self.heard) if each.topic == topic]

    def hears(self, topic: str, payload: bytes, within_s: float = WITHIN_S) -> bool:
        """Whether this message comes in time."""
        return wait(lambda: payload in self.payloads(topic), within_s)

    def fall_silent(self) -> None:
        """Stop reading and pinging; the socket stays open."""
        self._paho.loop_stop()

    def die(self) -> None:
        """Cut the socket without DISCONNECT, as a crash does."""
        found: Any = self._paho.socket()
        if found is not None:
            found.shutdown(socket.SHUT_RDWR)
        self.ended.wait(WITHIN_S)

    def leave(self) -> None:
        """Send DISCONNECT, unless the connection is gone."""
        self._paho.disconnect()
        self._end()

    def _end(self) -> None:
        self._paho.loop_stop()
        self._paho._reset_sockets()  # noqa: SLF001  # paho leaves its own pair to the garbage collector

    def _on_connect(self, _client: Any, _data: Any, flags: Any, code: Any, _properties: Any) -> None:
        self.present = bool(flags.session_present)
        self.code = code.value

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self.heard.append(Heard(message.topic, bytes(message.payload), message.retain, time.monotonic()))

    def _on_subscribe(self, _client: Any, _data: Any, packet_id: int, codes: Sequence[Any], _properties: Any) -> None:
        self._codes[packet_id] = [code.value for code in codes]

    def _on_unsubscribe(self, _client: Any, _data: Any, packet_id: int, *_: Any) -> None:
        self._codes[packet_id] = []

    def _on_disconnect(self, *_: Any) -> None:
        self.ended.set()
