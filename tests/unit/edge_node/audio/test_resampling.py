import numpy as np
import pytest

from edge_node.audio.format import FRAME_SAMPLES
from edge_node.audio.levels import advice, dead, level
from edge_node.audio.resampling import Framer

RATES_HZ = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000)


def framed(
    samples: np.ndarray[tuple[int, ...], np.dtype[np.int16]], rate_hz: int
) -> list[np.ndarray[tuple[int, ...], np.dtype[np.int16]]]:
    framer = Framer(rate_hz)
    size = rate_hz // 50
    frames = [frame for at in range(0, len(samples), size) for frame in framer.feed(samples[at : at + size])]
    return [*frames, *framer.finish()]


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_zeros_stay_zeros_at_every_rate(rate_hz: int) -> None:
    frames = framed(np.zeros(rate_hz, np.int16), rate_hz)
    assert len(frames) == 13
    assert not np.concatenate(frames).any()
    assert all(map(dead, frames))
    assert "zeros" in advice(list(map(level, frames)))


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_after_sound_zeros_are_zeros_again(rate_hz: int) -> None:
    loud = np.random.default_rng(1).normal(0.0, 8000.0, rate_hz).astype(np.int16)
    frames = framed(np.concatenate((loud, np.zeros(rate_hz, np.int16))), rate_hz)
    assert not dead(frames[10])
    assert not np.concatenate(frames[14:]).any()


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_the_hiss_of_a_microphone_is_no_silence(rate_hz: int) -> None:
    hiss = np.rint(np.random.default_rng(1).normal(0.0, 4.0, rate_hz)).astype(np.int16)
    frames = framed(hiss, rate_hz)[:12]
    assert not any(map(dead, frames))
    assert "zeros" not in advice(list(map(level, frames)))


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_tone_stays_what_it_is_and_nothing_is_lost(rate_hz: int) -> None:
    tone = np.rint(8000.0 * np.sin(2.0 * np.pi * 1000.0 * np.arange(2 * rate_hz) / rate_hz)).astype(np.int16)
    heard = np.concatenate(framed(tone, rate_hz))
    assert abs(len(heard) - 32_000) <= FRAME_SAMPLES
    wanted = 8000.0 * np.sin(2.0 * np.pi * 1000.0 * np.arange(32_000) / 16_000.0)
    assert np.abs(heard[4_000:28_000] - wanted[4_000:28_000]).max() < 200.0


def test_beyond_full_scale_samples_are_limited() -> None:
    square = np.where(np.arange(48_000) // 100 % 2, 32_767, -32_768).astype(np.int16)
    heard = np.concatenate(framed(square, 48_000))
    assert (heard.max(), heard.min()) == (32_767, -32_768)


def test_what_is_dead_is_so_whatever_dither_was_added() -> None:
    chance = np.random.default_rng(1)
    assert dead(np.zeros(FRAME_SAMPLES, np.int16))
    assert dead(chance.integers(-1, 2, FRAME_SAMPLES).astype(np.int16))
    assert dead(np.empty(0, np.int16))
    assert not dead(chance.integers(-3, 4, FRAME_SAMPLES).astype(np.int16))
