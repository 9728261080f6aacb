"""Frames for which a second stage is asked, with the recogniser's states: what any head makes of them is then cheap."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache as remember
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_node.audio.format import FRAME_SAMPLES
from edge_node.training import measure
from edge_node.training.features import Half, make_in_parallel
from edge_node.training.hearing import scene_scores
from edge_node.training.judge import Scores, scores_of
from edge_node.training.measure import Condition
from edge_node.training.plan import Clip
from edge_node.training.recordings import Samples, join_recordings, recording
from edge_node.training.second_windows import RECIPE, STEPS, listen
from edge_node.training.sources import Source
from edge_node.wakeword.native import Head
from edge_node.wakeword.recogniser import STATE_SIZE
from edge_node.wakeword.second_stage import SAMPLES
from edge_node.wakeword.verifier import SUREST

ASKED_FROM = 0.05
"""The first stage's lowest score for which the second is asked: it is low, so that hardly a word is lost before."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Streams as the first stage scores them, and what the recogniser hears where the second is asked.

    Attributes:
        first: scores (streams, frames), NaN before the first.
        where: (n, 2) rows of stream and frame.
        steps: float16 (n, STEPS, 144).
    """

    first: Scores
    where: npt.NDArray[np.int64]
    steps: Half

    def fused(self, logits: npt.NDArray[np.floating], weight: float) -> Scores:
        """Scores of both stages, of the second's logits (n,): as `SecondStage.fuse`, but for rounding."""
        found = self.first.astype(np.float64)
        at = tuple(self.where.T)
        sure = np.clip(found[at], SUREST, 1.0 - SUREST)
        found[at] = 0.5 + 0.5 * np.tanh(0.5 * (np.log(sure / (1.0 - sure)) + weight * logits))
        return found.astype(np.float32)


def asked_scenes(
    model: Path, clips: Mapping[str, Sequence[Clip]], conditions: Sequence[Condition], cache: Path
) -> dict[tuple[str, Condition], Asked]:
    """Of clips by engine, each in a scene of its own, by engine and condition."""
    jobs = [(engine, condition, tuple(some)) for engine, some in clips.items() for condition in conditions if some]
    keys = [f"{' '.join(clip.name for clip in some)} {condition.name}" for _, condition, some in jobs]
    paths = [_path(model, cache, key) for key in keys]
    work = [
        (_write_scenes, path, (model, some, condition)) for path, (_, condition, some) in zip(paths, jobs, strict=True)
    ]
    make_in_parallel(work, cache, "scenes asked about")
    return {(engine, condition): _load(path) for path, (engine, condition, _) in zip(paths, jobs, strict=True)}


def asked_recordings(model: Path, sources: Sequence[Source], cache: Path) -> dict[str, Asked]:
    """Of recordings, each package one stream."""
    join_recordings(cache, sources)
    measure.measured_recordings(cache, sources)
    paths = {source.name: _path(model, cache, f"recording {source.name}") for source in sources}
    work = [(_write_recording, path, (model, source)) for source, path in zip(sources, paths.values(), strict=True)]
    make_in_parallel(work, cache, "recordings asked about")
    return {name: _load(path) for name, path in paths.items()}


def _path(model: Path, cache: Path, key: str) -> Path:
    name = hashlib.sha256(model.read_bytes() + key.encode()).hexdigest()[:20]
    return cache / "measured" / f"asked-{RECIPE}" / f"{name}.npz"


def _load(path: Path) -> Asked:
    with np.load(path) as kept:
        return Asked(kept["first"], kept["where"], kept["steps"])


@remember
def _head(model: Path) -> Head:
    return Head(model, second_stage=False)


def _write_scenes(path: Path, cache: Path, model: Path, clips: Sequence[Clip], condition: Condition) -> None:
    first = scene_scores(_head(model), measure.heard(clips, condition, cache), [None] * len(clips))
    sounds = (measure.as_heard(clip, condition, cache) for clip in clips)
    _save(path, first, sounds)


def _write_recording(path: Path, cache: Path, model: Path, source: Source) -> None:
    embedded = measure.measured_recordings(cache, (source,))[source.name]
    _save(path, scores_of(embedded, _head(model))[np.newaxis], [recording(cache, source.name)])


def _save(path: Path, first: Scores, sounds: Iterable[Samples]) -> None:
    where, steps = [], []
    for stream, (scores, sound) in enumerate(zip(first, sounds, strict=True)):
        for frame in np.flatnonzero(np.nan_to_num(scores) >= ASKED_FROM).tolist():
            end = (frame + 1) * FRAME_SAMPLES
            where.append((stream, frame))
            steps.append(listen(sound[end - SAMPLES : end]))
    np.savez(
        path,
        first=first,
        where=np.array(where, np.int64).reshape(-1, 2),
        steps=np.array(steps, np.float16).reshape(-1, STEPS, STATE_SIZE),
    )
