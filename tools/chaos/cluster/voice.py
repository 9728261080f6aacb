"""A device that calls, and hears what the bridges say of it: a client at each node of the broker."""

import json
import threading
import time
from collections.abc import Sequence
from typing import Self
from uuid import uuid4

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from contract.topics import OUTCOME, WAKE
from infra.settings.broker import MqttSettings
from tests.support.paho_clients import end
from tests.support.world import HOST
from tools.chaos.house import Json

PREFIX = MqttSettings().prefix


class Voice:
    """Use it inside `with`; it may be used from any thread.

    Args:
        ports: of all nodes.

    Attributes:
        heard: the outcomes of each wake, with their wall-clock times; each as often as bridges said it.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self.heard: dict[str, list[tuple[float, str]]] = {}
        self._lock = threading.Lock()
        self._clients = [self._client(port) for port in ports]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            end(client)

    def say(self, device_id: str, uid: str, wake_id: str, *, qos: int, age_ms: int = 0, ttl_ms: int) -> bool:
        """Publish a wake by the first node that is reached; False if there is none.

        Its timestamp is its id: frames of the documented protocol have no other name of it.
        """
        body = {
            "uid": uid,
            "command": "wake_up",
            "timestamp": wake_id,
            "id": wake_id,
            "age_ms": age_ms,
            "ttl_ms": ttl_ms,
        }
        for client in self._clients:
            if client.is_connected():
                client.publish(WAKE.name(PREFIX, device_id), json.dumps(body), qos)
                return True
        return False

    def outcomes(self, wake_id: str) -> list[tuple[float, str]]:
        """What was heard first of each word, over all nodes."""
        with self._lock:
            told = sorted(self.heard.get(wake_id, ()))
        first: dict[str, float] = {}
        for at, status in told:
            first.setdefault(status, at)
        return [(at, status) for status, at in first.items()]

    def _client(self, port: int) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, f"chaos-{uuid4().hex[:8]}")
        client.reconnect_delay_set(1, 1)
        client.on_connect = lambda client, *_: client.subscribe(OUTCOME.filter(PREFIX), 0)
        client.on_message = lambda _client, _data, raw: self._note(raw.payload)
        client.connect_async(HOST, port, keepalive=5)
        client.loop_start()
        return client

    def _note(self, payload: bytes | bytearray) -> None:
        message: Json = json.loads(payload)
        with self._lock:
            self.heard.setdefault(message["id"], []).append((time.time(), message["status"]))
