import asyncio
import contextlib
import errno
import threading
from collections.abc import Awaitable, Callable

import httpx2
import pytest

from infra.web import http_sender
from infra.web.http_sender import FAILURES, HttpSender, NotRunningError
from tests.support.waiting import PATIENCE_S

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def status_from(serve: Serve, sender: HttpSender, *, within_s: float) -> tuple[int, bytes]:
    served = asyncio.Event()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await serve(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        served.set()

    async with await asyncio.start_server(serve_one, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        try:
            async with sender.post(f"http://{host}:{port}/x", b"{}", {"x-it": "1"}, within_s=within_s) as response:
                return response.status_code, await response.aread()
        finally:
            await served.wait()


async def refuse_with_a_body_that_never_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 10\r\n\r\n12345")
    await writer.drain()
    await reader.read()


async def test_a_body_that_never_ends_ends_with_the_time_of_the_post() -> None:
    sender = HttpSender()
    async with sender.running():
        await sender._the_client()  # until then no post reaches a server
        with pytest.raises(TimeoutError):
            await status_from(refuse_with_a_body_that_never_ends, sender, within_s=0.2)


async def test_redirects_are_not_followed_and_headers_arrive() -> None:
    asked: list[bytes] = []

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 307 Go\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    sender = HttpSender()
    async with sender.running():
        assert await status_from(redirect, sender, within_s=30.0) == (307, b"")
    assert [request.split(b" ")[1] for request in asked] == [b"/x"]
    assert b"x-it: 1\r\n" in asked[0]


async def test_outside_of_running_nothing_is_sent() -> None:
    sender = HttpSender()
    async with sender.running():
        pass
    with pytest.raises(NotRunningError):
        async with sender.post("http://127.0.0.1:9/", b"", {}, within_s=1.0):
            pass


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://[half", "http://\udcff/"])
async def test_an_address_that_cannot_be_used_is_one_of_the_failures(url: str) -> None:
    sender = HttpSender()
    async with sender.running():
        with pytest.raises(FAILURES):
            async with sender.post(url, b"", {}, within_s=30.0):
                pass


async def test_no_client_is_made_before_the_first_post_and_then_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made = count_clients(monkeypatch)
    sender = HttpSender()
    async with sender.running():
        await asyncio.sleep(0)
        assert made == []
        await asyncio.gather(*(post_in_vain(sender) for _ in range(5)))
        assert [client.is_closed for client in made] == [False]
    assert [client.is_closed for client in made] == [True]


async def test_a_post_too_short_for_making_the_client_leaves_it_to_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on = threading.Event()
    made = count_clients(monkeypatch, go_on)
    sender = HttpSender()
    async with sender.running():
        with pytest.raises(TimeoutError):
            async with sender.post("http://127.0.0.1:9/", b"", {}, within_s=0.01):
                pass
        go_on.set()
        await post_in_vain(sender)
        assert len(made) == 1


async def test_a_client_that_could_not_be_made_is_made_by_a_later_post(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = HttpSender()
    async with sender.running():
        with monkeypatch.context() as patch:
            patch.setattr(http_sender, "_new_client", no_file_can_be_opened)
            with pytest.raises(FAILURES):
                async with sender.post("http://127.0.0.1:9/", b"", {}, within_s=PATIENCE_S):
                    pass
        await post_in_vain(sender)


async def test_a_client_still_being_made_at_the_end_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    made = count_clients(monkeypatch, go_on)
    sender = HttpSender()
    async with sender.running():
        with pytest.raises(TimeoutError):
            async with sender.post("http://127.0.0.1:9/", b"", {}, within_s=0.01):
                pass
        go_on.set()
    assert [client.is_closed for client in made] == [True]


async def post_in_vain(sender: HttpSender) -> None:
    with pytest.raises(httpx2.ConnectError):
        async with sender.post("http://127.0.0.1:9/", b"", {}, within_s=PATIENCE_S):
            pass


def no_file_can_be_opened() -> httpx2.AsyncClient:
    raise OSError(errno.EMFILE, "Too many open files")


def count_clients(monkeypatch: pytest.MonkeyPatch, go_on: threading.Event | None = None) -> list[httpx2.AsyncClient]:
    made: list[httpx2.AsyncClient] = []
    make = http_sender._new_client

    def making() -> httpx2.AsyncClient:
        if go_on is not None:
            assert go_on.wait(PATIENCE_S)
        made.append(make())
        return made[-1]

    monkeypatch.setattr(http_sender, "_new_client", making)
    return made
