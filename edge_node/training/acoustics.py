"""Rooms, noises, microphones and other people's throats, made of numbers; all chance comes from the caller."""

import hashlib

import numpy as np
import numpy.typing as npt
import pyworld
from scipy.signal import fftconvolve

from edge_node.audio.format import SAMPLE_RATE_HZ
from edge_node.training.engines.seam import Sound

_SILENT = 1e-6
_MEAN_FREE_S = 0.004

Chance = np.random.Generator


def chance_from(text: str) -> Chance:
    """Chance that is the same whenever and wherever the same text is given."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def rms(sound: npt.NDArray[np.floating]) -> float:
    """Root of the mean power; never 0."""
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))) + _SILENT


def other_person(sound: Sound, chance: Chance) -> Sound:
    """The same words from another throat: another pitch and another length of the vocal tract (WORLD vocoder)."""
    pitch, tract = np.exp(chance.uniform(-0.35, 0.35)), np.exp(chance.uniform(-0.17, 0.17))
    samples = sound.astype(np.float64)
    f0, at = pyworld.dio(samples, SAMPLE_RATE_HZ)
    f0 = pyworld.stonemask(samples, f0, at, SAMPLE_RATE_HZ)
    envelope = pyworld.cheaptrick(samples, f0, at, SAMPLE_RATE_HZ)
    breath = pyworld.d4c(samples, f0, at, SAMPLE_RATE_HZ)
    bins = envelope.shape[1]
    wanted = np.minimum(np.arange(bins) / tract, bins - 1)
    low = wanted.astype(int)
    high, share = np.minimum(low + 1, bins - 1), wanted - low
    warped = envelope[:, low] * (1 - share) + envelope[:, high] * share
    said = pyworld.synthesize(f0 * pitch, np.ascontiguousarray(warped), breath, SAMPLE_RATE_HZ)
    return _peak(said, float(np.abs(sound).max()))


def at_speed(sound: Sound, chance: Chance) -> Sound:
    """Faster and higher or slower and lower, by up to a fifth, as a tape is."""
    count = int(len(sound) * np.exp(chance.uniform(-0.18, 0.18)))
    at = np.linspace(0.0, len(sound) - 1, count)
    return np.interp(at, np.arange(len(sound)), sound).astype(np.float32)


def in_room(sound: Sound, chance: Chance) -> Sound:
    """In a room of 0.12 to 0.7 s reverberation, near the microphone or far from it; as long as before, no tail."""
    t60_s = chance.uniform(0.12, 0.7)
    length = int(t60_s * SAMPLE_RATE_HZ)
    tail = chance.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    tail[: int(chance.uniform(0.2, 1.5) * _MEAN_FREE_S * SAMPLE_RATE_HZ)] = 0.0
    direct_db = chance.uniform(-6.0, 12.0)
    response = tail / np.sqrt((tail**2).sum())
    response[0] += 10 ** (direct_db / 20)
    wet = fftconvolve(sound, response)[: len(sound)]
    return np.asarray(wet * (rms(sound) / rms(wet)), np.float32)


def microphone(sound: Sound, chance: Chance) -> Sound:
    """Coloured by a tilt, a bump and the limits of its band."""
    spectrum = np.fft.rfft(sound)
    hz = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE_HZ)
    octave = np.log2(np.maximum(hz, 50.0) / 1000.0)
    gain_db = chance.uniform(-3.0, 3.0) * octave
    gain_db += chance.uniform(-6, 6) * np.exp(-0.5 * ((octave - chance.uniform(-2, 2)) / chance.uniform(0.3, 1.0)) ** 2)
    if chance.random() < 0.3:  # noqa: PLR2004 a share: as narrow as a telephone
        gain_db -= 60.0 * np.clip((hz - chance.uniform(3200, 6000)) / 400.0, 0.0, 1.0)
    if chance.random() < 0.3:  # noqa: PLR2004 a share: small microphones hear no bass
        gain_db -= 30.0 * np.clip((chance.uniform(80, 250) - hz) / 100.0, 0.0, 1.0)
    return np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(sound)).astype(np.float32)


def steady_noise(length: int, chance: Chance) -> Sound:
    """Hiss, a fan or the hum of the mains, of any colour."""
    spectrum = np.fft.rfft(chance.standard_normal(length))
    hz = np.maximum(np.fft.rfftfreq(length, 1 / SAMPLE_RATE_HZ), 20.0)
    coloured = np.fft.irfft(spectrum * hz ** -chance.uniform(0.0, 1.2), length)
    noise = coloured / rms(coloured)
    if chance.random() < 0.4:  # noqa: PLR2004 a share
        noise += chance.uniform(0.1, 1.0) * _hum(length, chance)
    return np.asarray(noise / rms(noise), np.float32)


def _hum(length: int, chance: Chance) -> npt.NDArray[np.float64]:
    at_s = np.arange(length) / SAMPLE_RATE_HZ
    base_hz = chance.choice((50.0, 60.0, chance.uniform(80, 400)))
    heard = [n for n in range(1, 8) if chance.random() < 0.7]  # noqa: PLR2004 a share
    waves = [np.sin(2 * np.pi * (at_s * base_hz * n + chance.random())) / n for n in heard]
    return np.asarray(np.sum([np.zeros(length), *waves], axis=0))


def made_up_music(length: int, chance: Chance) -> Sound:
    """Chords, a melody and a drum that nobody composed: free of anybody's rights, and nothing like speech."""
    beat_s = chance.uniform(0.25, 0.6)
    out = np.zeros(length)
    root_hz = 110.0 * 2 ** chance.uniform(0, 1)
    scale = np.array((0, 2, 4, 5, 7, 9, 11) if chance.random() < 0.5 else (0, 2, 3, 5, 7, 8, 10))  # noqa: PLR2004
    bright = chance.uniform(0.4, 1.5)
    for beat in range(int(length / SAMPLE_RATE_HZ / beat_s) + 1):
        start = int(beat * beat_s * SAMPLE_RATE_HZ)
        notes = [(0, beat_s * 1.5)] * int(chance.random() < 0.7)  # noqa: PLR2004 a melody
        notes += [(step, beat_s * 4) for step in (0, 2, 4)] if beat % 4 == 0 else []
        degree = int(chance.integers(0, 7))
        for step, lasts_s in notes:
            place = degree + step
            hz = root_hz * 2 ** ((scale[place % 7] + 12 * (place // 7)) / 12)
            _add(out, start, _note(hz, lasts_s, bright, chance))
        if chance.random() < 0.5:  # noqa: PLR2004 a share
            knock = chance.standard_normal(int(0.08 * SAMPLE_RATE_HZ))
            _add(out, start, 0.5 * knock * np.exp(-np.arange(len(knock)) / (0.015 * SAMPLE_RATE_HZ)))
    return np.asarray(out / rms(out), np.float32)


def _note(hz: float, lasts_s: float, bright: float, chance: Chance) -> npt.NDArray[np.float64]:
    at_s = np.arange(int(lasts_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    vibrato = chance.uniform(0, 0.004) * np.sin(2 * np.pi * chance.uniform(4, 7) * at_s)
    decay = np.exp(-at_s / chance.uniform(0.15, 1.0)) * np.minimum(at_s / 0.01, 1.0)
    overtones = [n for n in range(1, 12) if hz * n < SAMPLE_RATE_HZ / 2]
    waves = [np.sin(2 * np.pi * hz * n * (at_s + vibrato / 5)) / n**bright for n in overtones]
    return np.asarray(decay * np.sum(waves, axis=0))


def _add(out: npt.NDArray[np.float64], start: int, piece: npt.NDArray[np.float64]) -> None:
    fits = min(len(piece), len(out) - start)
    if fits > 0:
        out[start : start + fits] += piece[:fits]


def at_snr(speech: Sound, noise: Sound, snr_db: float, level: float) -> Sound:
    """`speech` with `noise` so much below `level`, the RMS of the word within `speech`."""
    return (speech + noise * (level / rms(noise) * 10 ** (-snr_db / 20))).astype(np.float32)


def _peak(sound: npt.NDArray[np.floating], peak: float) -> Sound:
    return np.asarray(sound * (peak / (float(np.abs(sound).max()) + _SILENT)), np.float32)


def to_samples(sound: Sound) -> npt.NDArray[np.int16]:
    """As a microphone's driver delivers it; what is too loud is clipped."""
    return np.asarray(np.clip(np.round(sound * 32767.0), -32768, 32767), np.int16)
