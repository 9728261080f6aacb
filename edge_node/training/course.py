"""How much is learned, by whom and from what: the settings of a training."""

from dataclasses import dataclass

from edge_node.training.features import ALL_MADE_UP, QUIET, MadeUp
from edge_node.training.heads import Architecture
from edge_node.training.sources import FOLDED, PERMISSIVE, Source
from edge_node.training.voices import Engine

VARIANTS: dict[Engine, tuple[int, ...]] = {
    "kokoro": (0, 1, 2, 3, QUIET),
    "espeak": (0, 1, QUIET),
    "flite": (0, 1, 2, 3, QUIET),
    "festival": (0, 1, 2, 3, QUIET),
}
"""In which scenes each training clip is heard; fewer for the voices that are least like people."""


@dataclass(frozen=True, slots=True)
class Pupil:
    """One network of the ensemble.

    Attributes:
        architecture: of the network.
        seed: of its first weights and of what it hears when.
        steps: of its learning.
        quiet: whether it hears the word only where nothing else is heard. Such a network is the most certain; those
            that know the word in noise take more of real life for it. Their mean does better than either.
        contrast: whether it learns hardly anything but to tell the word from what sounds like it. Such a network is of
            no use alone: it has heard too little of the rest of life.
    """

    architecture: Architecture
    seed: int
    steps: int
    quiet: bool = False
    contrast: bool = False

    @property
    def name(self) -> str:
        """`dense-in-quiet`."""
        return f"{self.architecture}{'-in-quiet' * self.quiet}{'-contrast' * self.contrast}"


@dataclass(frozen=True, slots=True)
class Course:
    """How much is learned.

    Attributes:
        scale: share of the full plan's clips.
        engines: who speaks.
        ensemble: the networks; the model is the mean of their logits.
        rounds: in how many rounds each network learns.
        passes: how often, differently each time, speech and music without the word are heard.
        seed: of everything.
        folded: recordings that are learned from and, in as many folds, fix the thresholds of whoever has not.
        folds: how many.
        recordings_min: of each package of recordings; None: all.
        made_up: of other sound without the word.
        folder: below the cache, so that a course with less of the same names finds only its own.
    """

    scale: float = 1.0
    engines: tuple[Engine, ...] = ("kokoro", "espeak", "flite", "festival", "open_jtalk")
    ensemble: tuple[Pupil, ...] = (
        Pupil("dense", 1, 6000, quiet=True),
        Pupil("dense", 2, 9000),
        Pupil("conv", 3, 7000),
        Pupil("dense", 4, 9000),
        Pupil("conv", 5, 7000),
        Pupil("conv", 6, 7000, contrast=True),
        Pupil("conv", 7, 7000, contrast=True),
    )
    rounds: int = 3
    passes: int = 2
    seed: int = 2026
    folded: tuple[Source, ...] = FOLDED
    folds: int = 4
    recordings_min: float | None = None
    made_up: MadeUp = ALL_MADE_UP
    folder: str = "."


FULL = Course()
QUICK = Course(
    scale=0.01,
    engines=("espeak", "flite"),
    ensemble=(
        Pupil("dense", 1, 40, quiet=True),
        Pupil("conv", 2, 40),
        Pupil("conv", 3, 20, contrast=True),
    ),
    rounds=2,
    passes=1,
    folded=PERMISSIVE,
    folds=2,
    recordings_min=1.5,
    made_up=MadeUp(music_min=1, steady_min=1, babble_min=1),
    folder="quick",
)
"""Enough to see that every step works."""
