import asyncio
import json
import socket
from http import HTTPStatus

import pytest

from app_sim import client, dialogue
from app_sim.client import address
from contract.errors import SettingsError
from tests.support.clock import LeapingClock
from tests.unit.app_sim.fakes import Visit, WatchedApp, serving

COMMAND = {"type": "voice_command", "command": "싸비스", "timestamp": "2026-11-01T00:00:00+00:00"}


async def welcome_and_stay(visit: Visit) -> None:
    await visit.welcome()
    await visit.until_gone()


async def test_connecting_offers_v2_and_sends_a_heartbeat_at_once() -> None:
    frames: asyncio.Queue[str] = asyncio.Queue()

    async def script(visit: Visit) -> None:
        await visit.welcome(heartbeat_interval_s=3600)
        await frames.put(await visit.frame())
        await visit.until_gone()

    async with serving(script) as server, WatchedApp(server.url) as app:
        connected = await app.until("connected")
        assert connected.message is not None
        assert connected.message["heartbeat_interval_s"] == 3600
        async with asyncio.timeout(5):
            first = json.loads(await frames.get())
        assert (first["type"], isinstance(first["seq"], int)) == ("heartbeat", True)
        assert server.requests[0].headers["Sec-WebSocket-Protocol"] == "sarvis.v2"
        assert "Sec-WebSocket-Extensions" not in server.requests[0].headers


async def test_heartbeats_follow_the_servers_interval() -> None:
    async def script(visit: Visit) -> None:
        await visit.welcome(heartbeat_interval_s=0.1)
        await visit.until_gone()

    async with serving(script) as server, WatchedApp(server.url) as app:
        await app.until("message", 4)
        assert app.of("connecting") == app.events[:1]


async def test_the_first_word_is_the_servers() -> None:
    silent = asyncio.Event()

    async def script(visit: Visit) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(visit.socket.recv(), 0.2)
        silent.set()
        await welcome_and_stay(visit)

    async with serving(script) as server, WatchedApp(server.url) as app:
        await app.until("connected")
        assert silent.is_set()


async def test_a_duplicate_is_acked_again_but_rings_once_even_after_a_reconnect() -> None:
    acks: list[object] = []

    async def script(visit: Visit) -> None:
        await visit.welcome(heartbeat_interval_s=3600)
        await visit.frame()
        for _ in range(2):
            await visit.send(COMMAND | {"id": "w1"})
            acks.append(await visit.message())
        await visit.socket.close(4000)

    async def last(visit: Visit) -> None:
        await script(visit)
        await visit.until_gone()

    async with serving(script, last) as server, WatchedApp(server.url) as app:
        await app.until("closed", 2)
        assert acks == [{"type": "ack", "id": "w1"}] * 4
        (ring,) = app.of("voice_command")
        assert ring.message == COMMAND | {"id": "w1"}


async def test_a_legacy_app_sends_exactly_the_documented_bytes() -> None:
    async def script(visit: Visit) -> None:
        await visit.welcome()
        await visit.send(COMMAND | {"id": "w1"})
        await visit.send(COMMAND | {"id": "w1"})
        for _ in range(3):
            assert await visit.frame() == '{"type":"heartbeat"}'
        await visit.socket.close(4501)

    async with serving(script) as server, WatchedApp(server.url, legacy=True, heartbeat_interval_s=0.05) as app:
        stop = await app.stop()
        assert stop.code == 4501, "the server saw something else"
        assert len(app.of("voice_command")) == 2
        assert "Sec-WebSocket-Protocol" not in server.requests[0].headers
        assert server.requests[0].path == "/ws/app/user-1/"


async def test_an_old_server_without_v2_is_spoken_to_as_documented() -> None:
    frames: list[str] = []

    async def script(visit: Visit) -> None:
        await visit.welcome()
        await visit.send(COMMAND | {"id": "w1"})
        frames.extend([await visit.frame(), await visit.frame()])
        await visit.socket.close(4501)

    async with serving(script, v2=False) as server, WatchedApp(server.url, heartbeat_interval_s=0.05) as app:
        app.client.login("jetson-1")
        await app.stop()
        assert frames == ['{"type":"heartbeat"}'] * 2


async def test_a_drained_app_comes_back() -> None:
    async def drain(visit: Visit) -> None:
        await visit.welcome()
        await visit.socket.close(4000)

    async with serving(drain, welcome_and_stay) as server, WatchedApp(server.url) as app:
        await app.until("connected", 2)
        assert [event.code for event in app.of("closed")] == [4000]
        retry = await app.until("retry")
        assert retry.delay_s is not None
        assert retry.delay_s < 1


async def test_an_app_whose_socket_dies_comes_back() -> None:
    async def die(visit: Visit) -> None:
        await visit.welcome()
        await visit.frame()
        visit.socket.transport.abort()

    async with serving(die, welcome_and_stay) as server, WatchedApp(server.url) as app:
        await app.until("connected", 2)
        assert [event.code for event in app.of("closed")] == [1006]


async def test_what_came_before_the_close_is_still_heard() -> None:
    async def script(visit: Visit) -> None:
        await visit.welcome()
        for number in range(5):
            await visit.send(COMMAND | {"id": f"w{number}"})
        await visit.socket.close(4501)

    async with serving(script) as server, WatchedApp(server.url) as app:
        await app.stop()
        assert len(app.of("voice_command")) == 5


async def test_a_server_that_is_not_there_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with WatchedApp(f"ws://127.0.0.1:{port}") as app:
        await app.until("retry", 3)
        assert not app.of("connected")


async def test_a_port_that_speaks_no_http_is_tried_again() -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ready\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server, WatchedApp(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}") as app:
        await app.until("retry", 2)


async def test_a_server_behind_a_proxy_that_answers_no_heartbeat_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialogue, "MIN_SILENCE_S", 0.0)

    async def mute(visit: Visit) -> None:
        await visit.welcome(heartbeat_interval_s=0.1)
        async for _ in visit.socket:
            pass

    async with serving(mute, welcome_and_stay) as server, WatchedApp(server.url) as app:
        await app.until("connected", 2)
        (closed,) = app.of("closed")
        assert (closed.code, closed.detail) == (None, "the server does not answer heartbeats")


async def test_a_server_that_never_says_hello_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ESTABLISH_S", 0.5)

    async def mute(visit: Visit) -> None:
        await visit.socket.wait_closed()

    async with serving(mute, welcome_and_stay) as server, WatchedApp(server.url) as app:
        await app.until("connected")
        assert len(app.of("closed")) == 1


async def test_a_server_that_takes_the_connection_and_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ESTABLISH_S", 0.2)

    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(nothing, "127.0.0.1", 0)
    async with server, WatchedApp(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}") as app:
        await app.until("retry", 2)
        assert "timed out" in (app.of("retry")[0].detail or "")


async def test_the_upgrade_and_the_greeting_share_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ESTABLISH_S", 1000.0)
    clock = LeapingClock()

    async def mute(visit: Visit) -> None:
        await visit.socket.wait_closed()

    async with serving(mute) as server, WatchedApp(server.url, clock=clock, token=lambda: clock.advance(999.9)) as app:
        await app.until("closed")
        assert app.of("closed")[0].detail == "the server sent no connection_established"


async def test_a_server_that_never_greets_is_retried_with_growing_pauses() -> None:
    clock = LeapingClock()

    async def no_greeting(visit: Visit) -> None:
        clock.advance(20)
        await visit.socket.close()

    async with serving(no_greeting) as server, WatchedApp(server.url, clock=clock, random=lambda: 0.1) as app:
        await app.until("retry", 3)
        delays = [event.delay_s or 0.0 for event in app.of("retry")]
        assert delays[:3] == pytest.approx([0.05, 0.1, 0.2])


@pytest.mark.parametrize("code", [4500, 4501, 4502, 4503, 4504, 4505])
async def test_a_final_close_is_not_followed_by_another_try(code: int) -> None:
    async def script(visit: Visit) -> None:
        await visit.welcome()
        await visit.socket.close(code)

    async with serving(script) as server, WatchedApp(server.url) as app:
        stop = await app.stop()
        assert (stop.code, stop.wanted) == (code, False)
        assert [event.kind for event in app.events if event.kind != "message"][-2:] == ["closed", "stopped"]
        assert len(server.visits) == 1


async def test_a_refused_handshake_is_final() -> None:
    async with serving(welcome_and_stay, refusals=(HTTPStatus.FORBIDDEN,)) as server, WatchedApp(server.url) as app:
        stop = await app.stop()
        assert stop.code == 403
        assert not server.visits


async def test_a_busy_server_is_asked_again() -> None:
    busy = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)
    async with serving(welcome_and_stay, refusals=busy) as server, WatchedApp(server.url) as app:
        await app.until("connected")
        assert [event.code for event in app.of("retry")] == [503, 429]


async def test_an_own_logout_ends_the_app_as_wanted() -> None:
    async def script(visit: Visit) -> None:
        await visit.welcome(heartbeat_interval_s=3600)
        while (await visit.message())["type"] != "logout":
            pass
        await visit.send({"type": "logout_ack", "reason": "app"})
        await visit.socket.close(4501)

    async with serving(script) as server, WatchedApp(server.url) as app:
        await app.until("connected")
        app.client.logout()
        stop = await app.stop()
        assert (stop.code, stop.wanted) == (4501, True)


async def test_a_logout_whose_connection_dies_is_asked_for_again() -> None:
    async def die(visit: Visit) -> None:
        await visit.welcome(heartbeat_interval_s=3600)
        while (await visit.message())["type"] != "logout":
            pass
        visit.socket.transport.abort()

    async def obey(visit: Visit) -> None:
        await visit.welcome(heartbeat_interval_s=3600)
        while (await visit.message())["type"] != "logout":
            pass
        await visit.send({"type": "logout_ack"})
        visit.socket.transport.abort()

    async with serving(die, obey) as server, WatchedApp(server.url) as app:
        app.client.logout()
        stop = await app.stop()
        assert stop.wanted
        assert len(server.visits) == 2


async def test_a_login_waits_for_the_connection_and_is_sent_until_answered() -> None:
    logins: list[str] = []

    async def take(visit: Visit, *, answer: bool) -> None:
        await visit.welcome(heartbeat_interval_s=3600)
        while json.loads(frame := await visit.frame())["type"] != "login":
            pass
        logins.append(frame)
        if answer:
            await visit.send({"type": "login_ack", "session": {}})
        await visit.socket.close(4000)

    async def first(visit: Visit) -> None:
        await take(visit, answer=False)

    async def second(visit: Visit) -> None:
        await take(visit, answer=True)

    async def third(visit: Visit) -> None:
        await visit.welcome(heartbeat_interval_s=0.1)
        logins.extend(frame for frame in [await visit.frame(), await visit.frame()] if "login" in frame)
        await visit.socket.close(4501)

    async with serving(first, second, third) as server, WatchedApp(server.url) as app:
        app.client.login("jetson-1")
        await app.stop()
        assert logins == ['{"type":"login","device_id":"jetson-1"}'] * 2


@pytest.mark.parametrize("device_id", ["", "a/b", "x" * 65, "#", "한글"])
async def test_a_login_names_a_device(device_id: str) -> None:
    app = WatchedApp("ws://127.0.0.1:1")
    with pytest.raises(SettingsError, match="device id"):
        app.client.login(device_id)


async def test_a_legacy_app_neither_logs_in_nor_out() -> None:
    app = WatchedApp("ws://127.0.0.1:1", legacy=True)
    with pytest.raises(SettingsError):
        app.client.login("jetson-1")
    with pytest.raises(SettingsError):
        app.client.logout()


async def test_garbage_from_the_server_is_survived() -> None:
    async def script(visit: Visit) -> None:
        await visit.welcome(heartbeat_interval_s=3600)
        for garbage in ("no json", "[1]", b"\x00", "[" * 50_000, '{"type":"tomorrow"}'):
            await visit.socket.send(garbage)
        await visit.send(COMMAND | {"id": "w1"})
        await visit.until_gone()

    async with serving(script) as server, WatchedApp(server.url) as app:
        await app.until("voice_command")
        assert len(app.of("unknown")) == 5
        assert not app.of("closed")


async def test_a_frame_beyond_the_bound_closes_and_the_app_comes_back() -> None:
    async def flood(visit: Visit) -> None:
        await visit.welcome()
        await visit.socket.send("x" * 300_000)
        await visit.socket.wait_closed()

    async with serving(flood, welcome_and_stay) as server, WatchedApp(server.url) as app:
        await app.until("connected", 2)


async def test_quitting_closes_with_1000() -> None:
    async with serving(welcome_and_stay) as server, WatchedApp(server.url) as app:
        await app.until("message")
        await app.quit()
        await asyncio.wait_for(server.visits[0].socket.wait_closed(), 5)
        assert server.visits[0].socket.close_code == 1000
        assert [event.kind for event in app.events[-2:]] == ["closed", "stopped"]


async def test_quitting_while_it_waits_ends_at_once() -> None:
    async with WatchedApp("ws://127.0.0.1:1", random=lambda: 1.0) as app:
        await app.until("retry")
        await app.quit()
        assert app.events[-1].kind == "stopped"


@pytest.mark.parametrize(
    ("uid", "path"),
    [
        ("user-1", "/ws/app/user-1/"),
        ("김 싸비스", "/ws/app/%EA%B9%80%20%EC%8B%B8%EB%B9%84%EC%8A%A4/"),
        ("a?b#c%20&d=e", "/ws/app/a%3Fb%23c%2520%26d%3De/"),
        ("a+b;c:d@e", "/ws/app/a%2Bb%3Bc%3Ad%40e/"),
    ],
)
async def test_the_uid_is_quoted_completely(uid: str, path: str) -> None:
    async with serving(welcome_and_stay) as server, WatchedApp(server.url, uid) as app:
        await app.until("connected")
        assert server.requests[0].path == path


def test_a_client_name_goes_into_the_query() -> None:
    assert address("wss://sarvis.example/", "u", "내 폰&1") == (
        "wss://sarvis.example/ws/app/u/?client=%EB%82%B4%20%ED%8F%B0%261"
    )


@pytest.mark.parametrize(
    "url", ["http://h", "ws://", "ws://h:port", "ws://h:99999", "ws://h?x", "ws://h#x", "ws://[::1"]
)
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(SettingsError, match=r"app\.url"):
        address(url, "user-1")


@pytest.mark.parametrize("uid", ["", "a/b", "x" * 129, "a\nb"])
def test_a_uid_that_is_none_is_named(uid: str) -> None:
    with pytest.raises(SettingsError, match=r"app\.uid"):
        address("ws://h", uid)


async def test_a_host_that_cannot_exist_is_a_fault_of_the_setting() -> None:
    async with WatchedApp("ws://a..b") as app:
        with pytest.raises(SettingsError, match=r"app\.url"):
            await app.stop()
