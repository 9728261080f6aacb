"""What a voice that was learned is good for: each held-out voice as if it were somebody who lives here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_node.wakeword.enrolment import Ear, Heard, Samples, best_threshold
from edge_node.wakeword.grounds import Grounds, Numbers
from edge_node.wakeword.native import Head
from edge_node.wakeword.training.candidates import Candidates, Logits, of_recordings, of_scenes
from edge_node.wakeword.training.hearing import NEAR_CONDITIONS
from edge_node.wakeword.training.intervals import Rate
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
STRICTNESSES = ("normal", "lenient")
OWN = "own"
_DRAWS = 2
_LEAST_LEFT = 4
_RESAMPLED = 2000

Flags = npt.NDArray[np.bool_]


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
        at: `normal` or `lenient`: at as many false accepts as the model alone has there; `own`: at the threshold that
            the voice learned, beside the model at `normal`.
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
        alone: false accepts of the model alone, by strictness.
    """

    grounds: str
    alone: dict[str, Rate]
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class _Trial:
    """One enrolment: for each kind of sound the logits of thresholds that it reaches, without and with the voice."""

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
    thresholds = head.advice.thresholds
    alone = known.life.reached()
    rows: list[Row] = []
    for count in track(WORDS, "voices", len(WORDS)):
        trials = _trials(count, ground, ear, insight, known)
        for at in STRICTNESSES:
            before = _logit(thresholds[at])
            rows.append(_row(count, at, trials, before, [_as_many(trials, before)] * len(trials), hours))
        own = [_logit(one.threshold) for one in trials]
        rows.append(_row(count, OWN, trials, _logit(thresholds["normal"]), own, hours))
    return Enrolled(
        grounds.name, {at: Rate(int((alone >= _logit(thresholds[at])).sum()), hours) for at in STRICTNESSES}, rows
    )


def _taught(ear: Ear, sound: Samples, grounds: Grounds, insight: Insight) -> tuple[Numbers, Heard]:
    return ear.word(sound, grounds, insight), ear.hears(sound)


def _trials(
    count: int,
    grounds: Grounds,
    ear: Ear,
    insight: Insight,
    known: _Known,
) -> list[_Trial]:
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
) -> _Trial:
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
    return _Trial(who, threshold, found, _both(known.life, line))


def _both(heard: Candidates, line: tuple[Numbers, float]) -> tuple[Logits, Logits]:
    return heard.reached(), heard.reached(line)


def _as_many(trials: list[_Trial], before: float) -> float:
    """The lowest threshold with which voices cost, on average, not more false accepts than the model alone does."""
    allowed = sum(int((trial.life[0] >= before).sum()) for trial in trials)
    reached = np.sort(np.concatenate([trial.life[1] for trial in trials]))[::-1]
    return float(np.nextafter(reached[allowed], np.inf))


def _row(count: int, at: str, trials: list[_Trial], before: float, after: list[float], hours: float) -> Row:
    def change(names: Sequence[str], hit: Callable[[Logits, float], Flags]) -> Change:
        counts: dict[str, list[float]] = {}
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
