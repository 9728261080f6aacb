"""The whole way from a word to a model, step by step; each step goes on where it was left."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from edge_node.training import heads, tried
from edge_node.training.calibrate import folds, thresholds, thresholds_from_others
from edge_node.training.course import VARIANTS, Course
from edge_node.training.heads import Member
from edge_node.training.judge import Hour, scores_of
from edge_node.training.lessons import Lessons, clips_of, teaching
from edge_node.training.measure import hours
from edge_node.training.plan import Clip
from edge_node.training.progress import track
from edge_node.training.sources import PERMISSIVE, VOICES, manifest
from edge_node.training.vocabulary import Word
from edge_node.wakeword.native import ADVICE, Head

PATIENCE = 2
_FIFTH = 5


def train(word: Word, course: Course, cache: Path, out: Path, beside: Path | None = None) -> None:
    """Make a model for a word, and beside it its card (suffix .json): what it was made of and when its scores count.

    Thresholds are fixed on recordings by models that did not learn from them, fold by fold. Into the folder `beside`
    come models to compare it with.
    """
    cache = cache / course.folder
    clips = clips_of(word, course, cache, ("train",))
    lessons = teaching(clips, course, cache)
    unheard = list(_listen_unheard(lessons, course, cache, out.with_suffix(".part")))
    fixed = thresholds(unheard, PATIENCE)
    normal = _logit(fixed["normal"])
    advice = {
        "thresholds": {name: round(_sigmoid(_logit(threshold) - normal), 4) for name, threshold in fixed.items()},
        "patience": PATIENCE,
    }
    members = lessons.members(course, cache)
    heads.export(members, out, {ADVICE: json.dumps(advice)}, bias=-normal)
    _write_card(out, word, course, clips, advice, unheard, cache)
    if beside:
        _write_beside(beside, out, lessons, course, cache, members)


def _listen_unheard(lessons: Lessons, course: Course, cache: Path, part: Path) -> list[Hour]:
    """Scores of each package by an ensemble that did not learn from it."""
    lengths = {name: hours(len(embedded)) for name, embedded in lessons.recordings.items()}
    parts = folds(lengths, course.folds)
    found = []
    for names in track(parts, "folds", len(parts)):
        heads.export(lessons.members(course, cache, without=names), part, {})
        head = Head(part, second_stage=False)
        found += [Hour(name, scores_of(lessons.recordings[name], head)) for name in names]
    part.unlink()
    return found


def _write_beside(
    folder: Path, model: Path, lessons: Lessons, course: Course, cache: Path, members: Sequence[Member]
) -> None:
    """What was tried: a network of each kind alone, a fifth of the clips, more patience."""
    ensembles: dict[str, list[Member]] = {"without-contrast": []}
    for pupil, one in zip(course.ensemble, members, strict=True):
        if not pupil.contrast:
            ensembles["without-contrast"].append(one)
            ensembles.setdefault(pupil.name, [one])
    ensembles["a-fifth-of-the-clips"] = lessons.of_each(_FIFTH).members(course, cache)
    tried.networks(folder, ensembles)
    tried.more_patient(folder, model, PATIENCE + 1)


def _write_card(
    out: Path,
    word: Word,
    course: Course,
    clips: Sequence[Clip],
    advice: Mapping[str, object],
    unheard: Sequence[Hour],
    cache: Path,
) -> None:
    counts = Counter((clip.engine, clip.kind) for clip in clips if clip.split == "train")
    crossed = thresholds_from_others(unheard, PATIENCE, course.folds)
    card = {
        "word": word.written,
        "pronunciation": word.ipa,
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "advice": advice,
        "crossed": {
            package: {name: asdict(rate) for name, rate in rates.items()} for package, rates in crossed.items()
        },
        "course": asdict(course) | {"folded": [source.name for source in course.folded]},
        "clips": {f"{engine} {kind}": count for (engine, kind), count in sorted(counts.items())},
        "scenes": VARIANTS,
        "near_misses": [miss.written for miss in word.near],
        "sources": manifest(cache, (*VOICES, *PERMISSIVE, *course.folded), course.engines),
    }
    out.with_suffix(".json").write_text(json.dumps(card, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _logit(share: float) -> float:
    return math.log(share / (1 - share))
