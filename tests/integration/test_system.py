"""The whole system as processes, over the embedded broker and over Debian's mosquitto."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Sarvis
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, App, Bridge, Broker, Edge, Json, Mqtt, pause, unique

SHORT_PREFIX = "sarvis/short"
SHORT_TIMEOUT_S = 3.0
BIRTH_SPREAD_S = 10.0
HEARD_KEYS = {"type", "command", "timestamp"}
V2_KEYS = HEARD_KEYS | {"id", "device_id", "ttl_ms", "age_ms", "received_at", "clock_ms"}


@pytest.fixture(scope="module")
def edge(broker_url: str, bridge: Bridge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """An edge of a configured user; every test leaves it in standby."""
    del bridge  # needed, but not here
    with Edge(tmp_path_factory.mktemp("edge"), broker_url, uid=unique("owner")) as running:
        running.event("connected")
        yield running


def claim(edge: Edge, bridge: Bridge) -> None:
    """Let the edge claim its user again, whoever was logged out there before."""
    assert bridge.http.post(f"{edge.url}/api/auth/login", json={"uid": edge.uid}).status_code == 200


@contextmanager
def logged_in(edge: Edge, bridge: Bridge) -> Iterator[App]:
    """The edge's user is connected and logged in there; logged out afterwards at the latest."""
    assert edge.uid is not None
    began = edge.mark()
    claim(edge, bridge)
    with bridge.app(edge.uid) as app:
        try:
            edge.event("logged_in", since=began, within_s=PATIENCE_S)
            yield app
        finally:
            bridge.post("/api/auth/logout", {"uid": edge.uid})
            count = len(edge.said("logged_in", began))
            wait_for("logged out", lambda: len(edge.said("logged_out", began)) == count)


def in_standby(edge: Edge, mqtt: Mqtt, since: int) -> None:
    """Everybody can see that nobody is logged in on the edge."""
    edge.event("logged_out", since=since)
    edge.event("led", lambda line: line["state"] == "standby", since=since)
    wait_for("the retained status says standby", lambda: retained_status(mqtt, edge)["session"] == "standby")


def retained_status(mqtt: Mqtt, edge: Edge) -> Json:
    """What somebody who subscribes now is told."""
    with Mqtt(mqtt.paho.port, mqtt.prefix) as newcomer:
        return newcomer.message(f"devices/{edge.device_id}/status")


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@contextmanager
def mosquitto_sub(broker: Broker, topic: str) -> Iterator[Iterator[str]]:
    """The lines `TOPIC PAYLOAD` of an operator's terminal, from the moment of its subscription."""
    line = [tool("mosquitto_sub"), "-p", str(broker.port), "-q", "1", "-F", "%t %p"]
    # The bridge's retained status comes first, and so tells that the subscription stands.
    line += ["-t", "sarvis/v1/bridges/#", "-t", topic, "-W", str(int(PATIENCE_S))]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        assert "/bridges/" in process.stdout.readline()
        try:
            yield (text.rstrip("\n") for text in process.stdout)
        finally:
            process.terminate()


def mosquitto_pub(broker: Broker, topic: str, payload: Json) -> None:
    text = json.dumps(payload, ensure_ascii=False)
    subprocess.run(
        [tool("mosquitto_pub"), "-p", str(broker.port), "-q", "1", "-t", topic, "-m", text],
        check=True,
        timeout=PATIENCE_S,
    )


# --- wakes ---


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
def test_a_wake_for_nobody_says_so(mqtt: Mqtt) -> None:
    device = unique("x")
    wake_id = mqtt.wake(device, unique("nobody"))
    assert mqtt.outcome(device, wake_id) == "user_not_connected"


@pytest.mark.parametrize(("age_ms", "ttl_ms"), [(10_000, 10_000), (500, 400), (0, 0)])
def test_a_stale_wake_rings_nobody(bridge: Bridge, mqtt: Mqtt, age_ms: int, ttl_ms: int) -> None:
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


# --- an edge's session ---


def test_the_word_rings_the_app_while_its_user_is_logged_in(edge: Edge, bridge: Bridge, mqtt: Mqtt) -> None:
    began = edge.mark()
    with logged_in(edge, bridge) as app:
        edge.event("led", lambda line: line["state"] == "active", since=began)
        assert retained_status(mqtt, edge)["session"] == "active"
        edge.hear_word()
        wake = edge.event("wake", since=began)
        assert wake["uid"] == edge.uid
        heard = app.message("voice_command")
        assert (heard["id"], heard["device_id"], heard["command"]) == (wake["id"], edge.device_id, "wake_up")
        outcome = edge.event("outcome", lambda line: line["status"] == "acked", since=began)
        assert outcome["id"] == wake["id"]
        assert mqtt.messages(f"devices/{edge.device_id}/wake")[0]["uid"] == edge.uid


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

    def grown(name: str) -> float:
        return edge.metrics().get(name, 0.0) - before.get(name, 0.0)

    assert grown("sarvis_edge_frames_total") >= 37, "three seconds before the word alone"
    assert grown("sarvis_edge_score_count") == grown("sarvis_edge_scored_total") > 0
    assert grown('sarvis_edge_score_bucket{le="+Inf"}') > grown('sarvis_edge_score_bucket{le="0.4"}')
    assert grown("sarvis_edge_wakes_total") == 1
    assert grown('sarvis_edge_outcomes_total{status="acked"}') == 1
    after = edge.metrics()
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
        assert edge.said("logged_out", began)[0]["reason"] == "done"
        in_standby(edge, mqtt, began)
        # The device's own report ended the session in the ledger as well.
        assert app.message("session_ended")["device_id"] == edge.device_id


def test_who_was_logged_out_by_an_operator_is_not_logged_in_again_at_once(
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
        assert retained_status(mqtt, edge)["session"] == "active"

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
        assert retained_status(mqtt, edge)["state"] == "offline"
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


def is_message(kind: str) -> Any:
    return lambda line: isinstance(line.get("message"), dict) and line["message"].get("type") == kind


@pytest.fixture(scope="module")
def short_bridge(broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A bridge in a world of its own on the same broker, with a short heartbeat time-out."""
    settings = {
        "SARVIS_MQTT__PREFIX": SHORT_PREFIX,
        "SARVIS_BRIDGE__HEARTBEAT_TIMEOUT_S": str(SHORT_TIMEOUT_S),
        "SARVIS_BRIDGE__INSTANCE": "short",
    }
    with Bridge(tmp_path_factory.mktemp("short"), broker_url, settings) as running:
        yield running


# --- parts that die ---


def test_a_broker_that_dies_and_comes_back_costs_nobody_the_session(edge: Edge, bridge: Bridge, broker: Broker) -> None:
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


# --- speed ---


@pytest.mark.parametrize("server", ["bridge", "edge"])
def test_an_answer_does_not_wait_for_a_delayed_acknowledgement(bridge: Bridge, edge: Edge, server: str) -> None:
    url = bridge.url if server == "bridge" else edge.url
    took_s = []
    for _ in range(21):
        began = time.perf_counter()
        assert bridge.http.get(f"{url}/livez").status_code == 200
        took_s.append(time.perf_counter() - began)
    # Without TCP_NODELAY the second packet of an answer waits 40 ms for the first one's acknowledgement.
    assert sorted(took_s)[10] < 0.025


# --- the hostile ---


def test_nonsense_on_mqtt_is_counted_and_disturbs_nobody(bridge: Bridge, mqtt: Mqtt) -> None:
    uid, device = unique("user"), unique("x")
    good: Json = {"uid": uid, "command": "wake_up", "timestamp": "then"}
    nonsense: list[bytes] = [
        b"{",
        b"",
        b"[]",
        b"null",
        b'"wake"',
        b"\xff\xfe\x00",
        json.dumps(good).encode()[:-1] + b', "pad": "\xff"}',
        json.dumps({**good, "pad": "x" * 9 * 1024}).encode(),
        b"[" * 4000,
        json.dumps({**good, "uid": "a/b"}).encode(),
        json.dumps({**good, "uid": ""}).encode(),
        json.dumps({**good, "uid": "\ud800"}).encode(),
        json.dumps({**good, "uid": "u" * 129}).encode(),
        json.dumps({**good, "command": "c" * 1025}).encode(),
        json.dumps({**good, "ttl_ms": 60_001}).encode(),
        json.dumps({**good, "age_ms": -1}).encode(),
        json.dumps({"uid": uid}).encode(),
    ]
    line = 'sarvis_mqtt_invalid_messages_total{{kind="{}"}}'.format
    before = {kind: bridge.metric(line(kind)) for kind in ("wake", "hello", "ack", "status", "unknown")}
    with bridge.app(uid) as app:
        for payload in nonsense:
            mqtt.publish(f"devices/{device}/wake", payload)
        for kind in ("hello", "ack", "status"):
            mqtt.publish(f"devices/{device}/{kind}", b"{")
        for owner in ("bad device", "ü", "a.b", "d" * 65, "싸비스"):
            mqtt.publish(f"devices/{owner}/wake", good)
        for topic in ("devices/x/unheard-of", "devices/wake", "nobody/x/wake", "devices/x/wake/more"):
            mqtt.publish(topic, good)
        wake_id = mqtt.wake(device, uid)
        assert mqtt.outcome(device, wake_id, nth=2) == "acked"
        assert [heard["id"] for heard in app.messages("voice_command")] == [wake_id]
    counted = {kind: bridge.metric(line(kind)) - count for kind, count in before.items()}
    assert counted == {"wake": len(nonsense), "hello": 1, "ack": 1, "status": 1, "unknown": 5}
    assert bridge.readiness()[0] == 200


def test_nobody_can_log_in_on_the_device_that_mirrors_http(bridge: Bridge, mqtt: Mqtt) -> None:
    uid, other = unique("user"), unique("other")
    hello = {"install_id": unique("install"), "boot": 1, "seq": 1, "nonce": unique("nonce"), "claim_uid": uid}
    with bridge.app(uid) as app, bridge.app(other) as victim:
        mqtt.publish("devices/legacy-http/hello", hello)
        device = unique("x")
        mqtt.publish(f"devices/{device}/hello", {**hello, "nonce": unique("nonce")})
        mqtt.message(f"devices/{device}/login")  # answered one after another: the first one is dealt with, too
        try:
            assert bridge.trigger(other)["success"] is True
            victim.message("voice_command")
        finally:
            app.say({"type": "logout"})
            app.closed_with()


def test_the_ninth_socket_of_a_user_closes_the_oldest(bridge: Bridge) -> None:
    uid = unique("user")
    with ExitStack() as stack:
        apps = [stack.enter_context(bridge.app(uid)) for _ in range(9)]
        assert apps[0].closed_with() == 4505
        bridge.trigger(uid)
        for app in apps[1:]:
            app.message("voice_command")
        assert all(app.code is None for app in apps[1:])


def test_the_same_client_again_replaces_its_older_socket_and_hears_on(bridge: Bridge) -> None:
    uid = unique("user")
    with bridge.app(uid, client="phone") as older, bridge.app(uid, client="watch") as watch:
        with bridge.app(uid, client="phone") as newer:
            assert older.closed_with() == 4502
            bridge.trigger(uid)
            newer.message("voice_command")
            watch.message("voice_command")
        assert older.messages("voice_command") == []


def test_a_slow_reader_is_cut_off_and_the_other_hears_everything(bridge: Bridge, mqtt: Mqtt) -> None:
    uid, device = unique("user"), unique("x")
    open_before = bridge.metric("sarvis_app_connections")
    # Far more than the kernel keeps for a socket that nobody reads.
    commands = [f"{number} " + "🔔" * 1000 for number in range(1000)]
    with bridge.app(uid, acks=False) as reader, never_reads(bridge, uid) as stuck:
        assert bridge.metric("sarvis_app_connections") == open_before + 2
        for number, command in enumerate(commands):
            wake = {"uid": uid, "command": command, "timestamp": "then"}
            info = mqtt.paho.publish(f"sarvis/v1/devices/{device}/wake", json.dumps(wake, ensure_ascii=False), 1)
            if number % 50 == 0:  # a broker drops what it cannot hold for a subscriber
                info.wait_for_publish(PATIENCE_S)
        wait_for(
            "the last one", lambda: any(heard["command"] == commands[-1] for heard in reader.messages("voice_command"))
        )
        # Unconfirmed ones come again: an app rings once per id.
        rung = {heard["id"]: heard["command"] for heard in reader.messages("voice_command")}
        assert list(rung.values()) == commands
        wait_for("the slow one is no connection", lambda: bridge.metric("sarvis_app_connections") == open_before + 1)
        reader.all_before()
        wait_for("the bridge's end of it is closed", lambda: not holds(bridge, stuck))


@contextmanager
def never_reads(bridge: Bridge, uid: str) -> Iterator[socket.socket]:
    """A WebSocket whose owner reads nothing after the handshake."""
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(PATIENCE_S)
        raw.connect((HOST, bridge.port))
        raw.sendall(
            f"GET /ws/app/{uid}/ HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert raw.recv(12) == b"HTTP/1.1 101"
        wait_for("it is connected", lambda: b"connection_established" in raw.recv(4096, socket.MSG_PEEK))
        yield raw


def holds(bridge: Bridge, client: socket.socket) -> bool:
    """Whether the bridge's process still has its end of this connection."""
    wanted = f"{client.getsockname()[1]:04X}"
    pid = bridge.sarvis.process.pid
    inodes = {
        columns[9]
        for columns in (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        if columns[2].endswith(f":{wanted}") and columns[1].endswith(f":{bridge.port:04X}")
    }
    sockets = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    return any(f"socket:[{inode}]" in sockets for inode in inodes)
