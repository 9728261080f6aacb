"""Jetsons that speak only HTTP: a real server takes the log-outs of a real bridge, which needs no broker for that."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bridge.storage.records import Device
from tests.support.jetson import Jetson
from tests.support.ledgers import Seen, keep, look
from tests.support.processes import run_sarvis
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import NO_BROKER, Bridge, pause, unique

PATIENT = {"ALTERED": f"bridge.sessions.logout_poster:TIMEOUT_S={2 * PATIENCE_S}"}
"""A post waits longer for its device than a test for what another device, or another post, has to wait for."""


class House:
    """A bridge, and HTTP devices that an operator adds beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.old_guide = Jetson()
        """The first guide's one device."""
        settings = {"SARVIS_LEGACY__LOGOUT_URL": self.old_guide.url}
        self.bridge = Bridge(folder, NO_BROKER, settings | PATIENT, module="tests.support.altered")

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.db"

    def add(self, jetson: Jetson, uid: str) -> str:
        """As `sarvis device add` does it."""
        device_id = unique("old")
        keep(self.ledger, [Device(device_id, claim_uid=uid, logout_url=jetson.url)], alone=False)
        return device_id

    def look(self, about: str) -> Seen:
        return look(self.ledger, about)

    def log_in(self, uid: str) -> None:
        """Connect and leave again: that opens the sessions on the devices that claim the user."""
        with self.bridge.app(uid) as app:
            assert app.message("connection_established")["sessions"]

    def log_out(self, uid: str) -> None:
        self.bridge.post("/api/auth/logout", {"uid": uid})

    def settled(self, uid: str, event: str) -> None:
        wait_for(f"{uid}'s log-out is {event}", lambda: self.look(uid).events[-1:] == [event])
        assert self.look(uid).waiting == []


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"))
    with house.old_guide, house.bridge:
        yield house


@pytest.fixture
def jetson() -> Iterator[Jetson]:
    with Jetson() as running:
        yield running


@pytest.fixture
def uid() -> str:
    return unique("user")


def test_from_the_operator_s_device_add_to_the_documented_post(house: House, jetson: Jetson, uid: str) -> None:
    device_id = unique("old")
    added = run_sarvis("device", "add", device_id, "--uid", uid, "--logout-url", jetson.url, cwd=house.folder)
    assert added.returncode == 0, added.stderr
    with house.bridge.app(uid) as app:
        (opened,) = app.message("connection_established")["sessions"]
        assert opened["device_id"] == device_id
        listed = json.loads(run_sarvis("sessions", "list", "--json", cwd=house.folder).stdout)
        (session,) = [session for session in listed["sessions"] if session["uid"] == uid]
        assert (session["device_id"], session["session_id"]) == (device_id, opened["session_id"])
        app.say({"type": "logout"})
        app.message("logout_ack")
    post = jetson.post()
    assert post.path == "/api/auth/logout"
    assert post.body == {"uid": uid, "action": "logout"}
    house.settled(uid, "settled")
    assert house.look(uid).events == ["opened", "ended", "settled"]
    assert len(jetson.posts) == 1
    assert post.body not in house.old_guide.bodies()


def test_a_log_out_that_is_refused_is_posted_again_later_and_also_after_a_kill(
    house: House, jetson: Jetson, uid: str
) -> None:
    jetson.status = 500
    house.add(jetson, uid)
    running, waiting = (house.bridge.metric(f"sarvis_{what}") for what in ("sessions", "logouts_waiting"))
    house.log_in(uid)
    assert house.bridge.metric("sarvis_sessions") == running + 1
    house.log_out(uid)
    assert house.bridge.metric("sarvis_sessions") == running
    assert house.bridge.metric("sarvis_logouts_waiting") == waiting + 1
    jetson.post(2)
    house.bridge.kill()
    count = len(jetson.posts)
    jetson.status = 200
    house.bridge.start()
    jetson.post(count + 1)
    house.settled(uid, "settled")
    assert jetson.bodies() == [{"uid": uid, "action": "logout"}] * len(jetson.posts)


def test_a_device_that_never_answers_delays_no_other(house: House, jetson: Jetson, uid: str) -> None:
    other = unique("user")
    with Jetson() as dead:
        dead.hold()
        house.add(dead, other)
        house.add(jetson, uid)
        house.log_in(other)
        house.log_in(uid)
        house.log_out(other)
        dead.post()
        house.log_out(uid)
        jetson.post()
        house.settled(uid, "settled")
        assert house.look(other).waiting
        dead.release()
        house.settled(other, "settled")


def test_a_device_that_holds_another_user_counts_as_logged_out(house: House, jetson: Jetson, uid: str) -> None:
    jetson.status = 409
    house.add(jetson, uid)
    house.log_in(uid)
    house.log_out(uid)
    house.settled(uid, "settled")
    assert len(jetson.posts) == 1


@pytest.mark.parametrize("how", ["connects", "logs in"])
def test_a_returning_user_is_not_logged_out_by_a_refused_post(house: House, jetson: Jetson, uid: str, how: str) -> None:
    jetson.status = 500
    device_id = house.add(jetson, uid)
    house.log_in(uid)
    house.log_out(uid)
    wait_for("it was refused", lambda: jetson.answered)
    if how == "connects":
        house.log_in(uid)
    else:
        house.bridge.post("/api/auth/login", {"uid": uid, "device_id": device_id})
    seen = house.look(uid)
    assert sorted(seen.events) == ["ended", "opened", "opened", "superseded"]
    assert seen.waiting == []
    assert [session.device_id for session in seen.sessions] == [device_id]
    before = len(jetson.posts)
    jetson.status = 200
    house.log_out(uid)
    house.settled(uid, "settled")
    assert len(jetson.posts) == before + 1


def test_another_user_s_log_in_there_stops_the_posts_of_the_first(house: House, jetson: Jetson, uid: str) -> None:
    jetson.status = 500
    device_id = house.add(jetson, uid)
    house.log_in(uid)
    house.log_out(uid)
    wait_for("it was refused", lambda: jetson.answered)
    house.bridge.post("/api/auth/login", {"uid": unique("user"), "device_id": device_id})
    house.settled(uid, "superseded")


def test_a_post_under_way_ends_before_the_new_session_opens(house: House, jetson: Jetson, uid: str) -> None:
    house.add(jetson, uid)
    house.log_in(uid)
    jetson.hold()
    house.log_out(uid)
    jetson.post()
    with ThreadPoolExecutor() as pool:
        coming = pool.submit(house.log_in, uid)
        pause(0.4)
        assert not coming.done()
        assert house.look(uid).sessions == []
        jetson.release()
        coming.result()
    assert jetson.answered == 1
    assert len(house.look(uid).sessions) == 1
    assert house.look(uid).events == ["opened", "ended", "settled", "opened"]
    house.log_out(uid)
    house.settled(uid, "settled")


def test_a_user_without_a_session_is_logged_out_at_the_first_guides_device(house: House, uid: str) -> None:
    house.log_out(uid)
    wait_for("it was told", lambda: {"uid": uid, "action": "logout"} in house.old_guide.bodies())
    house.settled(uid, "settled")
