"""The app's token and the server's certificate."""

import asyncio
import json
import logging
import ssl
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from app_sim.terminal import json_line, pretty_line
from contract.errors import SettingsError
from infra.tls import server_context
from tests.support.certificates import Authority
from tests.support.ports import free_port
from tests.unit.app_sim.fakes import FakeServer, Visit, WatchedApp, serving
from tests.unit.app_sim.test_cli import running

TOKEN = "eyJhbGciOiJFUzI1NiJ9.e30.Zm9v-bar_baz"


async def welcome_and_stay(visit: Visit) -> None:
    await visit.welcome(heartbeat_interval_s=3600)
    await visit.until_gone()


def secret(app: WatchedApp, token: str = TOKEN) -> bool:
    """Is the token in nothing that the app told?"""
    told = [json_line(event) + pretty_line(event).plain for event in app.events]
    assert told
    return not any(token in line for line in told)


def offered(server: FakeServer, nth: int = 0) -> str | None:
    return server.requests[nth].headers.get("Sec-WebSocket-Protocol")


# --- the token ---


async def test_the_token_is_the_second_subprotocol_and_the_server_selects_the_first() -> None:
    async with serving(welcome_and_stay) as server, WatchedApp(server.url, token=lambda: TOKEN) as app:
        await app.until("message")
        assert offered(server) == f"sarvis.v2, {TOKEN}"
        assert server.visits[0].socket.subprotocol == "sarvis.v2"
        assert server.requests[0].path == "/ws/app/user-1/"
        assert secret(app)


@pytest.mark.parametrize(("client", "query"), [(None, "?token="), ("phone", "?client=phone&token=")])
async def test_a_legacy_app_says_its_token_in_the_query(client: str | None, query: str) -> None:
    options: dict[str, Any] = {"legacy": True, "client": client, "token": lambda: "a+b%c&d"}
    async with serving(welcome_and_stay) as server, WatchedApp(server.url, **options) as app:
        await app.until("connected")
        assert server.requests[0].path == f"/ws/app/user-1/{query}a%2Bb%25c%26d"
        assert offered(server) is None
        assert secret(app, "a+b")
        assert secret(app, "a%2Bb")


async def test_without_a_token_nothing_is_said_about_one() -> None:
    for legacy, expected in ((False, "sarvis.v2"), (True, None)):
        async with serving(welcome_and_stay) as server, WatchedApp(server.url, legacy=legacy) as app:
            await app.until("connected")
            assert offered(server) == expected
            assert "token" not in server.requests[0].path


async def test_the_token_is_read_anew_at_each_connection() -> None:
    tokens = iter(["first", "second"])

    async def drain(visit: Visit) -> None:
        await visit.welcome()
        await visit.socket.close(4000)

    async with (
        serving(drain, welcome_and_stay) as server,
        WatchedApp(server.url, token=lambda: next(tokens)) as app,
    ):
        await app.until("connected", 2)
        assert [offered(server, nth) for nth in (0, 1)] == ["sarvis.v2, first", "sarvis.v2, second"]


async def test_a_token_that_cannot_be_read_later_is_tried_again_but_at_first_it_is_a_fault() -> None:
    answers: list[Callable[[], str]] = []

    def token() -> str:
        return answers.pop(0)()

    def gone() -> str:
        raise SettingsError("setting app.token_file: it is gone")

    async def drain(visit: Visit) -> None:
        await visit.welcome()
        await visit.socket.close(4000)

    async with serving(drain, welcome_and_stay) as server:
        answers[:] = [lambda: TOKEN, gone, lambda: TOKEN]
        async with WatchedApp(server.url, token=token) as app:
            await app.until("connected", 2)
            assert app.of("retry")[1].detail == "setting app.token_file: it is gone"
        answers[:] = [gone]
        async with WatchedApp(server.url, token=token) as app:
            with pytest.raises(SettingsError, match=r"app\.token_file"):
                await app.stop()


@pytest.mark.parametrize("token", ["two words", "a,b", "x\ny", "토큰", "", '"quoted"'])
async def test_a_token_that_is_none_is_named_and_not_told(token: str) -> None:
    async with WatchedApp("ws://127.0.0.1:1", token=lambda: token) as app:
        with pytest.raises(SettingsError, match=r"app\.token_file") as raised:
            await app.stop()
        assert not token or token not in str(raised.value)


@pytest.mark.parametrize("status", [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN])
async def test_a_refused_token_is_final_and_not_told(status: HTTPStatus) -> None:
    async with (
        serving(welcome_and_stay, refusals=(status,)) as server,
        WatchedApp(server.url, token=lambda: TOKEN) as app,
    ):
        stop = await app.stop()
        assert stop.code == status
        assert "credential" in stop.reason
        assert secret(app)
        assert len(server.requests) == 1


@pytest.mark.parametrize("legacy", [False, True])
async def test_a_server_that_says_the_token_back_does_not_make_the_app_tell_it(legacy: bool) -> None:
    async def parrot(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        assert TOKEN.encode() in request
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        writer.write(f"Sec-WebSocket-Accept: {TOKEN}\r\nSec-WebSocket-Protocol: {TOKEN}x\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(parrot, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, WatchedApp(url, legacy=legacy, token=lambda: TOKEN) as app:
        await app.until("retry", 2)
        assert secret(app)


@pytest.mark.parametrize("legacy", [False, True])
async def test_the_token_does_not_follow_a_redirect(legacy: bool) -> None:
    async with serving(welcome_and_stay) as thief:
        to = {"Location": f"{thief.url}/ws/app/user-1/"}
        async with (
            serving(welcome_and_stay, refusals=(HTTPStatus.FOUND,), refusal_headers=to) as server,
            WatchedApp(server.url, legacy=legacy, token=lambda: TOKEN) as app,
        ):
            stop = await app.stop()
            assert stop.code == HTTPStatus.FOUND
            assert len(server.requests) == 1
        assert thief.requests == []


async def test_an_address_that_cannot_exist_is_told_without_the_token() -> None:
    for legacy in (False, True):
        async with WatchedApp("ws://a..b", legacy=legacy, token=lambda: TOKEN) as app:
            with pytest.raises(SettingsError, match=r"app\.url") as raised:
                await app.stop()
            assert TOKEN not in str(raised.value)
            assert secret(app)


async def test_the_library_below_logs_no_token_at_our_levels(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with (
            serving(welcome_and_stay, refusals=(HTTPStatus.SERVICE_UNAVAILABLE,)) as server,
            WatchedApp(server.url, token=lambda: TOKEN) as app,
        ):
            await app.until("connected")
    assert TOKEN not in caplog.text


async def test_a_busy_server_is_given_the_time_that_it_asks_for() -> None:
    async with (
        serving(
            welcome_and_stay, refusals=(HTTPStatus.TOO_MANY_REQUESTS,), refusal_headers={"Retry-After": "1"}
        ) as server,
        WatchedApp(server.url) as app,
    ):
        retry = await app.until("retry")
        assert retry.delay_s is not None
        assert 1.0 < retry.delay_s < 1.5
        connected = await app.until("connected")
        assert connected.at - retry.at >= 1.0


async def test_the_command_reads_its_token_from_a_file_and_never_prints_it(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    async with (
        serving(welcome_and_stay) as server,
        running("--uid", "u", "--url", server.url, "--json", SARVIS_APP__TOKEN_FILE=str(file)) as command,
    ):
        told = [await command.until("connecting"), await command.until("connected")]
        assert offered(server) == f"sarvis.v2, {TOKEN}"
        arguments = await asyncio.to_thread(Path(f"/proc/{command.process.pid}/cmdline").read_bytes)
        command.process.terminate()
        code, out, err = await command.end()
        assert code == 0
        assert TOKEN not in json.dumps(told) + out + err
        assert TOKEN.encode() not in arguments


# --- the certificate ---


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "other")


def shown(authority: Authority, *hosts: str, **more: Any) -> ssl.SSLContext:
    made = authority.issue("web", *(hosts or ("127.0.0.1",)), **more)
    return server_context(made.cert, made.key, who="bridge")


async def test_a_server_whose_authority_is_named_is_spoken_to(ours: Authority) -> None:
    async with (
        serving(welcome_and_stay, tls=shown(ours)) as server,
        WatchedApp(server.url, ca_file=ours.ca_file, token=lambda: TOKEN) as app,
    ):
        assert server.url.startswith("wss://")
        await app.until("connected")


async def test_an_unknown_authority_is_final_and_gets_no_token(ours: Authority, other: Authority) -> None:
    for ca_file in (other.ca_file, None):
        async with (
            serving(welcome_and_stay, tls=shown(ours)) as server,
            WatchedApp(server.url, ca_file=ca_file, token=lambda: TOKEN) as app,
        ):
            stop = await app.stop()
            assert "app.ca_file" in stop.reason
            assert not stop.wanted
            assert server.requests == []


async def test_a_wrong_name_is_final_and_names_the_settings(ours: Authority) -> None:
    async with (
        serving(welcome_and_stay, tls=shown(ours, "bridge.example", "localhost")) as server,
        WatchedApp(server.url, ca_file=ours.ca_file) as app,
    ):
        stop = await app.stop()
        assert "not made for 127.0.0.1" in stop.reason
        assert "app.url" in stop.reason
        assert "app.ca_file" in stop.reason
        async with WatchedApp(server.url.replace("127.0.0.1", "localhost"), ca_file=ours.ca_file) as other_app:
            await other_app.until("connected")


async def test_a_certificate_out_of_date_is_waited_for(ours: Authority) -> None:
    tls = shown(ours, lasts=timedelta(days=-1))
    async with serving(welcome_and_stay, tls=tls) as server, WatchedApp(server.url, ca_file=ours.ca_file) as app:
        retry = await app.until("retry", 2)
        assert "out of date" in (retry.detail or "")


async def test_a_secure_server_that_is_not_there_yet_is_tried_again(ours: Authority) -> None:
    port = free_port()
    async with WatchedApp(f"wss://127.0.0.1:{port}", ca_file=ours.ca_file, reconnect_max_s=0.1) as app:
        await app.until("retry", 2)
        async with serving(welcome_and_stay, tls=shown(ours), port=port):
            await app.until("connected")


async def test_a_port_without_tls_is_tried_again_with_a_hint(ours: Authority) -> None:
    async with serving(welcome_and_stay) as server:
        url = server.url.replace("ws:", "wss:")
        async with WatchedApp(url, ca_file=ours.ca_file) as app:
            assert "app.url" in ((await app.until("retry")).detail or "")


async def test_an_authoritys_file_that_is_missing_is_a_fault_of_the_setting(tmp_path: Path, ours: Authority) -> None:
    async with serving(welcome_and_stay, tls=shown(ours)) as server:
        async with WatchedApp(server.url, ca_file=tmp_path / "nowhere.pem") as app:
            with pytest.raises(SettingsError, match=r"app\.ca_file.*nowhere\.pem"):
                await app.stop()
        assert server.requests == []
