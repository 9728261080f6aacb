"""A fleet with every door closed: TLS from microphone to phone, least rights, on each broker, by each credential."""

import json
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from broker.provisioning.kit import BrokerAccess
from tests.support.fleet import Fleet
from tests.support.processes import Sarvis, run_sarvis
from tests.support.secure import KINDS, Client, stolen_from
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import PREFIX, Json, unique

DOORS = [
    pytest.param((kind, certificates), id=f"{kind}-{'certificates' if certificates else 'passwords'}")
    for kind in KINDS
    for certificates in (False, True)
]

by_passwords_alone = pytest.mark.parametrize("fleet", DOORS[::2], indirect=True)
"""What does not depend on the kind of credential is tested with one."""


@pytest.fixture(scope="module", params=DOORS)
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    kind, certificates = request.param
    with Fleet(tmp_path_factory.mktemp("fleet"), kind, certificates=certificates) as it:
        yield it


def own(client: Client) -> str:
    """The device as which a client came."""
    return client.paho._client_id.decode().removeprefix("sarvis-")


def said(client: Client, topic: str) -> list[Json]:
    wanted = f"{PREFIX}/{topic}"
    return [json.loads(payload) for name, payload in [*client.retained, *client.got] if name == wanted and payload]


def say(client: Client, topic: str, message: Json) -> None:
    client.publish(f"{PREFIX}/{topic}", json.dumps(message).encode())


def wake(uid: str, wake_id: str | None = None) -> Json:
    return {"uid": uid, "command": "wake_up", "timestamp": "now", "id": wake_id or unique("wake")}


def hello(**more: Any) -> Json:
    return {"install_id": unique("install"), "boot": 1, "seq": 1, "nonce": unique("nonce"), **more}


def fate(client: Client, wake_id: str) -> str:
    """The first outcome of a wake that this device sent."""
    topic = f"devices/{own(client)}/outcome"
    found = wait_for("an outcome", lambda: [one for one in said(client, topic) if one["id"] == wake_id])
    status: str = found[0]["status"]
    return status


# --- what must work ---


def test_the_right_phone_rings_and_the_device_hears_of_it(fleet: Fleet) -> None:
    uid = unique("user")
    with fleet.edge(uid) as edge, fleet.app(uid) as app, fleet.app(unique("other")) as other:
        assert edge.event("logged_in")["uid"] == uid
        edge.hear_word()
        assert app.message("voice_command")["device_id"] == edge.device_id
        edge.event("outcome", lambda line: line["status"] == "acked")
        other.all_before()
        assert other.messages("voice_command") == []


def test_an_app_logs_in_on_a_device_without_a_claim_and_logs_out_again(fleet: Fleet) -> None:
    uid = unique("user")
    with fleet.edge() as edge, fleet.app(uid) as app, fleet.operator() as operator:
        app.say({"type": "login", "device_id": edge.device_id})
        app.message("login_ack")
        edge.event("logged_in")
        edge.hear_word()
        app.message("voice_command")
        app.say({"type": "logout"})
        assert app.closed_with() == 4501
        edge.event("logged_out")
        ack = wait_for("the operator sees the ack", lambda: said(operator, f"devices/{edge.device_id}/ack"))
        assert ack[0]["status"] == "done"


@by_passwords_alone
def test_a_device_says_hello_and_is_answered_by_its_nonce(fleet: Fleet) -> None:
    uid = unique("user")
    device = fleet.add(uid)
    with fleet.operator() as operator, fleet.app(uid), fleet.edge(device=device) as edge:
        session_id = edge.event("logged_in")["session_id"]
        topic = f"devices/{edge.device_id}"
        hellos = wait_for("its hello", lambda: said(operator, f"{topic}/hello"))
        granted = wait_for("a grant", lambda: [one for one in said(operator, f"{topic}/login") if one.get("re")])
        assert granted[-1]["re"] in [hello["nonce"] for hello in hellos]
        assert granted[-1]["session_id"] == session_id
        assert hellos[-1]["claim_uid"] == uid


@by_passwords_alone
def test_an_older_caller_with_a_key_rings_and_logs_out(fleet: Fleet) -> None:
    uid = unique("user")
    key = fleet.sarvis("token", "api", "old server").strip()
    trigger = {"uid": uid, "command": "싸비스", "timestamp": "now"}

    def post(path: str, body: Json) -> Json:
        answer = fleet.bridge.http.post(fleet.bridge.url + path, json=body, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200, answer.text
        told: Json = answer.json()
        return told

    device = fleet.add(uid)
    with fleet.operator() as operator, fleet.app(uid, legacy=True) as app, fleet.edge(device=device) as edge:
        edge.event("logged_in")
        assert post("/api/voice-command/trigger", trigger) == {"success": True, "message": "Command sent"}
        assert app.message("voice_command")["command"] == "싸비스"
        mirror = wait_for("the mirror", lambda: said(operator, "devices/legacy-http/wake"))
        assert mirror[-1]["uid"] == uid
        assert post("/api/auth/logout", {"uid": uid}) == {"success": True, "message": "Logged out successfully"}
        edge.event("logged_out")


@by_passwords_alone
def test_an_operators_command_logs_out(fleet: Fleet) -> None:
    uid = unique("user")
    with fleet.edge(uid) as edge, fleet.app(uid) as app:
        edge.event("logged_in")
        told = fleet.sarvis("sessions", "logout", uid)
        assert told.startswith("1 session of")
        edge.event("logged_out")
        assert app.closed_with() == 4501


def test_a_killed_edge_leaves_its_last_will_and_goes_on_when_it_is_back(fleet: Fleet) -> None:
    uid = unique("user")
    with fleet.edge(uid) as edge, fleet.app(uid) as app, fleet.operator() as operator:
        edge.event("logged_in")
        topic = f"devices/{edge.device_id}/status"
        edge.kill()
        wait_for("the last will", lambda: any(status["state"] == "offline" for status in said(operator, topic)))
        with fleet.operator() as newcomer:
            wait_for("it is retained", lambda: [one["state"] for one in said(newcomer, topic)] == ["offline"])
        edge.start()
        edge.event("logged_in")
        edge.hear_word()
        app.message("voice_command")


def test_a_broker_that_dies_and_comes_back_ends_no_session(fleet: Fleet) -> None:
    uid = unique("user")
    with fleet.edge(uid) as edge, fleet.app(uid) as app:
        edge.event("logged_in")
        fleet.broker.kill()
        edge.event("disconnected")
        down = edge.mark()
        fleet.broker.start()
        fleet.bridge.wait_ready()
        edge.event("connected", since=down)
        edge.hear_word()
        app.message("voice_command")
        edge.event("outcome", lambda line: line["status"] == "acked", since=down)
        assert edge.said("logged_out") == []


@by_passwords_alone
def test_a_killed_bridge_goes_on_with_what_it_knew(fleet: Fleet) -> None:
    uid = unique("user")
    with fleet.edge(uid) as edge, fleet.app(uid):
        edge.event("logged_in")
        fleet.bridge.kill()
        fleet.bridge.start()
        with fleet.app(uid) as app:
            edge.hear_word()
            app.message("voice_command")
            fleet.sarvis("sessions", "logout", uid)
            edge.event("logged_out")


# --- who gets nowhere ---


@by_passwords_alone
def test_a_device_cannot_wake_a_user_who_is_not_logged_in_there(fleet: Fleet) -> None:
    alice, bob = unique("alice"), unique("bob")
    with fleet.thief() as thief, fleet.app(alice) as hers, fleet.app(bob) as his:
        mine = f"devices/{own(thief)}"
        attempt = wake(alice)
        say(thief, f"{mine}/wake", attempt)
        assert fate(thief, attempt["id"]) == "rejected"
        his.say({"type": "login", "device_id": own(thief)})
        his.message("login_ack")
        attempt = wake(alice)
        say(thief, f"{mine}/wake", attempt)
        assert fate(thief, attempt["id"]) == "rejected"
        allowed = wake(bob)
        say(thief, f"{mine}/wake", allowed)
        assert his.message("voice_command")["id"] == allowed["id"]
        hers.all_before()
        assert hers.messages("voice_command") == []


@by_passwords_alone
def test_a_device_cannot_claim_or_invent_a_session(fleet: Fleet) -> None:
    uid = unique("user")
    with fleet.thief() as thief, fleet.app(uid) as app:
        mine = f"devices/{own(thief)}"
        install, forged = unique("install"), unique("session")
        say(thief, f"{mine}/hello", hello(install_id=install, claim_uid=uid))
        say(thief, f"{mine}/hello", hello(install_id=install, seq=2, session_id=forged, uid=uid, claim_uid=uid))
        logout = wait_for("the answer", lambda: said(thief, f"{mine}/logout"))
        assert logout[0]["session_id"] == forged
        attempt = wake(uid)
        say(thief, f"{mine}/wake", attempt)
        assert fate(thief, attempt["id"]) == "rejected"
        assert said(thief, f"{mine}/login") == []
        app.all_before()
        assert app.messages("voice_command") == []
        running = json.loads(fleet.sarvis("sessions", "list", "--json"))["sessions"]
        assert [session for session in running if session["uid"] == uid] == []


def test_a_device_cannot_speak_as_another_nor_answer_for_the_bridge(fleet: Fleet) -> None:
    uid = unique("user")
    with fleet.edge(uid) as edge, fleet.app(uid) as app, fleet.thief() as thief, fleet.operator() as operator:
        session_id = edge.event("logged_in")["session_id"]
        victim = f"devices/{edge.device_id}"
        attempt = wake(uid)
        attempts: Sequence[tuple[str, Json]] = [
            ("wake", attempt),
            ("hello", hello(ended=[{"session_id": session_id, "reason": "local"}])),
            ("ack", {**hello(), "id": unique("id"), "status": "done"}),
            ("status", {"state": "offline", "boot": 10**6}),
            ("logout", {"uid": uid, "action": "logout", "session_id": session_id}),
            ("login", {"id": "x", "uid": "mallory", "action": "login"}),
            ("outcome", {"id": attempt["id"], "status": "acked"}),
        ]
        for kind, message in attempts:
            say(thief, f"{victim}/{kind}", message)
        say(thief, f"devices/{own(thief)}/outcome", {"id": attempt["id"], "status": "acked"})
        say(thief, "bridges/bridge-1/status", {"state": "offline"})
        say(thief, "devices/legacy-http/wake", attempt)
        # What it may say comes after all that, so all that did not come.
        marker = wake(unique("nobody"))
        say(thief, f"devices/{own(thief)}/wake", marker)
        assert fate(thief, marker["id"]) == "rejected"
        wait_for("the operator hears it", lambda: any(marker["id"].encode() in payload for _, payload in operator.got))
        assert not any(attempt["id"].encode() in payload for _, payload in operator.got)
        assert not any("mallory" in payload.decode() for _, payload in operator.got)
        app.all_before()
        assert app.messages("voice_command") == []
        assert edge.said("logged_out") == []
        edge.hear_word()
        app.message("voice_command")


def test_a_device_cannot_read_what_is_for_another(fleet: Fleet) -> None:
    uid = unique("user")
    with fleet.edge(uid) as edge, fleet.app(uid) as app, fleet.thief() as thief:
        edge.event("logged_in")
        heard_before = len(thief.got)
        thief.paho.subscribe([
            (name, 1)
            for name in (
                f"{PREFIX}/devices/{edge.device_id}/logout",
                f"{PREFIX}/devices/+/logout",
                f"{PREFIX}/devices/+/wake",
                f"{PREFIX}/#",
                "#",
            )
        ])  # fmt: skip
        edge.hear_word()
        app.message("voice_command")
        app.say({"type": "logout"})
        edge.event("logged_out")
        marker = wake(uid)
        say(thief, f"devices/{own(thief)}/wake", marker)
        assert fate(thief, marker["id"]) == "rejected"
        stolen = [name for name, _ in thief.got[heard_before:] if own(thief) not in name and "/bridges/" not in name]
        assert stolen == []


def test_a_client_without_a_credential_or_of_another_authority_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    stranger = BrokerAccess(fleet.broker.url, unique("jetson"), PREFIX, fleet.broker.ca_file)
    with Client(fleet.broker, stranger, wait=False) as client:
        assert client.refused()
    made = run_sarvis("certs", "ca", "--out", "ca", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    told = Sarvis(
        "edge", "--json", "--device-id", "x", "--source", "silence", "--http-port", "0", "--state-dir", "state",
        "--mqtt-url", fleet.broker.url, cwd=tmp_path,
        settings={"SARVIS_MQTT__CA_FILE": "ca/ca.crt", "SARVIS_MQTT__RECONNECT_MAX_S": "0.2"},
    )  # fmt: skip
    with told as edge:
        # On a busy machine it may be first that no answer came in time.
        edge.event("why", lambda line: line.get("event") == "mqtt_disconnected" and "mqtt.ca_file" in line["reason"])
        assert not [line for line in edge.events() if line.get("event") == "connected"]


# --- what changes without a restart ---


def test_a_removed_device_is_logged_out_disconnected_and_forgotten(fleet: Fleet) -> None:
    uid = unique("user")
    with fleet.edge(uid) as edge, fleet.app(uid) as app:
        edge.event("logged_in")
        topic = f"devices/{edge.device_id}/status"
        with fleet.operator() as operator:
            wait_for("its status", lambda: said(operator, topic))
        told = fleet.sarvis("device", "remove", edge.device_id)
        assert "no user is logged in there now" in told
        edge.event("logged_out")
        assert app.message("session_ended")["device_id"] == edge.device_id
        edge.event("disconnected")
        wait_for("it cannot come back", lambda: not fleet.broker.lets_in(fleet.door(edge.device_id)))

        def is_forgotten() -> bool:
            with fleet.operator() as newcomer:
                marker = wait_for("what is retained", lambda: said(newcomer, "bridges/bridge-1/status"))
                return bool(marker) and said(newcomer, topic) == []

        wait_for("its status is cleared", is_forgotten)
        app.say({"type": "login", "device_id": edge.device_id})
        assert app.message("error")["code"] == "no_such_device"
        edge.kill()


@by_passwords_alone
def test_the_status_of_a_device_that_only_the_broker_knew_is_cleared(fleet: Fleet) -> None:
    device_id, _ = fleet.add(to_ledger=False)
    topic = f"devices/{device_id}/status"
    with Client(fleet.broker, fleet.door(device_id)) as device:
        device.publish(f"{PREFIX}/{topic}", b'{"state":"online","boot":1}', retain=True)

    def is_retained() -> bool:
        with fleet.operator() as newcomer:
            marker = unique("install")
            say(other, f"devices/{own(other)}/hello", hello(install_id=marker))
            wait_for("the marker", lambda: any(marker.encode() in payload for _, payload in newcomer.got))
            return said(newcomer, topic) != []

    with fleet.thief() as other:
        wait_for("its status is retained", is_retained)
        fleet.sarvis("device", "remove", device_id)
        wait_for("its status is cleared", lambda: not is_retained())


def test_a_new_secret_makes_the_old_one_worthless_and_the_device_comes_back_with_it(fleet: Fleet) -> None:
    uid = unique("user")
    with fleet.edge(uid) as edge, fleet.app(uid) as app:
        edge.event("logged_in")
        old = fleet.door(edge.device_id)
        stolen = stolen_from(old, fleet.folder)
        fleet.sarvis("device", "add", edge.device_id, "--new-secret", "--kit", str(fleet.folder / edge.device_id))
        began = edge.mark()
        wait_for("the old one is refused", lambda: not fleet.broker.lets_in(stolen))
        # Its files are read again at each connection.
        fleet.broker.kill()
        fleet.broker.start()
        edge.event("connected", since=began)
        fleet.bridge.wait_ready()
        edge.hear_word()
        app.message("voice_command")


@by_passwords_alone
def test_a_renewed_certificate_of_the_bridge_is_shown_without_a_restart(fleet: Fleet) -> None:
    def serial() -> str:
        return ssl.get_server_certificate(("127.0.0.1", fleet.bridge.port), timeout=PATIENCE_S)

    before = serial()
    with fleet.app(unique("user")) as app:
        fleet.broker.renew()
        wait_for("the new certificate", lambda: serial() != before)
        app.all_before()
        with fleet.app(unique("user")) as other:
            other.all_before()
