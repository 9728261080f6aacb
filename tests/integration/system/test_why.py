"""«Why did my phone not ring?»: failures staged with real processes, over both brokers, and what `sarvis why` says."""

import json
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.system.parts import claim, logged_in
from tests.integration.system.test_hostile import never_reads
from tests.support.processes import run_sarvis
from tests.support.push_service import CONTACT, PushService
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import Bridge, Broker, Edge, Json, Mqtt, unique

SHORT_LIFE_MS = 400


class House(Bridge):
    """A bridge, and an operator who asks it."""

    folder: Path

    def why(self, name: str, *more: str) -> tuple[int, Json]:
        done = run_sarvis("why", name, "--json", *more, cwd=self.folder, settings={"SARVIS_OPERATOR__URL": self.url})
        assert done.returncode in {0, 1}, done.stderr
        assert "Traceback" not in done.stderr
        # Before the first story of a user is written, the user is not known.
        return done.returncode, json.loads(done.stdout or '{"causes": [], "wake": null}')

    def names(self, code: str, name: str) -> Json:
        """Wait until this cause is named, with a remedy; the cause."""

        def look() -> Json | None:
            exit_code, told = self.why(name)
            found = [cause for cause in told["causes"] if cause["code"] == code]
            if not found:
                return None
            assert (exit_code, told["rang"]) == (1, False)
            assert told["to_do"], "a remedy is named"
            assert all(told["to_do"])
            return {**found[0], "to_do": told["to_do"]}

        try:
            return wait_for(f"{code} is named", look)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.why(name)}") from None


@pytest.fixture(scope="module")
def service() -> Iterator[PushService]:
    with PushService() as running:
        yield running


@pytest.fixture(scope="module")
def bridge(broker_url: str, service: PushService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("bridge")
    settings = {
        "SARVIS_PUSH__ENABLED": "true",
        "SARVIS_PUSH__CONTACT": CONTACT,
        "SARVIS_PUSH__KEY_FILE": "push/vapid.pem",
        "SARVIS_PUSH__SERVICES": f'["{service.origin}"]',
    }
    house = House(folder, broker_url, settings)
    house.folder = folder
    with house:
        yield house


def test_it_rang(edge: Edge, bridge: House) -> None:
    assert edge.uid is not None
    with logged_in(edge, bridge) as app:
        edge.hear_word()
        wake_id = app.message("voice_command")["id"]
        told = wait_for("it is told", lambda: answer[1] if (answer := bridge.why(edge.uid or ""))[0] == 0 else None)
        assert (told["rang"], told["causes"], told["wake"]["id"]) == (True, [], wake_id)
        assert [step["step"] for step in told["wake"]["steps"]] == ["queued", "acked"]
        assert bridge.why(edge.device_id)[0] == 0

        def traced() -> str:
            done = run_sarvis("trace", wake_id, cwd=bridge.folder)
            return done.stdout if done.returncode == 0 else ""

        text = wait_for("it is written", traced)
        assert f"{edge.device_id} heard the word (score 0." in text
        assert text.endswith("It rang.\n")


def test_muted(edge: Edge, bridge: House) -> None:
    assert edge.uid is not None
    with logged_in(edge, bridge):
        assert bridge.http.post(f"{edge.url}/api/mute", json={"muted": True}).status_code == 200
        try:
            edge.hear_word()
            for name in (edge.uid, edge.device_id):
                cause = bridge.names("muted", name)
                assert (cause["about"], cause["until"]) == (edge.device_id, None)
                assert f"unmute {edge.device_id}" in cause["to_do"][0]
                text = run_sarvis("why", name, cwd=bridge.folder, settings={"SARVIS_OPERATOR__URL": bridge.url}).stdout
                assert f"Cause: {cause['text']}\n" in text
                assert f"To do: {cause['to_do'][0]}\n" in text
        finally:
            assert bridge.http.post(f"{edge.url}/api/mute", json={"muted": False}).status_code == 200


def test_microphone_unplugged(broker: Broker, bridge: House, tmp_path: Path) -> None:
    unplugged, uid = tmp_path / "unplugged", unique("owner")
    sound = f"sh -c 'until [ -e {unplugged} ]; do head -c 2560 /dev/zero; sleep 0.05; done; exit 1'"
    with bridge.app(uid), Edge(tmp_path, broker.url, uid=uid, source=f"exec:{sound}") as edge:
        edge.event("logged_in")
        unplugged.touch()
        for name in (uid, edge.device_id):
            cause = bridge.names("microphone_lost", name)
            assert (cause["about"], cause["until"]) == (edge.device_id, None)
        edge.kill()  # it would end by itself, with a failure, when the microphone stays away


def test_standby(edge: Edge, bridge: House) -> None:
    assert edge.uid is not None
    with logged_in(edge, bridge):
        pass
    edge.hear_word()
    assert bridge.names("standby", edge.uid)["told"]["reason"] == "http"
    assert bridge.names("standby", edge.device_id)["about"] == edge.device_id


def test_other_user(edge: Edge, bridge: House) -> None:
    assert edge.uid is not None
    other = unique("other")
    with logged_in(edge, bridge):
        with bridge.app(other) as theirs:
            began = edge.mark()
            bridge.post("/api/auth/login", {"uid": other, "device_id": edge.device_id})
            edge.event("logged_in", lambda line: line["uid"] == other, since=began)
            edge.hear_word()
            theirs.message("voice_command")
            cause = bridge.names("other_user", edge.uid)
            assert (cause["about"], cause["told"]["user"]) == (edge.device_id, other)
            bridge.post("/api/auth/logout", {"uid": other})
        began = edge.mark()
        claim(edge, bridge)
        edge.event("logged_in", lambda line: line["uid"] == edge.uid, since=began)


def test_stale(bridge: House, mqtt: Mqtt) -> None:
    uid = unique("user")
    with bridge.app(uid):
        mqtt.wake(unique("x"), uid, age_ms=12_000)
        assert bridge.names("stale", uid)["told"] == {"age_ms": 12_000, "ttl_ms": 10_000}


def test_flooded(bridge: House, mqtt: Mqtt) -> None:
    uid, device = unique("user"), unique("x")
    wake = json.dumps({"uid": uid, "command": "c", "timestamp": "t", "id": "the same"})
    with bridge.app(uid):

        def flood() -> bool:
            """Of what a bridge hears slowly, less is too much: again, until something was."""
            sent = [mqtt.paho.publish(f"{mqtt.prefix}/devices/{device}/wake", wake, 1) for _ in range(1300)]
            sent[-1].wait_for_publish(PATIENCE_S)
            return any(cause["code"] == "flooded" for cause in bridge.why(device)[1]["causes"])

        wait_for("it is too much", flood)
        assert bridge.names("flooded", device)["told"]["limit"] == "1200/minute"


def test_socket_slow(bridge: House) -> None:
    uid = unique("user")
    with never_reads(bridge, uid):
        # Far more than the kernel keeps for a socket that is not read.
        assert any(not bridge.trigger(uid, "🔔" * 1000)["success"] for _ in range(3000))
        assert bridge.names("socket_slow", uid)["told"]["uid"] == uid


def test_phone_asleep(bridge: House, mqtt: Mqtt) -> None:
    uid, device = unique("user"), unique("x")
    mqtt.wake(device, uid, ttl_ms=SHORT_LIFE_MS)
    assert bridge.names("phone_asleep", device)["text"] == f"no app of {uid} was connected"
    with bridge.app(uid, client="phone", acks=False):
        wake_id = mqtt.wake(device, uid, ttl_ms=SHORT_LIFE_MS)

        def is_missed() -> bool:
            wake = bridge.why(uid)[1]["wake"] or {}
            return (wake.get("id"), wake.get("state")) == (wake_id, "missed")  # not the wake before

        wait_for("it is missed", is_missed)
        assert bridge.names("phone_asleep", uid)["about"] == "phone"


def test_push_gone(bridge: House, service: PushService, mqtt: Mqtt) -> None:
    uid, phone = unique("user"), service.phone()
    with bridge.app(uid):
        bridge.post("/api/push/subscribe", {"uid": uid, "subscription": phone.subscription})
    phone.answers[:] = [410]
    mqtt.wake(unique("x"), uid)
    assert bridge.names("push_gone", uid)["about"] == service.origin


def test_permission_denied(bridge: House, mqtt: Mqtt) -> None:
    uid = unique("user")
    how = {"permission": "denied", "sound": "locked", "visible": False}
    with bridge.app(uid, client="phone", acks=False) as app:
        wake_id = mqtt.wake(unique("x"), uid)
        app.message("voice_command")
        app.say({"type": "ack", "id": wake_id, "how": how})
        cause = bridge.names("permission_denied", uid)
        assert (cause["about"], cause["told"]["permission"]) == ("phone", "denied")
        assert bridge.names("sound_locked", uid)["about"] == "phone"
        assert run_sarvis("trace", wake_id, cwd=bridge.folder).returncode == 1


def test_near_miss(broker: Broker, bridge: House, tmp_path: Path) -> None:
    uid = unique("owner")
    strict = {"SARVIS_EDGE__THRESHOLD": "0.9999"}
    with bridge.app(uid), Edge(tmp_path, broker.url, uid=uid, settings=strict) as edge:
        edge.event("logged_in")
        edge.hear_word()
        told = bridge.names("near_miss", uid)["told"]
        assert 0.4 < told["best"] < told["threshold"] == 0.9999
        assert bridge.names("near_miss", edge.device_id)["told"]["more"] == told["more"] >= 1


def test_ledger_full(bridge: House) -> None:
    uid = unique("user")
    pid = bridge.sarvis.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    log = bridge.folder / "ledger.db-wal"
    with bridge.app(uid):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (log.stat().st_size, hard))
        try:
            wait_for("the bridge knows it", lambda: bridge.readiness()[0] == 503)
            assert bridge.names("ledger_full", uid)["told"]["problem"]
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
        wait_for("it works again", lambda: bridge.readiness()[0] == 200)
        wait_for("its end is told", lambda: bridge.names("ledger_full", uid)["until"])


def test_broker_down(bridge: House, broker: Broker, mqtt: Mqtt) -> None:
    uid, device = unique("user"), unique("x")
    with bridge.app(uid):
        assert mqtt.outcome(device, mqtt.wake(device, uid), nth=2) == "acked"
    broker.kill()
    wait_for("not ready", lambda: bridge.readiness()[0] == 503)
    assert bridge.names("broker_down", uid)["until"] is None
    broker.start()
    bridge.wait_ready()
    wait_for("its end is told", lambda: bridge.names("broker_down", uid)["until"])


def test_bridge_restarted(bridge: House, mqtt: Mqtt) -> None:
    uid, device = unique("user"), unique("x")
    with bridge.app(uid):
        wake_id = mqtt.wake(device, uid)
        wait_for("its story is written", lambda: run_sarvis("trace", wake_id, cwd=bridge.folder).returncode == 0)
    bridge.kill()
    assert bridge.names("bridge_down", uid)["code"] == "bridge_down"
    bridge.start()
    cause = bridge.names("bridge_restarted", uid)
    assert cause["told"] == {"killed": True}
    assert cause["since"] < cause["until"]
    assert "is not recorded" in cause["text"]
    assert run_sarvis("trace", wake_id, cwd=bridge.folder).returncode == 0, "what was written is still there"
