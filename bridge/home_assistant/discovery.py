"""What Home Assistant is told of a device: MQTT device discovery, as its documentation describes it. No I/O.

https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

import json
import re
from typing import Any, get_args

from contract.messages import EventType
from contract.topics import DEVICE_EVENT, DEVICE_STATUS

ON_OR_OFF = "{{{{ 'ON' if {condition} else 'OFF' }}}}"
"""With a default for each key: Home Assistant logs a warning for a key that is not there."""


def node_of(prefix: str, device_id: str) -> str:
    """The device's name in Home Assistant, which allows letters, digits, `_` and `-`; two prefixes give two names."""
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', prefix)}_{device_id}"


def config(device_id: str, version: str, *, prefix: str, bridge_version: str, bridge_url: str | None) -> bytes:
    """The message that makes the device and its entities; an empty one in its place removes them.

    Args:
        device_id: that of the device.
        version: the software of the device; "" if it does not say.
        prefix: that of its topics.
        bridge_version: the software of the bridge.
        bridge_url: where browsers reach the bridge; None: no link to its console.
    """
    node = node_of(prefix, device_id)
    status, event = DEVICE_STATUS.name(prefix, device_id), DEVICE_EVENT.name(prefix, device_id)
    device: dict[str, Any] = {"ids": [node], "name": device_id, "mf": "SARVIS"}
    if version:
        device["sw"] = version
    if bridge_url is not None:
        device["cu"] = f"{bridge_url.rstrip('/')}/console/devices/{device_id}"

    def sensor(key: str, name: str, condition: str, **more: str) -> dict[str, Any]:
        return {
            "p": "binary_sensor",
            "unique_id": f"{node}_{key}",
            "name": name,
            "state_topic": status,
            "value_template": ON_OR_OFF.format(condition=condition),
            **more,
        }

    components = {
        "wake": {
            "p": "event",
            "unique_id": f"{node}_wake",
            "name": "싸비스",
            "icon": "mdi:account-voice",
            "state_topic": event,
            "event_types": list(get_args(EventType)),
        },
        "heard": {
            "p": "device_automation",
            "automation_type": "trigger",
            "type": "heard",
            "subtype": "싸비스",
            "topic": event,
            "value_template": "{{ value_json.event_type }}",
            "payload": "heard",
        },
        "logged_in": sensor("logged_in", "Logged in", "value_json.session | default('') == 'active'"),
        "deaf": sensor("deaf", "Deaf", "value_json.alarms | default([])", device_class="problem"),
        "muted": sensor("muted", "Muted", "value_json.muted | default(false)", icon="mdi:microphone-off"),
    }
    told = {
        "dev": device,
        "o": {"name": "SARVIS", "sw": bridge_version},
        "availability_topic": status,
        "availability_template": "{{ value_json.state }}",
        "qos": DEVICE_EVENT.qos,
        "cmps": components,
    }
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
