"""Arbitrary streams of frames are answered as another implementation of the RFC would answer them."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.integration.websocket.kinds import KINDS, speaking
from tests.integration.websocket.peer import NEVER, App, beat
from tests.integration.websocket.streams import Reply, Stream, judge, streams
from tests.support.waiting import wait_for
from tests.support.world import Bridge
from tools.fuzz.rawsocket import CLOSE, CONTINUATION, PING, TEXT, frame

STREAMS = 500
END = 424242


@pytest.fixture(scope="module")
def bridges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Bridge]]:
    """One of each kind."""
    with ExitStack() as running:  # fails over a traceback in a log, or an end before this one
        yield {kind: running.enter_context(speaking(kind, tmp_path_factory.mktemp(kind))) for kind in KINDS}


def test_the_judge_knows_good_from_bad() -> None:
    two = (frame(TEXT, b"{", fin=False), frame(PING, b"p"), frame(CONTINUATION, b"}"))
    assert judge(Stream((beat(7), *two))) == Reply([b"p"], ["ack 7", "error unknown_type"], NEVER)
    assert judge(Stream((frame(3), beat(7), frame(PING)))) == Reply([], [], 1002)
    assert judge(Stream((beat(7), frame(CLOSE, b"\x0f\xa0"), frame(PING)))) == Reply([], ["ack 7"], 4000)
    assert judge(Stream((frame(TEXT, b"\xff"), frame(3)))) == Reply([], [], 1007)
    assert judge(Stream((frame(TEXT, b"x" * 16_385),))) == Reply([], [], 1009)


def test_a_stream_is_cut_but_not_changed() -> None:
    stream = Stream((beat(1), beat(2)), (0, 5, 5, 1000), b"part")
    assert b"".join(stream.pieces) == beat(1) + beat(2) + b"part"
    assert len(stream.pieces) == 3


def answers(app: App) -> list[str]:
    """What was said to its messages, in order."""
    return [
        f"ack {message['seq']}" if message["type"] == "heartbeat_ack" else f"error {message['code']}"
        for message in app.messages[1:]
    ]


@given(streams())
@settings(
    max_examples=STREAMS,
    derandomize=True,
    database=None,
    deadline=None,
    # No shrinking: a server that does not close when it must costs our whole patience each time.
    phases=(Phase.generate,),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
def test_streams_are_answered_as_they_must_be(bridges: dict[str, Bridge], stream: Stream) -> None:
    expected = judge(stream)
    for kind, bridge in bridges.items():
        with App(bridge.port) as app:
            for piece in stream.pieces:
                app.say(piece)
            if expected.code == NEVER:
                goes_on(app, stream, expected)
            else:
                assert app.ended() == expected.code, kind
                # What was asked just before the end may go unanswered.
                assert answers(app) == expected.answers[: len(answers(app))], kind
            assert app.pongs == expected.pongs, kind


def goes_on(app: App, stream: Stream, expected: Reply) -> None:
    """Everything is answered, in order and once."""
    if not stream.part:
        app.lives(END)
        assert answers(app) == [*expected.answers, f"ack {END}"]
        return
    app.until(
        "all answers",
        lambda: len(answers(app)) >= len(expected.answers) and len(app.pongs) >= len(expected.pongs),
    )
    assert answers(app) == expected.answers
    assert app.code == NEVER


def test_after_all_of_them_a_good_app_is_served(bridges: dict[str, Bridge]) -> None:
    for bridge in bridges.values():
        assert bridge.sarvis.process.poll() is None
        wait_for("the others are gone", lambda bridge=bridge: bridge.metric("sarvis_app_connections") == 0)  # type: ignore[misc]
        with App(bridge.port) as app:
            app.lives()
            assert bridge.trigger(app.uid)["success"]
            app.rung()
        assert "Traceback" not in "\n".join(bridge.sarvis.err)
