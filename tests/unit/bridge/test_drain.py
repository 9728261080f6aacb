import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from bridge.api.app import create_app
from bridge.api.closing import Closing
from bridge.apps.connection import AppConnection
from bridge.apps.protocol import MAX_REASON_BYTES, close_reason
from bridge.drain import RETRY_WITHIN_MS, SLICE_S, Drain, Times
from contract.app_socket import CloseCode
from contract.messages import Wake
from infra.settings.loader import load
from tests.support.harness.bridge import BridgeHarness


def silent(_socket: object) -> bool:
    return False


@pytest.mark.parametrize(
    ("given", "times"),
    [
        ({}, Times(0.0, 1.0, 2.0)),
        ({"store__url": "postgresql://me@box/ledger"}, Times(3.0, 22.0, 27.0)),
        ({"bridge__drain_s": 0.0}, Times(0.0, 0.0, 0.0)),
        ({"bridge__drain_s": 60.0, "bridge__drain_lead_s": 5.0}, Times(5.0, 50.0, 55.0)),
        ({"bridge__drain_s": 4.0, "bridge__drain_lead_s": 9.0}, Times(4.0, 0.0, 0.0)),
        ({"bridge__drain_s": 8.0}, Times(0.0, 4.0, 8.0)),
    ],
)
def test_how_long_a_bridge_leaves(given: dict[str, Any], times: Times) -> None:
    assert Times.of(load(**given)) == times


@pytest.mark.parametrize(("sockets", "closing_s", "most"), [(100, 10.0, 10), (100_000, 20.0, 250), (3, 0.0, 3)])
def test_sockets_are_closed_evenly_and_all_within_the_time(sockets: int, closing_s: float, most: int) -> None:
    drain = Drain(range(sockets), closing_s, 100.0, lambda: 0.5)
    slices = []
    now = 100.0
    while len(drain):
        slices.append([socket for socket, _ in drain.due(now, silent)])
        now += SLICE_S
    assert now - 100.0 <= closing_s + 2 * SLICE_S
    assert max(map(len, slices)) == most
    assert sorted(socket for one in slices for socket in one) == list(range(sockets))


def test_a_socket_that_rings_is_closed_once_its_wake_is_confirmed_or_the_time_is_over() -> None:
    ringing = {"a", "b"}
    drain = Drain(["a", "b", "c"], 1.0, 0.0, lambda: 0.0)
    assert drain.due(0.0, ringing.__contains__) == [("c", 0)]
    ringing.discard("b")
    assert drain.due(0.5, ringing.__contains__) == [("b", 0)]
    assert drain.due(0.9, ringing.__contains__) == []
    assert drain.due(1.0, ringing.__contains__) == [("a", 0)]
    assert len(drain) == 0


def test_apps_are_asked_to_come_back_at_different_times() -> None:
    draws = iter([0.0, 0.25, 0.999])
    drain = Drain("abc", 0.0, 0.0, lambda: next(draws))
    assert [retry_ms for _, retry_ms in drain.due(0.0, silent)] == [0, RETRY_WITHIN_MS // 4, RETRY_WITHIN_MS - 1]


def test_the_reason_of_a_close_always_has_room_for_the_wait() -> None:
    for text in ("the server restarts", "싸" * 200):
        reason = close_reason(CloseCode.DRAIN, text, 999_999)
        assert len(reason.encode()) <= MAX_REASON_BYTES
        assert json.loads(reason)["retry_ms"] == 999_999
    assert "retry_ms" not in close_reason(CloseCode.DRAIN, "the server restarts")


class Socket:
    """The side of a connection that a bridge sees when it leaves."""

    mode = "v2"
    has_room = True
    label = "app"
    ended = 0

    def __init__(self, house: BridgeHarness, uid: str) -> None:
        self.uid = uid
        self.closed: tuple[CloseCode, int | None] | None = None
        self._bridge = house.bridge
        self.frames: Any = None
        house.bridge.join(cast("AppConnection", self), None)

    def send(self, _frame: str) -> bool:
        return True

    def close(self, code: CloseCode, _text: str, retry_ms: int | None = None) -> None:
        self.closed = self.closed or (code, retry_ms)
        self._bridge.leave(cast("AppConnection", self))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the loop's other tasks have their turn; no time passes
        await asyncio.sleep(0)


async def test_a_bridge_leaves_then_closes_then_has_no_socket() -> None:
    house = BridgeHarness(bridge={"drain_s": 60.0, "drain_lead_s": 5.0})
    await house.load()
    bridge = house.bridge
    quiet, ringing = Socket(house, "alice"), Socket(house, "bob")
    bridge.relay.wake("jetson", Wake(id="w1", uid="bob", command="c", timestamp="t", ttl_ms=60_000))
    leaving = asyncio.create_task(bridge.drain())
    await until(lambda: bridge.draining)
    assert bridge.problem == "draining"
    late = Socket(house, "carol")
    assert (bridge.closing, quiet.closed, late.closed) == (False, None, None)
    await house.clock.run(5)
    await until(lambda: quiet.closed is not None)
    assert bridge.closing
    assert late.closed is not None
    assert ringing.closed is None
    refused = Socket(house, "dave")
    for socket in (quiet, late, refused):
        assert socket.closed is not None
        code, retry_ms = socket.closed
        assert code == CloseCode.DRAIN
        assert retry_ms in range(RETRY_WITHIN_MS + 1)
    bridge.relay.acked("bob", "w1")
    house.clock.advance(SLICE_S)
    await leaving
    assert ringing.closed is not None


def test_a_bridge_that_closes_answers_503_to_all_but_its_watchers() -> None:
    house = BridgeHarness()
    closing = TestClient(Closing(create_app(house.bridge), house.bridge), base_url="http://127.0.0.1:8000")
    beat: Any = {"url": "/api/app/heartbeat", "json": {"uid": "alice"}}
    assert closing.post(**beat).status_code == 409
    house.bridge.draining = True
    assert closing.get("/readyz").status_code == 503
    assert closing.post(**beat).status_code == 409, "it still accepts"
    house.bridge.closing = True
    answer = closing.post(**beat)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "try again" in answer.json()["detail"]
    assert (closing.get("/livez").status_code, closing.get("/metrics").status_code) == (200, 200)
    with pytest.raises(WebSocketDisconnect), closing.websocket_connect("/ws/app/alice/"):
        pass


def test_an_operator_asks_a_bridge_to_leave() -> None:
    house = BridgeHarness()
    client = TestClient(create_app(house.bridge), base_url="http://127.0.0.1:8000")
    assert not house.bridge.asked_to_leave.is_set()
    answer = client.post("/api/bridge/drain")
    assert answer.json() == {"success": True, "sockets": 0, "within_s": 2.0}
    assert house.bridge.asked_to_leave.is_set()
