import json
from typing import Any, cast

import pytest
from starlette.websockets import WebSocket

from bridge.auth.principals import EVERYBODY, Principal
from bridge.service import Bridge
from bridge.storage.memory import MemoryStore
from bridge.websocket import commands as requests
from bridge.websocket.asgi.connection import AsgiConnection
from bridge.websocket.commands import IGNORED, obey
from contract.app_socket import Mode
from infra.settings.loader import Settings
from tests.support.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def bridge(clock: ManualClock) -> Bridge:
    return Bridge(Settings(), MemoryStore(), clock)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the log is warned of."""
    lines: list[dict[str, Any]] = []
    monkeypatch.setattr(requests.log, "warning", lambda event, **more: lines.append({"event": event, **more}))
    return lines


def socket(uid: str = "alice", mode: Mode = "legacy") -> AsgiConnection:
    return AsgiConnection(cast("WebSocket", None), uid, mode)


@pytest.mark.parametrize("mode", ["legacy", "v2"])
def test_what_is_not_understood_is_counted_each_time_and_told_once_for_each_socket(
    mode: Mode, bridge: Bridge, told: list[dict[str, Any]]
) -> None:
    before = dict(IGNORED.counts)
    for uid in ("alice", "bob"):
        app = socket(uid, mode)
        for frame in ("hello", b"\xff", json.dumps({"type": "ping", "token": "secret"})):
            assert obey(bridge, app, frame) is None
    assert {code: count - before[code] for code, count in IGNORED.counts.items()} == {
        "bad_json": 4, "unknown_type": 2, "bad_field": 0,
    }  # fmt: skip
    assert [(line["event"], line["uid"], line["frame"]) for line in told] == [
        ("app_message_ignored", "alice", "text"), ("app_message_ignored", "bob", "text"),
    ]  # fmt: skip
    assert "secret" not in str(told)


def test_of_many_such_sockets_only_some_are_told_of_each_minute(
    bridge: Bridge, clock: ManualClock, told: list[dict[str, Any]]
) -> None:
    for number in range(100):
        obey(bridge, socket(f"user-{number}"), "hello")
    assert len(told) == 10
    clock.advance(61)
    obey(bridge, socket("late"), "hello")
    assert [line["uid"] for line in told[10:]] == ["late"]


@pytest.mark.parametrize(("left_s", "told"), [(90.04, 90.0), (-5, 0.0), (None, None)])
def test_an_app_is_told_how_long_its_token_is_valid(
    bridge: Bridge, clock: ManualClock, left_s: float | None, told: float | None
) -> None:
    app = socket(mode="v2")
    now = clock.utc_now().timestamp()
    app.principal = EVERYBODY if left_s is None else Principal("app", "alice", "alice", expires_at=now + left_s)
    assert json.loads(requests.established(bridge, app, requests.NOTHING))["token_expires_in_s"] == told


def test_the_documented_protocol_is_told_of_no_token(bridge: Bridge) -> None:
    assert "token" not in requests.established(bridge, socket(), requests.NOTHING)
