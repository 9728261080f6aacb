import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
import uvicorn
from fastapi import FastAPI, Request

from infra.connection_limits import IDLE_S as IDLE_MAKES_ROOM_S
from infra.connection_limits import ConnectionLimits
from infra.web import http_protocol
from infra.web.api import harden
from infra.web.http_protocol import IDLE_S, Gathered, PunctualProtocol
from infra.web.server import Server, listen
from tests.support.waiting import loop_time_passes, wait_until

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Open = Callable[[], "asyncio.Future[Stream]"]


@asynccontextmanager
async def serving(keep_alive_s: float = 60.0, room: ConnectionLimits | None = None) -> AsyncIterator[int]:
    app = FastAPI()

    @app.get("/")
    async def root() -> str:
        return "fine"

    @app.get("/slow")
    async def slow() -> str:
        await loop_time_passes(0.5)
        return "fine"

    @app.post("/")
    async def body(request: Request) -> int:
        return len(await request.body())

    harden(app, max_body_bytes=1000)
    sock = listen("the test", "127.0.0.1", 0, option="--port")
    config = uvicorn.Config(
        app,
        log_config=None,
        lifespan="off",
        http=PunctualProtocol,
        timeout_keep_alive=keep_alive_s,  # type: ignore[arg-type]  # a call_later
    )
    server = Server(config, room=room)
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


async def test_a_connection_may_be_idle_longer_between_requests_than_within_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_WITHIN_S", 0.3)
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(GET)
            async with asyncio.timeout(5):
                assert b" 200 OK" in await reader.readuntil(b'"fine"')
            await loop_time_passes(0.5)
        writer.write(b"GET / HT")
        async with asyncio.timeout(5):
            assert await reader.read() == b"", "a request that has begun must end"
        writer.close()


async def test_an_idle_connection_is_closed_in_the_end() -> None:
    async with serving(keep_alive_s=0.2) as port:
        assert (await answer(port, GET)).endswith(b'"fine"')


async def test_an_empty_line_is_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_WITHIN_S", 0.2)
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        async with asyncio.timeout(5):
            assert b" 200 OK" in await reader.readuntil(b'"fine"')
            writer.write(b"\r\n")
            assert await reader.read() == b""
        writer.close()


def test_a_connection_is_kept_for_longer_than_proxies_keep_it() -> None:
    assert IDLE_S == 75


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


OFFERS = {
    "Java and curl": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n",
    "a list": b"Upgrade: TLS/1.0, HTTP/2.0\r\nConnection: keep-alive, Upgrade\r\n",
    "in any case": b"UPGRADE: H2C\r\nCONNECTION: UPGRADE\r\n",
    "two lines": b"Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: IRC/6.9\r\nConnection: keep-alive\r\n",
    "a WebSocket among others": b"Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n",
    "a WebSocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "without Connection": b"Upgrade: h2c\r\n",
    "empty": b"Connection: Upgrade\r\nUpgrade: \r\n",
}
BODIES = [
    b"Content-Length: 5\r\n\r\nhello",
    b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: 1\r\n\r\n",
]
EMPTY = b"Content-Length: 0\r\n\r\n"
AMBIGUOUS = [
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\nContent-Length: 6\r\n",
    b"Content-Length: 5, 6\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length: 0x5\r\n",
    b"Content-Length: 99999999999999999999999\r\n",
    b"Transfer-Encoding: chunked, gzip\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding:\r\n chunked\r\n",
]
LAST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhe"


def bodies(said: bytes) -> list[bytes]:
    """Of the answers, all of which are 200."""
    answers = said.split(b"HTTP/1.1 ")[1:]
    assert all(one.startswith(b"200 OK\r\n") for one in answers), said
    return [one.partition(b"\r\n\r\n")[2] for one in answers]


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
async def test_the_body_of_a_request_that_offers_another_protocol_is_read(offer: bytes) -> None:
    async with serving() as port:
        for body, step in itertools.product(BODIES, (1, 2, 7, 1000)):
            one = b"POST / HTTP/1.1\r\nHost: x\r\n" + offer + body
            sent = one + one + LAST
            said = await answer(port, *(sent[at : at + step] for at in range(0, len(sent), step)))
            assert bodies(said) == [b"5", b"5", b"2"]


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
async def test_the_next_request_comes_after_whatever_a_request_brings(offer: bytes) -> None:
    async with serving() as port:
        for method, body in itertools.product(("GET", "HEAD", "DELETE"), (b"\r\n", EMPTY, *BODIES)):
            if method == "GET" and body not in BODIES and offer == OFFERS["a WebSocket"]:
                continue  # that is one
            one = f"{method} /none HTTP/1.1\r\nHost: x\r\n".encode() + offer + body
            said = await answer(port, one + LAST)
            first, _, second = said.removeprefix(b"HTTP/1.1 ").partition(b"HTTP/1.1 ")
            assert first.startswith(b"404 ")
            assert second.startswith(b"200 OK\r\n")
            assert second.endswith(b"\r\n\r\n2")


async def test_an_offer_does_not_lift_any_limit() -> None:
    offer = b"POST / HTTP/1.1\r\nHost: x\r\n" + OFFERS["Java and curl"]
    endless = b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: "
    async with serving() as port:
        long = offer + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001
        assert (await answer(port, long)).startswith(b"HTTP/1.1 413 ")
        chunks = offer + b"Transfer-Encoding: chunked\r\n\r\n" + b"64\r\n%b\r\n" % (b"x" * 100) * 11
        assert (await answer(port, chunks)).startswith(b"HTTP/1.1 413 ")
        assert b" 200 " not in await answer(port, offer + endless, *[b"x" * 1000] * 1000)
        assert b" 200 " not in await answer(port, offer, *[b"X: x\r\n" * 1000] * 200)


async def test_a_body_whose_end_is_a_matter_of_opinion_is_refused_with_or_without_an_offer() -> None:
    smuggled = b"5\r\nhello\r\n0\r\n\r\n" + LAST
    async with serving() as port:
        for framing, offer in itertools.product(AMBIGUOUS, (b"", OFFERS["Java and curl"])):
            said = await answer(port, b"POST / HTTP/1.1\r\nHost: x\r\n" + framing + offer + b"\r\n" + smuggled)
            assert b" 200 " not in said, framing
            assert b" 400 " in said


async def test_who_offers_another_protocol_and_sends_half_a_body_loses_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_WITHIN_S", 0.2)
    head = b"POST / HTTP/1.1\r\nHost: x\r\n" + OFFERS["Java and curl"] + b"Content-Length: 5\r\n\r\n"
    async with serving() as port:
        assert await answer(port, head + b"hel") == b""


async def test_who_awaits_leave_to_send_a_body_gets_it_also_with_an_offer() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n"
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + OFFERS["Java and curl"] + b"\r\n")
        async with asyncio.timeout(5):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hello" + LAST)
            assert bodies(await reader.read()) == [b"5", b"2"]
        writer.close()


async def test_a_request_for_a_tunnel_is_refused() -> None:
    async with serving() as port:
        for target in (b"/", b"h:443", b"x"):
            said = await answer(port, b"CONNECT " + target + b" HTTP/1.1\r\nHost: h:443\r\n\r\n" + LAST)
            assert said.startswith(b"HTTP/1.1 400 ")
            assert b" 200 " not in said


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


async def test_one_more_than_there_is_room_for_is_closed_and_the_others_are_served() -> None:
    async with serving(room=ConnectionLimits(2)) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in held:
            writer.write(GET)
            assert b"200 OK" in await reader.readuntil(b'"fine"')
        assert await answer(port, GET) == b""
        for reader, writer in held:
            writer.write(GET)
            assert b"200 OK" in await reader.readuntil(b'"fine"')
            writer.close()


async def test_where_there_is_no_room_the_longest_idle_makes_it_if_it_was_idle_for_long() -> None:
    room = ConnectionLimits(2)
    async with serving(room=room) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in held:
            writer.write(GET)
            assert b"200 OK" in await reader.readuntil(b'"fine"')
        assert await answer(port, GET) == b""
        room._idle = {guest: since - IDLE_MAKES_ROOM_S for guest, since in room._idle.items()}
        assert b"fine" in await answer(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        (oldest, _), (other, writing) = held
        async with asyncio.timeout(5):
            assert await oldest.read() == b""
            writing.write(GET)
            assert b"200 OK" in await other.readuntil(b'"fine"')
        for _, writer in held:
            writer.close()


async def test_who_waits_for_a_slow_answer_makes_no_room() -> None:
    room = ConnectionLimits(1)
    async with serving(room=room) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await wait_until("the request is there", lambda: len(room) and not room._unproven)
        assert await answer(port, GET) == b""
        assert b"200 OK" in await reader.readuntil(b'"fine"')
        writer.close()


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


class GoneWire(Wire):
    """uvloop's, after the client has gone in the midst of a close."""

    def write(self, data: bytes) -> None:
        raise RuntimeError(f"the handler is closed; {len(data)} bytes are lost")


async def test_an_answer_to_a_client_that_is_gone_is_dropped() -> None:
    wire = GoneWire()
    gathered = Gathered(cast("asyncio.Transport", wire), asyncio.get_running_loop())
    gathered.write(b"answer")
    gathered.close()
    assert wire.closed
