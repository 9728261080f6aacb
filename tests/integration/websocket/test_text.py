"""Texts are UTF-8, whole ones: RFC 6455, section 8.1."""

import pytest

from tests.integration.websocket.peer import App, heartbeat
from tests.support.world import Bridge
from tools.fuzz.rawsocket import CONTINUATION, PING, TEXT, frame

NO_UTF8 = {
    "a byte that never is": b"\xff",
    "a continuation of nothing": b"a\x80",
    "an overlong slash": b"\xc0\xaf",
    "an overlong NUL": b"\xe0\x80\x80",
    "an overlong of four": b"\xf0\x80\x80\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "a pair of surrogates": b"\xed\xa0\xbd\xed\xb4\x94",
    "beyond Unicode": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "half a Hangul": b"\xec\x8b",
    "three quarters of a bell": b"\xf0\x9f\x94",
    "half a Hangul and a letter": b"\xec\x8b}",
    "Latin-1": "é".encode("latin-1"),
}
BELL = "🔔".encode()


@pytest.mark.parametrize("what", NO_UTF8)
def test_what_is_no_utf_8_ends_it(bridge: Bridge, what: str) -> None:
    with App(bridge.port) as app:
        app.say(frame(TEXT, b'{"type":"heartbeat","x":"' + NO_UTF8[what]))
        assert app.ended() == 1007


@pytest.mark.parametrize("what", NO_UTF8)
def test_what_is_no_utf_8_over_fragments_ends_it(bridge: Bridge, what: str) -> None:
    bad = NO_UTF8[what]
    for place in range(len(bad) + 1):
        with App(bridge.port) as app:
            app.say(frame(TEXT, b'{"' + bad[:place], fin=False) + frame(PING, b"x"))
            app.until("a pong", lambda app=app: app.pongs or app.code == 1007)  # type: ignore[misc]
            app.say(frame(CONTINUATION, bad[place:]))
            assert app.ended() == 1007


def test_a_character_may_be_split_over_fragments_and_packets(bridge: Bridge) -> None:
    text = heartbeat(1)[:-1] + b',"x":"' + BELL + "싸비스".encode() + b'"}'
    for place in range(text.index(BELL), len(text)):
        with App(bridge.port) as app:
            app.say(frame(TEXT, text[:place], fin=False))
            app.piecemeal(frame(CONTINUATION, text[place:]))
            app.answered(1)


def test_every_character_may_be_said(bridge: Bridge) -> None:
    with App(bridge.port) as app:
        for code in (0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFEFF, 0xFFFD, 0xFFFF, 0x10000, 0x10FFFF):
            app.say(frame(TEXT, heartbeat(code)[:-1] + f',"x":"{chr(code)}"}}'.encode()))
        app.lives()
        assert len(app.acked) == 12
        assert app.told("error") == []


@pytest.mark.parametrize("text", [b"", b"\0", b"\0" * 100, b"x\0y", b'{"type":"heart\0beat"}'])
def test_what_is_text_but_no_message_is_told_so(bridge: Bridge, text: bytes) -> None:
    with App(bridge.port) as app:
        app.say(frame(TEXT, text))
        app.lives()
        assert [error["code"] for error in app.told("error")] == ["bad_json"]
