"""Several whole bridges in memory on one ledger; each hears what any of them publishes. No broker, no socket."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from paho.mqtt.enums import MQTTErrorCode

from bridge.apps.connection import AppConnection
from bridge.cluster.peers import Peers
from bridge.service import Bridge
from contract.app_socket import Mode
from contract.messages import Message
from contract.topics import Topic, parse
from infra.settings.loader import Settings
from tests.support.clock import ManualClock
from tests.support.harness.wakes import FakePhone
from tests.support.shared_ledger import BridgeStore, SharedLedger


class Socket(FakePhone):
    """A phone that is closed by its bridge."""

    def close(self, code: int, _text: str, retry_ms: int | None = None) -> None:
        """See `AppConnection.close`."""
        del retry_ms
        self.ended = self.ended or code


class Air:
    """What a bridge's MQTT session takes for its client: it tells all bridges what one of them publishes."""

    def __init__(self, bridges: Sequence[Bridge], prefix: str) -> None:
        self._bridges = bridges
        self._prefix = prefix
        self.said: list[tuple[Topic, str, Message]] = []

    def publish(self, name: str, payload: bytes, qos: int, _retained: bool) -> Any:
        """As paho's client."""
        topic, owner = parse(self._prefix, name)
        self.said.append((topic, owner, topic.model.decode(payload)))
        for bridge in self._bridges:
            if topic.filter(self._prefix) in {wish.filter(self._prefix) for wish in bridge.mqtt.subscriptions}:
                bridge.mqtt._take(cast("Any", self), name.encode(), payload, qos, False, 0)
        return SimpleNamespace(rc=MQTTErrorCode.MQTT_ERR_SUCCESS)

    def ack(self, _mid: int, _qos: int) -> None:
        """As paho's client."""

    def told(self, topic: Topic) -> list[tuple[str, Message]]:
        """What was published on this topic, by its owner."""
        return [(owner, message) for one, owner, message in self.said if one is topic]


class Bridges:
    """Bridges that see each other alive."""

    def __init__(self, *names: str) -> None:
        ledger = SharedLedger()
        self.clock = ManualClock()
        self.all = {
            name: Bridge(Settings.model_validate({"bridge": {"instance": name}}), BridgeStore(ledger, name), self.clock)
            for name in names
        }
        bridges = list(self.all.values())
        self.air = Air(bridges, bridges[0].settings.mqtt.prefix)
        for name, bridge in self.all.items():
            bridge.mqtt.connected, bridge.mqtt._client = True, cast("Any", self.air)
            bridge.sessions.peers = Peers(name, tuple(other for other in names if other != name))

    def socket(
        self, name: str, uid: str = "alice", mode: Mode = "v2", *, client: str | None = None, turn: int
    ) -> Socket:
        """A phone joins at a bridge, connected in this turn."""
        socket = Socket(uid, mode)
        self.all[name].join(cast("AppConnection", socket), client, turn)
        return socket
