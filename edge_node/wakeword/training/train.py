"""The whole way from a word to a model, step by step; each step goes on where it was left."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_node.wakeword.native import ADVICE, Head
from edge_node.wakeword.training import fit, heads
from edge_node.wakeword.training.calibrate import thresholds
from edge_node.wakeword.training.evaluate import listened
from edge_node.wakeword.training.features import Half, SceneBlock, join_sentences, passage_features, scene_features
from edge_node.wakeword.training.generate import generate
from edge_node.wakeword.training.heads import Architecture
from edge_node.wakeword.training.plan import Clip, plan
from edge_node.wakeword.training.recordings import join_recordings
from edge_node.wakeword.training.sources import LEARNED_FROM, MEASURED, VOICES, Source, ensure_voices, manifest
from edge_node.wakeword.training.vocabulary import Word
from edge_node.wakeword.training.voices import Engine, Split

VARIANTS: dict[Engine, int] = {"kokoro": 4, "espeak": 2, "flite": 4, "festival": 4}
"""In how many scenes each training clip is heard; fewer for the voices that are least like people."""

ENSEMBLE: tuple[tuple[Architecture, int], ...] = (("dense", 1), ("conv", 2), ("conv", 3), ("conv", 4))
"""Architecture and seed of each member."""

PASSES = 2
PATIENCE = 2
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
        listened: recordings that fix the thresholds.
    """

    scale: float = 1.0
    engines: tuple[Engine, ...] = ("kokoro", "espeak", "flite", "festival", "open_jtalk")
    steps: int = 9000
    seed: int = 2026
    listened: tuple[Source, ...] = MEASURED


FULL = Course()
QUICK = Course(scale=0.01, engines=("espeak", "flite"), steps=300, listened=LEARNED_FROM)
"""Enough to see that every step works."""


def clips_of(
    word: Word, course: Course, cache: Path, splits: tuple[Split, ...] = ("train", "dev", "test")
) -> list[Clip]:
    """A course's clips, said by now; installs the voices."""
    voices = ensure_voices(cache, course.engines)
    wanted = [
        clip for clip in plan(word, course.scale, course.seed) if clip.engine in course.engines and clip.split in splits
    ]
    return generate(wanted, cache, voices)


def teaching(clips: Sequence[Clip], cache: Path, seed: int) -> tuple[SceneBlock, npt.NDArray[np.bool_], list[Half]]:
    """What heads learn from: scenes, whether each clip is the word, passages."""
    join_recordings(cache, LEARNED_FROM)
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
    """Make a model for a word, and beside it its card (suffix .json): what it was made of and when its scores count."""
    clips = clips_of(word, course, cache, ("train",))
    block, is_word, passages = teaching(clips, cache, course.seed)
    taught = fit.lesson(block, is_word, passages)
    members = [fit.learn(taught, architecture, course.seed + seed, course.steps) for architecture, seed in ENSEMBLE]
    raw = out.with_suffix(".raw")
    heads.export(members, raw, {}, slope=SLOPE)
    fixed = thresholds(listened(Head(raw), cache, course.listened), PATIENCE)
    raw.unlink()
    normal = _logit(fixed["normal"])
    advice = {
        "thresholds": {name: round(_sigmoid(_logit(threshold) - normal), 4) for name, threshold in fixed.items()},
        "patience": PATIENCE,
    }
    heads.export(members, out, {ADVICE: json.dumps(advice)}, bias=-normal / SLOPE, slope=SLOPE)
    _write_card(out, word, course, clips, advice, cache)


def _write_card(
    out: Path, word: Word, course: Course, clips: Sequence[Clip], advice: dict[str, object], cache: Path
) -> None:
    counts = Counter((clip.engine, clip.kind) for clip in clips if clip.split == "train")
    card = {
        "word": word.written,
        "pronunciation": word.ipa,
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "advice": advice,
        "course": asdict(course) | {"listened": [source.name for source in course.listened]},
        "clips": {f"{engine} {kind}": count for (engine, kind), count in sorted(counts.items())},
        "scenes": VARIANTS,
        "ensemble": ENSEMBLE,
        "near_misses": [miss.written for miss in word.near],
        "sources": manifest(cache, (*VOICES, *LEARNED_FROM, *course.listened)),
    }
    out.with_suffix(".json").write_text(json.dumps(card, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _logit(share: float) -> float:
    return math.log(share / (1 - share))
