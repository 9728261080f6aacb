"""The whole way from a word to a model, step by step; each step goes on where it was left."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_node.wakeword.training import fit, heads
from edge_node.wakeword.training.features import Half, SceneBlock, join_sentences, passage_features, scene_features
from edge_node.wakeword.training.generate import generate
from edge_node.wakeword.training.heads import Architecture
from edge_node.wakeword.training.plan import Clip, Engine, plan
from edge_node.wakeword.training.recordings import join_recordings
from edge_node.wakeword.training.sources import ensure_recordings, ensure_voices
from edge_node.wakeword.training.vocabulary import Word

VARIANTS: dict[Engine, int] = {"kokoro": 4, "espeak": 2, "flite": 4, "festival": 4}
"""In how many scenes each training clip is heard; fewer for the voices that are least like people."""

ENSEMBLE: tuple[tuple[Architecture, int], ...] = (("dense", 1), ("conv", 2), ("conv", 3), ("conv", 4))
"""Architecture and seed of each member."""

PASSES = 2
SLOPE = 0.5
"""Logits are stretched by this, so that thresholds are not all nines."""


@dataclass(frozen=True, slots=True)
class Course:
    """How much is learned.

    Attributes:
        scale: share of the full plan's clips.
        engines: who speaks.
        steps: of each network's learning.
        seed: of everything.
    """

    scale: float = 1.0
    engines: tuple[Engine, ...] = ("kokoro", "espeak", "flite", "festival", "open_jtalk")
    steps: int = 9000
    seed: int = 2026


def clips_of(word: Word, course: Course, cache: Path) -> list[Clip]:
    """All clips of a course, said by now; installs the voices."""
    voices = ensure_voices(cache)
    wanted = [clip for clip in plan(word, course.scale, course.seed) if clip.engine in course.engines]
    return generate(wanted, cache, voices)


def teaching(clips: Sequence[Clip], cache: Path, seed: int) -> tuple[SceneBlock, npt.NDArray[np.bool_], list[Half]]:
    """What heads learn from: scenes, whether each clip is the word, passages."""
    join_recordings(ensure_recordings(cache), cache)
    said = [clip for clip in clips if clip.split == "train" and clip.kind == "speech"]
    join_sentences(cache, said)
    blocks: list[SceneBlock] = []
    taught: list[Clip] = []
    for engine, variants in VARIANTS.items():
        own = [clip for clip in clips if clip.split == "train" and clip.kind != "speech" and clip.engine == engine]
        own.sort(key=lambda clip: clip.name)  # as they are generated: blocks of scenes can be made before all is said
        if own:
            block = scene_features(own, variants, cache, seed)
            blocks.append(SceneBlock(block.embedded, block.mel, block.ends, block.clips + len(taught)))
            taught += own
    whole = SceneBlock(
        *(np.concatenate([getattr(block, name) for block in blocks]) for name in ("embedded", "mel", "ends", "clips"))
    )
    return whole, np.array([clip.kind == "word" for clip in taught]), passage_features(cache, said, PASSES, seed)


def train(word: Word, course: Course, cache: Path, out: Path) -> None:
    """Make a model for a word and the card beside it (`out` with suffix .json)."""
    clips = clips_of(word, course, cache)
    block, is_word, passages = teaching(clips, cache, course.seed)
    taught = fit.lesson(block, is_word, passages)
    members = [fit.learn(taught, architecture, course.seed + seed, course.steps) for architecture, seed in ENSEMBLE]
    raw = out.with_suffix(".raw.onnx")
    heads.export(members, raw, {}, slope=SLOPE)
