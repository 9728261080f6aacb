from typing import Any

import numpy as np
import pytest

from edge_node.audio.format import FRAME_SAMPLES, SAMPLE_RATE_HZ
from edge_node.training.engines.seam import Sound
from edge_node.training.recordings import Samples
from edge_node.training.scenes import END_FRAME, SCENE_FRAMES, Surroundings, babble, passage, piece, scene, some_noise

pytestmark = pytest.mark.slow

SEEDS = range(24)


class Told(np.random.Generator):
    """Chance whose `random()` gives what it is told, then 0.999: as scenes ask it whether, only the told happens."""

    def __init__(self, seed: int, *answers: float) -> None:
        super().__init__(np.random.PCG64(seed))
        self._answers = list(answers)

    def random(self, *_: Any, **__: Any) -> Any:
        return self._answers.pop(0) if self._answers else 0.999


def tone(seconds: float, hz: float = 140.0) -> Sound:
    at_s = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    waves = np.array([np.sin(2 * np.pi * hz * n * at_s) / n for n in range(1, 12)]).sum(0)
    return np.asarray(0.7 * waves / np.abs(waves).max(), np.float32)


def noisy(seed: int, seconds: float) -> Samples:
    return np.random.default_rng(seed).normal(0.0, 3000.0, round(seconds * SAMPLE_RATE_HZ)).astype(np.int16)


AROUND = Surroundings(speech=noisy(1, 7.0), music=noisy(2, 7.0))


def rms(samples: Samples | Sound) -> float:
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


def test_the_same_chance_makes_the_same_scene_and_another_one_another() -> None:
    (first, first_end), (same, same_end), (other, _) = (
        scene(tone(0.6), AROUND, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, same)
    assert first_end == same_end
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("seconds", [0.2, 0.6, 2.9])
def test_every_scene_has_its_frames_and_ends_in_the_frame_it_should(seconds: float) -> None:
    for seed in range(6):
        samples, end = scene(tone(seconds), AROUND, np.random.default_rng(seed))
        assert samples.shape == (SCENE_FRAMES * FRAME_SAMPLES,)
        assert samples.dtype == np.int16
        assert samples.any()
        assert end // FRAME_SAMPLES == END_FRAME


@pytest.mark.parametrize("seed", SEEDS)
def test_a_clip_alone_in_a_scene_lies_right_before_the_end_that_is_told(seed: int) -> None:
    clip = tone(0.6)
    samples, end = scene(clip, AROUND, Told(seed))
    assert not samples[: end - len(clip)].any()
    assert not samples[end:].any()
    said = samples[end - len(clip) : end].astype(np.float64)
    assert np.corrcoef(said, clip)[0, 1] > 0.99


@pytest.mark.parametrize("seed", SEEDS)
def test_another_persons_clip_ends_where_the_scene_says(seed: int) -> None:
    samples, end = scene(tone(0.6), AROUND, Told(seed, 0.0))
    assert not samples[end:].any()
    assert not samples[: end - round(0.62 * SAMPLE_RATE_HZ)].any()
    assert rms(samples[end - 800 : end]) > 0.05 * rms(samples[end - 8000 : end])


@pytest.mark.parametrize("seed", SEEDS)
def test_earlier_sound_ends_before_the_clip_and_later_sound_begins_after_it(seed: int) -> None:
    clip = tone(0.6)
    samples, end = scene(clip, AROUND, Told(seed, 0.9, 0.0, 0.0))
    begin = end - len(clip)
    heard = np.flatnonzero(samples[:begin])
    assert heard[0] < 100
    assert begin - heard[-1] <= SAMPLE_RATE_HZ + 100
    followed = np.flatnonzero(samples[end:])
    assert 0.015 * SAMPLE_RATE_HZ < followed[0] < 0.51 * SAMPLE_RATE_HZ
    said = samples[begin:end].astype(np.float64)
    assert np.corrcoef(said, clip)[0, 1] > 0.95


def test_of_a_clip_that_is_too_long_the_end_is_heard() -> None:
    clip = np.concatenate([tone(2.0, 140.0), tone(1.0, 223.0)])
    samples, end = scene(clip, AROUND, Told(3))
    said = samples[:end].astype(np.float64)
    assert np.corrcoef(said, clip[-end:])[0, 1] > 0.99


def test_scenes_are_of_different_loudness() -> None:
    peaks = [int(np.abs(scene(tone(0.3), AROUND, Told(seed))[0].astype(int)).max()) for seed in SEEDS]
    assert min(peaks) < 2000
    assert max(peaks) > 10_000


@pytest.mark.parametrize("length", [1, 999, 16_000, 200_000])
def test_a_piece_is_as_long_as_asked_even_of_a_short_recording(length: int) -> None:
    for seed in SEEDS:
        found = piece(AROUND.speech, length, np.random.default_rng(seed))
        assert found.shape == (length,)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
    assert rms(piece(AROUND.speech, 16_000, np.random.default_rng(1))) == pytest.approx(1.0, rel=1e-3)


def test_a_piece_of_silence_stays_nearly_silent() -> None:
    almost = np.resize(np.array([1, -1], np.int16), 32_000)
    assert rms(piece(almost, 16_000, np.random.default_rng(1))) < 0.05
    assert not piece(np.zeros(32_000, np.int16), 16_000, np.random.default_rng(1)).any()


def test_pieces_come_from_different_places() -> None:
    rising = np.arange(1, 30_001).astype(np.int16)
    pieces = {piece(rising, 1000, np.random.default_rng(seed)).tobytes() for seed in SEEDS}
    assert len(pieces) > 20


@pytest.mark.parametrize("seed", SEEDS)
def test_babble_and_any_noise_have_rms_about_1(seed: int) -> None:
    assert rms(babble(AROUND.speech, 16_000, np.random.default_rng(seed))) == pytest.approx(1.0, rel=1e-3)
    assert rms(some_noise(AROUND, 16_000, np.random.default_rng(seed))) == pytest.approx(1.0, rel=0.06)


@pytest.mark.parametrize("length", [16_000, 16_001])
def test_a_passage_is_as_long_as_the_recording_and_the_same_for_the_same_chance(length: int) -> None:
    recorded = tone(1.1)[:length]
    for seed in SEEDS:
        samples = passage(recorded, AROUND, np.random.default_rng(seed))
        assert samples.shape == (length,)
        assert samples.dtype == np.int16
        assert samples.any()
    first, same = (passage(recorded, AROUND, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, same)
