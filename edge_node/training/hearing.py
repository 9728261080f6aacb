"""What a model makes of all that it is measured on: its scores, and what counts at a threshold."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache as remember
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import numpy as np

from edge_node.training import measure
from edge_node.training.features import make_in_parallel
from edge_node.training.intervals import Rate, Share
from edge_node.training.judge import Hour, Scores, false_accepts, reached, scores_of
from edge_node.training.measure import CLEAN, CONDITIONS, ROOM, Condition
from edge_node.training.phonemes import said_as_korean
from edge_node.training.plan import HARD_GROUP, Clip
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
        korean: of near-misses of kind `korean`, in NEAR_CONDITIONS; none of them is among `nears`.
    """

    patience: int
    words: SceneScores
    nears: SceneScores
    near_clips: dict[str, list[Clip]]
    hours: list[Hour]
    word_clips: dict[str, list[Clip]] = field(default_factory=dict)
    korean: SceneScores = field(default_factory=dict)

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

    def taken_as_korean(self, threshold: float) -> Share:
        """Near-misses of HARD_GROUP by Kokoro, with vowels as Korean has them, that are taken for the word."""
        fired = [bool(best >= threshold) for scores in self.korean.values() for best in reached(scores, self.patience)]
        among = self.taken(_is_korean, threshold)
        return Share(among.hits + sum(fired), among.tries + len(fired))

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
    nears, korean = (_by_engine(clips, "test", kind) for kind in ("near", "korean"))
    return Hearing(
        head.advice.patience,
        _heard(head, words, conditions, cache, "conditions"),
        _heard(head, nears, NEAR_CONDITIONS, cache, "near-misses"),
        nears,
        listened(head, cache),
        words,
        _heard(head, korean, NEAR_CONDITIONS, cache, "near-misses as Korean has them"),
    )


def _is_korean(clip: Clip) -> bool:
    return clip.engine == "kokoro" and clip.group == HARD_GROUP and said_as_korean(clip.line.say)


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
    measure.hear_ahead([(clips[engine], condition) for engine, condition in jobs], cache)
    if head.second is not None:
        _judge_ahead(head, [(clips[engine], condition) for engine, condition in jobs], cache)
    found: SceneScores = {}
    for engine, condition in track(jobs, what, len(jobs)):
        found[engine, condition] = heard_scores(head, clips[engine], condition, cache)
    return found


def heard_scores(head: Head, clips: Sequence[Clip], condition: Condition, cache: Path) -> Scores:
    """Scores of each clip in its scene; those of a second stage must be in the cache."""
    if head.second is None:
        return scene_scores(head, measure.heard(clips, condition, cache), [None] * len(clips))
    paths = [measure.scenes_path(_mark(head), block, condition, cache) for block in measure.blocks(clips)]
    return np.concatenate([np.load(path) for path in paths])


def _judge_ahead(head: Head, scenes: Sequence[tuple[Sequence[Clip], Condition]], cache: Path) -> None:
    """Put the scores of a model with a second stage into the cache, on all cores: they take long."""
    jobs = [(block, condition) for clips, condition in scenes for block in measure.blocks(clips)]
    paths = [measure.scenes_path(_mark(head), block, condition, cache) for block, condition in jobs]
    work = [(_write_judged, path, (head.path, *job)) for path, job in zip(paths, jobs, strict=True)]
    make_in_parallel(work, cache, "second stage")


def _write_judged(path: Path, cache: Path, model: Path, clips: Sequence[Clip], condition: Condition) -> None:
    sounds = (measure.as_heard(clip, condition, cache) for clip in clips)
    np.save(path, scene_scores(_head(model), measure.heard(clips, condition, cache), sounds))


def _mark(head: Head) -> str:
    return f"-{sha256(head.path.read_bytes()).hexdigest()[:16]}"


@remember
def _head(model: Path) -> Head:
    return Head(model)


def _by_engine(clips: Iterable[Clip], split: Split, kind: str) -> dict[str, list[Clip]]:
    found: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.split == split and clip.kind == kind:
            found.setdefault(clip.engine, []).append(clip)
    return found
