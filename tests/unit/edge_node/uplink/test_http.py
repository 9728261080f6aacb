"""A node that speaks only HTTP, against a real server that answers as a test wants."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from contract.errors import SettingsError
from edge_node.display.events import ConsoleIndicator, Events
from edge_node.session.state_file import StateFile
from edge_node.session.wake_outbox import REPEAT_S
from edge_node.uplink import http as http_node
from edge_node.uplink.http import HttpNode
from edge_node.wakeword.gate import Trigger
from infra.settings.edge import EdgeSettings
from tests.support.clock import ManualClock
from tests.support.ports import free_port
from tests.support.waiting import wait_until

HOST = "127.0.0.1"
TAKEN = b'{"success": true, "message": "Command sent"}'
NOBODY = b'{"success": false, "message": "User not connected"}'


class Bridge:
    """Answers each POST with the next of its answers, the last one for ever; None is no answer at all."""

    def __init__(self, *answers: tuple[int, bytes] | None) -> None:
        self.answers = list(answers)
        self.posts: list[tuple[str, dict[str, str], Any]] = []
        self._open: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def on(self, port: int) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, HOST, port)
        try:
            yield
        finally:
            server.close()
            for writer in self._open:
                writer.close()
                await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.append(writer)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        self.posts.append((head[0], headers, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            status, content = answer
            writer.write(b"HTTP/1.1 %d X\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % (status, len(content)))
            writer.write(content)
            await writer.drain()
            writer.close()


class House:
    """A node, who reads what it tells, and a port for its bridge."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.clock = ManualClock()
        self.port = free_port()
        self.out = io.StringIO()
        self.file = StateFile(folder, "jetson")
        events = Events(self.out, as_json=True)
        edge = EdgeSettings(uplink="http", bridge_url=f"http://{HOST}:{self.port}", uid="alice", **settings)
        self.node = HttpNode.open(
            edge, clock=self.clock, state_file=self.file, events=events, indicator=ConsoleIndicator(events)
        )

    def hear(self) -> None:
        self.node.heard(Trigger(at_s=4.0, score=0.99), self.clock.monotonic())

    def told(self, event: str) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = [json.loads(line) for line in self.out.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    def lights(self) -> list[str]:
        return [line["state"] for line in self.told("led")]

    async def outcome(self) -> str:
        await wait_until("its fate", lambda: self.told("outcome"))
        status: str = self.told("outcome")[0]["status"]
        return status


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[House]:
    house = House(folder, **settings)
    life = asyncio.create_task(house.node.run())
    await house.clock.run(0)
    try:
        yield house
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        house.file.close()


@pytest.mark.parametrize(
    ("answer", "status", "light"),
    [
        ((200, TAKEN), "sent", "wake_sent"),
        ((200, NOBODY), "user_not_connected", "nobody_there"),
        ((200, b"<html>"), "rejected", "nobody_there"),
        ((200, b'["success"]'), "rejected", "nobody_there"),
        ((401, b'{"detail": "no valid credential"}'), "rejected", "nobody_there"),
        ((302, b""), "rejected", "nobody_there"),
        ((500, b""), "rejected", "nobody_there"),
    ],
)
async def test_what_the_bridge_answers_is_told_and_shown(
    tmp_path: Path, answer: tuple[int, bytes], status: str, light: str
) -> None:
    bridge = Bridge(answer)
    async with running(tmp_path) as house, bridge.on(house.port):
        house.hear()
        assert await house.outcome() == status
        assert house.lights()[-1] == light
        await house.clock.run(2 * REPEAT_S)
    assert len(bridge.posts) == 1
    assert len(house.node.outbox) == 0


async def test_the_request_is_the_documented_one(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    key.chmod(0o600)
    bridge = Bridge((200, TAKEN))
    async with running(tmp_path, command="싸비스", api_key_file=key) as house, bridge.on(house.port):
        house.hear()
        await house.outcome()
    line, headers, body = bridge.posts[0]
    assert line == "POST /api/voice-command/trigger HTTP/1.1"
    assert headers["authorization"] == "Bearer secret"
    assert (body.keys(), body["uid"], body["command"]) == ({"uid", "command", "timestamp"}, "alice", "싸비스")


async def test_a_bridge_that_is_back_in_time_takes_it_once(tmp_path: Path) -> None:
    bridge = Bridge((200, TAKEN))
    async with running(tmp_path) as house:
        house.hear()
        await house.clock.run(REPEAT_S / 2)
        assert house.lights()[-1] == "offline"
        async with bridge.on(house.port):
            await house.clock.run(REPEAT_S)
            assert await house.outcome() == "sent"
            await house.clock.run(2 * REPEAT_S)
    assert len(bridge.posts) == 1
    assert house.lights()[-2:] == ["active", "wake_sent"]


@pytest.mark.parametrize("status", [429, 503])
async def test_a_bridge_that_cannot_take_it_now_is_asked_again(tmp_path: Path, status: int) -> None:
    bridge = Bridge((status, b"{}"), (status, b"{}"), (200, TAKEN))
    async with running(tmp_path) as house, bridge.on(house.port):
        house.hear()
        await house.clock.run(2 * REPEAT_S - 0.25)
        assert len(bridge.posts) == 2
        await house.clock.run(0.25)
        assert await house.outcome() == "sent"
    assert len(bridge.posts) == 3


async def test_a_wake_that_is_too_old_is_dropped_and_never_posted(tmp_path: Path) -> None:
    bridge = Bridge((200, TAKEN))
    async with running(tmp_path, wake_ttl_ms=3000) as house:
        house.hear()
        await house.clock.run(3)
        async with bridge.on(house.port):
            await house.clock.run(2 * REPEAT_S)
        assert (len(house.node.outbox), house.node.outbox.dropped) == (0, 1)
    assert bridge.posts == []


async def test_an_answer_that_does_not_come_rings_no_phone_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_node, "ANSWER_S", 0.3)
    bridge = Bridge(None)
    async with running(tmp_path) as house, bridge.on(house.port):
        house.hear()
        assert await house.outcome() == "unknown"
        await house.clock.run(2 * REPEAT_S)
    assert len(bridge.posts) == 1
    assert house.lights()[-1] == "offline"


async def test_nothing_is_posted_for_a_logged_out_user(tmp_path: Path) -> None:
    bridge = Bridge((503, b"{}"))
    async with running(tmp_path) as house, bridge.on(house.port):
        house.hear()
        await house.clock.run(REPEAT_S)
        assert len(bridge.posts) == 2
        assert house.node.local_logout("alice")
        await house.clock.run(REPEAT_S)
        house.hear()
        await house.clock.run(REPEAT_S)
        assert len(bridge.posts) == 2
        assert house.lights()[-1] == "standby", house.out.getvalue()
    assert [line["reason"] for line in house.told("ignored")] == ["standby"]
    assert house.told("outcome") == []


async def test_a_log_in_or_out_that_cannot_be_stored_is_an_error_and_standby(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_state: object) -> None:
        raise OSError(28, "No space left on device")

    async with running(tmp_path) as house:
        with monkeypatch.context() as broken:
            broken.setattr(house.file, "save", full)
            with pytest.raises(OSError):  # noqa: PT011 - the endpoint asks for no more
                house.node.local_logout("alice")
            assert house.lights()[-1] == "standby"
            with pytest.raises(OSError):  # noqa: PT011
                house.node.local_login("bob")
        assert not house.node.local_logout("bob")
        house.node.local_login("bob")
        assert house.lights()[-1] == "active"


async def test_muted_it_posts_nothing_and_a_lost_microphone_shows(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        house.node.mute(True)
        house.hear()
        house.node.alarm("microphone_lost", True)
        house.node.mute(False)
        house.node.alarm("microphone_lost", False)
        assert house.lights()[-4:] == ["active", "muted", "microphone_lost", "active"]
    assert [line["reason"] for line in house.told("ignored")] == ["muted"]


def test_a_key_that_cannot_be_read_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"edge\.api_key_file"):
        House(tmp_path, api_key_file=tmp_path / "none")


async def test_a_key_that_is_gone_later_lets_the_wake_wait_for_it(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret")
    key.chmod(0o600)
    bridge = Bridge((200, TAKEN))
    async with running(tmp_path, api_key_file=key) as house, bridge.on(house.port):
        key.rename(tmp_path / "moved")
        house.hear()
        await house.clock.run(REPEAT_S / 2)
        assert len(house.node.outbox) == 1
        (tmp_path / "moved").rename(key)
        await house.clock.run(REPEAT_S)
        assert await house.outcome() == "sent"
