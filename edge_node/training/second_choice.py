"""How much a second stage counts, and its thresholds: chosen on voices and recordings that nothing is reported on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from edge_node.training.calibrate import FALSE_ACCEPTS_PER_HOUR, grid
from edge_node.training.compare import threshold_at
from edge_node.training.hearing import TEN_DB, Hearing, SceneScores
from edge_node.training.intervals import Rate, Share
from edge_node.training.judge import Hour, reached
from edge_node.training.measure import CLEAN, Condition
from edge_node.training.plan import HARD_GROUP, Clip
from edge_node.training.second_asked import Asked
from edge_node.wakeword.incremental import Floats

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
"""Of the second stage's logit beside the first's; 0 is the first stage alone."""
_MISSED = (0.05, 0.1)
_LEADING = "kokoro"

Key: TypeAlias = tuple[str, Condition]


@dataclass(frozen=True, slots=True)
class Judged:
    """Streams, and the second stage's logit for each frame that it is asked about (n,)."""

    asked: Asked
    logits: Floats

    def fused(self, weight: float) -> Floats:
        """Scores of both stages (streams, frames)."""
        return self.asked.fused(self.logits, weight)


@dataclass(frozen=True, slots=True)
class Chosen:
    """All that weights are chosen on.

    Attributes:
        words, nears: scenes by engine and condition.
        near_clips, word_clips: in the order of their scenes, by engine.
        recordings: by package, heard by a second stage that did not learn from it.
        patience: how many frames in a row must reach a threshold.
    """

    words: Mapping[Key, Judged]
    nears: Mapping[Key, Judged]
    near_clips: dict[str, list[Clip]]
    word_clips: dict[str, list[Clip]]
    recordings: Mapping[str, Judged]
    patience: int

    def hearing(self, weight: float) -> Hearing:
        """What a second stage of that weight makes of it."""

        def fused(some: Mapping[Key, Judged]) -> SceneScores:
            return {key: one.fused(weight) for key, one in some.items()}

        hours = [Hour(name, one.fused(weight)[0]) for name, one in self.recordings.items()]
        words, nears = fused(self.words), fused(self.nears)
        return Hearing(self.patience, words, nears, self.near_clips, hours, self.word_clips)


@dataclass(frozen=True, slots=True)
class Mistakes:
    """What a weight costs where so many clean words of the engine that is most like people are missed."""

    weight: float
    at: float
    threshold: float
    missed_ten_db: Share
    missed_others_ten_db: Share
    taken_hard: Share
    taken_other: Share
    false_accepts: Rate

    @property
    def blame(self) -> float:
        """The mean of those shares that anything was tried for, 0 to 1."""
        shares = (self.missed_ten_db, self.missed_others_ten_db, self.taken_hard, self.taken_other)
        return float(np.mean([share.value for share in shares if share.tries]))


def mistakes(hearing: Hearing, weight: float) -> list[Mistakes]:
    """At each share of missed words that weights are compared at."""
    found = []
    engines = list(dict.fromkeys(engine for engine, _ in hearing.words))
    leading = _LEADING if _LEADING in engines else engines[0]
    others = [engine for engine in engines if engine != leading]
    for at in _MISSED:
        threshold = threshold_at(hearing.best((leading,), (CLEAN,)), at)
        found.append(
            Mistakes(
                weight,
                at,
                threshold,
                hearing.missed((leading,), TEN_DB, threshold),
                hearing.missed(others, TEN_DB, threshold),
                hearing.taken(lambda clip: clip.group == HARD_GROUP, threshold),
                hearing.taken(lambda clip: clip.group != HARD_GROUP, threshold),
                hearing.false_accepts(threshold),
            )
        )
    return found


def best_weight(table: Sequence[Mistakes]) -> float:
    """The weight above 0 whose mistakes, over all shares of missed words, are fewest.

    Of those that cost no more false accepts than the first stage alone (weight 0), as `blame` counts none of these; of
    all if each costs more.
    """
    events: Counter[float] = Counter()
    for row in table:
        events[row.weight] += row.false_accepts.events
    weights = [weight for weight in sorted(events) if weight > 0.0]
    cheap = [weight for weight in weights if events[weight] <= events[0.0]]
    blame = {weight: float(np.mean([row.blame for row in table if row.weight == weight])) for weight in weights}
    return min(cheap or weights, key=lambda weight: blame[weight])


def no_worse(first: Hearing, both: Hearing, thresholds: Mapping[str, float]) -> dict[str, float]:
    """For each strictness the lowest threshold of both stages that costs no more than the first alone at its own.

    That is, no more false accepts and no more near-misses taken: recordings alone do not tell, where the first stage
    has no false accept in them.
    """
    found = {}
    tried, (first_best, both_best) = grid(), (_nears(one) for one in (first, both))
    for name in FALSE_ACCEPTS_PER_HOUR:
        events, taken = first.false_accepts(thresholds[name]).events, int((first_best >= thresholds[name]).sum())
        low, high = 0, len(tried) - 1
        while low < high:
            middle = (low + high) // 2
            threshold = float(tried[middle])
            if (both_best >= threshold).sum() <= taken and both.false_accepts(threshold).events <= events:
                high = middle
            else:
                low = middle + 1
        found[name] = float(tried[low])
    return found


def _nears(hearing: Hearing) -> Floats:
    """For each scene of a near-miss the highest threshold at which it is taken (scenes,)."""
    found = [reached(scores, hearing.patience) for scores in hearing.nears.values()]
    return np.concatenate(found) if found else np.empty(0, np.float32)
