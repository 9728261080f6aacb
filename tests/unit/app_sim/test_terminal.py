import asyncio
import json
import os
import sys
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from app_sim.client import AppClient
from app_sim.events import AppEvent, EventKind
from app_sim.terminal import json_line, listen, obey, pretty_line
from contract.clock import SystemClock

AT = 1_700_000_000.5
RECEIVED = datetime(2026, 1, 1, 9, tzinfo=UTC)
HERE = RECEIVED.astimezone()
MISSED = {"command": "가", "device_id": "d", "timestamp": "1970-01-01", "received_at": RECEIVED.isoformat()}


def words(kind: EventKind, **fields: Any) -> str:
    """The pretty line without its time of day."""
    return pretty_line(AppEvent(kind, AT, **fields)).plain[len("00:00:00 ") :]


def app(*, legacy: bool = False) -> AppClient:
    return AppClient("ws://127.0.0.1:1", "user-1", legacy=legacy, on_event=lambda _: None, clock=SystemClock())


def test_a_json_line_has_only_what_the_event_has() -> None:
    assert json_line(AppEvent("connecting", AT)) == '{"event": "connecting", "at": 1700000000.5}'
    line = json_line(AppEvent("closed", AT, {"type": "x"}, "why", 4501, 0.5))
    assert json.loads(line).keys() == {"event", "at", "message", "detail", "code", "delay_s"}


def test_a_json_line_leaves_hangul_as_it_is() -> None:
    assert "싸비스" in json_line(AppEvent("voice_command", AT, {"command": "싸비스"}))


def test_markup_in_a_command_is_text() -> None:
    command = "[bold red]:smile: [/] [link=file:///etc]x"
    assert words("voice_command", message={"command": command}) == f"RING: {command}"


def test_control_characters_do_not_reach_the_terminal() -> None:
    told = words("voice_command", message={"command": "\x1b[2J\r\n\u202e\ud800", "device_id": "\x07"})
    assert told.isprintable()
    assert "\\x1b[2J" in told


@pytest.mark.parametrize(
    ("kind", "fields", "told"),
    [
        (
            "connected",
            {"message": {"connection_uuid": "김"}, "missed": [MISSED, {**MISSED, "received_at": None}]},
            f"connected as 김, 2 missed while away; missed {HERE:%Y-%m-%d %H:%M:%S}: 가 (from d); missed: 가 (from d)",
        ),
        ("connected", {"message": {"connection_uuid": "u"}, "missed": []}, "connected as u"),
        ("closed", {"code": 4000, "detail": "draining"}, "closed (4000): draining"),
        ("closed", {"detail": "silent"}, "closed (given up): silent"),
        ("retry", {"delay_s": 1.26, "detail": "lost"}, "trying again in 1.3 s: lost"),
        ("message", {"message": {"type": "heartbeat_ack"}}, "heartbeat_ack"),
        ("message", {"message": {"type": "error", "code": "x"}}, "error code x"),
        ("unknown", {"detail": "a frame that is no JSON object"}, "unknown: a frame that is no JSON object"),
        ("stopped", {"detail": "quit"}, "stopped: quit"),
    ],
)
def test_each_event_has_its_words(kind: EventKind, fields: dict[str, object], told: str) -> None:
    assert words(kind, **fields) == told


async def test_typed_lines_are_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    client, quits = app(), []
    for line in ("login jetson-1\n", "logout", "  quit \r\n", "\n"):
        obey(line, client, lambda: quits.append(1))
    assert quits == [1]
    assert client._wishes.is_open("logout")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("line", ["help", "login", "login a b", "login a/b", "\x1b[2J"])
async def test_a_line_that_is_no_command_is_answered(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    obey(line, app(), pytest.fail)
    captured = capsys.readouterr()
    assert captured.err.strip().isprintable()
    assert captured.err.strip()
    assert captured.out == ""


async def test_a_legacy_app_refuses_to_log_out(capsys: pytest.CaptureFixture[str]) -> None:
    obey("logout", app(legacy=True), pytest.fail)
    assert "legacy" in capsys.readouterr().err


async def test_lines_are_heard_until_the_end_of_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    lines: asyncio.Queue[str] = asyncio.Queue()
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        listen(asyncio.get_running_loop(), lines.put_nowait)
        os.write(writing, "login 젯슨\n\xff\nlast".encode("utf-8", "surrogateescape"))
        os.close(writing)
        async with asyncio.timeout(5):
            heard = [await lines.get() for _ in range(3)]
        for thread in threading.enumerate():
            if thread.name == "stdin":
                await asyncio.to_thread(thread.join, 5)
                assert not thread.is_alive()
    assert heard == ["login 젯슨\n", "\xff\n", "last"]


@pytest.mark.parametrize("stdin", [None, object()])
async def test_an_app_without_standard_input_listens_to_nothing(stdin: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    listen(asyncio.get_running_loop(), pytest.fail)
    assert not any(thread.name == "stdin" for thread in threading.enumerate())
