"""Scenes of a few seconds: a clip in a room, with somebody or something else to be heard."""

from dataclasses import dataclass

import numpy as np

from edge_node.audio.format import FRAME_SAMPLES, SAMPLE_RATE_HZ
from edge_node.training import acoustics
from edge_node.training.acoustics import Chance
from edge_node.training.engines.seam import Sound
from edge_node.training.recordings import Samples

SCENE_FRAMES = 40
END_FRAME = 31
"""The clip ends within this frame; so the windows that end around it lie in the scene with all their past."""

_VOICES_IN_BABBLE = (3, 8)
_SNR_DB = (6.0, 28.0)
"""Words drowned deeper teach to hear the word in any babble: several times as many false accepts."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is heard beside the clip: long recordings, 16 kHz, int16, which scenes take pieces of."""

    speech: Samples
    music: Samples


def piece(of: Samples, length: int, chance: Chance) -> Sound:
    """A random piece, to be repeated where the recording is too short; RMS 1, silence stays nearly silent."""
    start = int(chance.integers(0, max(len(of) - length, 1)))
    found = np.resize(of[start : start + length], length).astype(np.float32) / 32768.0
    return (found / max(acoustics.rms(found), 1e-3)).astype(np.float32)


def babble(of: Samples, length: int, chance: Chance) -> Sound:
    """Several people at once, RMS 1."""
    voices = int(chance.integers(*_VOICES_IN_BABBLE))
    mixed = np.sum([piece(of, length, chance) for _ in range(voices)], axis=0)
    return np.asarray(mixed / acoustics.rms(mixed), np.float32)


def some_noise(around: Surroundings, length: int, chance: Chance) -> Sound:
    """Hiss, hum, babble or music, RMS 1."""
    kind = chance.random()
    if kind < 0.4:  # noqa: PLR2004 a share
        return acoustics.steady_noise(length, chance)
    if kind < 0.65:  # noqa: PLR2004 a share
        return babble(around.speech, length, chance)
    if kind < 0.85:  # noqa: PLR2004 a share
        return piece(around.music, length, chance)
    return (piece(around.speech, length, chance) + 0.3 * acoustics.steady_noise(length, chance)).astype(np.float32)


def scene(clip: Sound, around: Surroundings, chance: Chance, *, quiet: bool = False) -> tuple[Samples, int]:
    """A clip somewhere in somebody's life: int16 (SCENE_FRAMES x 1280,) and the index of the sample where it ends.

    A quiet scene has no noise at all, as a file has that a machine spoke.
    """
    length = SCENE_FRAMES * FRAME_SAMPLES
    end = END_FRAME * FRAME_SAMPLES + int(chance.integers(0, FRAME_SAMPLES))
    if chance.random() < 0.5:  # noqa: PLR2004 a share
        clip = acoustics.other_person(clip, chance)
    clip = clip[-end:]
    level = acoustics.rms(clip)
    out = np.zeros(length, np.float32)
    out[end - len(clip) : end] = clip
    _say_before(out, end - len(clip), level, around, chance)
    _say_after(out, end, level, around, chance)
    if chance.random() < 0.7:  # noqa: PLR2004 a share
        out = acoustics.in_room(out, chance)
    if chance.random() < 0.85 and not quiet:  # noqa: PLR2004 a share
        out = acoustics.at_snr(out, some_noise(around, length, chance), chance.uniform(*_SNR_DB), level)
    if chance.random() < 0.7:  # noqa: PLR2004 a share
        out = acoustics.microphone(out, chance)
    return acoustics.to_samples(_at_some_level(out, chance)), end


def passage(recorded: Sound, around: Surroundings, chance: Chance) -> Samples:
    """A piece of a recording that is no clip, as the same microphones hear it; as long as before."""
    level = acoustics.rms(recorded)
    if chance.random() < 0.5:  # noqa: PLR2004 a share
        recorded = acoustics.in_room(recorded, chance)
    if chance.random() < 0.75:  # noqa: PLR2004 a share
        noise = some_noise(around, len(recorded), chance)
        recorded = acoustics.at_snr(recorded, noise, chance.uniform(*_SNR_DB), level)
    if chance.random() < 0.6:  # noqa: PLR2004 a share
        recorded = acoustics.microphone(recorded, chance)
    return acoustics.to_samples(_at_some_level(recorded, chance))


def _say_before(out: Sound, start: int, level: float, around: Surroundings, chance: Chance) -> None:
    """Other speech ends before the clip begins, by up to a second."""
    if chance.random() < 0.4:  # noqa: PLR2004 a share
        until = start - int(chance.uniform(0.0, 1.0) * SAMPLE_RATE_HZ)
        if until > 0:
            out[:until] = piece(around.speech, until, chance) * level * 10 ** (chance.uniform(-12, 6) / 20)


def _say_after(out: Sound, end: int, level: float, around: Surroundings, chance: Chance) -> None:
    """Whoever called goes on: with the command."""
    if chance.random() < 0.35:  # noqa: PLR2004 a share
        start = end + int(chance.uniform(0.02, 0.5) * SAMPLE_RATE_HZ)
        if start < len(out):
            out[start:] = piece(around.speech, len(out) - start, chance) * level * 10 ** (chance.uniform(-6, 6) / 20)


def _at_some_level(sound: Sound, chance: Chance) -> Sound:
    """As loud as people are near or far from a microphone; now and then too loud."""
    peak = 10 ** (chance.uniform(-36.0, 3.0) / 20)
    return (sound * (peak / (float(np.abs(sound).max()) + 1e-6))).astype(np.float32)
