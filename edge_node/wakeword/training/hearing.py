"""What a model makes of all that it is measured on: its scores, and what counts at a threshold."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from edge_node.gate import GateSettings
from edge_node.wakeword.incremental import Floats
from edge_node.wakeword.native import Head
from edge_node.wakeword.training import measure
from edge_node.wakeword.training.intervals import Rate, Share
from edge_node.wakeword.training.judge import Hour, Scores, false_accepts, reached, scores_of
from edge_node.wakeword.training.measure import CLEAN, CONDITIONS, ROOM, Condition
from edge_node.wakeword.training.plan import Clip
from edge_node.wakeword.training.progress import track
from edge_node.wakeword.training.recordings import join_recordings
from edge_node.wakeword.training.sources import MEASURED, Source
from edge_node.wakeword.training.voices import Split

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
    """

    patience: int
    words: SceneScores
    nears: SceneScores
    near_clips: dict[str, list[Clip]]
    hours: list[Hour]

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


def hear(head: Head, clips: Sequence[Clip], cache: Path) -> Hearing:
    """Let a model hear the test split of `clips` and all recordings that nothing was learned from."""
    join_recordings(cache, MEASURED)  # scenes have their noises from these
    words = _by_engine(clips, "test", "word")
    nears = _by_engine(clips, "test", "near")
    return Hearing(
        head.advice.patience,
        _heard(head, words, CONDITIONS, cache, "conditions"),
        _heard(head, nears, NEAR_CONDITIONS, cache, "near-misses"),
        nears,
        listened(head, cache),
    )


def scene_scores(head: Head, embedded: Floats, mel: Floats | None = None) -> Scores:
    """Scores of scenes, each a stream of its own: float32 (scenes, frames), NaN before the first.

    Of embeddings (scenes, frames, 96) and rows (scenes, frames, 8, 32), which a second stage asks for.
    """
    return np.stack([scores_of(one, head, None if mel is None else mel[at]) for at, one in enumerate(embedded)])


def listened(head: Head, cache: Path, sources: Sequence[Source] = MEASURED) -> list[Hour]:
    """Scores of recordings, each package a stream."""
    embedded = measure.measured_recordings(cache, sources)
    mel = measure.measured_rows(cache, sources) if head.second else {}
    names = track(embedded, "recordings", len(embedded))
    return [Hour(name, scores_of(embedded[name], head, mel.get(name))) for name in names]


def _heard(
    head: Head, clips: dict[str, list[Clip]], conditions: Sequence[Condition], cache: Path, what: str
) -> SceneScores:
    jobs = [(engine, condition) for engine in clips for condition in conditions]
    found: SceneScores = {}
    for engine, condition in track(jobs, what, len(jobs)):
        mel = measure.heard_rows(clips[engine], condition, cache) if head.second else None
        found[engine, condition] = scene_scores(head, measure.heard(clips[engine], condition, cache), mel)
    return found


def _by_engine(clips: Iterable[Clip], split: Split, kind: str) -> dict[str, list[Clip]]:
    found: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.split == split and clip.kind == kind:
            found.setdefault(clip.engine, []).append(clip)
    return found
