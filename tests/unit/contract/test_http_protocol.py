import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
import uvicorn
from fastapi import FastAPI, Request

from contract import http_protocol
from contract.http_protocol import Gathered, PunctualProtocol, Room
from contract.web import Server, harden, listen

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Open = Callable[[], "asyncio.Future[Stream]"]


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    app = FastAPI()

    @app.get("/")
    async def root() -> str:
        return "fine"

    @app.get("/slow")
    async def slow() -> str:
        await asyncio.sleep(0.5)
        return "fine"

    @app.post("/")
    async def body(request: Request) -> int:
        return len(await request.body())

    harden(app, max_body_bytes=1000)
    sock = listen("the test", "127.0.0.1", 0, option="--port")
    config = uvicorn.Config(app, log_config=None, lifespan="off", http=PunctualProtocol, timeout_keep_alive=60)
    server = Server(config)
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield sock.getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def answer(port: int, *pieces: bytes) -> bytes:
    """All that the server says until it closes, within 5 s."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"GET / HTTP/1.1\r\nHost",),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf",),
        (GET, b"GET / HT"),
    ],
    ids=["nothing", "half a header", "half a body", "half a second request"],
)
async def test_who_takes_a_connection_and_does_not_use_it_loses_it(
    monkeypatch: pytest.MonkeyPatch, pieces: tuple[bytes, ...]
) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_WITHIN_S", 0.2)
    async with serving() as port:
        said = await answer(port, *pieces)
        assert said.count(b"200 OK") == pieces.count(GET)
        assert b"fine" in await answer(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")


async def test_a_slow_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_WITHIN_S", 0.2)
    async with serving() as port:
        assert b"fine" in await answer(port, b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(
    ("method", "more", "status"),
    [
        ("POST", b"", 200),
        ("HEAD", b"", 405),
        ("DELETE", b"", 405),
        ("BREW", b"", 400),
        ("GET", b"Sec-WebSocket-Key: \xff\r\n", 400),
        ("GET", b"Sec-WebSocket-Protocol: \xff\r\n", 400),
    ],
)
async def test_what_cannot_be_a_websocket_is_answered(method: str, more: bytes, status: int) -> None:
    head = f"{method} / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n".encode()
    async with serving() as port:
        assert (await answer(port, head + more + b"\r\n")).startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize(
    "pieces",
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: ", *[b"x" * 1000] * 1000),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", *[b"X: x\r\n" * 1000] * 200),
        (b"GET /", *[b"x" * 1000] * 1000),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: ", *[b"x" * 1000] * 1000),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;", *[b"x" * 1000] * 1000),
    ],
    ids=["one long header", "many headers", "a long path", "a long trailer", "a long extension"],
)
async def test_a_head_without_end_is_refused(pieces: tuple[bytes, ...]) -> None:
    async with serving() as port:
        assert b" 200 " not in await answer(port, *pieces)
        assert b"fine" in await answer(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n", 400),
        (b"GET / HTTP/1.0\r\n", 200),
    ],
)
async def test_a_request_names_one_host(head: bytes, status: int) -> None:
    async with serving() as port:
        assert (await answer(port, head + b"Connection: close\r\n\r\n")).startswith(f"HTTP/1.1 {status} ".encode())


async def test_a_body_is_no_head() -> None:
    body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n" + b"x" * 900
    last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    async with serving() as port:
        assert (await answer(port, body * 100 + last)).count(b" 200 OK") == 101


async def test_no_websocket_overtakes_the_answer_to_an_earlier_request() -> None:
    slow = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
    upgrade = (
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with serving() as port:
        assert (await answer(port, slow + upgrade)).startswith(b"HTTP/1.1 400 ")


async def test_one_more_than_there_is_room_for_is_closed_and_the_others_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PunctualProtocol, "room", Room(3))
    async with serving() as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in held:
            writer.write(GET)
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        assert await answer(port, GET) == b""
        for reader, writer in held:
            writer.write(GET)
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
            writer.close()


def test_a_full_house_is_told_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(http_protocol.log, "warning", lambda event, **_: told.append(event))
    room = Room(1)
    assert [room.refuse(count, now) for count, now in ((0, 1.0), (1, 1.0), (1, 2.0), (1, 70.0))] == [
        False, True, True, True,
    ]  # fmt: skip
    assert told == ["no_room_for_connections"] * 2


class Wire:
    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def test_an_answers_head_and_body_are_one_write() -> None:
    wire = Wire()
    gathered = Gathered(cast("asyncio.Transport", wire), asyncio.get_running_loop())
    gathered.write(b"head ")
    gathered.write(b"body")
    assert wire.writes == []
    await asyncio.sleep(0)
    assert wire.writes == [b"head body"]
    gathered.write(b"last")
    gathered.close()
    assert (wire.writes[1:], wire.closed, gathered.is_closing()) == ([b"last"], True, True)
    await asyncio.sleep(0)
    assert len(wire.writes) == 2
