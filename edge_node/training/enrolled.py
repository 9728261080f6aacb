"""What a voice that was learned is good for: each held-out voice as if it were somebody who lives here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge_node.training.candidates import Candidates, Logits
from edge_node.training.homes import NOISY, QUIET, Enrolment, Flags, Home, enrolments, listen, logit
from edge_node.training.labels import Labels, measure_labels
from edge_node.training.measure import ROOM
from edge_node.training.plan import Clip
from edge_node.training.progress import track
from edge_node.wakeword.grounds import Grounds
from edge_node.wakeword.impression import Line

WORDS = (5, 10, 15, 20)
EVENTS = (1, 2, 4, 8)
"""So many false accepts in all hours of recordings are allowed; a single number of them would be chance."""
EQUAL, OWN = "equal", "own"
_RESAMPLED = 2000

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
        labels: what labels are good for.
    """

    grounds: str
    hours: float
    rows: list[Row]
    labels: list[Labels]


@dataclass(frozen=True, slots=True)
class Trial:
    """One enrolment: for each kind of sound the logits of thresholds that it reaches, without and with the voice.

    Attributes:
        who: was taught.
        threshold: the logit of that which the voice learned.
        found: by the names of a Row's fields.
        life: of recordings.
    """

    who: str
    threshold: float
    found: dict[str, tuple[Logits, Logits]]
    life: tuple[Logits, Logits]


def measure_enrolled(model: Path, grounds: Sequence[Path], clips: Sequence[Clip], cache: Path) -> list[Enrolled]:
    """On the test split of `clips` and on recordings that nothing was learned from; SettingsError as `Grounds.read`."""
    homes = listen(model, [Grounds.read(path, model) for path in grounds], clips, cache)
    return [_measured(path.name, home) for path, home in zip(grounds, homes, strict=True)]


def _measured(name: str, home: Home) -> Enrolled:
    normal = logit(home.mind.ear.head.advice.thresholds["normal"])
    rows: list[Row] = []
    for count in track(WORDS, "voices", len(WORDS)):
        trials = [_trial(one, home) for one in enrolments(home, count)]
        rows.append(row(count, EQUAL, trials, [equal(trials, events) for events in EVENTS], home.hours))
        rows.append(row(count, OWN, trials, [(normal, [one.threshold for one in trials])], home.hours))
    return Enrolled(name, home.hours, rows, measure_labels(home))


def _trial(one: Enrolment, home: Home) -> Trial:
    of_near = home.near_people == one.who
    words = {condition: _both(scene, one.line) for condition, scene in home.words.items()}
    nears = [_both(scene, one.line) for scene in home.nears.values()]

    def of(pairs: Sequence[tuple[Logits, Logits]], wanted: Flags) -> tuple[Logits, Logits]:
        return np.concatenate([one[wanted] for one, _ in pairs]), np.concatenate([one[wanted] for _, one in pairs])

    found = {
        "quiet": of([words[condition] for condition in QUIET], one.left),
        "noisy": of([words[condition] for condition in NOISY], one.left),
        "own": of(nears, of_near),
        "own_hard": of(nears, of_near & home.hard),
        "others": of(nears, ~of_near),
        "guests": of([words[ROOM]], ~one.own),
    }
    return Trial(one.who, one.threshold, found, _both(home.life, one.line))


def _both(heard: Candidates, line: Line) -> tuple[Logits, Logits]:
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
