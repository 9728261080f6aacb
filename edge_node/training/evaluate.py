"""How good a model is: every figure that docs/wakeword.md shows, from one command."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.errors import SettingsError
from edge_node.training.calibrate import FALSE_ACCEPTS_PER_HOUR, grid
from edge_node.training.compare import ALONE, THIS, Comparison, compare, hear_named, named
from edge_node.training.hearing import TEN_DB, Hearing
from edge_node.training.intervals import Rate, Share
from edge_node.training.judge import Scores, fires, reached
from edge_node.training.measure import CLEAN, CONDITIONS, Condition
from edge_node.training.plan import HARD_GROUP, Clip
from edge_node.training.progress import track
from edge_node.training.sources import MEASURED
from edge_node.wakeword.gate import GateSettings
from edge_node.wakeword.native import Head

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
        taken_as_korean: as `Hearing` counts them, per strictness.
        crossed: false accepts in packages that the model learned from, judged by networks that had not learned from
            that package, at thresholds fixed on other packages; by package and strictness.
        card: what `sarvis wakeword train` wrote beside the model; this and `crossed` are empty if it has no card.
        curve_alone: the curve of the head without its second stage; empty if it has none.
        false_accepts_alone: of that at its own thresholds, by strictness, in what nothing was learned from.
        beside: the model beside others; None if there is nothing to compare it with.
    """

    model: str
    sha256: str
    patience: int
    thresholds: dict[str, float]
    missed: list[Missed]
    taken: list[Taken]
    taken_as_korean: dict[str, Share]
    heard: list[Heard]
    crossed: dict[str, dict[str, Rate]]
    card: dict[str, Any]
    curve: list[Point]
    curve_alone: list[Point] = field(default_factory=list)
    false_accepts_alone: dict[str, Rate] = field(default_factory=dict)
    beside: Comparison | None = None


def evaluate(
    model: Path,
    clips: Sequence[Clip],
    cache: Path,
    beside: Sequence[Path] = (),
    conditions: Sequence[Condition] = CONDITIONS,
) -> Figures:
    """Measure a model on the test split of `clips` and on all recordings that nothing was learned from.

    Figures are of the model as it is, with its second stage if it has one, and then it is compared with its head alone.
    It is also compared with the models `beside`; SettingsError as `named`, before anything is heard.
    """
    models = named(model, beside)
    card = _card(model)
    heard = {
        name: hear_named(name, head, clips, cache, conditions) for name, head in models.items() if name in {THIS, ALONE}
    }
    hearing = heard[THIS]
    advice = models[THIS].advice
    gates = {name: advice.gate(name) for name in FALSE_ACCEPTS_PER_HOUR}
    kinds = {source.name: source.kind for source in MEASURED}
    return Figures(
        model=model.name,
        sha256=hashlib.sha256(model.read_bytes()).hexdigest(),
        patience=advice.patience,
        thresholds=dict(advice.thresholds),
        missed=[
            Missed(engine, condition.name, {name: missed(scores, gate) for name, gate in gates.items()})
            for (engine, condition), scores in hearing.words.items()
        ],
        taken=_taken(hearing, gates),
        taken_as_korean={name: hearing.taken_as_korean(gate.threshold) for name, gate in gates.items()},
        heard=[
            Heard(
                hour.name,
                kinds[hour.name],
                {name: Rate(len(fires(hour.scores, gate)), hour.hours) for name, gate in gates.items()},
            )
            for hour in hearing.hours
        ],
        crossed=_crossed(card),
        card=card,
        curve=_curve(hearing),
        curve_alone=_curve(heard[ALONE]) if ALONE in heard else [],
        false_accepts_alone=_false_accepts(heard[ALONE], models[ALONE]) if ALONE in heard else {},
        beside=compare(models, heard, clips, cache, conditions),
    )


def missed(scores: Scores, gate: GateSettings) -> Share:
    """How many scenes did not fire."""
    return Share(int((reached(scores, gate.patience) < gate.threshold).sum()), len(scores))


def _false_accepts(hearing: Hearing, head: Head) -> dict[str, Rate]:
    return {name: hearing.false_accepts(threshold) for name, threshold in head.advice.thresholds.items()}


def _card(model: Path) -> dict[str, Any]:
    card = model.with_suffix(".json")
    if not card.exists():
        return {}
    found: dict[str, Any] = json.loads(card.read_text(encoding="utf-8"))
    if found["sha256"] != hashlib.sha256(model.read_bytes()).hexdigest():
        raise SettingsError(f"{card} is the card of another model: its sha256 is not that of {model}")
    return found


def _crossed(card: dict[str, Any]) -> dict[str, dict[str, Rate]]:
    return {
        package: {name: Rate(rate["events"], rate["hours"]) for name, rate in rates.items()}
        for package, rates in card.get("crossed", {}).items()
    }


def _taken(hearing: Hearing, gates: dict[str, GateSettings]) -> list[Taken]:
    groups = {clip.written: clip.group for clips in hearing.near_clips.values() for clip in clips}
    counts = {(written, name): [0, 0] for written in groups for name in gates}
    for (engine, _), found in hearing.nears.items():
        for name, gate in gates.items():
            fired = reached(found, gate.patience) >= gate.threshold
            for clip, one in zip(hearing.near_clips[engine], fired, strict=True):
                counts[clip.written, name][0] += int(one)
                counts[clip.written, name][1] += 1
    return [
        Taken(written, group, {name: Share(*counts[written, name]) for name in gates})
        for written, group in groups.items()
    ]


def _curve(hearing: Hearing) -> list[Point]:
    chosen = [float(one) for one in grid()[:: len(grid()) // _CURVE_POINTS]]
    return [
        Point(
            threshold,
            hearing.missed(("kokoro",), (CLEAN,), threshold).value,
            hearing.missed(("kokoro",), TEN_DB, threshold).value,
            hearing.missed(("open_jtalk",), (CLEAN,), threshold).value,
            hearing.taken(lambda clip: clip.group == HARD_GROUP, threshold).value,
            hearing.taken(lambda clip: clip.group != HARD_GROUP, threshold).value,
            hearing.false_accepts(threshold).value,
        )
        for threshold in track(chosen, "thresholds", len(chosen))
    ]
