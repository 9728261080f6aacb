"""What else could be used, and what it costs: models side by side, each where it misses equally many words."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from contract.errors import SettingsError
from edge_node.audio.format import FRAME_S
from edge_node.training.by_voice import Change, changes
from edge_node.training.calibrate import FALSE_ACCEPTS_PER_HOUR
from edge_node.training.hearing import TEN_DB, Hearing, hear, listened
from edge_node.training.intervals import Rate, Share
from edge_node.training.judge import Hour, Scores
from edge_node.training.measure import CLEAN, CONDITIONS, ROOM, Condition
from edge_node.training.plan import HARD_GROUP, Clip
from edge_node.training.sources import MEASURED
from edge_node.wakeword.foreign_heads import Fit
from edge_node.wakeword.incremental import EMBEDDING_SIZE
from edge_node.wakeword.native import HEAD_EMBEDDINGS, Head
from edge_node.wakeword.second_stage import SAMPLES, SecondStage

MISSED = (0.05, 0.1)
"""Shares of Kokoro's held-out words, heard clean, at which models are compared."""

THIS, ALONE = "this model", "this model, head alone"

_ROUNDS, _CALLS = 5, 400
_SPEECH = frozenset(source.name for source in MEASURED if source.kind == "speech")
# A gate has no threshold of 0, and no score below this is any other.
_LOWEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class Compared:
    """A model at the highest threshold at which it misses at most a share of Kokoro's held-out words, heard clean.

    Attributes:
        model: which one, in words.
        at: that share.
        missed_clean: what it really misses: less than `at` if scores are equal, or clips too few.
        missed_room: Kokoro, as `missed_ten_db`.
        missed_engines: of words of every other engine, clean.
        taken_hard: near-misses of HARD_GROUP taken for the word, over all engines and NEAR_CONDITIONS.
        taken_other: all other near-misses.
        false_accepts: over recordings that nothing is learned from.
    """

    model: str
    at: float
    threshold: float
    missed_clean: Share
    missed_room: Share
    missed_ten_db: Share
    missed_engines: dict[str, Share]
    taken_hard: Share
    taken_other: Share
    false_accepts: Rate


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU time of one call of a model's head and of its second stage, the best of some rounds; how often it is called.

    Attributes:
        name: the `model` of its rows.
        second_ms: None without a second stage.
        candidates: frames for which it is asked, of all frames with a score in recordings without the word; None
            without a second stage.
        in_talk: the same in recordings of speech alone.
    """

    name: str
    head_ms: float
    second_ms: float | None = None
    candidates: Share | None = None
    in_talk: Share | None = None

    @property
    def talk_s(self) -> float | None:
        """CPU time of the second stage in an hour in which somebody speaks all the time."""
        if self.second_ms is None or self.in_talk is None or not self.in_talk.tries:
            return None
        return self.second_ms / 1000 * self.in_talk.value * 3600 / FRAME_S


@dataclass(frozen=True, slots=True)
class Comparison:
    """Models side by side.

    Attributes:
        rows: share by share, one entry per model in the same order.
        costs: what each costs, in that order.
        changes: what the model's second stage changes; empty if it has none.
    """

    rows: list[Compared]
    costs: list[Cost]
    changes: list[Change] = field(default_factory=list)


def named(model: Path, beside: Sequence[Path]) -> dict[str, Head]:
    """What is compared, by name: the model, its head alone if it has a second stage, those beside it as given.

    SettingsError if one of them is no model, or if two would have the same name.
    """
    heads, wrong = {}, []
    for path in (model, *beside):
        try:
            heads[path] = ordinary(path)
        except SettingsError as error:
            wrong.append(str(error))
    if wrong:
        raise SettingsError("\nerror: ".join(wrong))
    head = heads[model]
    found = {THIS: head} | ({ALONE: head.alone()} if head.second else {})
    for path in beside:
        other = heads[path]
        name = other.name.replace("-", " ")
        if name in found:
            raise SettingsError(f"{path}: another model is named {name!r} already; rename the file")
        found[name] = other
    return found


def ordinary(path: Path) -> Head:
    """A head on openWakeWord's scale, for 16 embeddings: others cannot be measured with what was cached.

    SettingsError if it is none.
    """
    head = Head(path)
    if head.fit != Fit():
        raise SettingsError(f"{path}: has learned from {head.fit}: only `sarvis wakeword score` judges that")
    return head


def compare(
    models: Mapping[str, Head],
    heard: Mapping[str, Hearing],
    clips: Sequence[Clip],
    cache: Path,
    conditions: Sequence[Condition] = CONDITIONS,
) -> Comparison | None:
    """All of `named`, some of which have `heard` already, the first at least; None if it is the only one."""
    if len(models) == 1:
        return None
    hearings = {
        name: heard.get(name) or hear_named(name, head, clips, cache, conditions) for name, head in models.items()
    }
    costs = []
    for name, head in models.items():
        unaided = hearings[ALONE if name == THIS and head.second else name].hours
        if name != THIS and head.second:
            _say(f"{name}, head alone")
            unaided = listened(head.alone(), cache)
        costs.append(cost(name, head, unaided))
    return Comparison(side_by_side(list(hearings.items())), costs, _changes(models, hearings))


def _changes(models: Mapping[str, Head], hearings: Mapping[str, Hearing]) -> list[Change]:
    """At the thresholds that are advised, then at equal misses."""
    if ALONE not in hearings or not len(hearings[THIS].best(("kokoro",), (CLEAN,))):
        return []
    alone, both = hearings[ALONE], hearings[THIS]
    found: list[Change] = []
    for name in FALSE_ACCEPTS_PER_HOUR:
        first, second = (models[which].advice.thresholds[name] for which in (ALONE, THIS))
        found += changes(alone, both, (first, second), name)
    for at in MISSED:
        first, second = (threshold_at(one.best(("kokoro",), (CLEAN,)), at) for one in (alone, both))
        found += changes(alone, both, (first, second), f"{at * 100:.0f} %")
    return found


def hear_named(
    name: str, head: Head, clips: Sequence[Clip], cache: Path, conditions: Sequence[Condition] = CONDITIONS
) -> Hearing:
    """As `hear`, after a line on standard error that says whose bars follow."""
    _say(name)
    return hear(head, clips, cache, conditions)


def side_by_side(models: Sequence[tuple[str, Hearing]]) -> list[Compared]:
    """All models at the first of the shares MISSED, then at the next; nothing without Kokoro's words."""
    return [
        _compared(name, hearing, at)
        for at in MISSED
        for name, hearing in models
        if len(hearing.best(("kokoro",), (CLEAN,)))
    ]


def threshold_at(best: Scores, share: float) -> float:
    """The highest threshold that misses at most a share of words, of what each word reaches: (words,), not empty."""
    may_be_missed = int(share * len(best) + 1e-9)
    return max(float(np.sort(best)[may_be_missed]), _LOWEST)


def cost(name: str, head: Head, unaided: Sequence[Hour]) -> Cost:
    """What a model costs, whose head alone gives the scores `unaided`."""
    chance = np.random.default_rng(1)
    window = chance.normal(0.0, 10.0, (HEAD_EMBEDDINGS, EMBEDDING_SIZE)).astype(np.float32)
    sound = chance.normal(0.0, 1000.0, SAMPLES).astype(np.int16)
    head_ms = _cpu_ms(lambda: head.score(window))
    second = head.second
    if second is None:
        return Cost(name, head_ms)
    talk = [hour for hour in unaided if hour.name in _SPEECH]
    second_ms = _cpu_ms(lambda: second.logit(sound))
    return Cost(name, head_ms, second_ms, candidates(second, unaided), candidates(second, talk))


def candidates(second: SecondStage, unaided: Sequence[Hour]) -> Share:
    """For how many of the frames with a score a second stage would be asked."""
    scores = [np.asarray(hour.scores[~np.isnan(hour.scores)], np.float64) for hour in unaided]
    return Share(sum(int((known >= second.asked_from).sum()) for known in scores), sum(len(known) for known in scores))


def _compared(name: str, hearing: Hearing, at: float) -> Compared:
    threshold = threshold_at(hearing.best(("kokoro",), (CLEAN,)), at)
    others = list(dict.fromkeys(engine for engine, _ in hearing.words if engine != "kokoro"))
    return Compared(
        model=name,
        at=at,
        threshold=threshold,
        missed_clean=hearing.missed(("kokoro",), (CLEAN,), threshold),
        missed_room=hearing.missed(("kokoro",), (ROOM,), threshold),
        missed_ten_db=hearing.missed(("kokoro",), TEN_DB, threshold),
        missed_engines={engine: hearing.missed((engine,), (CLEAN,), threshold) for engine in others},
        taken_hard=hearing.taken(lambda clip: clip.group == HARD_GROUP, threshold),
        taken_other=hearing.taken(lambda clip: clip.group != HARD_GROUP, threshold),
        false_accepts=hearing.false_accepts(threshold),
    )


def _say(whose: str) -> None:
    print(f"{whose}:", file=sys.stderr, flush=True)  # noqa: T201 the heading of progress bars


def _cpu_ms(call: Callable[[], float]) -> float:
    """Of the round that took least: on a busy machine the others also tell what ran beside."""
    found = []
    for _ in range(_ROUNDS):
        begin = time.process_time()
        for _ in range(_CALLS):
            call()
        found.append((time.process_time() - begin) * 1000 / _CALLS)
    return min(found)
