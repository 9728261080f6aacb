"""An operator's commands beside a running bridge and after it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.sessions.rules.deadlines import LONGEST_STEP_S
from tests.support.processes import run_sarvis
from tests.support.world import HOST, NO_BROKER, Bridge, unique

URL = f"http://{HOST}:9/api/auth/logout"


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    with Bridge(tmp_path_factory.mktemp("bridge"), NO_BROKER) as bridge:
        yield bridge


@pytest.fixture(scope="module")
def folder(bridge: Bridge) -> Path:
    return bridge._folder


def told(*arguments: str, folder: Path) -> Any:
    """The JSON document that a command prints."""
    ended = run_sarvis(*arguments, "--json", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return json.loads(ended.stdout)


def test_sessions_are_listed_shown_and_ended_beside_a_running_bridge(bridge: Bridge, folder: Path) -> None:
    uid, device_id = unique("user"), unique("jetson")
    with bridge.app(uid) as app:
        opened = bridge.post("/api/auth/login", {"uid": uid, "device_id": device_id})["session"]
        (session,) = told("sessions", "list", folder=folder)["sessions"]
        assert {key: session[key] for key in opened} == opened
        assert session["uid"] == uid
        # The service time on disk is at most one step behind that of the promise.
        assert 3000 < session["promised_s"] <= 3660 + LONGEST_STEP_S + 0.1
        # As the settings of a bridge that listens everywhere have it.
        address = {"SARVIS_BRIDGE__HOST": "0.0.0.0", "SARVIS_BRIDGE__PORT": str(bridge.port)}
        ended = run_sarvis("sessions", "logout", uid, cwd=folder, settings=address)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "1 session of" in ended.stdout
        assert "when they reconnect" in ended.stdout
        assert app.closed_with() == 4501
    shown = told("sessions", "show", device_id, folder=folder)
    assert shown["sessions"] == []
    (row,) = shown["waiting"]
    assert (row["uid"], row["reason"], row["url"]) == (uid, "operator", None)
    assert [(line["event"], line["reason"]) for line in shown["audit"]] == [("opened", "http"), ("ended", "operator")]


def test_a_device_added_beside_a_running_bridge_is_logged_in_at_the_next_connection(
    bridge: Bridge, folder: Path
) -> None:
    uid, device_id = unique("user"), unique("old")
    added = run_sarvis("device", "add", device_id, "--uid", uid, "--logout-url", URL, cwd=folder)
    assert added.returncode == 0, added.stderr
    with bridge.app(uid) as app:
        (opened,) = app.message("connection_established")["sessions"]
        assert opened["device_id"] == device_id


def test_after_the_bridge_everything_but_a_log_out_works(tmp_path: Path) -> None:
    uid, device_id = unique("user"), unique("jetson")
    with Bridge(tmp_path, NO_BROKER) as bridge:
        bridge.post("/api/auth/login", {"uid": uid, "device_id": device_id})
    (session,) = told("sessions", "list", folder=tmp_path)["sessions"]
    assert (session["uid"], session["device_id"]) == (uid, device_id)
    refused = run_sarvis("sessions", "logout", uid, "--port", str(bridge.port), cwd=tmp_path)
    assert refused.returncode == 3
    assert f"http://{HOST}:{bridge.port}" in refused.stderr
    assert "Traceback" not in refused.stderr
