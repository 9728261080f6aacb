import asyncio
import threading

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Scope

from infra.web.late import Late
from tests.support.waiting import PATIENCE_S

SCOPE: Scope = {"type": "http", "method": "GET", "path": "/", "headers": []}


async def ask(app: ASGIApp) -> bytes:
    async def receive() -> Message:
        raise AssertionError("nothing more is to be read")

    async def send(message: Message) -> None:
        sent.append(message)

    sent: list[Message] = []
    await app(SCOPE, receive, send)
    return b"".join(message.get("body", b"") for message in sent)


async def test_it_is_made_once_for_all_requests_and_not_before() -> None:
    made = 0

    def make() -> ASGIApp:
        nonlocal made
        made += 1
        return PlainTextResponse("hello")

    app = Late(make)
    assert made == 0
    assert await asyncio.gather(*(ask(app) for _ in range(5))) == [b"hello"] * 5
    assert made == 1


async def test_the_loop_goes_on_while_it_is_made() -> None:
    go_on = threading.Event()

    def make() -> ASGIApp:
        assert go_on.wait(PATIENCE_S)
        return PlainTextResponse("hello")

    asked = asyncio.create_task(ask(Late(make)))
    await asyncio.sleep(0)
    go_on.set()
    assert await asked == b"hello"


async def test_what_could_not_be_made_is_made_for_a_later_request() -> None:
    def make() -> ASGIApp:
        if not tries:
            tries.append("refused")
            raise OSError("no file can be opened")
        return PlainTextResponse("hello")

    tries: list[str] = []
    app = Late(make)
    with pytest.raises(OSError, match="no file"):
        await ask(app)
    assert await ask(app) == b"hello"
