"""States of the recogniser for windows of 1.6 s that a second stage learns from, kept in the cache block by block."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache as remember
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_node.audio.format import FRAME_SAMPLES, SAMPLE_RATE_HZ
from edge_node.training import acoustics
from edge_node.training.acoustics import Chance
from edge_node.training.features import QUIET, Half, make_in_parallel, read_clip, surroundings
from edge_node.training.judge import scores_of
from edge_node.training.measure import measured_recordings
from edge_node.training.plan import Clip
from edge_node.training.recordings import Samples, recording
from edge_node.training.scenes import Surroundings, scene, some_noise
from edge_node.training.sources import Source
from edge_node.wakeword.incremental import Floats
from edge_node.wakeword.native import Head
from edge_node.wakeword.recogniser import STATE_SIZE, Recogniser
from edge_node.wakeword.second_stage import SAMPLES, STATES

RECIPE = "1"
STEPS = STATES // 2
"""Two states of 20 ms are averaged to one step."""

_BLOCK = 64
_LATEST_S = 0.45
"""The first stage asks within this time after the word's end."""
_DELAYS = 2
_SNR_DB = (0.0, 20.0)
_CANDIDATES_AN_HOUR = 300


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows to learn from.

    Attributes:
        states: float16 (n, STEPS, 144).
        of: index of each window's clip, or of its package of recordings.
    """

    states: Half
    of: npt.NDArray[np.int64]


def steps_of(states: Floats) -> Floats:
    """Of states (STATES, 144), the mean of each two: (STEPS, 144)."""
    found: Floats = states[: 2 * STEPS].reshape(STEPS, 2, STATE_SIZE).mean(axis=1)
    return found


def clip_windows(clips: Sequence[Clip], variants: Sequence[int], cache: Path, seed: int = 2026) -> Windows:
    """Of each clip in a scene of each of `variants`: as `scene_features`, each scene at two ends, and in more noise."""
    blocks = [(at, variant) for variant in variants for at in range(0, len(clips), _BLOCK)]
    jobs = [(clips[at : at + _BLOCK], variant, seed) for at, variant in blocks]
    paths = [_path(cache, "scenes", " ".join(clip.name for clip in part), variant, seed) for part, variant, _ in jobs]
    make_in_parallel([(_write_clips, path, job) for path, job in zip(paths, jobs, strict=True)], cache, "windows")
    each = 2 * _DELAYS
    return Windows(
        np.concatenate([np.load(path) for path in paths]),
        np.concatenate(
            [np.repeat(at + np.arange(len(part)), each) for (at, _), (part, _, _) in zip(blocks, jobs, strict=True)]
        ),
    )


def recording_windows(model: Path, sources: Sequence[Source], cache: Path, seed: int = 2026) -> Windows:
    """Of recordings without the word, where the first stage scores highest: as they are, and in more noise."""
    measured_recordings(cache, sources)
    mark = hashlib.sha256(model.read_bytes()).hexdigest()[:16]
    paths = [_path(cache, "recordings", f"{mark} {source.name}", 0, seed) for source in sources]
    jobs = [(_write_recording, path, (model, source, seed)) for path, source in zip(paths, sources, strict=True)]
    make_in_parallel(jobs, cache, "recordings")
    found = [np.load(path) for path in paths]
    return Windows(np.concatenate(found), np.repeat(np.arange(len(found)), [len(one) for one in found]))


def _highest(head: Head, embedded: Floats) -> npt.NDArray[np.int64]:
    """Frames with the highest scores, in order of time."""
    scores = np.nan_to_num(scores_of(embedded, head), nan=-1.0)
    wanted = round(len(scores) * FRAME_SAMPLES / SAMPLE_RATE_HZ / 3600.0 * _CANDIDATES_AN_HOUR) + 1
    order = np.argsort(-scores, kind="stable")[: 2 * wanted]
    lowest = SAMPLES // FRAME_SAMPLES
    return np.sort([frame for frame in order.tolist() if frame >= lowest][:wanted]).astype(np.int64)


def _path(cache: Path, kind: str, what: str, variant: int, seed: int) -> Path:
    name = hashlib.sha256(what.encode()).hexdigest()[:16]
    return cache / "features" / f"second-{RECIPE}" / f"{kind}-{name}-{variant}-{seed}.npy"


@remember
def _recogniser() -> Recogniser:
    """One per process."""
    return Recogniser(SAMPLES)


def listen(samples: Samples) -> Half:
    """Steps of the last 1.6 s, int16 (25600,): float16 (STEPS, 144)."""
    return steps_of(_recogniser().states(samples)).astype(np.float16)


def _in_more_noise(window: Samples, around: Surroundings, chance: Chance) -> Samples:
    """As it is, but something else is heard as well; the peak stays below full scale."""
    sound = window.astype(np.float32) / 32768.0
    noise = some_noise(around, len(sound), chance)
    mixed = acoustics.at_snr(sound, noise, chance.uniform(*_SNR_DB), acoustics.rms(sound))
    return acoustics.to_samples((mixed / max(float(np.abs(mixed).max()), 1.0)).astype(np.float32))


def _both(window: Samples, around: Surroundings, chance: Chance) -> list[Half]:
    return [listen(window), listen(_in_more_noise(window, around, chance))]


def _write_clips(path: Path, cache: Path, clips: Sequence[Clip], variant: int, seed: int) -> None:
    around = surroundings(cache)
    found: list[Half] = []
    for clip in clips:
        chance = acoustics.chance_from(f"{seed} {clip.name} {variant} second")
        samples, end = scene(read_clip(cache, clip), around, chance, quiet=variant >= QUIET)
        for delay_s in chance.uniform(0.0, _LATEST_S, _DELAYS).tolist():
            last = min(end + round(delay_s * SAMPLE_RATE_HZ), len(samples))
            found += _both(samples[last - SAMPLES : last], around, chance)
    np.save(path, np.stack(found))


def _write_recording(path: Path, cache: Path, model: Path, source: Source, seed: int) -> None:
    around = surroundings(cache)
    chance = acoustics.chance_from(f"{seed} {source.name} second")
    samples = recording(cache, source.name)
    embedded = measured_recordings(cache, (source,))[source.name]
    found: list[Half] = []
    for frame in _highest(Head(model, second_stage=False), embedded).tolist():
        last = (frame + 1) * FRAME_SAMPLES
        found += _both(samples[last - SAMPLES : last], around, chance)
    np.save(path, np.stack(found))
