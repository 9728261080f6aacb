import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app_sim.cli import app
from contract.errors import SettingsError
from tests.unit.app_sim.fakes import Visit, serving

COMMAND = [sys.executable, "-c", "from app_sim.cli import app; app()"]
TIMEOUT_S = 15


async def ring_and_stay(visit: Visit) -> None:
    await visit.welcome(connection_uuid="김 가", heartbeat_interval_s=3600)
    await visit.send({"type": "voice_command", "command": "[red]싸비스", "id": "w1"})
    await visit.until_gone()


async def obey_logout(visit: Visit) -> None:
    await visit.welcome()
    while (await visit.message())["type"] != "logout":
        pass
    await visit.send({"type": "logout_ack"})
    await visit.socket.close(4501)


class Running:
    """The command as a process."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(TIMEOUT_S):
            return (await self.process.stdout.readline()).decode()

    async def until(self, event: str) -> Any:
        """The next JSON event of this name."""
        while (told := json.loads(await self.line()))["event"] != event:
            pass
        return told

    def type(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode())

    async def end(self) -> tuple[int | None, str, str]:
        """Wait for the end: exit code, rest of standard output, standard error."""
        async with asyncio.timeout(TIMEOUT_S):
            out, err = await self.process.communicate()
        return self.process.returncode, (out or b"").decode(), (err or b"").decode()


@asynccontextmanager
async def running(*arguments: str, stdin: int = DEVNULL, **environment: str) -> AsyncIterator[Running]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("SARVIS_")} | environment
    process = await asyncio.create_subprocess_exec(*COMMAND, *arguments, stdin=stdin, stdout=PIPE, stderr=PIPE, env=env)
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_json_events_come_one_per_line_until_a_signal_ends_the_app_cleanly(number: signal.Signals) -> None:
    async with serving(ring_and_stay) as server, running("--uid", "김 가", "--url", server.url, "--json") as command:
        ring = await command.until("voice_command")
        assert ring["message"]["command"] == "[red]싸비스"
        assert isinstance(ring["at"], float)
        command.process.send_signal(number)
        code, out, err = await command.end()
        assert (code, err) == (0, "")
        assert [json.loads(line)["event"] for line in out.splitlines()][-2:] == ["closed", "stopped"]
        assert server.visits[0].socket.close_code == 1000


async def test_without_json_the_lines_are_plain_text_for_people() -> None:
    async with serving(ring_and_stay) as server, running("--url", server.url, SARVIS_APP__UID="user-1") as command:
        lines = [await command.line() for _ in range(3)]
        assert lines[1].endswith(" connected as 김 가\n")
        assert lines[2].endswith(" RING: [red]싸비스\n")
        assert "\x1b" not in "".join(lines)


async def test_quit_typed_ends_the_app() -> None:
    async with (
        serving(ring_and_stay) as server,
        running("--uid", "u", "--url", server.url, "--json", stdin=PIPE) as command,
    ):
        await command.until("connected")
        command.type("quit\n")
        assert (await command.end())[0] == 0


async def test_a_logout_typed_ends_the_app_with_0() -> None:
    async with (
        serving(obey_logout) as server,
        running("--uid", "u", "--url", server.url, "--json", stdin=PIPE) as command,
    ):
        await command.until("connected")
        command.type("logout\n")
        code, out, err = await command.end()
        assert (code, err) == (0, "")
        assert json.loads(out.splitlines()[-1])["detail"] == "logged out"


async def test_a_final_close_by_the_server_is_told_and_ends_the_app_with_1() -> None:
    async def script(visit: Visit) -> None:
        await visit.welcome()
        await visit.socket.close(4501)

    async with serving(script) as server, running("--uid", "u", "--url", server.url) as command:
        code, out, err = await command.end()
        assert (code, err) == (1, "")
        assert "stopped: " in out.splitlines()[-1]


async def test_a_login_is_sent_once_connected() -> None:
    async def script(visit: Visit) -> None:
        await visit.welcome()
        while (message := await visit.message())["type"] != "login":
            pass
        await visit.send({"type": "login_ack", "session": message["device_id"]})
        await visit.until_gone()

    async with (
        serving(script) as server,
        running("--uid", "u", "--url", server.url, "--login", "jetson-1", "--json") as command,
    ):
        while (await command.until("message"))["message"].get("session") != "jetson-1":
            pass


async def test_a_closed_output_ends_the_app_without_a_traceback() -> None:
    async with serving(ring_and_stay) as server:
        for extra in ([], ["--json"]):
            reading, writing = os.pipe()
            os.close(reading)
            process = await asyncio.create_subprocess_exec(
                *COMMAND, "--uid", "u", "--url", server.url, *extra, stdin=DEVNULL, stdout=writing, stderr=PIPE
            )
            os.close(writing)
            code, _, err = await Running(process).end()
            assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "app.uid"),
        (["--uid", "a/b"], "app.uid"),
        (["--uid", "u", "--url", "http://h"], "app.url"),
        (["--uid", "u", "--url", "ws://h:port"], "app.url"),
        (["--uid", "u", "--heartbeat-interval-s", "0"], "app.heartbeat_interval_s"),
        (["--uid", "u", "--client", ""], "app.client"),
        (["--uid", "u", "--legacy", "--login", "jetson-1"], "legacy"),
        (["--uid", "u", "--login", "a/b"], "device id"),
        (["--uid", "u", "--config", "/does/not/exist.toml"], "/does/not/exist.toml"),
    ],
)
def test_a_wrong_setting_is_named(
    arguments: list[str], named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("app_sim.cli.configure_logging", lambda *_, **__: None)  # else it keeps a closed stream
    for name in [name for name in os.environ if name.startswith("SARVIS_")]:
        monkeypatch.delenv(name)
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, SettingsError)
    assert named in str(result.exception)
