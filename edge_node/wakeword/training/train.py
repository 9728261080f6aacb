"""The whole way from a word to a model, step by step; each step goes on where it was left."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_node.wakeword.incremental import Floats
from edge_node.wakeword.native import ADVICE, Head
from edge_node.wakeword.training import fit, heads, learned, tried
from edge_node.wakeword.training.calibrate import folds, thresholds, thresholds_from_others
from edge_node.wakeword.training.features import (
    QUIET,
    Half,
    SceneBlock,
    heard_otherwise,
    join_sentences,
    passage_features,
    scene_features,
)
from edge_node.wakeword.training.generate import generate
from edge_node.wakeword.training.heads import Architecture, Member
from edge_node.wakeword.training.judge import Hour, scores_of
from edge_node.wakeword.training.measure import hours, measured_recordings, measured_rows
from edge_node.wakeword.training.plan import Clip, plan
from edge_node.wakeword.training.progress import track
from edge_node.wakeword.training.recordings import join_recordings
from edge_node.wakeword.training.sources import FOLDED, PERMISSIVE, VOICES, Source, ensure_voices, manifest
from edge_node.wakeword.training.vocabulary import Word
from edge_node.wakeword.training.voices import Engine, Split

VARIANTS: dict[Engine, tuple[int, ...]] = {
    "kokoro": (0, 1, 2, 3, QUIET),
    "espeak": (0, 1, QUIET),
    "flite": (0, 1, 2, 3, QUIET),
    "festival": (0, 1, 2, 3, QUIET),
}
"""In which scenes each training clip is heard; fewer for the voices that are least like people."""

PATIENCE = 2
_FIFTH = 5
SLOPE = 0.5
"""Logits are stretched by this, so that thresholds are not all nines."""


@dataclass(frozen=True, slots=True)
class Pupil:
    """One network of the ensemble.

    Attributes:
        architecture: of the network.
        seed: of its first weights and of what it hears when.
        steps: of its learning.
        quiet: whether it hears the word only where nothing else is heard. Such a network is the most certain; those
            that know the word in noise take more of real life for it. Their mean does better than either.
    """

    architecture: Architecture
    seed: int
    steps: int
    quiet: bool = False

    @property
    def name(self) -> str:
        """`dense-in-quiet`."""
        return f"{self.architecture}{'-in-quiet' * self.quiet}"


@dataclass(frozen=True, slots=True)
class Course:
    """How much is learned.

    Attributes:
        scale: share of the full plan's clips.
        engines: who speaks.
        ensemble: the networks; the model is their mean.
        second_steps: how long a second stage learns, to be compared with.
        passes: how often, differently each time, speech and music without the word are heard.
        seed: of everything.
        folded: recordings that are learned from and, in as many folds, fix the thresholds of whoever has not.
        folds: how many.
    """

    scale: float = 1.0
    engines: tuple[Engine, ...] = ("kokoro", "espeak", "flite", "festival", "open_jtalk")
    ensemble: tuple[Pupil, ...] = (
        Pupil("dense", 1, 6000, quiet=True),
        Pupil("dense", 2, 9000),
        Pupil("conv", 3, 7000),
    )
    second_steps: int = 3500
    passes: int = 2
    seed: int = 2026
    folded: tuple[Source, ...] = FOLDED
    folds: int = 4


FULL = Course()
QUICK = Course(
    scale=0.01,
    engines=("espeak", "flite"),
    ensemble=(Pupil("dense", 1, 200, quiet=True), Pupil("conv", 2, 200)),
    second_steps=60,
    passes=1,
    folded=PERMISSIVE,
    folds=2,
)
"""Enough to see that every step works."""


@dataclass(frozen=True, slots=True)
class Lessons:
    """What networks learn from: the word and its near-misses, and what is everywhere without it.

    Attributes:
        told: names all clips; other clips, other name.
        quiet: for each scene whether nothing else is heard in it.
        is_word: for each clip.
        passages: without the word; in every fold.
        recordings: by package, as they are.
        otherwise: by package, in rooms and noise.
    """

    told: str
    scenes: SceneBlock
    quiet: npt.NDArray[np.bool_]
    is_word: npt.NDArray[np.bool_]
    passages: list[Half]
    recordings: dict[str, Floats]
    otherwise: dict[str, list[Half]]

    def of_each(self, number: int) -> "Lessons":
        """The same from every so-manieth clip."""
        chosen = self.scenes.clips % number == 0
        told = f"{self.told} / {number}"
        return replace(self, told=told, scenes=self.scenes.where(chosen), quiet=self.quiet[chosen])

    def members(self, course: Course, cache: Path, without: Sequence[str] = ()) -> list[Member]:
        """The ensemble, which never heard the recordings `without`; what was learned before comes from the cache."""
        heard = [
            one
            for name, embedded in self.recordings.items()
            if name not in without
            for one in (_half(embedded), *self.otherwise[name])
        ]
        taught = {
            quiet: fit.lesson(scenes, self.is_word, [*self.passages, *heard])
            for quiet, scenes in ((False, self.scenes), (True, self.scenes.where(self.quiet)))
        }
        heard_of = f"{self.told} {course.seed} {course.passes} {sorted(set(self.recordings) - set(without))}"
        return [
            learned.member(
                cache,
                pupil.architecture,
                f"{pupil} {heard_of}",
                partial(fit.learn, taught[pupil.quiet], pupil.architecture, course.seed + pupil.seed, pupil.steps),
            )
            for pupil in course.ensemble
        ]


def train(word: Word, course: Course, cache: Path, out: Path, beside: Path | None = None) -> None:
    """Make a model for a word, and beside it its card (suffix .json): what it was made of and when its scores count.

    Thresholds are fixed on recordings by models that did not learn from them, fold by fold. Into the folder `beside`
    come models to compare it with.
    """
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
    heads.export(members, out, {ADVICE: json.dumps(advice)}, bias=-normal / SLOPE, slope=SLOPE)
    _write_card(out, word, course, clips, advice, unheard, cache)
    if beside:
        _write_beside(beside, out, lessons, course, cache, members)


def clips_of(
    word: Word, course: Course, cache: Path, splits: tuple[Split, ...] = ("train", "dev", "test")
) -> list[Clip]:
    """A course's clips, said by now; installs the voices."""
    voices = ensure_voices(cache, course.engines)
    wanted = [
        clip for clip in plan(word, course.scale, course.seed) if clip.engine in course.engines and clip.split in splits
    ]
    return generate(wanted, cache, voices)


def teaching(clips: Sequence[Clip], course: Course, cache: Path) -> Lessons:
    """Everything that networks learn from."""
    join_recordings(cache, (*PERMISSIVE, *course.folded))
    recordings = measured_recordings(cache, course.folded)
    said = [clip for clip in clips if clip.split == "train" and clip.kind == "speech"]
    join_sentences(cache, said)
    blocks: list[SceneBlock] = []
    quiet: list[npt.NDArray[np.bool_]] = []
    taught: list[Clip] = []
    for engine, variants in VARIANTS.items():
        own = [clip for clip in clips if clip.split == "train" and clip.kind != "speech" and clip.engine == engine]
        own.sort(key=lambda clip: clip.name)  # as they are generated: blocks of scenes can be made before all is said
        if own:
            block = scene_features(own, variants, cache, course.seed)
            blocks.append(SceneBlock(block.embedded, block.mel, block.ends, block.clips + len(taught)))
            quiet.append(np.repeat(np.array(variants) >= QUIET, len(own)))
            taught += own
    names = ("embedded", "mel", "ends", "clips")
    return Lessons(
        hashlib.sha256(" ".join(clip.name for clip in (*taught, *said)).encode()).hexdigest(),
        SceneBlock(*(np.concatenate([getattr(block, name) for block in blocks]) for name in names)),
        np.concatenate(quiet),
        np.array([clip.kind == "word" for clip in taught]),
        passage_features(cache, said, course.passes, course.seed),
        recordings,
        heard_otherwise(cache, list(recordings), course.passes, course.seed),
    )


def _listen_unheard(lessons: Lessons, course: Course, cache: Path, part: Path) -> list[Hour]:
    """Scores of each package by an ensemble that did not learn from it."""
    lengths = {name: hours(len(embedded)) for name, embedded in lessons.recordings.items()}
    parts = folds(lengths, course.folds)
    found = []
    for names in track(parts, "folds", len(parts)):
        heads.export(lessons.members(course, cache, without=names), part, {}, slope=SLOPE)
        head = Head(part)
        found += [Hour(name, scores_of(lessons.recordings[name], head)) for name in names]
    part.unlink()
    return found


def _write_beside(
    folder: Path, model: Path, lessons: Lessons, course: Course, cache: Path, members: Sequence[Member]
) -> None:
    """What was tried: each network alone, a fifth of the clips, more patience, a second stage."""
    alone = {pupil.name: [one] for pupil, one in zip(course.ensemble, members, strict=True)}
    fifth = lessons.of_each(_FIFTH).members(course, cache)
    tried.networks(folder, alone | {"a-fifth-of-the-clips": fifth}, SLOPE)
    tried.more_patient(folder, model, PATIENCE + 1)
    mel = measured_rows(cache, course.folded)
    recordings = {name: (embedded, mel[name]) for name, embedded in lessons.recordings.items()}
    steps = course.second_steps
    tried.with_second_stage(folder, model, lessons.scenes, lessons.is_word, recordings, course.seed, SLOPE, steps)


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
        "crossed": {name: asdict(rate) for name, rate in crossed.items()},
        "course": asdict(course) | {"folded": [source.name for source in course.folded]},
        "clips": {f"{engine} {kind}": count for (engine, kind), count in sorted(counts.items())},
        "scenes": VARIANTS,
        "near_misses": [miss.written for miss in word.near],
        "sources": manifest(cache, (*VOICES, *PERMISSIVE, *course.folded), course.engines),
    }
    out.with_suffix(".json").write_text(json.dumps(card, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _half(embedded: Floats) -> Half:
    return embedded[~np.isnan(embedded).any(1)].astype(np.float16)


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _logit(share: float) -> float:
    return math.log(share / (1 - share))
