"""The server asks by pings whether a peer is still there."""

from collections.abc import Iterator

import pytest

from tests.integration.websocket.kinds import speaking
from tests.integration.websocket.peer import NEVER, App
from tests.integration.websocket.test_bounds import deaf_app
from tests.support.waiting import wait_for
from tests.support.world import Bridge
from tools.fuzz.rawsocket import PING, PONG, frame

KEEPALIVE_TIMEOUT = 1011
ENOUGH = 2000
"""Blocks of 15 KB: more than a system keeps for a peer that reads nothing."""


@pytest.fixture(scope="module")
def impatient(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A bridge that soon asks."""
    # It waits longer for an answer than a busy machine stands still.
    altered = "bridge.cli:PING_INTERVAL_S=0.2 bridge.cli:PING_TIMEOUT_S=12"
    with speaking(kind, tmp_path_factory.mktemp("impatient"), altered=altered) as running:
        yield running


def nobody_is_here(bridge: Bridge) -> None:
    """Those of other tests may still be going."""
    wait_for("no connection counts", lambda: bridge.metric("sarvis_app_connections") == 0)


def pings(app: App) -> list[bytes]:
    return [said.payload for said in app.frames if said.opcode == PING]


def test_a_peer_that_answers_pings_stays(impatient: Bridge) -> None:
    with App(impatient.port) as app:
        for count in range(1, 6):
            app.until("a ping", lambda count=count: len(pings(app)) >= count)  # type: ignore[misc]
            app.say(frame(PONG, pings(app)[-1]))
        app.lives()
        assert app.code == NEVER


def test_a_peer_that_does_not_answer_pings_is_dropped(impatient: Bridge) -> None:
    nobody_is_here(impatient)
    with App(impatient.port) as app:
        assert app.ended() in {KEEPALIVE_TIMEOUT, NEVER}
        assert pings(app)
        nobody_is_here(impatient)


def stuff(bridge: Bridge, app: App, at_most: int = ENOUGH) -> int:
    """Ping with blocks, one after another, until a deaf app is dropped; how many that took."""
    before = bridge.metric("sarvis_app_connections")
    for count in range(at_most):
        app.say(frame(PING, b"p" * 125) * 120)
        if bridge.metric("sarvis_app_connections") < before:
            return count
    return at_most


def test_a_peer_that_does_not_even_read_is_dropped(impatient: Bridge) -> None:
    nobody_is_here(impatient)
    with deaf_app(impatient) as first, deaf_app(impatient) as second:
        # As much as makes pongs wait here, but not as much as is cut off for that.
        stuff(impatient, second, stuff(impatient, first) - 2)
        nobody_is_here(impatient)
