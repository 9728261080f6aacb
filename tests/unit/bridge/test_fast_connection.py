import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from websockets.protocol import Protocol

from bridge.app_protocol import CloseCode
from bridge.auth.principals import EVERYBODY, Principal
from bridge.service import Bridge
from bridge.websocket import fast
from bridge.websocket.admission import Admitted
from bridge.websocket.connection import MAX_UNSENT_BYTES
from bridge.websocket.fast import FastConnection, House
from contract.settings import Settings
from tests.bench.frames import cut
from tests.fuzz.rawsocket import CLOSE, CONTINUATION, PING, TEXT, frame
from tests.support.clock import ManualClock
from tests.support.memory_store import MemoryStore
from tests.support.waiting import wait_until


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

    def __init__(self, house: House, principal: Principal = EVERYBODY, uid: str = "alice") -> None:
        self.transport = Transport()
        self.server = SimpleNamespace(connections=set(), tasks=set())
        self.connection = FastConnection(
            house, self.transport, Admitted(uid, "v2", principal, None, b"HELLO"), cast("Any", self.server)
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

    def transaction(self) -> Any:
        inner = super().transaction

        @asynccontextmanager
        async def later() -> AsyncIterator[Any]:
            async with inner() as transaction:
                yield transaction
                await self.open.wait()

        return later()


class Place:
    def __init__(self) -> None:
        self.ledger = Ledger()
        self.clock = ManualClock()
        self.bridge = Bridge(Settings(), self.ledger, self.clock)
        self.house = House(self.bridge, 13.0)

    async def lives(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            await self.bridge.sessions.tick()

    async def app(self, principal: Principal = EVERYBODY, uid: str = "alice") -> App:
        app = App(self.house, principal, uid)
        await wait_until("it is greeted", lambda: bool(app.transport.writes))
        return app


@pytest.fixture
async def place() -> Place:
    it = Place()
    await it.bridge.sessions.load()
    return it


async def settled(condition: Callable[[], bool]) -> None:
    await wait_until("it is so", condition)


async def test_the_answer_to_the_handshake_and_the_greeting_are_one_write(place: Place) -> None:
    app = await place.app()
    assert len(app.transport.writes) == 1
    assert app.transport.writes[0].startswith(b"HELLO\x81")
    assert app.told[0]["type"] == "connection_established"
    assert len(place.bridge.hub) == 1


async def test_nothing_is_said_before_the_ledger_knows(place: Place) -> None:
    place.ledger.open.clear()
    app = App(place.house)
    for _ in range(20):
        await asyncio.sleep(0)
    assert app.transport.writes == []
    app.goes()
    place.ledger.open.set()
    await settled(lambda: place.bridge.sessions.alive("alice"))
    assert app.transport.writes == []
    assert len(place.bridge.hub) == 0


async def test_without_a_ledger_the_app_is_asked_to_come_back(place: Place) -> None:
    place.ledger.fail = "the disk is full"
    app = await place.app()
    assert (app.told, app.code) == ([], CloseCode.DRAIN)
    assert len(place.bridge.hub) == 0


async def test_what_comes_while_the_ledger_is_asked_waits_for_its_turn(place: Place) -> None:
    app = await place.app()
    await place.lives(80)  # the promise on disk does not cover another heartbeat
    place.ledger.open.clear()
    app.says({"type": "heartbeat", "seq": 1}, {"type": "heartbeat", "seq": 2}, {"type": "dance"})
    app.connection.data_received(frame(PING, b"?"))
    assert len(app.told) == 1
    place.ledger.open.set()
    await settled(lambda: len(app.told) == 4)
    assert [message.get("seq") for message in app.told[1:3]] == [1, 2]
    assert app.told[3]["code"] == "unknown_type"
    assert app.frames[-1] == (10, b"?")


async def test_who_sends_a_lot_ahead_is_not_read_until_its_turn_comes(place: Place) -> None:
    app = await place.app()
    await place.lives(80)
    place.ledger.open.clear()
    app.says({"type": "heartbeat", "seq": 0})
    app.says(*({"type": "heartbeat", "seq": seq} for seq in range(1, 1000)))
    assert app.transport.paused
    place.ledger.open.set()
    await settled(lambda: len(app.told) == 1001)
    assert not app.transport.paused


async def test_what_was_asked_before_the_app_went_is_carried_out(place: Place) -> None:
    app = await place.app()
    await place.lives(80)
    place.ledger.open.clear()
    app.says({"type": "heartbeat"}, {"type": "logout"})
    app.goes()
    place.ledger.open.set()
    await settled(lambda: not place.bridge.sessions.alive("alice"))
    assert len(app.told) == 1


async def test_what_comes_after_our_goodbye_means_nothing(place: Place) -> None:
    app = await place.app()
    app.connection.close(CloseCode.REPLACED, "another came")
    app.says({"type": "logout"})
    app.connection.data_received(frame(CLOSE, b"\x11\x96"))
    assert app.code == CloseCode.REPLACED
    assert app.transport.closed
    assert place.bridge.sessions.alive("alice")


async def test_a_fault_of_ours_ends_its_connection_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    app, other = await place.app(), await place.app(uid="bob")

    def fail(*_: Any) -> None:
        raise ValueError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(fast, "obey", fail)
        app.says({"type": "heartbeat"})
    assert app.transport.aborted
    other.says({"type": "heartbeat"})
    assert other.told[-1]["type"] == "heartbeat_ack"


async def test_a_fault_while_the_ledger_is_asked_ends_its_connection_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await place.app()

    async def fail(*_: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(place.bridge.sessions, "logout", fail)
    app.says({"type": "logout"})
    await settled(lambda: app.transport.aborted)
    assert place.bridge.sessions.alive("alice")


async def test_a_token_that_expires_ends_its_connection(place: Place) -> None:
    now = place.clock.utc_now().timestamp()
    app = await place.app(Principal("app", "alice", "alice", expires_at=now + 0.05))
    assert app.code is None
    await settled(lambda: app.code == CloseCode.UNAUTHORISED)


async def test_one_that_is_gone_is_not_closed_when_its_token_expires(place: Place) -> None:
    now = place.clock.utc_now().timestamp()
    app = await place.app(Principal("app", "alice", "alice", expires_at=now + 0.05))
    app.goes()
    await asyncio.sleep(0.1)
    assert app.code is None


async def test_a_slow_reader_is_closed_and_takes_nothing_more(place: Place) -> None:
    app = await place.app()
    app.transport.unsent = MAX_UNSENT_BYTES - 10
    assert not app.connection.has_room
    assert app.connection.send("x" * 10)
    assert not app.connection.send("x" * 11)
    assert app.code == CloseCode.SLOW_CONSUMER
    assert not app.connection.send("x")


async def test_who_reads_no_pongs_is_cut_off(place: Place) -> None:
    app = await place.app()
    app.transport.unsent = MAX_UNSENT_BYTES + 1
    app.connection.data_received(frame(PING, b"?"))
    assert app.transport.aborted


async def test_it_is_pinged_and_given_up(place: Place) -> None:
    app = await place.app()
    for _ in range(2 * 130):
        place.house.wheel.step()
    assert app.frames[-1] == (9, b"")
    for _ in range(130):
        place.house.wheel.step()
    assert app.transport.aborted
    assert app.code == 1011


async def test_who_has_gone_holds_nothing(place: Place) -> None:
    app = await place.app()
    app.connection.data_received(frame(TEXT, b"{", fin=False))
    app.connection.data_received(frame(CONTINUATION, b"}"))
    app.goes()
    assert (len(place.bridge.hub), len(place.house.wheel), app.server.connections) == (0, 0, set())


async def test_when_the_server_stops_it_says_so(place: Place) -> None:
    app = await place.app()
    app.connection.shutdown()
    assert app.code == 1012
    assert app.transport.closed


async def test_who_has_gone_is_freed_without_a_garbage_collection(place: Place) -> None:
    gc.collect()
    gc.disable()
    try:
        app = await place.app()
        app.connection.data_received(frame(TEXT, b"{", fin=False))
        app.goes()
        del app
        await asyncio.sleep(0)
        left = [it for it in gc.get_objects() if isinstance(it, FastConnection | Protocol)]
    finally:
        gc.enable()
    assert left == []
