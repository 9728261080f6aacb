"""What a voice that was learned is good for: each held-out voice as if it were somebody who lives here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge_node.wakeword.enrolment import Ear, Heard, Samples, best_threshold
from edge_node.wakeword.grounds import Grounds, Numbers
from edge_node.wakeword.native import Head
from edge_node.wakeword.training.candidates import Candidates, Logits, of_recordings, of_scenes
from edge_node.wakeword.training.hearing import NEAR_CONDITIONS
from edge_node.wakeword.training.measure import CLEAN, ROOM, Condition
from edge_node.wakeword.training.plan import HARD_GROUP, Clip
from edge_node.wakeword.training.progress import track
from edge_node.wakeword.training.sources import MEASURED
from edge_node.wakeword.training.users import as_said, other_talk, person
from edge_node.wakeword.verifier import Insight, SecondLook
from edge_node.wakeword.voice import Voice

WORDS = (5, 10, 15, 20)
QUIET = (CLEAN, ROOM)
NOISY = (Condition("home", 10), Condition("babble", 10))
CONDITIONS = (*QUIET, *NOISY)
EVENTS = (1, 2, 4, 8)
"""So many false accepts in all hours of recordings are allowed; a single number of them would be chance."""
EQUAL, OWN = "equal", "own"
_DRAWS = 2
_LEAST_LEFT = 4
_RESAMPLED = 2000

Flags = npt.NDArray[np.bool_]
Point: TypeAlias = tuple[float, list[float]]
"""The logit of the threshold without a voice, and of that with it for each trial."""


@dataclass(frozen=True, slots=True)
class Change:
    """Hits of tries without and with a voice; intervals of 95 % by drawing persons, not clips."""

    before: float
    after: float
    before_interval: tuple[float, float]
    after_interval: tuple[float, float]
    ratio_interval: tuple[float, float]

    @property
    def ratio(self) -> float:
        """What is left of it; NaN of nothing."""
        return self.after / self.before if self.before else float("nan")


@dataclass(frozen=True, slots=True)
class Row:
    """One number of words and one way of fixing the threshold.

    Attributes:
        words: how many were enrolled.
        at: `equal`: without and with a voice at the lowest thresholds that cost no more than EVENTS false accepts, all
            of these together; `own`: at the threshold that the voice learned, beside the model alone at `normal`.
        people: how many held-out voices.
        missed, quiet, noisy: the words that were not enrolled, over CONDITIONS, QUIET, NOISY.
        own, own_hard, others: near-misses of the same voice, those of the hardest group, near-misses of other voices.
        guests: words of other voices that are heard.
        false_accepts: per hour of recordings.
    """

    words: int
    at: str
    people: int
    missed: Change
    quiet: Change
    noisy: Change
    own: Change
    own_hard: Change
    others: Change
    guests: Change
    false_accepts: Change


@dataclass(frozen=True, slots=True)
class Enrolled:
    """All rows.

    Attributes:
        grounds: the file's name.
        hours: of recordings.
    """

    grounds: str
    hours: float
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Trial:
    """One enrolment: for each kind of sound the logits of thresholds that it reaches, without and with the voice.

    Attributes:
        who: was taught.
        threshold: that the voice learned.
        found: by the names of a Row's fields.
        life: of recordings.
    """

    who: str
    threshold: float
    found: dict[str, tuple[Logits, Logits]]
    life: tuple[Logits, Logits]


@dataclass(frozen=True, slots=True)
class _Known:
    """Everything that all trials share."""

    clips: list[Clip]
    taught: list[tuple[Numbers, Heard]]
    talk: Heard
    scenes: dict[Condition, Candidates]
    near_clips: list[Clip]
    nears: dict[Condition, Candidates]
    life: Candidates


def measure_enrolled(model: Path, grounds: Path, clips: Sequence[Clip], cache: Path) -> Enrolled:
    """On the test split of `clips` and on recordings that nothing was learned from; SettingsError as `Grounds.load`."""
    ground = Grounds.read(grounds, model)
    head, insight = Head(model), Insight(model, ground.layers)
    words = [clip for clip in clips if clip.split == "test" and clip.kind == "word"]
    nears = [clip for clip in clips if clip.split == "test" and clip.kind == "near"]
    life, hours = of_recordings(head, insight, MEASURED, cache)
    nobody = np.zeros(0, np.int16)
    ear = Ear(head, nobody, other_talk(cache))
    taught = [_taught(ear, as_said(clip, cache), ground, insight) for clip in track(words, "enrolments", len(words))]

    def scenes(some: list[Clip], conditions: Sequence[Condition], what: str) -> dict[Condition, Candidates]:
        return {
            condition: of_scenes(head, insight, some, condition, cache).along(ground)
            for condition in track(conditions, what, len(conditions))
        }

    known = _Known(
        words,
        taught,
        ear.hears(ear.talk),
        scenes(words, CONDITIONS, "words"),
        nears,
        scenes(nears, NEAR_CONDITIONS, "near-misses"),
        life.along(ground),
    )
    normal = _logit(head.advice.thresholds["normal"])
    rows: list[Row] = []
    for count in track(WORDS, "voices", len(WORDS)):
        trials = _trials(count, ground, ear, insight, known)
        rows.append(row(count, EQUAL, trials, [equal(trials, events) for events in EVENTS], hours))
        rows.append(row(count, OWN, trials, [(normal, [_logit(one.threshold) for one in trials])], hours))
    return Enrolled(grounds.name, hours, rows)


def _taught(ear: Ear, sound: Samples, grounds: Grounds, insight: Insight) -> tuple[Numbers, Heard]:
    return ear.word(sound, grounds, insight), ear.hears(sound)


def _trials(
    count: int,
    grounds: Grounds,
    ear: Ear,
    insight: Insight,
    known: _Known,
) -> list[Trial]:
    people = np.array([person(clip) for clip in known.clips])
    found = []
    for who in sorted(set(people)):
        own = np.flatnonzero(people == who)
        if len(own) < count + _LEAST_LEFT:
            continue
        for draw in range(_DRAWS):
            chosen = np.random.default_rng([draw, count]).permutation(own)[:count].tolist()
            threshold = _own_threshold(grounds, ear, insight, [known.taught[at] for at in chosen], known.talk)
            line = grounds.line([known.taught[at][0] for at in chosen])
            found.append(_trial(who, people == who, chosen, line, threshold, known))
    return found


def _own_threshold(
    grounds: Grounds, ear: Ear, insight: Insight, taught: list[tuple[Numbers, Heard]], talk: Heard
) -> float:
    """As `learn_voice` finds it."""
    numbers = [one for one, _ in taught]
    scores = [
        ear.peak(heard, SecondLook(grounds.verifier([*numbers[:at], *numbers[at + 1 :]]), insight))
        for at, (_, heard) in enumerate(taught)
    ]
    others = ear.peaks(talk, SecondLook(grounds.verifier(numbers), insight))
    return best_threshold(Voice("", "", 0.5, scores, others, [], [], []), ear.head.advice)


def _trial(
    who: str, own: Flags, chosen: list[int], line: tuple[Numbers, float], threshold: float, known: _Known
) -> Trial:
    left = own.copy()
    left[chosen] = False
    of_near = np.array([person(clip) for clip in known.near_clips]) == who
    hard = np.array([clip.group == HARD_GROUP for clip in known.near_clips])
    words = {condition: _both(scene, line) for condition, scene in known.scenes.items()}
    nears = [_both(scene, line) for scene in known.nears.values()]

    def of(pairs: Sequence[tuple[Logits, Logits]], wanted: Flags) -> tuple[Logits, Logits]:
        return np.concatenate([one[wanted] for one, _ in pairs]), np.concatenate([one[wanted] for _, one in pairs])

    found = {
        "quiet": of([words[condition] for condition in QUIET], left),
        "noisy": of([words[condition] for condition in NOISY], left),
        "own": of(nears, of_near),
        "own_hard": of(nears, of_near & hard),
        "others": of(nears, ~of_near),
        "guests": of([words[ROOM]], ~own),
    }
    return Trial(who, threshold, found, _both(known.life, line))


def _both(heard: Candidates, line: tuple[Numbers, float]) -> tuple[Logits, Logits]:
    return heard.reached(), heard.reached(line)


def equal(trials: Sequence[Trial], events: int) -> Point:
    """The lowest thresholds that cost at most so many false accepts in a trial; with voices, on average.

    Both are sought in the same recordings: one that was fixed elsewhere would leave false accepts unused, and what is
    compared with it would seem better than it is.
    """

    def lowest(reached: Logits, allowed: int) -> float:
        return float(np.nextafter(np.sort(reached)[::-1][allowed], np.inf))

    with_voices = np.concatenate([trial.life[1] for trial in trials])
    return lowest(trials[0].life[0], events), [lowest(with_voices, events * len(trials))] * len(trials)


def row(count: int, at: str, trials: Sequence[Trial], points: Sequence[Point], hours: float) -> Row:
    """What `count` words are good for at these thresholds, all together; `hours` of recordings in each trial."""

    def change(names: Sequence[str], hit: Callable[[Logits, float], Flags]) -> Change:
        counts: dict[str, list[float]] = {}
        for before, after in points:
            for trial, threshold in zip(trials, after, strict=True):
                mine = counts.setdefault(trial.who, [0.0, 0.0, 0.0])
                for name in names:
                    alone, with_voice = trial.found[name] if name != "life" else trial.life
                    mine[0] += float(hit(alone, before).sum())
                    mine[1] += float(hit(with_voice, threshold).sum())
                    mine[2] += len(alone) if name != "life" else hours
        return change_of(np.array(list(counts.values())))

    return Row(
        words=count,
        at=at,
        people=len({trial.who for trial in trials}),
        missed=change(("quiet", "noisy"), np.less),
        quiet=change(("quiet",), np.less),
        noisy=change(("noisy",), np.less),
        own=change(("own",), np.greater_equal),
        own_hard=change(("own_hard",), np.greater_equal),
        others=change(("others",), np.greater_equal),
        guests=change(("guests",), np.greater_equal),
        false_accepts=change(("life",), np.greater_equal),
    )


def change_of(counts: npt.NDArray[np.float64]) -> Change:
    """From (people, 3): hits before, hits after, tries."""
    chance = np.random.default_rng(0)
    drawn = counts[chance.integers(0, len(counts), (_RESAMPLED, len(counts)))].sum(axis=1)
    before, after, tries = counts.sum(axis=0)

    def interval(hits: npt.NDArray[np.float64], of: npt.NDArray[np.float64]) -> tuple[float, float]:
        low, high = np.quantile(hits / np.maximum(of, 1e-9), (0.025, 0.975))
        return float(low), float(high)

    return Change(
        float(before / tries),
        float(after / tries),
        interval(drawn[:, 0], drawn[:, 2]),
        interval(drawn[:, 1], drawn[:, 2]),
        interval(drawn[:, 1], drawn[:, 0]),
    )


def _logit(score: float) -> float:
    return float(np.log(score / (1.0 - score)))
