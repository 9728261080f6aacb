"""What one WebSocket may make the bridge keep, and that it delays nobody; tools/fuzz attacks the rest."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.integration.websocket.kinds import speaking
from tests.integration.websocket.peer import NEVER, App
from tests.support.waiting import wait_for
from tests.support.world import Bridge, Json
from tools.fuzz.rawsocket import CLOSE, CONTINUATION, PING, TEXT, frame
from tools.fuzz.readers import resident_mib

MIB = 2**20
LOUD = "🔔" * 1000
"""A wake of 4 KB."""

DEAF = 8
"""Sockets of one user, as many as there may be."""

WAKES = 3000
"""96 MB for all of them, were it kept."""

KEPT_MIB = 32


@contextmanager
def deaf_app(bridge: Bridge, uid: str | None = None) -> Iterator[App]:
    """On the documented protocol: a wake comes once."""
    with App(bridge.port, uid, subprotocol=None, deaf=True) as app:
        yield app


def is_cut_off(app: App, data: bytes) -> bool:
    """Whether the bridge ends this connection while it is sent the same over and over, up to 200 MB."""
    try:
        for _ in range(200 * MIB // len(data)):
            app.shout(data)
    except ConnectionError:
        return True
    return False


def ring(bridge: Bridge, uid: str) -> bool:
    """A loud wake; whether somebody took it."""
    rung: Json = bridge.trigger(uid, LOUD)
    return bool(rung["success"])


def ring_until_nobody_takes_it(bridge: Bridge, uid: str) -> int:
    """How many were taken before."""
    for count in range(WAKES):
        if not ring(bridge, uid):
            return count
    raise AssertionError(f"{WAKES} wakes were taken by sockets that read nothing")


def test_a_peer_that_pings_and_reads_no_pong_is_cut_off(bridge: Bridge) -> None:
    wait_for("nobody else is here", lambda: bridge.metric("sarvis_app_connections") == 0)
    with deaf_app(bridge) as app:
        assert is_cut_off(app, frame(PING, b"x" * 125) * 500)
        wait_for("it is no connection", lambda: bridge.metric("sarvis_app_connections") == 0)


def test_a_message_of_endless_empty_fragments_is_cut_off(bridge: Bridge) -> None:
    with deaf_app(bridge) as app:
        app.say(frame(TEXT, b"", fin=False))
        assert is_cut_off(app, frame(CONTINUATION, b"", fin=False) * 1000)


@pytest.fixture
def patient(kind: str, tmp_path: Path) -> Iterator[Bridge]:
    """A bridge that gives those whom it closes more than its five seconds, which a busy machine may need."""
    with speaking(kind, tmp_path, altered="bridge.apps.connection:CLOSE_TIMEOUT_S=60") as running:
        yield running


def test_a_slow_reader_is_told_so_and_delays_nobody(patient: Bridge) -> None:
    with deaf_app(patient) as slow, App(patient.port) as quick:
        number = 0
        while ring(patient, slow.uid):
            quick.lives(number)
            number += 1
            assert number < WAKES, "it was never too slow"
        # It has time to read what is on its way, and why it has to go.
        assert slow.closed() == 4001
        assert len(slow.told("voice_command")) <= number
        slow.say(frame(CLOSE, b"\x0f\xa1"))
        assert slow.ended() == 4001


def test_slow_readers_cost_a_bounded_amount_and_are_dropped(bridge: Bridge) -> None:
    wait_for("nobody else is here", lambda: bridge.metric("sarvis_app_connections") == 0)
    pid = bridge.sarvis.process.pid
    with ExitStack() as stack, App(bridge.port) as quick:
        first = stack.enter_context(deaf_app(bridge))
        for _ in range(DEAF - 1):
            stack.enter_context(deaf_app(bridge, first.uid))
        kept_before = resident_mib(pid)
        assert ring_until_nobody_takes_it(bridge, first.uid) > 10
        assert resident_mib(pid) - kept_before < KEPT_MIB
        quick.lives()
        # They do not read that they are closed, either.
        wait_for("they are gone", lambda: bridge.metric("sarvis_app_connections") == 1)
        assert quick.code == NEVER
