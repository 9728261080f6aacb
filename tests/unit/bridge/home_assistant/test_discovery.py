"""The payloads that Home Assistant reads, and its templates over the messages that the device and the bridge send."""

import json
from typing import Any

import pytest
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bridge.home_assistant.discovery import config, node_of
from contract.messages import DeviceEvent, DeviceStatus
from contract.topics import home_assistant_config

P = "sarvis/v1"


def told(device_id: str = "jetson-1", version: str = "0.1.0", bridge_url: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        config(device_id, version, prefix=P, bridge_version="0.2.0", bridge_url=bridge_url)
    )
    return found


def rendered(template: str, message: bytes) -> str:
    """As Home Assistant renders a value template; a key that is not there, of which it warns, is an error here."""
    text = message.decode()
    return (
        ImmutableSandboxedEnvironment(undefined=StrictUndefined)
        .from_string(template)
        .render(value=text, value_json=json.loads(text))
        .strip()
    )


def test_a_device_is_told_as_it_is_documented() -> None:
    status, event = f"{P}/devices/jetson-1/status", f"{P}/devices/jetson-1/event"
    on_off = {"p": "binary_sensor", "state_topic": status}
    assert told(bridge_url="https://hub.home:8000/") == {
        "dev": {
            "ids": ["sarvis_v1_jetson-1"],
            "name": "jetson-1",
            "mf": "SARVIS",
            "sw": "0.1.0",
            "cu": "https://hub.home:8000/console/devices/jetson-1",
        },
        "o": {"name": "SARVIS", "sw": "0.2.0"},
        "availability_topic": status,
        "availability_template": "{{ value_json.state }}",
        "qos": 1,
        "cmps": {
            "wake": {
                "p": "event",
                "unique_id": "sarvis_v1_jetson-1_wake",
                "name": "싸비스",
                "icon": "mdi:account-voice",
                "state_topic": event,
                "event_types": [
                    "heard", "acked", "delivered", "pushed", "missed", "stopped", "forgotten", "expired", "rejected"
                ],
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
            "logged_in": {
                **on_off,
                "unique_id": "sarvis_v1_jetson-1_logged_in",
                "name": "Logged in",
                "value_template": "{{ 'ON' if value_json.session | default('') == 'active' else 'OFF' }}",
            },
            "deaf": {
                **on_off,
                "unique_id": "sarvis_v1_jetson-1_deaf",
                "name": "Deaf",
                "device_class": "problem",
                "value_template": "{{ 'ON' if value_json.alarms | default([]) else 'OFF' }}",
            },
            "muted": {
                **on_off,
                "unique_id": "sarvis_v1_jetson-1_muted",
                "name": "Muted",
                "icon": "mdi:microphone-off",
                "value_template": "{{ 'ON' if value_json.muted | default(false) else 'OFF' }}",
            },
        },
    }  # fmt: skip


def test_what_is_not_known_is_left_out() -> None:
    assert told(version="")["dev"] == {"ids": ["sarvis_v1_jetson-1"], "name": "jetson-1", "mf": "SARVIS"}


@pytest.mark.parametrize(
    ("status", "values"),
    [
        (DeviceStatus(state="online"), ("online", "OFF", "OFF", "OFF")),
        (DeviceStatus(state="offline", session="active"), ("offline", "ON", "OFF", "OFF")),
        (DeviceStatus(state="online", session="standby", muted=True), ("online", "OFF", "OFF", "ON")),
        (DeviceStatus(state="online", alarms=("microphone_lost", "digital_silence")), ("online", "OFF", "ON", "OFF")),
    ],
)
def test_the_templates_give_what_a_status_says(status: DeviceStatus, values: tuple[str, ...]) -> None:
    device = told()
    parts = device["cmps"]
    templates = [parts[key]["value_template"] for key in ("logged_in", "deaf", "muted")]
    assert tuple(
        rendered(template, status.encode()) for template in (device["availability_template"], *templates)
    ) == values  # fmt: skip


def test_a_status_of_a_first_device_is_enough_for_the_templates() -> None:
    """One written by hand, with nothing but its state."""
    device = told()
    for key in ("logged_in", "deaf", "muted"):
        assert rendered(device["cmps"][key]["value_template"], b'{"state":"online"}') == "OFF"


def test_the_trigger_is_fired_by_heard_alone() -> None:
    trigger = told()["cmps"]["heard"]
    heard = DeviceEvent(event_type="heard", id="w", uid="alice").encode()
    acked = DeviceEvent(event_type="acked", id="w", uid="alice", score=0.8, ms=3.5).encode()
    assert rendered(trigger["value_template"], heard) == trigger["payload"]
    assert rendered(trigger["value_template"], acked) != trigger["payload"]


@pytest.mark.parametrize(
    ("prefix", "node"),
    [("sarvis/v1", "sarvis_v1_a-B_9"), ("거실/1", "_1_a-B_9"), ("home.2", "home_2_a-B_9"), ("x", "x_a-B_9")],
)
def test_a_name_has_only_what_home_assistant_allows(prefix: str, node: str) -> None:
    assert node_of(prefix, "a-B_9") == node
    assert home_assistant_config(node) == f"homeassistant/device/{node}/config"
