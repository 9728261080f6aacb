"""Publishes devices to Home Assistant, and what becomes of their wakes."""

import asyncio

from bridge.home_assistant.discovery import config, node_of
from bridge.wakes.delivery import Delivery, Fate, State
from contract.clock import Clock
from contract.messages import LEGACY_DEVICE, DeviceEvent, DeviceStatus, EventType
from contract.topics import DEVICE_EVENT, home_assistant_config
from infra.mqtt.session import MqttSession
from infra.settings.bridge import HomeAssistantSettings

AT_ONCE = 50
PAUSE_S = 0.1
"""A pause after each `AT_ONCE` devices: a large fleet must not delay its wakes."""


class HomeAssistant:
    """Tells Home Assistant of each device whose status came, and of each wake. Run `run` as a task.

    Its messages about devices are retained: Home Assistant finds them when it starts, and the bridge need not know.
    They are sent again on each connection, since a broker may have lost them. Several bridges send the same ones.

    Args:
        version: that of the bridge.
    """

    def __init__(self, settings: HomeAssistantSettings, mqtt: MqttSession, clock: Clock, version: str) -> None:
        self._bridge_url = settings.bridge_url
        self._mqtt = mqtt
        self._prefix = mqtt.settings.prefix
        self._clock = clock
        self._version = version
        self._told: dict[str, str] = {}
        """The version of each device as it was sent on this connection."""
        self._untold: dict[str, str] = {}
        self._some = asyncio.Event()

    def connected(self) -> None:
        """A broker was reached; it sends all statuses again."""
        self._told.clear()

    def status(self, device_id: str, status: DeviceStatus) -> None:
        """A device's status or last will came."""
        if self._told.get(device_id) != status.version:
            self._untold[device_id] = status.version
            self._some.set()

    def removed(self, device_id: str) -> bool:
        """Let a removed device vanish; False if no broker is reached."""
        self._told.pop(device_id, None)
        self._untold.pop(device_id, None)
        return self._send(device_id, b"")

    def watch(self, delivery: Delivery, before: State, fate: Fate | None) -> None:
        """A wake changed its state, see `WatchedDeliveries`."""
        if delivery.device_id == LEGACY_DEVICE:
            return
        kind = _event(delivery.state, before, fate)
        if kind is None:
            return
        wake = delivery.wake
        ms = round((self._clock.monotonic() - delivery.received_at) * 1000, 3)
        event = DeviceEvent(event_type=kind, id=wake.id, uid=wake.uid, score=wake.score, ms=ms)
        self._mqtt.send(DEVICE_EVENT, delivery.device_id, event)

    async def run(self) -> None:
        """Send what is to be told of devices, until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            for device_id in list(self._untold)[:AT_ONCE]:
                version = self._untold[device_id]
                told = config(
                    device_id,
                    version,
                    prefix=self._prefix,
                    bridge_version=self._version,
                    bridge_url=self._bridge_url,
                )
                if not self._send(device_id, told):
                    break
                self._told[device_id] = version
                del self._untold[device_id]
            if self._untold:
                self._some.set()
            await self._clock.sleep(PAUSE_S)

    def _send(self, device_id: str, message: bytes) -> bool:
        name = home_assistant_config(node_of(self._prefix, device_id))
        return self._mqtt.send_to(name, message, 1, retained=True)


def _event(state: State, before: State, fate: Fate | None) -> EventType | None:
    """What a change of a wake is for an automation; None if nothing, or if another bridge tells it."""
    if before != "received":
        return None if fate == "elsewhere" else fate
    match state:
        case "expired" | "rejected":
            return state
        case _:
            return "heard"
