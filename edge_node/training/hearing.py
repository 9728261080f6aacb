"""What a model makes of all that it is measured on: its scores, and what counts at a threshold."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import numpy as np

from edge_node.training import measure
from edge_node.training.intervals import Rate, Share
from edge_node.training.judge import Hour, Scores, false_accepts, reached, scores_of
from edge_node.training.measure import CLEAN, CONDITIONS, ROOM, Condition
from edge_node.training.plan import Clip
from edge_node.training.progress import track
from edge_node.training.recordings import Samples, join_recordings, recording
from edge_node.training.sources import MEASURED, Source
from edge_node.training.voices import Split
from edge_node.wakeword.gate import GateSettings
from edge_node.wakeword.incremental import Floats
from edge_node.wakeword.native import Head

NEAR_CONDITIONS = (CLEAN, ROOM, Condition("babble", 10))
TEN_DB = tuple(condition for condition in CONDITIONS if condition.snr_db == 10)  # noqa: PLR2004 as the name says

SceneScores: TypeAlias = dict[tuple[str, Condition], Scores]
"""Scores of scenes, float32 (scenes, frames), by engine and condition."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """Scores of one model.

    Attributes:
        patience: how many frames in a row must reach a threshold.
        words: of held-out voices' words, in CONDITIONS.
        nears: of their near-misses, in NEAR_CONDITIONS.
        near_clips: the near-misses in the order of their scenes, by engine.
        hours: of recordings without the word.
        word_clips: the words in the order of their scenes, by engine.
    """

    patience: int
    words: SceneScores
    nears: SceneScores
    near_clips: dict[str, list[Clip]]
    hours: list[Hour]
    word_clips: dict[str, list[Clip]] = field(default_factory=dict)

    def best(self, engines: Collection[str], conditions: Iterable[Condition]) -> Scores:
        """For each scene of a word the highest threshold at which it is heard: float32 (scenes,)."""
        wanted = set(conditions)
        found = [
            reached(scores, self.patience)
            for (engine, condition), scores in self.words.items()
            if engine in engines and condition in wanted
        ]
        return np.concatenate(found) if found else np.empty(0, np.float32)

    def missed(self, engines: Collection[str], conditions: Iterable[Condition], threshold: float) -> Share:
        """Words that are not heard."""
        best = self.best(engines, conditions)
        return Share(int((best < threshold).sum()), len(best))

    def taken(self, wanted: Callable[[Clip], bool], threshold: float) -> Share:
        """Near-misses, of those wanted, that are taken for the word."""
        fired = [
            bool(best >= threshold)
            for (engine, _), scores in self.nears.items()
            for clip, best in zip(self.near_clips[engine], reached(scores, self.patience), strict=True)
            if wanted(clip)
        ]
        return Share(sum(fired), len(fired))

    def false_accepts(self, threshold: float) -> Rate:
        """Over all recordings."""
        events = false_accepts(self.hours, GateSettings(threshold, self.patience))
        return Rate(events, sum(hour.hours for hour in self.hours))


def hear(head: Head, clips: Sequence[Clip], cache: Path, conditions: Sequence[Condition] = CONDITIONS) -> Hearing:
    """Let a model hear the test split of `clips` and all recordings that nothing was learned from.

    Words are heard in `conditions`, near-misses in NEAR_CONDITIONS.
    """
    join_recordings(cache, MEASURED)  # scenes have their noises from these
    words = _by_engine(clips, "test", "word")
    nears = _by_engine(clips, "test", "near")
    return Hearing(
        head.advice.patience,
        _heard(head, words, conditions, cache, "conditions"),
        _heard(head, nears, NEAR_CONDITIONS, cache, "near-misses"),
        nears,
        listened(head, cache),
        words,
    )


def scene_scores(head: Head, embedded: Floats, sounds: Iterable[Samples | None]) -> Scores:
    """Scores of scenes, each a stream of its own: float32 (scenes, frames), NaN before the first.

    Of embeddings (scenes, frames, 96) and the sound of each scene, int16, which a second stage asks for.
    """
    return np.stack([scores_of(one, head, sound) for one, sound in zip(embedded, sounds, strict=True)])


def listened(head: Head, cache: Path, sources: Sequence[Source] = MEASURED) -> list[Hour]:
    """Scores of recordings, each package a stream."""
    embedded = measure.measured_recordings(cache, sources)
    names = track(embedded, "recordings", len(embedded))
    return [
        Hour(name, scores_of(embedded[name], head, recording(cache, name) if head.second else None)) for name in names
    ]


def _heard(
    head: Head, clips: dict[str, list[Clip]], conditions: Sequence[Condition], cache: Path, what: str
) -> SceneScores:
    jobs = [(engine, condition) for engine in clips for condition in conditions]
    found: SceneScores = {}
    for engine, condition in track(jobs, what, len(jobs)):
        found[engine, condition] = heard_scores(head, clips[engine], condition, cache)
    return found


def heard_scores(head: Head, clips: Sequence[Clip], condition: Condition, cache: Path) -> Scores:
    """Scores of each clip in its scene; those of a second stage, which take minutes, are kept in the cache."""
    embedded = measure.heard(clips, condition, cache)
    if head.second is None:
        return scene_scores(head, embedded, [None] * len(clips))
    mark = sha256(head.path.read_bytes()).hexdigest()[:16]
    sounds = (measure.as_heard(clip, condition, cache) for clip in clips)
    return measure.of_scenes(f"-{mark}", lambda: scene_scores(head, embedded, sounds), clips, condition, cache)


def _by_engine(clips: Iterable[Clip], split: Split, kind: str) -> dict[str, list[Clip]]:
    found: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.split == split and clip.kind == kind:
            found.setdefault(clip.engine, []).append(clip)
    return found
