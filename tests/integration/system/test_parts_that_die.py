"""The whole system while its parts die, over both brokers."""

import json
import subprocess
from pathlib import Path

from tests.integration.system.parts import (
    SHORT_PREFIX,
    claim,
    in_standby,
    is_message,
    logged_in,
)
from tests.support.processes import Sarvis
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, Bridge, Broker, Edge, Mqtt, unique


def test_a_broker_that_dies_and_comes_back_ends_no_session(edge: Edge, bridge: Bridge, broker: Broker) -> None:
    assert edge.uid is not None
    began = edge.mark()
    with logged_in(edge, bridge) as app:
        broker.kill()
        status, told = wait_for("not ready", lambda: answer if (answer := bridge.readiness())[0] == 503 else None)
        assert status == 503
        assert told["reason"].startswith("mqtt: ")
        assert len(told["reason"]) > len("mqtt: ")
        edge.event("disconnected", since=began)
        assert bridge.trigger(edge.uid, "while the broker is down")["success"] is True
        assert app.message("voice_command")["command"] == "while the broker is down"

        down = edge.mark()
        broker.start()
        bridge.wait_ready()
        edge.event("connected", since=down)
        edge.hear_word()
        assert app.message("voice_command", nth=2)["device_id"] == edge.device_id
        edge.event("outcome", lambda line: line["status"] == "acked", since=down)
        with Mqtt(broker.port) as mqtt:
            device = unique("x")
            assert mqtt.outcome(device, mqtt.wake(device, edge.uid), nth=2) == "acked"
        assert edge.said("logged_out", began) == []


def test_a_killed_bridge_goes_on_with_the_edges_session_and_can_end_it(
    edge: Edge, bridge: Bridge, mqtt: Mqtt, tmp_path: Path
) -> None:
    assert edge.uid is not None
    began = edge.mark()
    claim(edge, bridge)
    with Sarvis(
        "app", "--json", "--uid", edge.uid, "--url", f"ws://{HOST}:{bridge.port}",
        cwd=tmp_path, settings={"SARVIS_APP__RECONNECT_MAX_S": "0.5"}, stdin=subprocess.PIPE,
    ) as app:  # fmt: skip
        edge.event("logged_in", since=began)
        bridge.kill()
        status = mqtt.message("bridges/bridge-1/status", lambda status: status["state"] == "offline")
        assert status["started_at"]
        bridge.start()
        app.event("connected again", lambda line: line.get("event") == "connected", nth=2)
        mqtt.message(f"devices/{edge.device_id}/login", lambda login: "re" in login, nth=2)
        assert edge.said("logged_out", began) == []
        edge.hear_word()
        app.event("the word", is_message("voice_command"))
        edge.event("outcome", lambda line: line["status"] == "acked", since=began)

        assert app.process.stdin is not None
        app.process.stdin.write(b"logout\n")
        app.process.stdin.flush()
        in_standby(edge, mqtt, began)
        assert edge.said("logged_out", began)[0]["reason"] == "done"
        assert app.process.wait(PATIENCE_S) == 0


def test_a_device_with_an_absurd_generation_stops_no_log_out(broker: Broker, short_bridge: Bridge) -> None:
    uid, absurd, honest = unique("user"), unique("absurd"), unique("honest")
    hello = {"boot": 1, "seq": 1, "claim_uid": uid}
    with Mqtt(broker.port, SHORT_PREFIX) as mqtt, short_bridge.app(uid) as app:
        text = json.dumps({**hello, "install_id": unique("install"), "nonce": unique("nonce")})
        mqtt.publish(f"devices/{absurd}/hello", f'{text[:-1]}, "generation": {"9" * 4300}}}'.encode())
        mqtt.publish(f"devices/{honest}/hello", {**hello, "install_id": unique("install"), "nonce": unique("nonce")})
        mqtt.message(f"devices/{honest}/login")
        answer = short_bridge.http.post(f"{short_bridge.url}/api/auth/logout", json={"uid": uid})
        assert answer.status_code == 200
        assert mqtt.message(f"devices/{honest}/logout")["reason"] == "http"
        assert app.closed_with() == 4501


def test_a_bridge_told_to_stop_sends_its_apps_away_with_4000(broker: Broker, short_bridge: Bridge) -> None:
    with Mqtt(broker.port, SHORT_PREFIX) as mqtt:
        with (
            short_bridge.app(unique("user")) as one,
            short_bridge.app(unique("user"), legacy=True) as other,
        ):
            assert short_bridge.sarvis.stop() == 0
            assert (one.closed_with(), other.closed_with()) == (4000, 4000)
        assert mqtt.message("bridges/short/status", lambda status: status["state"] == "offline")
    short_bridge.start()
