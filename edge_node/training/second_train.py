"""From a model to the same model with a second stage, step by step; each step goes on where it was left."""

import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_node.training import measure, second, second_choice, second_fit
from edge_node.training.calibrate import folds
from edge_node.training.features import QUIET
from edge_node.training.generate import generate
from edge_node.training.hearing import NEAR_CONDITIONS, TEN_DB
from edge_node.training.measure import CLEAN, ROOM, Condition, hours
from edge_node.training.plan import Clip, plan
from edge_node.training.recordings import join_recordings
from edge_node.training.second import Directions, SecondMember
from edge_node.training.second_asked import ASKED_FROM, Asked, asked_recordings, asked_scenes
from edge_node.training.second_choice import Chosen, Judged, Key, Mistakes
from edge_node.training.second_fit import Pupils
from edge_node.training.second_windows import RECIPE, clip_windows, recording_windows
from edge_node.training.slots import classes, slots, sounds
from edge_node.training.sources import CHOOSING, FOLDED, PERMISSIVE, Source, ensure_voices, manifest
from edge_node.training.vocabulary import Word
from edge_node.training.voices import Engine
from edge_node.wakeword.hama_weights import PACKAGE, SHA256
from edge_node.wakeword.native import Head

_VOICES: tuple[tuple[tuple[Engine, ...], float], ...] = (
    (("kokoro",), 0.5),
    (("espeak",), 0.25),
    (("flite", "festival"), 0.25),
)
"""How much each engine is heard; the word twice as often as near-misses."""
_OF_VOICES = 0.75
"""The rest is recordings."""

NOTICE = (
    "What the phoneme recogniser of the second stage learned from is not stated by its authors: neither whether it "
    "heard people or synthetic voices, nor under which terms. This model holds none of its weights; they come with the "
    f"package {PACKAGE}. Without the package, or with edge.second_stage = false, the first stage judges alone."
)


@dataclass(frozen=True, slots=True)
class SecondCourse:
    """How much a second stage learns.

    Attributes:
        clips: how many clips of each engine teach, words and near-misses: the first ones by name, as good as chance.
        chosen: the same of voices that choose.
        variants: in which scenes each is heard.
        seeds: one head each; the second stage is the mean of their logits.
        steps: of each head's learning.
        folded: recordings that are learned from.
        choosing: recordings that nothing learns from, for thresholds.
        folds: in so many parts, recordings are judged by heads that did not learn from them.
        conditions, near_conditions: how words and near-misses are heard by which weights are chosen.
        seed: of scenes.
    """

    clips: Mapping[Engine, int]
    chosen: Mapping[Engine, int]
    variants: tuple[int, ...] = (0, 1, QUIET)
    seeds: tuple[int, ...] = (1, 2, 3)
    steps: int = 1800
    folded: tuple[Source, ...] = FOLDED
    choosing: tuple[Source, ...] = CHOOSING
    folds: int = 4
    conditions: tuple[Condition, ...] = (CLEAN, ROOM, *TEN_DB)
    near_conditions: tuple[Condition, ...] = NEAR_CONDITIONS
    seed: int = 2026


FULL_SECOND = SecondCourse(
    clips={"kokoro": 700, "espeak": 900, "flite": 500},
    chosen={"kokoro": 608, "espeak": 150, "festival": 120},
    steps=3600,
)
"""All of Kokoro's clips that choose: of fewer, 5 % of the words are three."""
QUICK_SECOND = SecondCourse(
    clips={"espeak": 24, "flite": 24},
    chosen={"espeak": 24},
    variants=(QUIET,),
    seeds=(1,),
    steps=20,
    folded=PERMISSIVE,
    choosing=(),
    folds=2,
    conditions=(CLEAN, ROOM),
    near_conditions=(CLEAN, ROOM),
)
"""Enough to see that every step works."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lessons:
    """What second stages learn from.

    Attributes:
        pupils: all windows, those of recordings last.
        package: index of each window's package of recordings; -1 of a clip's.
        told: names all clips and recordings.
    """

    pupils: Pupils
    package: Indices
    told: str

    def learn(self, course: SecondCourse, cache: Path, seed: int, without: Sequence[int] = ()) -> SecondMember:
        """A head that did not learn from those packages; what was learned before comes from the cache."""
        text = f"{RECIPE} {self.told} {seed} {course.steps} {sorted(without)}"
        path = cache / "learned" / f"second-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
        if not path.exists():
            allowed = ~np.isin(self.package, list(without))
            bags = [bag[allowed[bag]] for bag in self.pupils.bags]
            pupils = Pupils(
                self.pupils.steps, bags, self.pupils.shares, self.pupils.is_word, self.pupils.held, self.pupils.sizes
            )
            _save(path, second_fit.learn(pupils, seed, course.steps))
        return _load(path, self.pupils.sizes)


def teach_second(word: Word, course: SecondCourse, model: Path, cache: Path, out: Path) -> list[Mistakes]:
    """Write the model with a second stage to `out`, and its card; what each weight would have cost.

    The model's first stage stays as it is. Weight and thresholds are chosen on voices and recordings that the heads
    did not learn from.
    """
    around = measure.noises("dev", (*course.conditions, *course.near_conditions))
    join_recordings(cache, (*PERMISSIVE, *course.folded, *course.choosing, *around))
    clips = said(word, course, cache)
    lessons = lessons_of(word, clips, course, model, cache)
    members = [lessons.learn(course, cache, seed) for seed in course.seeds]
    chosen = choosing(members, lessons, clips, course, model, cache)
    table = [row for weight in second_choice.WEIGHTS for row in second_choice.mistakes(chosen.hearing(weight), weight)]
    weight = second_choice.best_weight(table)
    head = Head(model, second_stage=False)
    found = second_choice.no_worse(chosen.hearing(0.0), chosen.hearing(weight), head.advice.thresholds)
    # So that "normal" stays where it was, which other settings take for the middle.
    shift = _logit(head.advice.thresholds["normal"]) - _logit(found["normal"])
    thresholds = {name: round(_sigmoid(_logit(one) + shift), 4) for name, one in found.items()}
    advice = {"thresholds": thresholds, "patience": head.advice.patience}
    card = _card(model, clips, course, advice, weight, table, cache)
    part = out.with_suffix(".part.onnx")
    second.export(members, part, {}, slope=weight, bias=shift / weight)
    if not out.exists() or not out.samefile(model):
        shutil.copyfile(model, out)
    second.with_second(out, part, ASKED_FROM, json.dumps(advice))
    part.unlink()
    card["sha256"] = hashlib.sha256(out.read_bytes()).hexdigest()
    out.with_suffix(".json").write_text(json.dumps(card, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return table


def said(word: Word, course: SecondCourse, cache: Path) -> list[Clip]:
    """The clips of a course, said by now; installs the voices."""
    wanted: list[Clip] = []
    for split, counts in (("train", course.clips), ("dev", course.chosen)):
        for engine, count in counts.items():
            own = [one for one in plan(word) if one.engine == engine and one.split == split and one.kind != "speech"]
            wanted += sorted(own, key=lambda clip: clip.name)[:count]
    return generate(wanted, cache, ensure_voices(cache, tuple({**course.clips, **course.chosen})))


def lessons_of(word: Word, clips: Sequence[Clip], course: SecondCourse, model: Path, cache: Path) -> Lessons:
    """Windows of clips and of recordings, and what stands in the slots of each."""
    possible = classes(word.ipa, [miss.ipa for miss in word.near])
    ipa = {miss.written: miss.ipa for miss in word.near} | {word.written: word.ipa}
    taught: list[Clip] = []
    steps, of = [], []
    for engine in course.clips:
        own = [clip for clip in clips if clip.split == "train" and clip.engine == engine]
        windows = clip_windows(own, course.variants, cache, course.seed)
        steps.append(windows.states)
        of.append(windows.of + len(taught))
        taught += own
    life = recording_windows(model, course.folded, cache, course.seed)
    clip = np.concatenate(of)
    held = np.array([_held(possible, ipa[one.written], word.ipa) for one in taught], np.int64)
    is_word = np.array([one.kind == "word" for one in taught])[clip]
    engines = np.array([one.engine for one in taught])[clip]
    some = len(clip)
    bags, shares = [], []
    for names, share in _VOICES:
        mine = np.isin(engines, names)
        if mine.any():
            bags += [np.flatnonzero(mine & is_word), np.flatnonzero(mine & ~is_word)]
            shares += [2 * share, share]
    shares = [_OF_VOICES * share / sum(shares) for share in shares]
    pupils = Pupils(
        np.concatenate([*steps, life.states]),
        [*bags, some + np.arange(len(life.of))],
        [*shares, 1.0 - _OF_VOICES],
        np.concatenate([is_word, np.zeros(len(life.of), np.bool_)]),
        np.concatenate([held[clip], np.full((len(life.of), len(possible)), -1, np.int64)]),
        tuple(len(one) for one in possible),
    )
    package = np.concatenate([np.full(some, -1, np.int64), life.of])
    told = " ".join(
        [word.ipa, *(one.name for one in taught), *(one.name for one in course.folded), str(course.variants)]
    )
    return Lessons(pupils, package, hashlib.sha256(told.encode()).hexdigest())


def choosing(
    members: Sequence[SecondMember],
    lessons: Lessons,
    clips: Sequence[Clip],
    course: SecondCourse,
    model: Path,
    cache: Path,
) -> Chosen:
    """What weights are chosen on, judged by heads that did not learn from it."""
    words, nears = (_by_engine(clips, kind) for kind in ("word", "near"))
    heard_words = asked_scenes(model, words, course.conditions, cache)
    heard_nears = asked_scenes(model, nears, course.near_conditions, cache)
    never = asked_recordings(model, course.choosing, cache)
    recordings = {name: Judged(one, _mean(members, one)) for name, one in never.items()}
    learned = asked_recordings(model, course.folded, cache)
    names = [source.name for source in course.folded]
    for part in folds({name: hours(one.first.shape[1]) for name, one in learned.items()}, course.folds):
        without = [names.index(name) for name in part]
        judges = [lessons.learn(course, cache, seed, without) for seed in course.seeds[:1]]
        recordings |= {name: Judged(learned[name], _mean(judges, learned[name])) for name in part}
    patience = Head(model, second_stage=False).advice.patience
    return Chosen(_judged(members, heard_words), _judged(members, heard_nears), nears, words, recordings, patience)


def _judged(members: Sequence[SecondMember], heard: Mapping[Key, Asked]) -> dict[Key, Judged]:
    return {key: Judged(one, _mean(members, one)) for key, one in heard.items()}


def _mean(members: Sequence[SecondMember], asked: Asked) -> npt.NDArray[np.float32]:
    if not len(asked.steps):
        return np.empty(0, np.float32)
    found: npt.NDArray[np.float32] = np.mean([second_fit.scores(one, asked.steps) for one in members], axis=0)
    return found


def _held(possible: Sequence[Sequence[str]], ipa: str, word: str) -> list[int]:
    return [some.index(sound) for some, sound in zip(possible, slots(sounds(word), sounds(ipa)), strict=True)]


def _by_engine(clips: Iterable[Clip], kind: str) -> dict[str, list[Clip]]:
    found: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.split == "dev" and clip.kind == kind:
            found.setdefault(clip.engine, []).append(clip)
    return found


def _card(
    model: Path,
    clips: Sequence[Clip],
    course: SecondCourse,
    advice: Mapping[str, object],
    weight: float,
    table: Sequence[Mistakes],
    cache: Path,
) -> dict[str, Any]:
    """The card of the first stage, with what was added; what is not known of that stands first."""
    before = model.with_suffix(".json")
    card: dict[str, Any] = {"notice": NOTICE}
    card |= json.loads(before.read_text(encoding="utf-8")) if before.exists() else {}
    counts = Counter((clip.engine, clip.kind) for clip in clips if clip.split == "train")
    card["second"] = {
        "recogniser": {"package": PACKAGE, "licence": "Apache-2.0", "sha256": SHA256, "learned_from": "not stated"},
        "asked_from": ASKED_FROM,
        "weight": weight,
        "advice": advice,
        "clips": {f"{engine} {kind}": count for (engine, kind), count in sorted(counts.items())},
        "course": {
            "variants": course.variants, "seeds": course.seeds, "steps": course.steps, "folds": course.folds,
            "seed": course.seed,
        },
        "weights_tried": [asdict(row) for row in table],
        "sources": manifest(cache, (*PERMISSIVE, *course.folded, *course.choosing), ()),
    }  # fmt: skip
    return card


def _save(path: Path, one: SecondMember) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    directions = {"directions.mean": one.directions.mean, "directions.axes": one.directions.axes}
    # By keyword numpy's stub takes only arrays of any kind, which these are.
    np.savez(part, **one.weights, **directions)  # type: ignore[arg-type]
    part.replace(path)


def _load(path: Path, sizes: tuple[int, ...]) -> SecondMember:
    with np.load(path) as kept:
        numbers = dict(kept)
    directions = Directions(numbers.pop("directions.mean"), numbers.pop("directions.axes"))
    return SecondMember(directions, sizes, numbers)


def _sigmoid(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-logit))


def _logit(share: float) -> float:
    return math.log(share / (1.0 - share))
