import json
from typing import Any, cast

import pytest
from starlette.websockets import WebSocket

from bridge.apps.returning_sockets import BEATS_COUNT_AFTER_S, REMEMBERED_FOR_S, RETURNS_WITHIN_S, ReturningSockets
from bridge.storage.records import Audit
from bridge.websocket import commands as requests
from bridge.websocket.asgi.connection import AsgiConnection
from contract.app_socket import CloseCode
from contract.clock import iso
from tests.support.harness.bridge import BridgeHarness


def test_as_many_sockets_return_as_were_closed_and_the_next_one_is_a_person() -> None:
    returns: ReturningSockets[object] = ReturningSockets()
    returns.sent_away("alice", [None, None], "app", 0.0)
    assert [returns.take("alice", None, now) for now in (0.1, 1.0, 1.1)] == ["app", "app", None]
    assert returns.take("bob", None, 1.2) is None


def test_a_socket_returns_under_its_own_name() -> None:
    returns: ReturningSockets[object] = ReturningSockets()
    returns.sent_away("alice", ["phone", None], "http", 0.0)
    assert returns.take("alice", "tablet", 1.0) is None
    assert returns.take("alice", "phone", 1.0) == "http"
    assert returns.take("alice", "phone", 1.0) is None
    assert returns.take("alice", None, 1.0) == "http"


def test_who_comes_later_than_a_while_is_a_person() -> None:
    returns: ReturningSockets[object] = ReturningSockets()
    returns.sent_away("alice", [None], "app", 0.0)
    assert returns.take("alice", None, RETURNS_WITHIN_S) is None
    returns.sent_away("alice", [None], "app", 100.0)
    assert returns.take("alice", None, 100.0 + RETURNS_WITHIN_S - 0.1) == "app"


def test_a_second_log_out_forgets_nothing_of_the_first() -> None:
    returns: ReturningSockets[object] = ReturningSockets()
    returns.sent_away("alice", [None], "app", 0.0)
    returns.sent_away("alice", [], "http", 1.0)
    assert returns.take("alice", None, 2.0) == "app"
    returns.sent_away("bob", [], "http", 1.0)
    assert returns.take("bob", None, 2.0) is None


def test_after_a_restart_any_number_returns() -> None:
    returns: ReturningSockets[object] = ReturningSockets()
    returns.restarted([("alice", "operator")], 0.0)
    assert {returns.take("alice", name, 1.0) for name in (None, "phone", None)} == {"operator"}
    assert returns.take("alice", None, RETURNS_WITHIN_S) is None


def test_beats_count_after_a_log_out_for_silence_only() -> None:
    returns: ReturningSockets[str] = ReturningSockets()
    returns.back("silent", "heartbeat_timeout", 0.0)
    returns.back("logged out", "app", 0.0)
    assert not returns.does_beat_count("silent", BEATS_COUNT_AFTER_S - 0.1)
    assert returns.does_beat_count("silent", BEATS_COUNT_AFTER_S)
    assert not returns.does_beat_count("logged out", 1e6)
    assert not returns.does_beat_count("another", 1e6)
    returns.left("silent")
    assert not returns.is_back("silent")
    assert returns.is_back("logged out")


class App(AsgiConnection):
    """One that is not served: what it was sent."""

    def __init__(self, uid: str) -> None:
        super().__init__(cast("WebSocket", None), uid, "legacy")
        self.heard: list[str] = []

    def send(self, frame: str) -> bool:
        self.heard.append(json.loads(frame)["type"])
        return True

    def close(self, code: CloseCode, _text: str, _retry_ms: int | None = None) -> None:
        self.heard.append(f"{code}")


class ReturningHarness(BridgeHarness):
    async def connects(self, uid: str, client: str | None = None) -> App:
        """As both ways in do it."""
        app, bridge = App(uid), self.bridge
        returns = bridge.returns(uid, "legacy", client)
        if returns is None:
            await bridge.sessions.connected(uid)
            bridge.join(app, client)
        else:
            bridge.join_again(app, client, returns)
        return app

    async def beats(self, app: App) -> None:
        asked = requests.obey(self.bridge, app, json.dumps({"type": "heartbeat"}))
        if asked is not None:
            await asked

    async def logs_out(self, uid: str, reason: Any = "app") -> None:
        await self.bridge.sessions.logout(uid, reason)
        for connection in self.bridge.hub.of(uid):
            self.bridge.leave(connection)


@pytest.fixture
async def harness() -> ReturningHarness:
    harness = ReturningHarness()
    await harness.load()
    return harness


async def test_a_socket_that_returns_is_served_and_is_no_sign_of_life(harness: ReturningHarness) -> None:
    await harness.connects("alice")
    await harness.logs_out("alice")
    returned = await harness.connects("alice")
    await harness.beats(returned)
    assert returned.heard == ["heartbeat_ack"], "the documented protocol goes on"
    assert returned in harness.bridge.hub.of("alice")
    assert not harness.bridge.sessions.alive("alice")
    harness.clock.advance(3600)
    await harness.beats(returned)
    assert not harness.bridge.sessions.alive("alice")


async def test_a_person_logs_in_by_a_second_socket_by_sarvis_v2_and_by_http(harness: ReturningHarness) -> None:
    for come in ("second", "v2", "http", "later"):
        await harness.connects(come)
        await harness.logs_out(come)
        if come == "v2":
            assert harness.bridge.returns(come, "v2", None) is None
        elif come == "later":
            harness.clock.advance(RETURNS_WITHIN_S)
            await harness.connects(come)
            assert harness.bridge.sessions.alive(come)
        else:
            returned = await harness.connects(come)
            if come == "second":
                await harness.connects(come)
            else:
                await harness.bridge.sessions.login(come, "jetson", "http")
            assert harness.bridge.sessions.alive(come)
            harness.clock.advance(100)
            await harness.beats(returned)
            assert returned.heard == ["heartbeat_ack"]
            assert (
                harness.bridge.sessions.liveness._deadlines.get(come) == harness.bridge.sessions.liveness.now() + 3600
            )


async def test_a_user_who_lives_meets_no_expectation(harness: ReturningHarness) -> None:
    await harness.connects("alice")
    await harness.logs_out("alice")
    await harness.bridge.sessions.connected("alice")
    assert harness.bridge.returns("alice", "legacy", None) is None


async def test_an_app_that_goes_on_beating_after_a_time_out_is_alive_again(harness: ReturningHarness) -> None:
    await harness.connects("alice")
    await harness.logs_out("alice", "heartbeat_timeout")
    returned = await harness.connects("alice")
    await harness.beats(returned)
    assert not harness.bridge.sessions.alive("alice")
    harness.clock.advance(30)
    await harness.beats(returned)
    assert harness.bridge.sessions.alive("alice")
    assert returned.heard == ["heartbeat_ack", "heartbeat_ack"]


async def test_a_log_out_closes_a_socket_that_has_returned_and_it_may_return_once_more(
    harness: ReturningHarness,
) -> None:
    await harness.connects("alice")
    await harness.logs_out("alice")
    returned = await harness.connects("alice")
    await harness.logs_out("alice", "operator")
    assert returned.heard == ["4501"]
    await harness.connects("alice")
    assert not harness.bridge.sessions.alive("alice")


async def test_after_a_restart_it_still_knows_who_was_logged_out_lately(harness: ReturningHarness) -> None:
    at = iso(harness.clock.utc_now())
    harness.bridge._expect_returns([Audit(at, "left", "", "", "alice", "app")])
    assert harness.bridge.returns("alice", "legacy", None) == "app"
    harness.clock.advance(REMEMBERED_FOR_S + 1)
    harness.bridge = harness.another()
    await harness.load()
    harness.bridge._expect_returns([Audit(at, "left", "", "", "alice", "app")])
    assert harness.bridge.returns("alice", "legacy", None) is None


async def test_the_ledger_tells_who_was_logged_out(harness: ReturningHarness) -> None:
    await harness.connects("alice")
    await harness.connects("bob")
    await harness.logs_out("alice", "http")
    left = (await harness.store.load()).left
    assert [(line.uid, line.reason) for line in left] == [("alice", "http")]
