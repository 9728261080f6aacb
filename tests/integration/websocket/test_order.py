"""What an app says is answered in order, and only so much of it."""

import json
from collections.abc import Iterator

import pytest

from tests.integration.websocket.kinds import speaking
from tests.integration.websocket.peer import App, beat, heartbeat
from tests.support.world import Bridge
from tools.fuzz.rawsocket import CLOSE, PING, TEXT, frame

ALLOWED = 20


@pytest.fixture(scope="module")
def strict(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A bridge that takes few messages."""
    with speaking(kind, tmp_path_factory.mktemp("strict"), {"SARVIS_LIMITS__FRAMES": f"{ALLOWED}/hour"}) as running:
        yield running


def message(**keys: object) -> bytes:
    return frame(TEXT, json.dumps(keys).encode())


def test_heartbeats_are_answered_in_order(bridge: Bridge) -> None:
    with App(bridge.port) as app:
        app.say(b"".join(beat(seq) for seq in range(1, 51)))
        app.until("all answers", lambda: len(app.acked) == 50)
        assert app.acked == list(range(1, 51))


def test_what_takes_long_is_not_overtaken(bridge: Bridge) -> None:
    # A log-in waits for the disk, a heartbeat mostly not.
    rounds = 10
    with App(bridge.port) as app:
        app.say(
            b"".join(
                message(type="login", device_id=f"device-{number}")
                + beat(number)
                + message(type="ack", id="none")
                + message(type="what")
                for number in range(rounds)
            )
        )
        app.until("all answers", lambda: len(app.told("error")) == rounds)
        heard = [one for one in app.messages if one["type"] in {"login_ack", "heartbeat_ack", "error"}]
        assert [one["type"] for one in heard] == ["login_ack", "heartbeat_ack", "error"] * rounds
        assert app.acked == list(range(rounds))
        devices = [one["session"]["device_id"] for one in app.told("login_ack")]
        assert devices == [f"device-{number}" for number in range(rounds)]


def in_fragments(text: bytes, amid: bytes) -> bytes:
    """A message in three fragments, a ping before the last."""
    parts = (frame(TEXT, text[:4], fin=False), frame(0, text[4:9], fin=False), frame(PING, amid), frame(0, text[9:]))
    return b"".join(parts)


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_nor_is_it_overtaken_by_fragments_however_they_are_cut(bridge: Bridge, size: int) -> None:
    data = b"".join(
        message(type="login", device_id=f"device-{number}")
        + in_fragments(heartbeat(number), b"%d" % number)
        + in_fragments(b'{"type":"login","device_id":"other"}', b"+%d" % number)
        + beat(100 + number)
        for number in range(5)
    )
    with App(bridge.port) as app:
        for start in range(0, len(data), size):
            app.say(data[start : start + size])
        app.lives()
        heard = [one["type"] for one in app.messages if one["type"] in {"login_ack", "heartbeat_ack"}]
        assert heard[:-1] == ["login_ack", "heartbeat_ack"] * 10
        assert app.acked[:-1] == [0, 100, 1, 101, 2, 102, 3, 103, 4, 104]
        assert app.pongs == [b"0", b"+0", b"1", b"+1", b"2", b"+2", b"3", b"+3", b"4", b"+4"]


def test_two_apps_are_answered_each_for_itself(bridge: Bridge) -> None:
    with App(bridge.port) as one, App(bridge.port) as other:
        for seq in range(100):
            one.say(beat(seq))
            other.say(beat(1000 + seq))
        one.until("all answers", lambda: len(one.acked) == 100)
        other.until("all answers", lambda: len(other.acked) == 100)
        assert (one.acked, other.acked) == (list(range(100)), list(range(1000, 1100)))


def test_a_peer_that_sends_too_much_is_closed_at_the_limit(strict: Bridge) -> None:
    with App(strict.port) as app:
        app.say(b"".join(beat(seq) for seq in range(ALLOWED + 10)))
        assert app.closed() == 4008
        assert app.acked == list(range(ALLOWED))
        app.say(frame(CLOSE, b"\x0f\xa8"))
        assert app.ended() == 4008


def test_nonsense_counts_and_control_frames_do_not(strict: Bridge) -> None:
    with App(strict.port) as app:
        app.say(frame(PING, b"x") * 3 * ALLOWED)
        app.say(frame(TEXT, heartbeat(1)[:5], fin=False) + frame(0, b"", fin=False) * 3 * ALLOWED)
        app.say(frame(0, heartbeat(1)[5:]))
        app.answered(1)
        assert len(app.pongs) == 3 * ALLOWED
        app.say(message(type="what") * ALLOWED)
        assert app.closed() == 4008
        assert len(app.told("error")) == ALLOWED - 1


def test_each_socket_has_its_own_limit(strict: Bridge) -> None:
    with App(strict.port) as greedy, App(strict.port, greedy.uid) as modest:
        greedy.say(beat(1) * (ALLOWED + 1))
        greedy.closed()
        modest.lives()
