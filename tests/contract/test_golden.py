"""The documented legacy bytes do not change (guarantee 7)."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.contract.replay import Replay, check, expand

TRANSCRIPTS = sorted(Path(__file__).with_name("transcripts").glob("*.json"))


def test_there_are_transcripts() -> None:
    assert TRANSCRIPTS


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_the_server_keeps_to_the_transcript(path: Path, bridge_url: str) -> None:
    transcript: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert transcript.keys() == {"title", "source", "steps"}
    replay = Replay(bridge_url)
    try:
        replay.play(transcript["steps"])
    finally:
        replay.close()


@pytest.mark.parametrize(
    "wrong",
    [
        b'{"a":"2020-01-01T00:00:00+00:00"}',  # long ago
        b'{"a":"2026-11-01T00:00:00"}',  # no offset
        b'{"a":"<timestamp>"}',
        b'{"a": "2026-11-01T00:00:00+00:00"}',  # a space too many
        b'{"a":"2026-11-01T00:00:00+00:00"}\n',
    ],
)
def test_the_replay_itself_is_strict(wrong: bytes) -> None:
    with pytest.raises(AssertionError):
        check(wrong, '{"a":"<timestamp>"}')


def test_placeholders_have_their_exact_length() -> None:
    assert expand('{"x":"<filler to 20>"}') == b'{"x":"aaaaaaaaaaaa"}'
    assert expand('["싸<times 3 [>"]') == '["싸[[["]'.encode()
