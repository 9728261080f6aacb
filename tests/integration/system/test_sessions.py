"""Log-ins and log-outs through the whole system, over both brokers."""

import time
from pathlib import Path

import pytest

from tests.integration.system.parts import (
    SHORT_PREFIX,
    SHORT_TIMEOUT_S,
    claim,
    in_standby,
    is_message,
    logged_in,
    retained_status,
    status_says,
)
from tests.support.processes import Sarvis
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, Bridge, Broker, Edge, Mqtt, pause, unique


def test_the_word_rings_the_app_while_its_user_is_logged_in(edge: Edge, bridge: Bridge, mqtt: Mqtt) -> None:
    began = edge.mark()
    with logged_in(edge, bridge) as app:
        edge.event("led", lambda line: line["state"] == "active", since=began)
        status_says(mqtt, edge, "active")
        edge.hear_word()
        wake = edge.event("wake", since=began)
        assert wake["uid"] == edge.uid
        heard = app.message("voice_command")
        assert (heard["id"], heard["device_id"], heard["command"]) == (wake["id"], edge.device_id, "wake_up")
        outcome = edge.event("outcome", lambda line: line["status"] == "acked", since=began)
        assert outcome["id"] == wake["id"]
        assert mqtt.message(f"devices/{edge.device_id}/wake")["uid"] == edge.uid


def test_an_app_that_was_there_first_learns_of_the_session_that_its_device_begins(
    broker: Broker, bridge: Bridge, tmp_path: Path
) -> None:
    uid = unique("user")
    with bridge.app(uid) as app, bridge.app(uid, legacy=True) as old:
        assert app.message("connection_established")["sessions"] == []
        with Edge(tmp_path, broker.url, uid=uid) as edge:
            told = edge.event("logged_in")
            began = app.message("session_began")
            assert began["session"] == {"session_id": told["session_id"], "device_id": edge.device_id}
            old.all_before()
            assert old.messages("session_began") == []


def test_a_scrape_of_the_edge_tells_what_it_heard_and_what_came_of_it(edge: Edge, bridge: Bridge) -> None:
    with logged_in(edge, bridge):
        before, began = edge.metrics(), edge.mark()
        edge.hear_word()
        edge.event("outcome", lambda outcome: outcome["status"] == "acked", since=began)

    def all_counted() -> dict[str, float] | None:
        """One scrape: between two, more frames are scored; and the histogram follows the count a moment later."""
        after = edge.metrics()
        grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
        return after if grown["sarvis_edge_score_count"] == grown["sarvis_edge_scored_total"] > 0 else None

    after = wait_for("each score is in the histogram", all_counted)

    def grown(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    assert grown("sarvis_edge_frames_total") >= 37, "three seconds before the word alone"
    assert grown('sarvis_edge_score_bucket{le="+Inf"}') > grown('sarvis_edge_score_bucket{le="0.4"}')
    assert grown("sarvis_edge_wakes_total") == 1
    assert grown('sarvis_edge_outcomes_total{status="acked"}') == 1
    assert (after["sarvis_edge_wakes_waiting"], after["sarvis_mqtt_connected"]) == (0, 1)


def test_a_log_out_by_the_app_ends_it_and_the_word_is_ignored(edge: Edge, bridge: Bridge, mqtt: Mqtt) -> None:
    began = edge.mark()
    with logged_in(edge, bridge) as app:
        app.say({"type": "logout"})
        assert app.message("logout_ack")["reason"] == "app"
        assert app.closed_with() == 4501
        in_standby(edge, mqtt, began)
        ack = mqtt.message(f"devices/{edge.device_id}/ack")
        assert (ack["status"], ack.get("session_id")) == ("done", None)
        command = mqtt.message(f"devices/{edge.device_id}/logout")
        assert (command["uid"], command["action"], command["reason"]) == (edge.uid, "logout", "app")
        edge.hear_word()
        assert edge.event("ignored", since=began)["reason"] == "standby"
        assert mqtt.messages(f"devices/{edge.device_id}/wake") == []
        assert len(mqtt.messages(f"devices/{edge.device_id}/logout")) == 1


def test_a_log_out_over_the_bridges_http_ends_it(edge: Edge, bridge: Bridge, mqtt: Mqtt) -> None:
    began = edge.mark()
    with logged_in(edge, bridge) as app:
        answer = bridge.post("/api/auth/logout", {"uid": edge.uid, "action": "logout"})
        assert answer == {"success": True, "message": "Logged out successfully"}
        assert app.closed_with() == 4501
        in_standby(edge, mqtt, began)
        ack = mqtt.message(f"devices/{edge.device_id}/ack")
        assert ack["status"] == "done"
        assert mqtt.message(f"devices/{edge.device_id}/logout")["reason"] == "http"


def test_the_documented_log_out_injected_by_an_operator_ends_it(edge: Edge, bridge: Bridge, mqtt: Mqtt) -> None:
    began = edge.mark()
    topic = f"devices/{edge.device_id}"
    with logged_in(edge, bridge) as app:
        mqtt.publish(f"{topic}/logout", {"uid": "somebody-else", "action": "logout"})
        assert mqtt.message(f"{topic}/ack")["status"] == "refused"
        assert edge.said("logged_out", began) == []
        mqtt.publish(f"{topic}/logout", {"uid": edge.uid, "action": "logout"})
        assert mqtt.message(f"{topic}/ack", nth=2)["status"] == "done"
        assert edge.event("logged_out", since=began)["reason"] == "done"
        in_standby(edge, mqtt, began)
        # The device's own report ended the session in the ledger as well.
        assert app.message("session_ended")["device_id"] == edge.device_id


def test_a_user_logged_out_by_an_operator_is_not_logged_in_again_at_once(
    edge: Edge, bridge: Bridge, mqtt: Mqtt
) -> None:
    began = edge.mark()
    with logged_in(edge, bridge) as app:
        mqtt.publish(f"devices/{edge.device_id}/logout", {"uid": edge.uid, "action": "logout"})
        # Its next hello, or the bridge when the app comes once more, must not undo what a person did.
        hello = mqtt.message(f"devices/{edge.device_id}/hello", lambda hello: bool(hello["ended"]))
        app.message("session_ended")
        with bridge.app(app.uid) as again:
            again.all_before()
        pause(0.5)
        assert len(edge.said("logged_in", began)) == 1, hello


def test_the_edges_own_endpoint_logs_out_and_in_again(edge: Edge, bridge: Bridge, mqtt: Mqtt) -> None:
    began = edge.mark()
    with logged_in(edge, bridge) as app:
        other = bridge.http.post(f"{edge.url}/api/auth/logout", json={"uid": "somebody-else", "action": "logout"})
        assert other.status_code == 409
        assert edge.said("logged_out", began) == []
        status_says(mqtt, edge, "active")

        answer = bridge.http.post(f"{edge.url}/api/auth/logout", json={"uid": edge.uid, "action": "logout"})
        assert answer.status_code == 200
        assert answer.content == b'{"success":true,"message":"Logged out successfully"}'
        in_standby(edge, mqtt, began)
        assert app.message("session_ended")["reason"] == "local"

        again = edge.mark()
        assert bridge.http.post(f"{edge.url}/api/auth/login", json={"uid": edge.uid}).status_code == 200
        edge.event("logged_in", since=again)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 422), (b"[]", 422), (b'{"uid": 7}', 422), (b'{"uid": "a/b"}', 422), (b'{"uid": "\xff"}', 400)],
)
def test_the_edges_endpoint_answers_bad_input_with_json(edge: Edge, bridge: Bridge, body: bytes, status: int) -> None:
    response = bridge.http.post(f"{edge.url}/api/auth/logout", content=body)
    assert response.status_code == status
    assert response.json()["detail"]


def test_a_killed_edge_leaves_its_last_will_and_is_logged_in_again_when_it_is_back(
    edge: Edge, bridge: Bridge, mqtt: Mqtt
) -> None:
    assert edge.uid is not None
    topic = f"devices/{edge.device_id}"
    began = edge.mark()
    claim(edge, bridge)
    with bridge.app(edge.uid) as app:
        edge.event("logged_in", since=began, within_s=PATIENCE_S)
        boot = retained_status(mqtt, edge)["boot"]
        edge.kill()
        will = mqtt.message(f"{topic}/status", lambda status: status["state"] == "offline")
        assert will["boot"] == boot
        wait_for("it is retained", lambda: retained_status(mqtt, edge)["state"] == "offline")
        # Whatever was retained there before it came, is no command.
        mqtt.publish(f"{topic}/logout", {"uid": edge.uid, "action": "logout"}, retain=True)
        edge.start()
        try:
            hello = mqtt.message(f"{topic}/hello", lambda hello: hello["boot"] == boot + 1)
            assert hello["claim_uid"] == edge.uid
            edge.event("logged_in")
            edge.sarvis.event("the retained log-out", lambda line: line.get("event") == "retained_command_ignored")
        finally:
            mqtt.publish(f"{topic}/logout", b"", retain=True)
        edge.hear_word()
        app.message("voice_command")
        assert edge.said("logged_out") == []
        assert app.messages("session_ended") == []
        bridge.post("/api/auth/logout", {"uid": edge.uid})
        edge.event("logged_out")


def test_an_app_that_falls_silent_is_logged_out_everywhere(
    broker: Broker, broker_url: str, tmp_path: Path, short_bridge: Bridge
) -> None:
    uid = unique("user")
    with (
        Mqtt(broker.port, SHORT_PREFIX) as mqtt,
        Sarvis(
            "app", "--json", "--uid", uid, "--url", f"ws://{HOST}:{short_bridge.port}", cwd=tmp_path,
            settings={"SARVIS_APP__HEARTBEAT_INTERVAL_S": "0.5"},
        ) as app,
        Edge(tmp_path, broker_url, uid=uid, settings={"SARVIS_MQTT__PREFIX": SHORT_PREFIX}) as edge,
    ):  # fmt: skip
        edge.event("logged_in")
        # Longer than the time-out: the heartbeats keep the user alive.
        app.event("beats", is_message("heartbeat_ack"), nth=int(2 * SHORT_TIMEOUT_S) + 2)
        assert edge.said("logged_out") == []
        with short_bridge.app(uid) as silent:
            app.kill()
            assert silent.closed_with() == 4500
            in_standby(edge, mqtt, 0)
            assert mqtt.message(f"devices/{edge.device_id}/logout")["reason"] == "heartbeat_timeout"
            assert mqtt.message(f"devices/{edge.device_id}/ack")["status"] == "done"
            assert silent.message("session_ended")["reason"] == "heartbeat_timeout"
        assert short_bridge.http.post(f"{short_bridge.url}/api/app/heartbeat", json={"uid": uid}).status_code == 409


@pytest.mark.parametrize("server", ["bridge", "edge"])
def test_an_answer_does_not_wait_for_a_delayed_acknowledgement(bridge: Bridge, edge: Edge, server: str) -> None:
    url = bridge.url if server == "bridge" else edge.url

    def lower_quartile_s() -> float:
        took_s = []
        for _ in range(21):
            began = time.perf_counter()
            assert bridge.http.get(f"{url}/livez").status_code == 200
            took_s.append(time.perf_counter() - began)
        return sorted(took_s)[5]

    # Without TCP_NODELAY the second packet of an answer waits 40 ms for the first one's acknowledgement, each time; a
    # busy machine is slow for some of them, and for some time only.
    assert any(lower_quartile_s() < 0.025 for _ in range(60))
