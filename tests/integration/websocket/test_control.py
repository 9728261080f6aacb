"""Pings, pongs and closing, as the app begins it."""

import struct

import pytest

from tests.integration.websocket.kinds import speaking
from tests.integration.websocket.peer import App, beat, heartbeat
from tests.support.waiting import wait_for
from tests.support.world import Bridge
from tools.fuzz.rawsocket import CLOSE, CONTINUATION, NO_CODE, PING, PONG, TEXT, frame

ANNOUNCED = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014)
PRIVATE = (3000, 3999, 4000, 4001, 4503, 4999)
NO_CODES = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 65535)


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


@pytest.mark.parametrize("payload", [b"", b"x", b"\0\xff" * 30, b"p" * 124, b"p" * 125, "싸비스".encode()])
def test_a_ping_is_answered_by_the_same_pong(bridge: Bridge, payload: bytes) -> None:
    with App(bridge.port) as app:
        app.say(frame(PING, payload))
        app.until("a pong", lambda: app.pongs == [payload])


def test_pings_are_answered_in_order_each_once(bridge: Bridge) -> None:
    payloads = [b"%d" % number for number in range(200)]
    with App(bridge.port) as app:
        app.say(b"".join(frame(PING, payload) for payload in payloads))
        app.until("the last pong", lambda: len(app.pongs) == 200)
        assert app.pongs == payloads


def test_pings_are_answered_amid_a_message(bridge: Bridge) -> None:
    with App(bridge.port) as app:
        app.say(frame(TEXT, heartbeat(1)[:3], fin=False) + frame(PING, b"amid"))
        app.until("a pong", lambda: app.pongs == [b"amid"])
        app.say(frame(CONTINUATION, heartbeat(1)[3:]))
        app.answered(1)


@pytest.mark.parametrize("payload", [b"", b"unasked", b"\0\0\0\0", b"p" * 125])
def test_an_unsolicited_pong_means_nothing(bridge: Bridge, payload: bytes) -> None:
    with App(bridge.port) as app:
        app.say(frame(PONG, payload) * 3)
        app.lives()
        assert len(app.frames) == 2  # the welcome and the answer


@pytest.mark.parametrize("code", ANNOUNCED + PRIVATE)
def test_a_close_is_answered_with_its_code_and_the_connection_ends(bridge: Bridge, code: int) -> None:
    with App(bridge.port) as app:
        app.say(close(code))
        # Nothing is shut on our side: the server is the first to hang up.
        assert app.ended() == code


@pytest.mark.parametrize("reason", [b"bye", "또 만나요".encode(), b"r" * 123])
def test_a_close_may_have_a_reason(bridge: Bridge, reason: bytes) -> None:
    with App(bridge.port) as app:
        app.say(close(1000, reason))
        assert app.ended() == 1000


def test_a_close_may_say_nothing(bridge: Bridge) -> None:
    with App(bridge.port) as app:
        app.say(frame(CLOSE))
        assert app.ended() in {NO_CODE, 1000}


def test_a_close_may_come_byte_by_byte(bridge: Bridge) -> None:
    with App(bridge.port) as app:
        app.piecemeal(close(4321, b"slowly"))
        assert app.ended() == 4321


@pytest.mark.parametrize("code", NO_CODES)
def test_a_close_with_a_code_that_is_none_is_wrong(bridge: Bridge, code: int) -> None:
    with App(bridge.port) as app:
        app.say(close(code))
        assert app.ended() == 1002


def test_a_close_of_one_byte_is_wrong(bridge: Bridge) -> None:
    with App(bridge.port) as app:
        app.say(frame(CLOSE, b"\x03"))
        assert app.ended() == 1002


@pytest.mark.parametrize("reason", [b"\xff", b"\xed\xa0\x80", "또".encode()[:2]])
def test_a_close_whose_reason_is_no_utf_8_is_wrong(bridge: Bridge, reason: bytes) -> None:
    with App(bridge.port) as app:
        app.say(close(1000, reason))
        assert app.ended() in {1002, 1007}


def test_what_comes_after_a_close_means_nothing(bridge: Bridge) -> None:
    with App(bridge.port) as app:
        app.say(close(1000) + frame(PING, b"late") + beat(1) * 20 + frame(3) + close(4000))
        assert app.ended() == 1000
        assert app.pongs == []
        assert app.acked == []


def test_what_was_asked_before_a_close_is_carried_out(bridge: Bridge) -> None:
    with App(bridge.port) as other, App(bridge.port, other.uid) as app:
        app.say(frame(TEXT, b'{"type":"logout"}') + close(1000))
        app.ended()
        assert other.closed() == 4501


@pytest.mark.parametrize("leave", ["close", "half-close", "reset", "vanish amid a frame", "wrong"])
def test_a_peer_that_leaves_is_no_longer_a_connection(bridge: Bridge, leave: str) -> None:
    # Those of other tests may still be going.
    wait_for("nobody is here", lambda: bridge.metric("sarvis_app_connections") == 0)
    with App(bridge.port) as app:
        wait_for("it counts", lambda: bridge.metric("sarvis_app_connections") == 1)
        if leave == "close":
            app.say(close(1000))
        elif leave == "half-close":
            app.half_close()
            app.ended()
        elif leave == "reset":
            app.reset()
        elif leave == "wrong":
            app.say(frame(3))
        else:
            app.say(beat(1)[:9])
            app.reset()
        wait_for("it counts no more", lambda: bridge.metric("sarvis_app_connections") == 0)


def test_a_socket_that_is_gone_is_not_rung(bridge: Bridge) -> None:
    with App(bridge.port) as app:
        assert bridge.trigger(app.uid)["success"]
        app.reset()
        wait_for("nobody is there", lambda: not bridge.trigger(app.uid)["success"])


def test_a_server_that_stops_says_so_and_hangs_up(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        speaking(kind, tmp_path_factory.mktemp("stopping")) as bridge,
        App(bridge.port) as polite,
        App(bridge.port) as mute,
        App(bridge.port, subprotocol=None) as legacy,
    ):
        bridge.sarvis.process.terminate()
        for app in (polite, legacy):
            app.closed()
            app.say(close(4000))
        # The mute one does not answer, and the server does not wait for it for ever.
        assert [app.ended() for app in (polite, legacy, mute)] == [4000] * 3


def test_a_peer_that_does_not_answer_a_close_is_dropped(bridge: Bridge) -> None:
    with App(bridge.port) as app:
        bridge.post("/api/auth/logout", {"uid": app.uid})
        assert app.closed() == 4501
        # It does not count, although its peer still talks; ten seconds later it is cut off, within our patience.
        wait_for("it counts no more", lambda: bridge.metric("sarvis_app_connections") == 0)
        app.say(beat(1))
        assert app.ended() == 4501
        assert app.acked == []


def test_after_the_servers_close_the_peers_answer_ends_it(bridge: Bridge) -> None:
    with App(bridge.port) as app:
        bridge.post("/api/auth/logout", {"uid": app.uid})
        app.closed()
        app.say(frame(PING, b"late") + close(4501))
        assert app.ended() == 4501


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (beat(1)[:1], beat(1)[1:]),
        (beat(1)[:9], beat(1)[9:]),
        (frame(TEXT, heartbeat(1)[:5], fin=False), frame(CONTINUATION, heartbeat(1)[5:])),
        (frame(PING, b"x")[:3], frame(PING, b"x")[3:]),
    ],
)
def test_the_server_may_close_amid_what_the_peer_says(bridge: Bridge, before: bytes, after: bytes) -> None:
    with App(bridge.port) as app:
        app.say(before)
        bridge.post("/api/auth/logout", {"uid": app.uid})
        assert app.closed() == 4501
        app.say(after + close(4501))
        assert app.ended() == 4501
        assert app.acked == []


def test_a_peer_that_answers_a_close_with_nonsense_is_dropped(bridge: Bridge) -> None:
    with App(bridge.port) as app:
        bridge.post("/api/auth/logout", {"uid": app.uid})
        assert app.closed() == 4501
        app.say(frame(3) + frame(TEXT, b"\xff") + beat(1, mask=bytes(4)) * 3)
        assert app.ended() == 4501
