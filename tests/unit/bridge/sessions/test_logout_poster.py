import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from bridge.sessions import logout_poster as module
from bridge.sessions.logout_poster import LogoutPoster, what_a_node_needs
from bridge.storage.records import PendingLogout
from tests.support.jetson import HOST, LOGOUT_PATH, Jetson, Post
from tests.support.ports import free_port
from tests.support.waiting import wait_until

QUICK_S = 0.3


class Office:
    """A running poster and what came of its posts."""

    def __init__(self) -> None:
        self.done: dict[str, str | None] = {}
        self.poster = LogoutPoster()
        self.tasks: set[asyncio.Task[None]] = set()

    def post(self, url: str | None, device_id: str = "old-1", uid: str = "alice") -> None:
        row = PendingLogout("c1", "s1", device_id, uid, 1, "app", "then", 0.0, url)
        self.tasks.add(asyncio.create_task(self._post(row)))

    async def _post(self, row: PendingLogout) -> None:
        self.done[row.device_id] = await self.poster.post(row)

    async def told(self, device_id: str = "old-1") -> str | None:
        await wait_until(f"the post to {device_id} ended", lambda: device_id in self.done)
        return self.done[device_id]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    office = Office()
    async with office.poster.running():
        await office.poster._sender._the_client()  # a busy machine may need longer for it than a post may take
        yield office
        await office.stop()


@pytest.fixture
def jetson() -> Iterator[Jetson]:
    with Jetson() as running:
        yield running


async def test_the_documented_body_is_posted_and_nothing_else(office: Office, jetson: Jetson) -> None:
    office.post(jetson.url, uid="싸비스")
    assert await office.told() is None
    assert jetson.posts == [Post(LOGOUT_PATH, "application/json", {"uid": "싸비스", "action": "logout"})]


@pytest.mark.parametrize("status", [200, 204, 299, 409])
async def test_these_answers_mean_that_the_user_is_out(office: Office, jetson: Jetson, status: int) -> None:
    jetson.status = status
    office.post(jetson.url)
    assert await office.told() is None


@pytest.mark.parametrize("status", [302, 307, 400, 404, 500, 503])
async def test_these_do_not_and_no_other_address_is_tried(office: Office, jetson: Jetson, status: int) -> None:
    jetson.status = status
    office.post(jetson.url)
    assert await office.told() == f"it answered {status}"
    assert [post.path for post in jetson.posts] == [LOGOUT_PATH]


async def test_a_device_that_refuses_who_calls_is_told_of_with_what_it_lacks(
    office: Office, jetson: Jetson, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str | None]] = []
    monkeypatch.setattr(module.log, "warning", lambda event, *, problem, **_: told.append((event, problem)))
    jetson.status = 403
    office.post(jetson.url)
    problem = await office.told()
    assert problem is not None
    assert problem.startswith("it answered 403; on that node set edge.http_allow")
    assert told == [("logout_posted", problem)]


@pytest.mark.parametrize("host", ["kitchen.home", "부엌.home", "kitchen"])
def test_a_node_that_is_called_by_a_name_must_be_told_it(host: str) -> None:
    assert f'edge.http_hosts = ["{host}"]' in what_a_node_needs(f"http://{host}:5000/api/auth/logout")


@pytest.mark.parametrize("host", ["192.168.0.9", "[fd00::9]", "localhost"])
def test_an_address_needs_no_name(host: str) -> None:
    assert "http_hosts" not in what_a_node_needs(f"http://{host}:5000/api/auth/logout")


async def test_a_device_that_does_not_answer_is_given_up_after_the_time_out(
    office: Office, jetson: Jetson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", QUICK_S)
    jetson.hold()
    office.post(jetson.url)
    assert "no answer" in str(await office.told())


@pytest.mark.parametrize("url", [None, f"http://{HOST}:1/", "http://[::1", "ftp://jetson/", "http://no.such.invalid/"])
async def test_an_address_where_nobody_is_says_why(office: Office, url: str | None) -> None:
    office.post(url)
    assert await office.told()


async def test_what_speaks_no_http_says_why(office: Office) -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n" * 5)
        writer.close()

    async with await asyncio.start_server(talk, HOST, 0) as server:
        office.post(f"http://{HOST}:{server.sockets[0].getsockname()[1]}/")
        assert await office.told()


async def test_an_answer_without_end_is_not_read(office: Office, jetson: Jetson) -> None:
    jetson.endless = True
    office.post(jetson.url)
    await asyncio.wait_for(office.told(), module.TIMEOUT_S / 2)
    assert office.done == {"old-1": None}


async def test_a_device_that_does_not_answer_delays_no_other(office: Office, jetson: Jetson) -> None:
    with Jetson() as dead:
        dead.hold()
        for number in range(50):
            office.post(dead.url, f"dead-{number}")
        office.post(jetson.url)
        assert await office.told() is None
        assert office.done == {"old-1": None}


async def test_a_proxy_of_the_environment_is_not_asked(jetson: Jetson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{HOST}:{free_port()}")
    monkeypatch.setenv("NO_PROXY", "")
    office = Office()
    async with office.poster.running():
        office.post(jetson.url)
        assert await office.told() is None


async def test_the_connection_is_closed_when_the_answer_is_there(office: Office) -> None:
    closed = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await reader.read()
        closed.set()
        writer.close()

    async with await asyncio.start_server(answer, HOST, 0, family=socket.AF_INET) as server:
        office.post(f"http://{HOST}:{server.sockets[0].getsockname()[1]}/")
        assert await office.told() is None
        async with asyncio.timeout(5):
            await closed.wait()
