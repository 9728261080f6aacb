from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from edge_node.audio.format import SAMPLE_RATE_HZ
from edge_node.training import acoustics
from edge_node.training.engines.seam import Sound

pytestmark = pytest.mark.slow

Change = Callable[[Sound, np.random.Generator], Sound]
Make = Callable[[int, np.random.Generator], Sound]

CHANGES: list[Change] = [acoustics.in_room, acoustics.microphone, acoustics.other_person]
SOURCES: list[Make] = [acoustics.steady_noise, acoustics.made_up_music]
SEEDS = range(8)


def vowel(seconds: float = 0.6, pitch_hz: float = 140.0) -> Sound:
    """Something that a vocoder takes for a voice; peak 0.7."""
    at_s = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    waves = np.array([np.sin(2 * np.pi * pitch_hz * n * at_s) / n for n in range(1, 20)]).sum(0)
    waves *= np.minimum(1.0, np.minimum(at_s, at_s[::-1]) / 0.02)
    return np.asarray(0.7 * waves / np.abs(waves).max(), np.float32)


def power_of(sound: npt.NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(sound.astype(np.float64) ** 2)))


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_the_same_chance_changes_alike_and_another_one_otherwise(change: Change) -> None:
    first, same, other = (change(vowel(), np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, same)
    assert len(first) != len(other) or not np.array_equal(first, other)


@pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__)
def test_the_same_chance_makes_the_same_noise_and_another_one_another(make: Make) -> None:
    first, same, other = (make(16_000, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("length", [2001, 16_000, 16_001])
@pytest.mark.parametrize("change", [acoustics.in_room, acoustics.microphone], ids=lambda change: change.__name__)
def test_rooms_and_microphones_keep_the_length(change: Change, length: int) -> None:
    for seed in SEEDS:
        out = change(vowel(1.1)[:length], np.random.default_rng(seed))
        assert out.shape == (length,)
        assert out.dtype == np.float32
        assert np.isfinite(out).all()


@pytest.mark.parametrize("length", [801, 16_000, 51_200])
@pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__)
def test_noise_is_as_long_as_asked_finite_and_of_rms_1(make: Make, length: int) -> None:
    for seed in SEEDS:
        out = make(length, np.random.default_rng(seed))
        assert out.shape == (length,)
        assert out.dtype == np.float32
        assert np.isfinite(out).all()
        assert power_of(out) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_room_keeps_the_power_and_does_change_the_sound(seed: int) -> None:
    out = acoustics.in_room(vowel(), np.random.default_rng(seed))
    assert power_of(out) == pytest.approx(power_of(vowel()), rel=1e-3)
    assert np.corrcoef(out, vowel())[0, 1] < 0.999


def test_a_room_is_heard_after_a_click_but_not_before() -> None:
    click = np.zeros(16_000, np.float32)
    click[4000] = 0.7
    for seed in SEEDS:
        out = acoustics.in_room(click, np.random.default_rng(seed))
        assert power_of(out[:3990]) < 1e-6
        assert power_of(out[4500:6000]) > 1e-5


@pytest.mark.parametrize("seed", SEEDS)
def test_another_person_takes_about_as_long_and_is_as_loud(seed: int) -> None:
    out = acoustics.other_person(vowel(), np.random.default_rng(seed))
    assert abs(len(out) - len(vowel())) <= 160
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert float(np.abs(out).max()) == pytest.approx(0.7, rel=1e-3)


def test_another_person_has_another_pitch() -> None:
    def pitch_hz(sound: Sound) -> float:
        middle = sound[3000:7096].astype(np.float64)
        likeness = np.correlate(middle, middle, "full")[len(middle) - 1 :]
        return SAMPLE_RATE_HZ / (40 + int(np.argmax(likeness[40:250])))

    assert pitch_hz(vowel()) == pytest.approx(140.0, rel=0.02)
    pitches = [pitch_hz(acoustics.other_person(vowel(), np.random.default_rng(seed))) for seed in SEEDS]
    assert min(pitches) < 130.0
    assert max(pitches) > 150.0
    assert all(140.0 * 0.69 < pitch < 140.0 * 1.44 for pitch in pitches)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_silence_stays_silence(change: Change) -> None:
    out = change(np.zeros(8000, np.float32), np.random.default_rng(1))
    assert np.abs(out).max() < 1e-6


@pytest.mark.parametrize("snr_db", [0.0, 5.0, 20.0, 30.0])
@pytest.mark.parametrize("loudness", [0.01, 1.0, 40.0])
def test_noise_lies_as_far_below_the_word_as_asked(snr_db: float, loudness: float) -> None:
    speech = np.concatenate([np.zeros(20_000, np.float32), vowel(), np.zeros(5000, np.float32)])
    noise = loudness * acoustics.steady_noise(len(speech), np.random.default_rng(1))
    out = acoustics.at_snr(speech, noise, snr_db, acoustics.rms(vowel()))
    added = out.astype(np.float64) - speech
    assert out.dtype == np.float32
    assert 20 * np.log10(power_of(vowel()) / power_of(added)) == pytest.approx(snr_db, abs=0.01)


def test_rms_of_silence_can_be_divided_by() -> None:
    assert 0.0 < acoustics.rms(np.zeros(100, np.float32)) < 1e-3
    assert acoustics.rms(np.full(100, -0.5, np.float32)) == pytest.approx(0.5, rel=1e-4)


def test_what_is_too_loud_is_clipped() -> None:
    samples = acoustics.to_samples(np.array([0.0, 1.0, 1.5, 40.0, -1.0, -1.5, -40.0, 0.5], np.float32))
    assert samples.dtype == np.int16
    assert samples.tolist() == [0, 32767, 32767, 32767, -32767, -32768, -32768, 16384]
