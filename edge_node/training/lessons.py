"""What networks learn from, fetched, said, heard and put together; each step goes on where it was left."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_node.training import fit, learned
from edge_node.training.course import VARIANTS, Course, Pupil
from edge_node.training.features import (
    QUIET,
    Half,
    SceneBlock,
    heard_otherwise,
    join_sentences,
    passage_features,
    scene_features,
)
from edge_node.training.generate import generate
from edge_node.training.heads import Member
from edge_node.training.measure import measured_recordings
from edge_node.training.plan import Clip, plan
from edge_node.training.recordings import join_recordings
from edge_node.training.sources import PERMISSIVE, ensure_voices
from edge_node.training.vocabulary import Word
from edge_node.training.voices import Split
from edge_node.wakeword.incremental import Floats


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
        names = sorted(set(self.recordings) - set(without))
        heard = [one for name in names for one in (_half(self.recordings[name]), *self.otherwise[name])]

        def learn(pupil: Pupil) -> Member:
            scenes = self.scenes.where(self.quiet) if pupil.quiet else self.scenes
            taught = fit.lesson(scenes, self.is_word, [*self.passages, *(() if pupil.contrast else heard)])
            shares = fit.CONTRAST if pupil.contrast else fit.LIFE
            return fit.learn(taught, pupil.architecture, course.seed + pupil.seed, pupil.steps, shares, course.rounds)

        def description(pupil: Pupil) -> str:
            what = f"{pupil.name} {pupil.seed} {pupil.steps} {course.rounds} {course.seed} {course.passes} {self.told}"
            return f"{what} {() if pupil.contrast else names}"

        return [
            learned.member(cache, pupil.architecture, description(pupil), partial(learn, pupil))
            for pupil in course.ensemble
        ]


def clips_of(
    word: Word,
    course: Course,
    cache: Path,
    splits: tuple[Split, ...] = ("train", "dev", "test"),
    only: Callable[[list[Clip]], list[Clip]] = list,
) -> list[Clip]:
    """A course's clips, or `only` some of them, said by now; installs the voices."""
    voices = ensure_voices(cache, course.engines)
    wanted = [
        clip for clip in plan(word, course.scale, course.seed) if clip.engine in course.engines and clip.split in splits
    ]
    return generate(only(wanted), cache, voices)


def teaching(clips: Sequence[Clip], course: Course, cache: Path) -> Lessons:
    """Everything that networks learn from."""
    join_recordings(cache, (*PERMISSIVE, *course.folded), course.recordings_min)
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
            block = scene_features(own, variants, cache, course.seed, course.made_up)
            blocks.append(SceneBlock(block.embedded, block.ends, block.clips + len(taught)))
            quiet.append(np.repeat(np.array(variants) >= QUIET, len(own)))
            taught += own
    names = ("embedded", "ends", "clips")
    return Lessons(
        hashlib.sha256(" ".join(clip.name for clip in (*taught, *said)).encode()).hexdigest(),
        SceneBlock(*(np.concatenate([getattr(block, name) for block in blocks]) for name in names)),
        np.concatenate(quiet),
        np.array([clip.kind == "word" for clip in taught]),
        passage_features(cache, said, course.passes, course.seed, course.made_up),
        recordings,
        heard_otherwise(cache, list(recordings), course.passes, course.seed, course.made_up),
    )


def _half(embedded: Floats) -> Half:
    return embedded[~np.isnan(embedded).any(1)].astype(np.float16)
