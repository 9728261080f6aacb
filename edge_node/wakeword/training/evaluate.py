"""How good a model is: every figure that docs/wakeword.md shows, from one command."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_node.gate import GateSettings
from edge_node.wakeword.incremental import Floats
from edge_node.wakeword.native import Head
from edge_node.wakeword.training import measure
from edge_node.wakeword.training.calibrate import FALSE_ACCEPTS_PER_HOUR, grid
from edge_node.wakeword.training.intervals import Rate, Share
from edge_node.wakeword.training.judge import Hour, Scores, false_accepts, fires, reached, scores_of
from edge_node.wakeword.training.measure import CLEAN, CONDITIONS, ROOM, Condition
from edge_node.wakeword.training.plan import HARD_GROUP, Clip
from edge_node.wakeword.training.progress import track
from edge_node.wakeword.training.sources import MEASURED, Source
from edge_node.wakeword.training.voices import Split

NEAR_CONDITIONS = (CLEAN, ROOM, Condition("babble", 10))
_TEN_DB = tuple(condition for condition in CONDITIONS if condition.snr_db == 10)  # noqa: PLR2004 as the name says
_CURVE_POINTS = 60


@dataclass(frozen=True, slots=True)
class Missed:
    """How often an engine's held-out voices were not heard, per strictness."""

    engine: str
    condition: str
    shares: dict[str, Share]


@dataclass(frozen=True, slots=True)
class Taken:
    """How often a near-miss was taken for the word, over all engines and NEAR_CONDITIONS, per strictness."""

    written: str
    group: str
    shares: dict[str, Share]


@dataclass(frozen=True, slots=True)
class Heard:
    """False accepts in a package of recordings, per strictness."""

    package: str
    kind: str
    rates: dict[str, Rate]


@dataclass(frozen=True, slots=True)
class Point:
    """One threshold of the trade-off: misses of Kokoro's held-out voices, near-misses and false accepts."""

    threshold: float
    missed_clean: float
    missed_ten_db: float
    missed_unseen_engine: float
    taken_hard: float
    taken_other: float
    false_accepts_per_hour: float


@dataclass(frozen=True, slots=True)
class Figures:
    """All there is to say of a model.

    Attributes:
        thresholds: those that the model advises, by strictness.
        crossed: false accepts in the hours that the model learned from, judged by models that had not learned from
            that package, at thresholds fixed on other packages; empty if the model has no card.
    """

    model: str
    sha256: str
    patience: int
    thresholds: dict[str, float]
    missed: list[Missed]
    taken: list[Taken]
    heard: list[Heard]
    crossed: dict[str, Rate]
    curve: list[Point]


def evaluate(model: Path, clips: Sequence[Clip], cache: Path) -> Figures:
    """Measure a model on the test split of `clips` and on all recordings that nothing was learned from."""
    head = Head(model)
    words = _by_engine(clips, "test", "word")
    nears = _by_engine(clips, "test", "near")
    jobs = [(engine, condition) for engine in words for condition in CONDITIONS]
    word_scores = {
        (engine, condition): scene_scores(head, measure.heard(words[engine], condition, cache))
        for engine, condition in track(jobs, "conditions", len(jobs))
    }
    jobs = [(engine, condition) for engine in nears for condition in NEAR_CONDITIONS]
    near_scores = {
        (engine, condition): scene_scores(head, measure.heard(nears[engine], condition, cache))
        for engine, condition in track(jobs, "near-misses", len(jobs))
    }
    hours = listened(head, cache)
    advice = head.advice
    gates = {name: advice.gate(name) for name in FALSE_ACCEPTS_PER_HOUR}
    kinds = {source.name: source.kind for source in MEASURED}
    return Figures(
        model=model.name,
        sha256=hashlib.sha256(model.read_bytes()).hexdigest(),
        patience=advice.patience,
        thresholds=dict(advice.thresholds),
        missed=[
            Missed(engine, condition.name, {name: missed(scores, gate) for name, gate in gates.items()})
            for (engine, condition), scores in word_scores.items()
        ],
        taken=_taken(nears, near_scores, gates),
        heard=[
            Heard(
                hour.name,
                kinds[hour.name],
                {name: Rate(len(fires(hour.scores, gate)), hour.hours) for name, gate in gates.items()},
            )
            for hour in hours
        ],
        crossed=_crossed(model),
        curve=_curve(word_scores, nears, near_scores, hours, advice.patience),
    )


def scene_scores(head: Head, embedded: Floats) -> Scores:
    """Scores of scenes, each a stream of its own: float32 (scenes, frames), NaN before the first."""
    return np.stack([scores_of(one, head) for one in embedded])


def listened(head: Head, cache: Path, sources: Sequence[Source] = MEASURED) -> list[Hour]:
    """Scores of recordings, each package a stream."""
    embedded = measure.measured_recordings(cache, sources)
    return [Hour(name, scores_of(embedded[name], head)) for name in track(embedded, "recordings", len(embedded))]


def missed(scores: Scores, gate: GateSettings) -> Share:
    """How many scenes did not fire."""
    return Share(int((reached(scores, gate.patience) < gate.threshold).sum()), len(scores))


def _crossed(model: Path) -> dict[str, Rate]:
    """What the card beside the model says of the hours that it learned from, judged by models that had not."""
    card = model.with_suffix(".json")
    if not card.exists():
        return {}
    found = json.loads(card.read_text(encoding="utf-8"))["crossed"]
    return {name: Rate(rate["events"], rate["hours"]) for name, rate in found.items()}


def _by_engine(clips: Iterable[Clip], split: Split, kind: str) -> dict[str, list[Clip]]:
    found: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.split == split and clip.kind == kind:
            found.setdefault(clip.engine, []).append(clip)
    return found


_NearScores = dict[tuple[str, Condition], Scores]


def _taken(nears: dict[str, list[Clip]], scores: _NearScores, gates: dict[str, GateSettings]) -> list[Taken]:
    groups = {clip.written: clip.group for clips in nears.values() for clip in clips}
    counts = {(written, name): [0, 0] for written in groups for name in gates}
    for (engine, _), found in scores.items():
        for name, gate in gates.items():
            fired = reached(found, gate.patience) >= gate.threshold
            for clip, one in zip(nears[engine], fired, strict=True):
                counts[clip.written, name][0] += int(one)
                counts[clip.written, name][1] += 1
    return [
        Taken(written, group, {name: Share(*counts[written, name]) for name in gates})
        for written, group in groups.items()
    ]


def _curve(
    words: _NearScores, nears: dict[str, list[Clip]], near_scores: _NearScores, hours: Sequence[Hour], patience: int
) -> list[Point]:
    def share_below(engines: set[str], conditions: Iterable[Condition], threshold: float) -> float:
        best = [reached(words[key], patience) for key in words if key[0] in engines and key[1] in conditions]
        return float((np.concatenate(best) < threshold).mean()) if best else float("nan")

    near_best = {key: reached(found, patience) for key, found in near_scores.items()}

    def share_taken(hard: bool, threshold: float) -> float:
        fired = [
            best >= threshold
            for (engine, _), bests in near_best.items()
            for clip, best in zip(nears[engine], bests, strict=True)
            if (clip.group == HARD_GROUP) == hard
        ]
        return float(np.mean(fired)) if fired else float("nan")

    total = sum(hour.hours for hour in hours)
    chosen = [float(one) for one in grid()[:: len(grid()) // _CURVE_POINTS]]
    return [
        Point(
            threshold,
            share_below({"kokoro"}, (CLEAN,), threshold),
            share_below({"kokoro"}, _TEN_DB, threshold),
            share_below({"open_jtalk"}, (CLEAN,), threshold),
            share_taken(True, threshold),
            share_taken(False, threshold),
            false_accepts(hours, GateSettings(threshold, patience)) / total,
        )
        for threshold in track(chosen, "thresholds", len(chosen))
    ]
