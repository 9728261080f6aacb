import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from contract.errors import StartError
from infra.settings.base import networks
from infra.tls import server_context
from infra.web import server as web
from infra.web.middleware import AllowedNetworks, OriginGuard, Origins, comes_from, is_foreign_page, is_known_host
from infra.web.server import Server, address, listen
from tests.support.certificates import Authority


def test_a_taken_port_is_named_with_the_way_out() -> None:
    with listen("the first", "127.0.0.1", 0, option="--port") as taken:
        port = taken.getsockname()[1]
        taken.listen()
        with pytest.raises(StartError, match=rf"the second .*{port}.*--port"):
            listen("the second", "127.0.0.1", port, option="--port")


@pytest.mark.parametrize("host", ["256.1.1.1", "no such host", "192.0.2.1"])
def test_an_address_that_is_not_ours_is_a_start_error(host: str) -> None:
    with pytest.raises(StartError):
        listen("it", host, 0, option="--port")


def test_accepted_sockets_will_not_delay_small_packets() -> None:
    """asyncio switches Nagle's algorithm off only for sockets that name their protocol."""
    with listen("it", "127.0.0.1", 0, option="--port") as sock:
        assert sock.proto == socket.IPPROTO_TCP


def test_an_address_reads_like_a_url_part() -> None:
    with listen("it", "127.0.0.1", 0, option="--port") as sock:
        assert address(sock) == f"127.0.0.1:{sock.getsockname()[1]}"


# --- who may ask ---

HTTP: dict[str, Any] = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "scheme": "http"}
LOCAL = networks(["127.0.0.0/8", "::1", "192.168.7.0/24", "fd00::/8"])


async def answer(app: ASGIApp, **scope: Any) -> list[Message]:
    """What an application sends for a scope; its body never ends."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Message) -> None:
        sent.append(dict(message))

    await app({**HTTP, "headers": [], **scope}, receive, send)
    return sent


async def inner(scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "passed", "scope": scope["type"]})


PASSED = [{"type": "passed", "scope": "http"}]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "192.168.7.9", "::ffff:192.168.7.9", "fd00::1%eth0"]
)
async def test_a_caller_from_an_allowed_network_passes(host: str) -> None:
    assert comes_from((host, 1), LOCAL)
    assert await answer(AllowedNetworks(inner, networks=LOCAL), client=(host, 1)) == PASSED


@pytest.mark.parametrize(
    "client", [None, ("", 0), ("192.168.8.1", 1), ("::ffff:10.0.0.1", 1), ("::2", 1), ("testclient", 1), ("/run/s", 0)]
)
async def test_a_caller_from_elsewhere_or_without_an_address_is_refused(client: tuple[str, int] | None) -> None:
    assert not comes_from(client, LOCAL)
    start, body = await answer(AllowedNetworks(inner, networks=LOCAL), client=client)
    assert start["status"] == 403
    assert (b"connection", b"close") in start["headers"], "the body was not read"
    assert json.loads(body["body"])["detail"]


async def test_without_any_network_nobody_passes() -> None:
    assert (await answer(AllowedNetworks(inner, networks=[]), client=("127.0.0.1", 1)))[0]["status"] == 403


async def test_the_lifespan_of_the_server_is_nobodys_request() -> None:
    for guard in (AllowedNetworks(inner, networks=[]), OriginGuard(inner, Origins((), ()))):
        assert await answer(guard, type="lifespan") == [{"type": "passed", "scope": "lifespan"}]


def headers(host: str | None = "sarvis.example:8000", *origins: str) -> list[tuple[bytes, bytes]]:
    told = [] if host is None else [(b"host", host.encode())]
    return [*told, *((b"origin", origin.encode()) for origin in origins)]


OWN_PAGES = [
    ("http", "sarvis.example:8000", "http://sarvis.example:8000"),
    ("http", "sarvis.example", "http://sarvis.example:80"),
    ("https", "sarvis.example", "https://sarvis.example"),
    ("https", "sarvis.example:443", "https://SARVIS.example"),
    ("ws", "127.0.0.1:8000", "http://127.0.0.1:8000"),
    ("wss", "[::1]:8000", "https://[::1]:8000"),
    ("http", "sarvis.example", "https://app.example"),
    ("ws", None, "https://APP.example:443"),
    # Native libraries that name the address which they call.
    ("wss", "sarvis.example:443", "wss://sarvis.example"),
    ("wss", "sarvis.example", "wss://sarvis.example"),
    ("ws", "sarvis.example:8000", "ws://sarvis.example"),
    ("ws", "sarvis.example:8000", "ws://SARVIS.example.:8000"),
    ("wss", "[2001:DB8:0::1]:8000", "wss://[2001:db8::1]:8000"),
    ("ws", "sarvis.example:8000", "wss://sarvis.example:443"),
    ("wss", "sarvis.example:8000", "http://sarvis.example:8000"),
    ("ws", "sarvis.example.:8000", "http://sarvis.example:8000"),
    ("wss", "sarvis.example:8000", "wss://sarvis.example:8000/ws/app/alice/?client=phone"),
]
FOREIGN_PAGES = [
    ("http", "sarvis.example:8000", "http://sarvis.example"),
    ("http", "sarvis.example", "https://sarvis.example"),
    ("https", "sarvis.example", "http://sarvis.example"),
    ("http", "sarvis.example", "http://evil.example"),
    ("http", "sarvis.example", "http://sarvis.example.evil.example"),
    ("http", "sarvis.example", "http://app.example"),
    ("http", "sarvis.example", "null"),
    ("http", "null", "null"),
    ("http", "sarvis.example", ""),
    ("http", "sarvis.example", "http://[::1"),
    ("http", "sarvis.example", "http://sarvis.example:port"),
    ("http", "sarvis.example", "chrome-extension://abc"),
    ("http", "sarvis.example", "http://"),
    ("http", None, "http://sarvis.example"),
    ("ws", "sarvis.example:8000", "ws://evil.example:8000"),
    ("wss", "sarvis.example", "wss://sarvis.example@evil.example"),
    ("wss", "sarvis.example", "wss://evil.example/sarvis.example"),
    ("wss", "sarvis.example", "capacitor://sarvis.example"),
    ("http", "sarvis.example:8000", "http://sarvis.example:8001"),
    ("https", "sarvis.example:8000", "https://sarvis.example"),
    ("http", "sarvis.example", "http://sarvis.example:99999"),
    ("http", "sarvis.example", "file://"),
    ("http", "sarvis.example", "sarvis.example"),
]


@pytest.mark.parametrize(("scheme", "host", "origin"), OWN_PAGES)
def test_our_own_pages_and_those_of_named_origins_may_call(scheme: str, host: str | None, origin: str) -> None:
    assert not is_foreign_page(headers(host, origin), scheme, ["https://app.example"])


@pytest.mark.parametrize(("scheme", "host", "origin"), FOREIGN_PAGES)
def test_pages_of_other_origins_are_foreign(scheme: str, host: str | None, origin: str) -> None:
    assert is_foreign_page(headers(host, origin), scheme, ["https://app.example"])


def test_who_names_no_origin_is_no_page_and_two_must_both_be_ours() -> None:
    assert not is_foreign_page(headers(), "http", [])
    ours, evil = "http://sarvis.example:8000", "http://evil.example"
    assert not is_foreign_page(headers("sarvis.example:8000", ours, ours), "http", [])
    assert is_foreign_page(headers("sarvis.example:8000", ours, evil), "http", [])
    two_hosts = [*headers("sarvis.example:8000", evil), (b"host", b"evil.example")]
    assert is_foreign_page(two_hosts, "http", [])


@pytest.mark.parametrize(
    "host",
    [
        None,
        "localhost",
        "LOCALHOST:5000",
        "localhost.",
        "127.0.0.1",
        "10.1.2.3:5000",
        "[::1]",
        "jetson-1",
        "Jetson-1.:5",
    ],
)
def test_addresses_localhost_and_named_hosts_are_known(host: str | None) -> None:
    assert is_known_host(headers(host), ["jetson-1"])


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:5000", "127.0.0.1.evil.example", "localhost.evil.example", "jetson-1.evil.example"],
)
def test_any_other_name_is_not_known(host: str) -> None:
    assert not is_known_host(headers(host), ["jetson-1"])


@pytest.mark.parametrize(
    "host",
    ["", ":5000", "evil@127.0.0.1", "127.0.0.1/evil", "[evil]", "[::1", "127.0.0.1:x", "127.0.0.1 evil", "0x7f.1"],
)
def test_what_is_no_host_at_all_is_not_known(host: str) -> None:
    assert not is_known_host(headers(host), ["jetson-1"])


def test_a_request_with_two_hosts_must_know_both() -> None:
    assert is_known_host([*headers("127.0.0.1"), *headers("localhost")], [])
    assert not is_known_host([*headers("127.0.0.1"), *headers("evil.example")], [])


async def test_the_guard_refuses_requests_of_foreign_pages_and_rebound_names() -> None:
    guard = OriginGuard(inner, Origins(["https://app.example"], ["jetson-1"]))
    assert await answer(guard, headers=headers("jetson-1:5000")) == PASSED
    assert await answer(guard, headers=headers("jetson-1:5000", "http://jetson-1:5000")) == PASSED
    assert await answer(guard, headers=headers("jetson-1:5000", "https://app.example")) == PASSED
    for refused in (
        headers("jetson-1:5000", "http://evil.example"),
        headers("evil.example", "http://evil.example"),
        headers("evil.example"),
    ):
        start, body = await answer(guard, headers=refused)
        assert start["status"] == 403
        assert json.loads(body["body"])["detail"]
        assert b"evil" not in body["body"]


async def test_without_named_hosts_any_name_will_do_but_no_foreign_page() -> None:
    guard = OriginGuard(inner, Origins([], None))
    assert await answer(guard, headers=headers("anything.example")) == PASSED
    assert (await answer(guard, headers=headers("anything.example", "null")))[0]["status"] == 403


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[int]:
    with listen("the test", "127.0.0.1", 0, option="--port") as listening:
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="websockets-sansio")
        server = Server(config)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        yield listening.getsockname()[1]
        server.should_exit = True
        await task


async def test_a_socket_of_a_foreign_page_is_refused_before_it_is_accepted() -> None:
    async def greet(scope: Scope, _receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket"
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        await send({"type": "websocket.close", "code": 1000})

    async with serving(OriginGuard(greet, Origins(["https://app.example"], ["known"]))) as port:
        url = f"ws://127.0.0.1:{port}/"
        for origin in (None, "https://app.example", f"http://127.0.0.1:{port}"):
            async with connect(url, origin=Origin(origin) if origin else None, proxy=None) as socket_:
                assert await socket_.recv() == "hello"
        for origin in ("http://evil.example", "null"):
            with pytest.raises(InvalidStatus) as refused:
                await connect(url, origin=Origin(origin), proxy=None)
            assert refused.value.response.status_code == 403


# --- who comes and says nothing ---


async def test_who_never_ends_a_tls_handshake_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "HANDSHAKE_WITHIN_S", 0.2)
    pair = Authority(tmp_path).issue("server", "127.0.0.1")
    config = uvicorn.Config(FastAPI(), log_config=None, lifespan="off")
    with listen("the test", "127.0.0.1", 0, option="--port") as sock:
        server = Server(config, tls=server_context(pair.cert, pair.key, who="bridge"))
        task = asyncio.create_task(server.serve(sockets=[sock]))
        reader, writer = await asyncio.open_connection("127.0.0.1", sock.getsockname()[1])
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        server.should_exit = True
        await task
