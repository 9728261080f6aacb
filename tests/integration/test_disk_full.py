"""The ledger's disk is full for real: SQLite's writes fail, and nothing that cannot be stored is said to be so."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.support.ledgers import Seen, look
from tests.support.processes import run_sarvis
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, Bridge, EmbeddedBroker, Json, unique

T_S = 12.0
TICKS_OF_SILENCE = 26
"""Looks at the clock, two a second: longer than T."""
SETTINGS = {
    "SARVIS_BRIDGE__HEARTBEAT_TIMEOUT_S": str(T_S),
    # Each heartbeat needs a write.
    "SARVIS_BRIDGE__HEARTBEAT_COALESCE_S": "0",
    "SARVIS_BRIDGE__LEASE_GRACE_S": "30",
}


class Full:
    """A bridge whose disk can be full."""

    def __init__(self, folder: Path, mqtt_url: str) -> None:
        self.bridge = Bridge(folder, mqtt_url, SETTINGS)
        self.folder = folder

    def look(self, about: str) -> Seen:
        return look(self.folder / "ledger.db", about)

    @contextmanager
    def disk(self) -> Iterator[None]:
        """No file may grow in this block; at its end everything works again by itself."""
        pid = self.bridge.sarvis.process.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        log = self.folder / "ledger.db-wal"
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (log.stat().st_size, hard))
        try:
            wait_for("the bridge knows it", lambda: self.bridge.readiness()[0] == 503)
            yield
            assert self.bridge.sarvis.process.poll() is None
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
        wait_for("it works again by itself", lambda: self.bridge.readiness() == (200, {"status": "ready"}))

    def refused(self, path: str, body: Json) -> None:
        answer = self.bridge.http.post(self.bridge.url + path, json=body)
        assert answer.status_code == 503
        assert "the ledger cannot be written" in answer.json()["detail"]
        assert "nothing was changed" in answer.json()["detail"]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Full]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as broker:
        full = Full(tmp_path_factory.mktemp("bridge"), broker.url)
        with full.bridge:
            yield full


@pytest.fixture
def uid() -> str:
    return unique("user")


def test_the_bridge_lives_names_the_ledger_and_asks_newcomers_to_come_back_later(full: Full, uid: str) -> None:
    newcomer = unique("user")
    url = f"ws://{HOST}:{full.bridge.port}/ws/app/{newcomer}/"
    with full.bridge.app(uid), full.disk():
        status, told = full.bridge.readiness()
        assert status == 503
        assert told["reason"].startswith("ledger: ")
        assert full.bridge.http.get(f"{full.bridge.url}/livez").status_code == 200
        for subprotocols in (None, [Subprotocol("sarvis.v2")]):
            with (
                connect(url, subprotocols=subprotocols, proxy=None, open_timeout=PATIENCE_S) as socket,
                pytest.raises(ConnectionClosed) as closed,
            ):
                socket.recv(PATIENCE_S)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4000
    with full.bridge.app(newcomer):
        pass


def test_what_is_asked_over_http_is_refused_and_changes_nothing(full: Full, uid: str) -> None:
    device_id = unique("jetson")
    login = {"uid": uid, "device_id": device_id}
    with full.bridge.app(uid) as app:
        full.bridge.post("/api/auth/login", login)
        before = full.look(uid)
        assert len(before.sessions) == 1
        with full.disk():
            full.refused("/api/auth/logout", {"uid": uid})
            full.refused("/api/sessions/logout", {"uid": uid})
            full.refused("/api/auth/login", {**login, "uid": unique("user")})
            full.refused("/api/auth/login", {**login, "device_id": unique("jetson")})
            full.refused("/api/app/heartbeat", {"uid": uid})
            operator = run_sarvis("sessions", "logout", uid, "--port", str(full.bridge.port), cwd=full.folder)
            assert operator.returncode == 1
            assert "the ledger cannot be written" in operator.stderr
            assert full.look(uid) == before
            assert full.look(device_id).sessions == before.sessions
        assert app.code is None
        assert full.bridge.post("/api/app/heartbeat", {"uid": uid}) == {"status": "active", "expires_in_s": T_S}
        full.bridge.post("/api/auth/logout", {"uid": uid})
        assert app.closed_with() == 4501
    after = full.look(uid)
    assert after == replace(after, sessions=[], events=["opened", "ended"])
    assert len(after.waiting) == 1


def test_connected_apps_are_asked_to_reconnect_and_no_user_is_logged_out(full: Full, uid: str) -> None:
    device_id, old_uid = unique("jetson"), unique("user")
    with full.bridge.app(uid) as app, full.bridge.app(old_uid, legacy=True) as old:
        full.bridge.post("/api/auth/login", {"uid": uid, "device_id": device_id})
        with full.disk():
            before = full.bridge.metric("sarvis_not_stored_total")
            wait_for(
                "more than T passes",
                lambda: full.bridge.metric("sarvis_not_stored_total") >= before + TICKS_OF_SILENCE,
            )
            app.say({"type": "heartbeat", "seq": 1})
            error = app.message("error")
            assert (error["code"], error["temporary"]) == ("not_stored", True)
            old.say({"type": "heartbeat"})
            app.say({"type": "logout"})
            assert app.message("error", 2)["code"] == "not_stored"
            # A wake needs no ledger.
            assert full.bridge.trigger(uid)["success"] is True
            app.message("voice_command")
            assert (app.code, old.code) == (None, None)
            assert [message["type"] for message in old.heard] == ["connection_established"]
            assert full.look(uid).events == ["opened"]
        app.say({"type": "heartbeat", "seq": 2})
        assert app.message("heartbeat_ack")["seq"] == 2
        old.all_before()
        assert [session.device_id for session in full.look(uid).sessions] == [device_id]
