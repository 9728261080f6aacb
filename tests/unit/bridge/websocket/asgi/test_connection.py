import asyncio
import json
from typing import Any, cast

from starlette.websockets import WebSocket, WebSocketDisconnect

from bridge.apps.connection import MAX_UNSENT_BYTES
from bridge.websocket.asgi.connection import AsgiConnection
from contract.app_socket import CloseCode
from tests.support.waiting import wait_until


class Peer:
    """The socket's other end, as Starlette shows it."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.frames: list[str] = []
        self.closed: tuple[int, str] | None = None
        self.reads = asyncio.Event()
        self.reads.set()
        self.gone = False

    async def receive(self) -> dict[str, Any]:
        return await self.incoming.get()

    async def send_text(self, frame: str) -> None:
        await self.reads.wait()
        if self.gone:
            raise WebSocketDisconnect(1006)
        self.frames.append(frame)

    async def close(self, code: int, reason: str) -> None:
        await self.reads.wait()
        self.closed = (code, reason)

    def says(self, text: str) -> None:
        self.incoming.put_nowait({"type": "websocket.receive", "text": text})

    def leaves(self) -> None:
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})


async def nothing(_frame: str | bytes) -> None:
    pass


def connection(peer: Peer) -> AsgiConnection:
    return AsgiConnection(cast("WebSocket", peer), "alice", "v2")


async def test_frames_are_written_in_their_order_and_the_close_after_them() -> None:
    peer = Peer()
    it = connection(peer)
    for number in range(5):
        assert it.send(str(number))
    it.close(CloseCode.DRAIN, "later")
    assert not it.send("too late")
    await it.serve(nothing)
    assert peer.frames == ["0", "1", "2", "3", "4"]
    assert peer.closed is not None
    assert (peer.closed[0], json.loads(peer.closed[1])) == (4000, {"code": "drain", "message": "later"})


async def test_the_first_reason_to_close_stays() -> None:
    peer = Peer()
    it = connection(peer)
    it.close(CloseCode.LOGGED_OUT, "first")
    it.close(CloseCode.DRAIN, "second")
    await it.serve(nothing)
    assert peer.closed is not None
    assert peer.closed[0] == 4501


async def test_what_a_slow_reader_has_not_read_is_bounded() -> None:
    peer = Peer()
    peer.reads.clear()
    it = connection(peer)
    serving = asyncio.create_task(it.serve(nothing))
    frame = "싸" * 1000
    taken = 0
    while it.send(frame):
        taken += 1
    assert taken == MAX_UNSENT_BYTES // len(frame.encode())
    peer.reads.set()
    await serving
    assert peer.closed is not None
    assert peer.closed[0] == 4001


async def test_it_ends_when_the_peer_leaves() -> None:
    peer = Peer()
    peer.leaves()
    await asyncio.wait_for(connection(peer).serve(nothing), 5)


async def test_what_an_app_asked_for_is_carried_out_although_it_is_gone() -> None:
    peer = Peer()
    it = connection(peer)
    begun, commit, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def log_out(_frame: str | bytes) -> None:
        begun.set()
        await commit.wait()
        done.set()

    serving = asyncio.create_task(it.serve(log_out))
    peer.says('{"type":"logout"}')
    await begun.wait()
    peer.gone = True
    it.send("for nobody")
    await wait_until("the writer noticed", lambda: it._leaving)
    assert not serving.done()
    commit.set()
    await asyncio.wait_for(serving, 5)
    assert done.is_set()


async def test_a_request_that_fails_ends_only_its_own_connection() -> None:
    peer = Peer()

    async def fail(_frame: str | bytes) -> None:
        raise ValueError("a bug")

    peer.says("anything")
    await asyncio.wait_for(connection(peer).serve(fail), 5)
