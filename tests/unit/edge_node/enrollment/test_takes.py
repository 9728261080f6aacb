from pathlib import Path

import numpy as np
import pytest

from edge_node.audio.soundfiles import read_wav
from edge_node.enrollment.takes import Segmenter, Utterance, Verdict, judge, measured, room_level
from tests.unit.edge_node.enrollment.sounds import Samples, frames, noise, said, silence, tone

ROOT = Path(__file__).parents[4]
WORDS = [ROOT / "sarvis/clips/ssabiseu.wav", *sorted((ROOT / "tests/data").glob("ssabiseu_*.wav"))]
ROOM_DB = -60.0


def heard(samples: Samples, room_db: float = ROOM_DB) -> list[Utterance]:
    segmenter = Segmenter(room_db)
    return [found for frame in frames(samples) if (found := segmenter.feed(frame)) is not None]


def word(level_db: float = -25.0, seconds: float = 0.8) -> Samples:
    return np.concatenate((silence(1.5), tone(seconds, level_db), silence(1.0)))


@pytest.mark.parametrize("file", WORDS, ids=lambda file: file.stem)
def test_a_real_word_is_one_utterance_and_fit(file: Path) -> None:
    found = heard(said(silence(1.5), read_wav(file), silence(1.0)))
    assert [judge(utterance, ROOM_DB) for utterance in found] == ["fine"]
    assert found[0].length_s == pytest.approx(len(read_wav(file)) / 16_000, abs=0.16)


def test_an_utterance_brings_a_second_of_room_before_it_and_half_a_second_after_it() -> None:
    (found,) = heard(said(word()))
    loud = np.flatnonzero(np.abs(found.samples.astype(int)) > 1000)
    assert 0.9 <= loud[0] / 16_000 <= 1.1
    assert 0.4 <= (len(found.samples) - loud[-1]) / 16_000 <= 0.6


def test_what_came_before_an_utterance_is_never_in_two_of_them() -> None:
    first, second = heard(said(silence(1.5), tone(0.6, -25.0), silence(0.8), tone(0.6, -25.0), silence(1.0)))
    assert len(second.samples) / 16_000 == pytest.approx(0.2 + 0.6 + 0.5, abs=0.2)
    assert len(first.samples) > len(second.samples)


@pytest.mark.parametrize(
    ("verdict", "sound"),
    [
        ("clipped", said(word(level_db=0.0))),
        ("too_long", said(word(seconds=1.8))),
        ("several_words", said(silence(1.5), tone(0.5, -25.0), silence(0.38), tone(0.5, -25.0), silence(1.0))),
        ("several_words", said(silence(1.5), tone(0.6, -25.0), silence(0.16), tone(0.6, -25.0), silence(1.0))),
        ("too_short", said(word(seconds=0.1))),
        ("too_quiet", said(word(level_db=-53.0), room_db=-66.0)),
        ("too_noisy", said(word(level_db=-36.0), room_db=-42.0)),
        ("fine", said(word(level_db=-28.0), room_db=-42.0)),
    ],
)
def test_what_is_unfit_to_learn_from_is_told_by_its_reason(verdict: Verdict, sound: Samples) -> None:
    room_db = room_level(sound[:16_000])
    (found,) = heard(sound, room_db)
    assert judge(found, room_db) == verdict


def test_talk_without_end_is_cut_off_and_too_long() -> None:
    found = heard(said(silence(1.5), tone(4.8, -25.0), silence(1.0)))
    assert [judge(utterance, ROOM_DB) for utterance in found] == ["too_long", "too_early"]


def test_sound_that_began_before_the_recording_is_not_a_whole_word() -> None:
    early, late = heard(said(tone(0.5, -25.0), silence(1.5), tone(0.8, -25.0), silence(1.0)))
    assert [judge(utterance, ROOM_DB) for utterance in (early, late)] == ["too_early", "fine"]


def test_a_door_that_falls_shut_does_not_make_the_room_loud() -> None:
    quiet = noise(10.0, -60.0)
    slammed = quiet.copy()
    slammed[16_000:24_000] = noise(0.5, -15.0)
    assert room_level(slammed) == pytest.approx(room_level(quiet), abs=0.5)
    assert room_level(quiet) == pytest.approx(-60.0, abs=1.0)


def test_a_room_of_nothing_but_zeros_is_as_good_as_silent() -> None:
    assert room_level(silence(1.0)) == -66.0
    assert room_level(silence(0.0)) == -66.0


def test_a_recording_without_a_word_has_no_length_and_is_lost_in_the_room() -> None:
    found = measured(noise(1.0, -60.0), ROOM_DB)
    assert (found.length_s, judge(found, ROOM_DB)) == (0.0, "too_noisy")
