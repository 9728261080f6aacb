import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from websockets.protocol import Protocol

from bridge.apps.connection import MAX_UNSENT_BYTES
from bridge.auth.principals import EVERYBODY, Principal
from bridge.storage.memory import MemoryStore
from bridge.websocket.stream import connection as fast
from bridge.websocket.stream.connection import StreamConnection, StreamServerState
from bridge.websocket.stream.handshake import AcceptedHandshake
from contract.app_socket import CloseCode
from tests.support.harness.bridge import BridgeHarness
from tests.support.waiting import loop_time_passes, wait_until
from tools.bench.frames import cut
from tools.fuzz.rawsocket import CLOSE, CONTINUATION, PING, TEXT, frame


class Transport(asyncio.Transport):
    """What the connection writes; reads nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.unsent = 0
        self.paused = False
        self.closed = False
        self.aborted = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.writes.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class App:
    """An app's end of one connection."""

    def __init__(self, server: StreamServerState, principal: Principal = EVERYBODY, uid: str = "alice") -> None:
        self.transport = Transport()
        self.server = SimpleNamespace(connections=set(), tasks=set())
        self.connection = StreamConnection(
            server, self.transport, AcceptedHandshake(uid, "v2", principal, None, b"HELLO"), cast("Any", self.server)
        )
        self.connection.begin(b"HELLO")

    def says(self, *messages: dict[str, Any]) -> None:
        self.connection.data_received(b"".join(frame(TEXT, json.dumps(message).encode()) for message in messages))

    def goes(self) -> None:
        self.transport.closed = True
        self.connection.connection_lost(None)

    @property
    def frames(self) -> list[tuple[int, bytes]]:
        return cut(b"".join(self.transport.writes).removeprefix(b"HELLO"))[0]

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(payload) for opcode, payload in self.frames if opcode == 1]

    @property
    def code(self) -> int | None:
        return next((int.from_bytes(payload[:2]) for opcode, payload in self.frames if opcode == 8), None)


class Ledger(MemoryStore):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()

    def transaction(self, *, with_news: bool = False) -> Any:
        del with_news
        inner = super().transaction

        @asynccontextmanager
        async def later() -> AsyncIterator[Any]:
            async with inner() as transaction:
                yield transaction
                await self.open.wait()

        return later()


class StreamHarness(BridgeHarness):
    def __init__(self) -> None:
        self.ledger = Ledger()
        super().__init__(store=self.ledger)
        self.server = StreamServerState(self.bridge, 13.0)

    async def app(self, principal: Principal = EVERYBODY, uid: str = "alice") -> App:
        app = App(self.server, principal, uid)
        await wait_until("it is greeted", lambda: bool(app.transport.writes))
        return app


@pytest.fixture
async def harness() -> StreamHarness:
    it = StreamHarness()
    await it.load()
    return it


async def settled(condition: Callable[[], bool]) -> None:
    await wait_until("it is so", condition)


async def test_the_answer_to_the_handshake_and_the_greeting_are_one_write(harness: StreamHarness) -> None:
    app = await harness.app()
    assert len(app.transport.writes) == 1
    assert app.transport.writes[0].startswith(b"HELLO\x81")
    assert app.told[0]["type"] == "connection_established"
    assert len(harness.bridge.hub) == 1


async def test_nothing_is_said_before_the_ledger_knows(harness: StreamHarness) -> None:
    harness.ledger.open.clear()
    app = App(harness.server)
    for _ in range(20):
        await asyncio.sleep(0)
    assert app.transport.writes == []
    app.goes()
    harness.ledger.open.set()
    await settled(lambda: harness.bridge.sessions.alive("alice"))
    assert app.transport.writes == []
    assert len(harness.bridge.hub) == 0


async def test_without_a_ledger_the_app_is_asked_to_come_back(harness: StreamHarness) -> None:
    harness.ledger.fail = "the disk is full"
    app = await harness.app()
    assert (app.told, app.code) == ([], CloseCode.DRAIN)
    assert len(harness.bridge.hub) == 0


async def test_what_comes_while_the_ledger_is_asked_waits_for_its_turn(harness: StreamHarness) -> None:
    app = await harness.app()
    await harness.lives(80)  # the promise on disk does not cover another heartbeat
    harness.ledger.open.clear()
    app.says({"type": "heartbeat", "seq": 1}, {"type": "heartbeat", "seq": 2}, {"type": "dance"})
    app.connection.data_received(frame(PING, b"?"))
    assert len(app.told) == 1
    harness.ledger.open.set()
    await settled(lambda: len(app.told) == 4)
    assert [message.get("seq") for message in app.told[1:3]] == [1, 2]
    assert app.told[3]["code"] == "unknown_type"
    assert app.frames[-1] == (10, b"?")


async def test_who_sends_a_lot_ahead_is_not_read_until_its_turn_comes(harness: StreamHarness) -> None:
    app = await harness.app()
    await harness.lives(80)
    harness.ledger.open.clear()
    app.says({"type": "heartbeat", "seq": 0})
    app.says(*({"type": "heartbeat", "seq": seq} for seq in range(1, 1000)))
    assert app.transport.paused
    harness.ledger.open.set()
    await settled(lambda: len(app.told) == 1001)
    assert not app.transport.paused


async def test_what_was_asked_before_the_app_went_is_carried_out(harness: StreamHarness) -> None:
    app = await harness.app()
    await harness.lives(80)
    harness.ledger.open.clear()
    app.says({"type": "heartbeat"}, {"type": "logout"})
    app.goes()
    harness.ledger.open.set()
    await settled(lambda: not harness.bridge.sessions.alive("alice"))
    assert len(app.told) == 1


async def test_what_comes_after_our_goodbye_means_nothing(harness: StreamHarness) -> None:
    app = await harness.app()
    app.connection.close(CloseCode.REPLACED, "another came")
    app.says({"type": "logout"})
    app.connection.data_received(frame(CLOSE, b"\x11\x96"))
    assert app.code == CloseCode.REPLACED
    assert app.transport.closed
    assert harness.bridge.sessions.alive("alice")


async def test_a_fault_of_ours_ends_its_connection_alone(
    harness: StreamHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, other = await harness.app(), await harness.app(uid="bob")

    def fail(*_: Any) -> None:
        raise ValueError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(fast, "obey", fail)
        app.says({"type": "heartbeat"})
    assert app.transport.aborted
    other.says({"type": "heartbeat"})
    assert other.told[-1]["type"] == "heartbeat_ack"


async def test_a_fault_while_the_ledger_is_asked_ends_its_connection_alone(
    harness: StreamHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await harness.app()

    async def fail(*_: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(harness.bridge.sessions, "logout", fail)
    app.says({"type": "logout"})
    await settled(lambda: app.transport.aborted)
    assert harness.bridge.sessions.alive("alice")


async def test_a_token_that_expires_ends_its_connection(harness: StreamHarness) -> None:
    now = harness.clock.utc_now().timestamp()
    app = await harness.app(Principal("app", "alice", "alice", expires_at=now + 0.05))
    assert app.code is None
    await settled(lambda: app.code == CloseCode.UNAUTHORISED)


async def test_one_that_is_gone_is_not_closed_when_its_token_expires(harness: StreamHarness) -> None:
    now = harness.clock.utc_now().timestamp()
    app = await harness.app(Principal("app", "alice", "alice", expires_at=now + 0.05))
    app.goes()
    await loop_time_passes(0.1)
    assert app.code is None


async def test_a_slow_reader_is_closed_and_takes_nothing_more(harness: StreamHarness) -> None:
    app = await harness.app()
    app.transport.unsent = MAX_UNSENT_BYTES - 10
    assert not app.connection.has_room
    assert app.connection.send("x" * 10)
    assert not app.connection.send("x" * 11)
    assert app.code == CloseCode.SLOW_CONSUMER
    assert not app.connection.send("x")


async def test_who_reads_no_pongs_is_cut_off(harness: StreamHarness) -> None:
    app = await harness.app()
    app.transport.unsent = MAX_UNSENT_BYTES + 1
    app.connection.data_received(frame(PING, b"?"))
    assert app.transport.aborted


async def test_it_is_pinged_and_given_up(harness: StreamHarness) -> None:
    app = await harness.app()
    for _ in range(2 * 130):
        harness.server.wheel.step()
    assert app.frames[-1] == (9, b"")
    for _ in range(130):
        harness.server.wheel.step()
    assert app.transport.aborted
    assert app.code == 1011


async def test_who_has_gone_holds_nothing(harness: StreamHarness) -> None:
    app = await harness.app()
    app.connection.data_received(frame(TEXT, b"{", fin=False))
    app.connection.data_received(frame(CONTINUATION, b"}"))
    app.goes()
    assert (len(harness.bridge.hub), len(harness.server.wheel), app.server.connections) == (0, 0, set())


async def test_when_the_server_stops_it_says_so(harness: StreamHarness) -> None:
    app = await harness.app()
    app.connection.shutdown()
    assert app.code == 1012
    assert app.transport.closed


@pytest.mark.parametrize("end", ["stop", "silence"])
async def test_no_frame_is_written_before_the_handshake_is_answered(harness: StreamHarness, end: str) -> None:
    harness.ledger.open.clear()
    app = App(harness.server)
    if end == "stop":
        app.connection.shutdown()
    else:
        for _ in range(3 * 130):
            harness.server.wheel.step()
    assert (app.transport.writes, app.transport.closed) == ([], True)
    app.goes()
    harness.ledger.open.set()
    await settled(lambda: harness.bridge.sessions.alive("alice"))
    assert (app.transport.writes, len(harness.bridge.hub)) == ([], 0)


async def test_an_app_that_said_goodbye_is_obeyed_to_the_end_and_hears_nothing_more(harness: StreamHarness) -> None:
    app = await harness.app()
    app.connection.data_received(
        frame(TEXT, b"{", fin=False) + frame(CONTINUATION, b'"type":"logout"}') + frame(CLOSE, b"\x03\xe8")
    )
    told = len(app.told)
    assert app.transport.closed
    assert not app.connection.send("a wake")
    await settled(lambda: not harness.bridge.sessions.alive("alice"))
    assert (len(app.told), len(harness.bridge.hub)) == (told, 1)
    app.goes()
    assert len(harness.bridge.hub) == 0


async def test_an_app_that_breaks_the_protocol_leaves_the_hub_with_its_socket(harness: StreamHarness) -> None:
    app = await harness.app()
    app.connection.data_received(frame(TEXT, b"\xff") + frame(TEXT, b'{"type":"logout"}'))
    assert (app.code, app.transport.closed, len(harness.bridge.hub)) == (1007, True, 1)
    app.connection.close(CloseCode.REPLACED, "another came")
    app.goes()
    assert (len(harness.bridge.hub), harness.bridge.sessions.alive("alice")) == (0, True)


async def test_who_has_gone_is_freed_without_a_garbage_collection(harness: StreamHarness) -> None:
    gc.collect()
    gc.disable()
    try:
        app = await harness.app()
        app.connection.data_received(frame(TEXT, b"{", fin=False))
        app.goes()
        del app
        await asyncio.sleep(0)
        left = [it for it in gc.get_objects() if isinstance(it, StreamConnection | Protocol)]
    finally:
        gc.enable()
    assert left == []
