"""What labels are good for: what was taken for the word is labelled, and what sounds like it is heard again."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from edge_node.training.candidates import Candidates
from edge_node.training.homes import Enrolment, Flags, Home, enrolments
from edge_node.training.measure import ROOM
from edge_node.training.users import person
from edge_node.wakeword.grounds import BEST_FRAMES
from edge_node.wakeword.incremental import Numbers

COUNTS = (1, 3)
WORDS = 10
How: TypeAlias = Literal["nothing", "threshold", "verifier"]
"""Nothing is learned; the threshold rises above what was labelled; the verifier learns it as a hard negative."""
HOWS: tuple[How, ...] = ("nothing", "threshold", "verifier")
_DRAWS = 4


@dataclass(frozen=True, slots=True)
class Labels:
    """What so many labels do, one way of learning from them; means over all draws.

    Attributes:
        labels: how many near-misses that had been taken were labelled as not the word.
        how: they were learned from.
        draws: of labels.
        again: share of the labelled utterances that is taken once more, in other rooms.
        alike: share of other utterances of the same near-misses, by the same voices, that is taken.
        missed: share of words that were not taught.
        false_accepts: an hour.
    """

    labels: int
    how: How
    draws: int
    again: float
    alike: float
    missed: float
    false_accepts: float


def measure_labels(home: Home) -> list[Labels]:
    """Near-misses that a voice took at its own threshold, in a room, are labelled."""
    said = np.array([f"{person(clip)} {clip.written}" for clip in home.near_clips])
    found: dict[tuple[int, How], list[tuple[float, float, float, float]]] = {}
    for one in enrolments(home, WORDS):
        taken = np.flatnonzero(home.nears[ROOM].reached(one.line) >= one.threshold)
        for count in COUNTS:
            if len(taken) < count:
                continue
            for draw in range(_DRAWS):
                labelled = np.random.default_rng([draw, count]).choice(taken, count, replace=False)
                for how, after in _learned(home, one, labelled):
                    found.setdefault((count, how), []).append(_counted(home, after, labelled, said))
    return [
        Labels(count, how, len(rows), *np.nanmean(np.array(rows), axis=0).tolist())
        for (count, how), rows in sorted(found.items(), key=lambda item: (item[0][0], HOWS.index(item[0][1])))
    ]


def _learned(home: Home, one: Enrolment, labelled: npt.NDArray[np.int64]) -> Iterator[tuple[How, Enrolment]]:
    nears = home.nears[ROOM]
    yield "nothing", one
    highest = float(nears.reached(one.line)[labelled].max())
    yield "threshold", replace(one, threshold=max(one.threshold, float(np.nextafter(highest, np.inf))))
    others = np.stack([_place(nears, scene) for scene in labelled.tolist()])
    yield "verifier", replace(one, line=home.mind.grounds.line(one.said, others))


def _place(heard: Candidates, scene: int) -> Numbers:
    """Where a scene sounds most like the word (D,)."""
    of = np.flatnonzero(heard.scene == scene)
    best = of[np.argsort(-heard.logits[of], kind="stable")[:BEST_FRAMES]]
    place: Numbers = heard.seen[best].astype(np.float64).mean(axis=0)
    return place


def _counted(
    home: Home, one: Enrolment, labelled: npt.NDArray[np.int64], said: npt.NDArray[np.str_]
) -> tuple[float, float, float, float]:
    it = np.zeros(len(said), np.bool_)
    it[labelled] = True
    alike = np.isin(said, said[labelled]) & ~it
    taken = {condition: heard.reached(one.line) >= one.threshold for condition, heard in home.nears.items()}
    elsewhere = [flags[it] for condition, flags in taken.items() if condition != ROOM]
    missed = [heard.reached(one.line)[one.left] < one.threshold for heard in home.words.values()]
    return (
        _share(elsewhere),
        _share([flags[alike] for flags in taken.values()]),
        _share(missed),
        float((home.life.reached(one.line) >= one.threshold).sum()) / home.hours,
    )


def _share(flags: list[Flags]) -> float:
    """NaN of nothing."""
    every = np.concatenate(flags)
    return float(every.mean()) if len(every) else float("nan")
