import json
from typing import Any, cast

import pytest
from starlette.websockets import WebSocket

from bridge.app_protocol import Mode
from bridge.service import Bridge
from bridge.websocket import requests
from bridge.websocket.plain_connection import PlainConnection
from bridge.websocket.requests import IGNORED, obey
from contract.settings import Settings
from tests.support.clock import ManualClock
from tests.support.memory_store import MemoryStore


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


def socket(uid: str = "alice", mode: Mode = "legacy") -> PlainConnection:
    return PlainConnection(cast("WebSocket", None), uid, mode)


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
