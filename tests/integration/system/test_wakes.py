"""Wakes through the whole system, over the embedded broker and over Debian's mosquitto."""

import json

import pytest

from tests.integration.system.parts import (
    HEARD_KEYS,
    V2_KEYS,
    mosquitto_pub,
    mosquitto_sub,
)
from tests.support.world import Bridge, Broker, Mqtt, unique


def test_an_injected_wake_rings_old_and_new_apps_and_its_fate_is_told(bridge: Bridge, mqtt: Mqtt) -> None:
    uid, device = unique("user"), unique("x")
    with bridge.app(uid, legacy=True) as old, bridge.app(uid) as new:
        mqtt.publish(f"devices/{device}/wake", {"uid": uid, "command": "싸비스", "timestamp": "then"})
        heard = old.message("voice_command")
        assert set(heard) == HEARD_KEYS
        assert heard["command"] == "싸비스"
        more = new.message("voice_command")
        assert set(more) == V2_KEYS
        assert (more["command"], more["device_id"], more["ttl_ms"]) == ("싸비스", device, 10_000)
        acked = mqtt.message(f"devices/{device}/outcome", lambda outcome: outcome["status"] == "acked")
        assert acked["id"] == more["id"]
        assert 0 <= acked["latency_ms"] < 10_000
        assert mqtt.outcomes(device, more["id"]) == ["sent", "acked"]
        old.all_before()
        assert len(old.messages("voice_command")) == 1


def test_an_operators_mosquitto_tools_inject_a_wake_and_see_its_fate(bridge: Bridge, broker: Broker) -> None:
    uid, device = unique("user"), unique("x")
    topic = f"sarvis/v1/devices/{device}"
    with bridge.app(uid) as app, mosquitto_sub(broker, f"{topic}/outcome") as lines:
        mosquitto_pub(broker, f"{topic}/wake", {"uid": uid, "command": "싸비스", "timestamp": "then"})
        assert app.message("voice_command")["command"] == "싸비스"
        fates = []
        for _ in range(2):
            name, _, payload = next(lines).partition(" ")
            assert name == f"{topic}/outcome"
            fates.append(json.loads(payload)["status"])
    assert fates == ["sent", "acked"]


def test_an_http_trigger_is_mirrored_for_operators(bridge: Bridge, mqtt: Mqtt) -> None:
    uid = unique("user")
    with bridge.app(uid, legacy=True) as app:
        assert bridge.trigger(uid, "싸비스") == {"success": True, "message": "Command sent"}
        app.message("voice_command")
        wake = mqtt.message("devices/legacy-http/wake", lambda wake: wake["uid"] == uid)
        assert (wake["command"], wake["timestamp"], wake["device_id"]) == ("싸비스", "now", "legacy-http")
        app.all_before()
        assert len(app.messages("voice_command")) == 1, "the bridge must ignore its own mirror"


def test_an_http_trigger_appears_in_mosquitto_sub(bridge: Bridge, broker: Broker) -> None:
    uid = unique("user")
    with mosquitto_sub(broker, "sarvis/v1/devices/legacy-http/wake") as lines:
        assert bridge.trigger(uid) == {"success": False, "message": "User not connected"}
        topic, _, payload = next(lines).partition(" ")
    assert topic == "sarvis/v1/devices/legacy-http/wake"
    assert json.loads(payload)["uid"] == uid


@pytest.mark.usefixtures("bridge")
def test_a_wake_without_a_connected_user_is_reported(mqtt: Mqtt) -> None:
    device = unique("x")
    wake_id = mqtt.wake(device, unique("nobody"))
    assert mqtt.outcome(device, wake_id) == "user_not_connected"


@pytest.mark.parametrize(("age_ms", "ttl_ms"), [(10_000, 10_000), (500, 400), (0, 0)])
def test_a_stale_wake_does_not_ring(bridge: Bridge, mqtt: Mqtt, age_ms: int, ttl_ms: int) -> None:
    uid, device = unique("user"), unique("x")
    with bridge.app(uid) as app:
        wake_id = mqtt.wake(device, uid, age_ms=age_ms, ttl_ms=ttl_ms)
        assert mqtt.outcome(device, wake_id) == "expired"
        app.all_before()
        assert app.messages("voice_command") == []


def test_a_repeated_wake_rings_once_and_gets_its_outcome_twice(bridge: Bridge, mqtt: Mqtt) -> None:
    uid, device = unique("user"), unique("x")
    with bridge.app(uid, legacy=True) as app:
        wake_id = mqtt.wake(device, uid)
        assert mqtt.outcome(device, wake_id) == "sent"
        mqtt.wake(device, uid, id=wake_id, age_ms=2000)
        assert mqtt.outcome(device, wake_id, nth=2) == "sent"
        app.all_before()
        assert len(app.messages("voice_command")) == 1


def test_a_wake_id_that_another_device_used_tells_and_rings_nothing(bridge: Bridge, mqtt: Mqtt) -> None:
    uid, device, thief = unique("user"), unique("x"), unique("thief")
    with bridge.app(uid) as app:
        wake_id = mqtt.wake(device, uid)
        assert mqtt.outcome(device, wake_id, nth=2) == "acked"
        mqtt.wake(thief, uid, id=wake_id)
        assert mqtt.outcome(thief, mqtt.wake(thief, uid), nth=2) == "acked"
        assert mqtt.outcomes(thief, wake_id) == []
        assert len(app.messages("voice_command")) == 2


def test_a_device_speaks_only_for_the_user_who_is_logged_in_there(bridge: Bridge, mqtt: Mqtt) -> None:
    owner, other, device = unique("owner"), unique("other"), unique("x")
    with bridge.app(owner) as first, bridge.app(other) as second:
        first.say({"type": "login", "device_id": device})
        assert first.message("login_ack")["session"]["device_id"] == device
        assert mqtt.outcome(device, mqtt.wake(device, other)) == "rejected"
        assert mqtt.outcome(device, mqtt.wake(device, owner)) == "sent"
        second.all_before()
        assert second.messages("voice_command") == []


def test_another_users_ack_settles_nothing(bridge: Bridge, mqtt: Mqtt) -> None:
    uid, device = unique("user"), unique("x")
    with bridge.app(uid, acks=False) as app, bridge.app(unique("other")) as other:
        wake_id = mqtt.wake(device, uid)
        app.message("voice_command")
        other.say({"type": "ack", "id": wake_id})
        other.all_before()
        app.say({"type": "ack", "id": wake_id})
        assert mqtt.outcome(device, wake_id, nth=2) == "acked"
        assert mqtt.outcomes(device, wake_id) == ["sent", "acked"]
