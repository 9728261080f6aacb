"""How much two models differ, with intervals by drawing voices: clips of one voice are no independent tries."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_node.training.hearing import TEN_DB, Hearing
from edge_node.training.intervals import CONFIDENCE, Share
from edge_node.training.judge import reached
from edge_node.training.measure import CLEAN, Condition
from edge_node.training.plan import HARD_GROUP, Clip
from edge_node.training.users import person
from edge_node.training.voices import Engine

_DRAWS = 2000
_ENGINES: dict[str, tuple[Engine, ...]] = {
    "Kokoro": ("kokoro",),
    "espeak-ng and Festival": ("espeak", "festival"),
    "the unseen engine": ("open_jtalk",),
}

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Change:
    """A mistake before and after, each model at its own threshold.

    Attributes:
        what: the mistake, in words.
        at: the thresholds: a strictness, or the share of Kokoro's clean words that both miss.
        low, high: of the difference of the shares, 95 %; NaN of fewer than two voices.
        voices: how many.
    """

    what: str
    at: str
    before: Share
    after: Share
    low: float
    high: float
    voices: int


def changes(before: Hearing, after: Hearing, thresholds: tuple[float, float], at: str) -> list[Change]:
    """All kinds of mistakes, of two models that heard the same clips."""
    missed = {
        f"missed, {what}, {whose}": (conditions, _by(engines))
        for what, conditions in (("clean", (CLEAN,)), ("noise at 10 dB", TEN_DB))
        for whose, engines in _ENGINES.items()
    }
    taken = {
        f"near-misses of group {HARD_GROUP} taken": lambda clip: clip.group == HARD_GROUP,
        "near-misses of group jarvis taken": lambda clip: clip.group == "jarvis",
        "near-misses of group everyday taken": lambda clip: clip.group == "everyday",
        "other near-misses taken": lambda clip: clip.group not in {HARD_GROUP, "jarvis", "everyday"},
    }
    found = []
    for what, (conditions, wanted) in missed.items():
        rows = [
            _missed(one, conditions, threshold, wanted)
            for one, threshold in zip((before, after), thresholds, strict=True)
        ]
        found.append(_change(what, at, rows[0], rows[1]))
    for what, wanted in taken.items():
        rows = [_taken(one, threshold, wanted) for one, threshold in zip((before, after), thresholds, strict=True)]
        found.append(_change(what, at, rows[0], rows[1]))
    return [one for one in found if one.before.tries]


Wanted = Callable[[Clip], bool]
_Marked = tuple[list[str], Flags]


def _missed(hearing: Hearing, conditions: Iterable[Condition], threshold: float, wanted: Wanted) -> _Marked:
    allowed = set(conditions)
    some = {key: scores for key, scores in hearing.words.items() if key[1] in allowed}
    return _marked(
        [
            (clip, bool(best < threshold))
            for (engine, _), scores in some.items()
            for clip, best in zip(hearing.word_clips[engine], reached(scores, hearing.patience), strict=True)
        ],
        wanted,
    )


def _taken(hearing: Hearing, threshold: float, wanted: Wanted) -> _Marked:
    return _marked(
        [
            (clip, bool(best >= threshold))
            for (engine, _), scores in hearing.nears.items()
            for clip, best in zip(hearing.near_clips[engine], reached(scores, hearing.patience), strict=True)
        ],
        wanted,
    )


def _marked(flags: Sequence[tuple[Clip, bool]], wanted: Wanted) -> _Marked:
    some = [(person(clip), flag) for clip, flag in flags if wanted(clip)]
    return [voice for voice, _ in some], np.array([flag for _, flag in some], np.bool_)


def _by(engines: Sequence[Engine]) -> "Wanted":
    return lambda clip: clip.engine in engines


def _change(what: str, at: str, before: _Marked, after: _Marked) -> Change:
    (said_by, first), (_, second) = before, after
    low, high = drawn(said_by, first, second)
    shares = [Share(int(flags.sum()), len(flags)) for flags in (first, second)]
    return Change(what, at, shares[0], shares[1], low, high, len(set(said_by)))


def drawn(said_by: Sequence[str], before: Flags, after: Flags, seed: int = 1) -> tuple[float, float]:
    """The interval of the difference (after - before) of two shares of the same tries, by drawing voices."""
    names, of = np.unique(np.array(said_by, np.str_), return_inverse=True)
    if len(names) < 2:  # noqa: PLR2004 one voice says nothing of others
        return float("nan"), float("nan")
    tries = np.bincount(of, minlength=len(names)).astype(np.float64)
    differences = np.bincount(of, after.astype(np.float64) - before, minlength=len(names))
    times = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1.0 / len(names)), _DRAWS)
    shares = (times @ differences) / (times @ tries)
    low, high = np.quantile(shares, [(1.0 - CONFIDENCE) / 2, (1.0 + CONFIDENCE) / 2])
    return float(low), float(high)
