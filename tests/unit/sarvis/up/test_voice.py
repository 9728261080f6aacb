"""The microphone that is none."""

import array

from sarvis.up.voice import FRAME_S, FRAME_SAMPLES, Voice

WORD = array.array("h", range(1, 2 * FRAME_SAMPLES)).tobytes()
"""Two frames, less one sample."""


def test_a_word_comes_whole_between_frames_of_a_quiet_room() -> None:
    voice = Voice(WORD)
    room = voice.frame()
    samples = array.array("h", room)
    assert len(samples) == FRAME_SAMPLES
    assert any(samples), "plain zeros are a broken microphone"
    assert max(map(abs, samples)) < 100
    assert voice.say()
    heard = voice.frame() + voice.frame()
    assert heard[: len(WORD)] == WORD
    assert len(heard) == 2 * len(room)
    assert voice.frame() == room


def test_a_word_may_wait_for_some_room() -> None:
    voice = Voice(WORD)
    room = voice.frame()
    assert voice.say(2.5 * FRAME_S)
    assert not voice.say()
    assert [voice.frame() for _ in range(3)] == [room] * 3
    assert (voice.frame() + voice.frame())[: len(WORD)] == WORD


def test_a_word_is_not_begun_while_one_is_spoken() -> None:
    voice = Voice(WORD)
    assert voice.say()
    assert not voice.say()
    voice.frame()
    assert not voice.say()
    voice.frame()
    assert voice.say()
