"""A node without MQTT, as the first guide had it: trigger and log-out over HTTP. Real edge, real bridge, no broker."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from tests.support.ports import free_port
from tests.support.processes import run_sarvis
from tests.support.services import Household
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, NO_BROKER, Bridge, Edge, Json, unique


class House(Household):
    """A bridge that asks everybody for a credential, and a node that has one."""

    def __init__(self, folder: Path, **settings: str) -> None:
        """`settings` are more of the bridge's."""
        self.folder = folder
        self.uid = unique("user")
        self.settings = {"SARVIS_AUTH__MODE": "required", "SARVIS_AUTH__KEY_FILE": str(folder / "keys")}
        self.bridge = Bridge(folder, NO_BROKER, {**self.settings, **settings})
        self.key = folder / "caller.key"

    def _open(self, running: ExitStack) -> None:
        running.enter_context(self.bridge)
        self.sarvis("token", "api", "jetson", "--out", str(self.key))
        self.token = self.sarvis("token", "app", self.uid)
        by_http = {
            "SARVIS_EDGE__UPLINK": "http",
            "SARVIS_EDGE__BRIDGE_URL": self.bridge.url,
            "SARVIS_EDGE__API_KEY_FILE": str(self.key),
            "SARVIS_EDGE__WAKE_TTL_MS": "60000",
        }
        self.edge = running.enter_context(Edge(self.folder, None, uid=self.uid, settings=by_http))
        logout = f"{self.edge.url}/api/auth/logout"
        self.sarvis("device", "add", self.edge.device_id, "--uid", self.uid, "--logout-url", logout)

    def sarvis(self, *arguments: str) -> str:
        done = run_sarvis(*arguments, cwd=self.folder, settings=self.settings)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def tell(self, path: str, uid: str) -> tuple[int, Json]:
        answer = httpx2.post(self.edge.url + path, json={"uid": uid}, trust_env=False, timeout=PATIENCE_S)
        return answer.status_code, answer.json()

    def log_in(self) -> None:
        began = self.edge.mark()
        assert self.tell("/api/auth/login", self.uid)[0] == 200
        self.edge.event("logged_in", since=began)

    def light(self) -> str:
        state: str = self.edge.said("led")[-1]["state"]
        return state


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as it:
        yield it


def test_the_word_rings_the_app_and_the_log_out_of_the_app_comes_back(house: House) -> None:
    edge = house.edge
    edge.event("logged_in", lambda line: line["uid"] == house.uid)
    edge.hear_word()
    edge.event("outcome", lambda line: line["status"] == "user_not_connected")
    wait_for("the lamp says that nobody is there", lambda: house.light() == "nobody_there")
    with house.bridge.app(house.uid, legacy=True, token=house.token) as app:
        began = edge.mark()
        edge.hear_word()
        heard = app.message("voice_command")
        assert set(heard) == {"type", "command", "timestamp"}
        edge.event("outcome", lambda line: line["status"] == "sent", since=began)
        wait_for("it counts", lambda: edge.metrics().get('sarvis_edge_outcomes_total{status="sent"}') == 1)
        app.say({"type": "logout"})
        edge.event("logged_out", lambda line: line["reason"] == "done", since=began)
    began = edge.mark()
    edge.hear_word()
    edge.event("ignored", lambda line: line["reason"] == "standby", since=began)
    wait_for("the bridge knows", lambda: json.loads(house.sarvis("sessions", "list", "--json"))["sessions"] == [])


def test_an_app_that_falls_silent_is_logged_out_there_too(tmp_path: Path) -> None:
    with House(tmp_path, SARVIS_BRIDGE__HEARTBEAT_TIMEOUT_S="6") as house:
        with house.bridge.app(house.uid, token=house.token):
            house.edge.event("logged_in")
        house.edge.event("logged_out", lambda line: line["reason"] == "done")
        wait_for("the lamp is out", lambda: house.light() == "standby")


def test_a_killed_node_is_what_it_was_and_one_that_was_logged_out_stays_so(house: House) -> None:
    edge = house.edge
    edge.event("logged_in")
    for _ in range(2):
        edge.kill()
        edge.start()
        edge.event("logged_in")
    assert house.tell("/api/auth/logout", "somebody else") == (409, {"detail": "another user is logged in here"})
    assert house.tell("/api/auth/logout", house.uid)[0] == 200
    edge.kill()
    edge.start()
    edge.event("led", lambda line: line["state"] == "standby")
    edge.hear_word()
    edge.event("ignored")
    assert edge.said("logged_in") == []
    house.log_in()


def test_a_bridge_that_restarts_gets_the_wake_in_time(house: House) -> None:
    edge = house.edge
    edge.event("logged_in")
    house.bridge.kill()
    edge.hear_word()
    edge.event("disconnected")
    wait_for("the lamp says offline", lambda: house.light() == "offline")
    house.bridge.start()
    edge.event("outcome", lambda line: line["status"] == "user_not_connected")
    assert len(edge.said("outcome")) == 1


def test_the_doctor_says_whether_the_bridge_takes_this_devices_key(house: House) -> None:
    what = f"bridge {house.bridge.url}"
    fine = {"SARVIS_EDGE__UPLINK": "http", "SARVIS_EDGE__BRIDGE_URL": house.bridge.url}
    nowhere = {**fine, "SARVIS_EDGE__BRIDGE_URL": f"http://{HOST}:{free_port()}"}
    states = []
    for settings in ({**fine, "SARVIS_EDGE__API_KEY_FILE": str(house.key)}, fine, nowhere):
        done = run_sarvis("doctor", "--json", "--source", "silence", cwd=house.folder, settings=settings)
        found = {finding["what"]: finding for finding in map(json.loads, done.stdout.splitlines())}
        (looked,) = (finding for name, finding in found.items() if name.startswith("bridge "))
        assert not any(name.startswith("broker ") for name in found)
        states.append((looked["what"] == what, looked["state"], done.returncode))
        assert bool(looked["advice"]) == (looked["state"] != "fine")
    assert states == [(True, "fine", 0), (True, "failed", 1), (False, "failed", 1)]
    assert house.edge.said("outcome") == []


def test_a_node_whose_key_was_revoked_says_that_it_is_rejected(house: House) -> None:
    edge = house.edge
    edge.event("logged_in")
    house.key.write_text("sarvis_000000000000_wrong\n")
    edge.hear_word()
    edge.event("outcome", lambda line: line["status"] == "rejected")
    wait_for("the log says why", lambda: any("it answered 401" in line for line in edge.sarvis.err))
