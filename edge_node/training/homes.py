"""Held-out voices as if each lived somewhere: who is taught which of its words, and all that is heard there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_node.enrollment.learn import Ear, Heard, Mind, best_threshold, judge
from edge_node.training.candidates import Candidates, of_recordings, of_scenes
from edge_node.training.hearing import NEAR_CONDITIONS
from edge_node.training.measure import CLEAN, ROOM, Condition
from edge_node.training.plan import HARD_GROUP, Clip
from edge_node.training.progress import track
from edge_node.training.sources import MEASURED
from edge_node.training.users import other_talk, person, said
from edge_node.wakeword.grounds import Grounds
from edge_node.wakeword.impression import Impression, Line, where
from edge_node.wakeword.incremental import Numbers
from edge_node.wakeword.native import Head
from edge_node.wakeword.verifier import Insight
from edge_node.wakeword.voice import Voice

QUIET = (CLEAN, ROOM)
NOISY = (Condition("home", 10), Condition("babble", 10))
CONDITIONS = (*QUIET, *NOISY)
_DRAWS = 2
_LEAST_LEFT = 4

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Home:
    """All that is heard, along the axes of grounds.

    Attributes:
        mind: the model's.
        people: who says each word.
        taught: the words, as they would be taught.
        talk: what else would be said while teaching.
        words: by condition.
        near_clips: near-misses, in the order of `nears`.
        nears: by condition.
        life, hours: recordings without the word.
    """

    mind: Mind
    people: npt.NDArray[np.str_]
    taught: list[Impression]
    talk: Impression
    words: dict[Condition, Candidates]
    near_clips: list[Clip]
    nears: dict[Condition, Candidates]
    life: Candidates
    hours: float

    @property
    def near_people(self) -> npt.NDArray[np.str_]:
        """Who says each near-miss."""
        return np.array([person(clip) for clip in self.near_clips])

    @property
    def hard(self) -> Flags:
        """Which near-misses are of the hardest group."""
        return np.array([clip.group == HARD_GROUP for clip in self.near_clips])


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One voice that was taught.

    Attributes:
        who: it is.
        own, left: which words are its own, and which of these were not taught.
        said: where the taught words lie along the axes (m, D).
        line: its verifier along the axes.
        threshold: the logit of that which it learned.
    """

    who: str
    own: Flags
    left: Flags
    said: Numbers
    line: Line
    threshold: float


def listen(model: Path, grounds: Sequence[Grounds], clips: Sequence[Clip], cache: Path) -> Iterator[Home]:
    """To the test split of `clips`, and to recordings that nothing was learned from, for each grounds."""
    ear = Ear(Head(model, second_stage=False), np.zeros(0, np.int16), other_talk(cache))
    words = [clip for clip in clips if clip.split == "test" and clip.kind == "word"]
    nears = [clip for clip in clips if clip.split == "test" and clip.kind == "near"]
    uttered = [said(ear, clip, cache) for clip in track(words, "enrolments", len(words))]
    for one in grounds:
        yield _along(Mind(ear, one, Insight(model, one.layers)), words, nears, uttered, cache)


def _along(mind: Mind, words: list[Clip], nears: list[Clip], uttered: list[list[Heard]], cache: Path) -> Home:
    head, insight, grounds = mind.ear.head, mind.insight, mind.grounds
    life, hours = of_recordings(head, insight, MEASURED, cache)

    def scenes(some: list[Clip], conditions: Sequence[Condition], what: str) -> dict[Condition, Candidates]:
        return {
            condition: of_scenes(head, insight, some, condition, cache).along(grounds)
            for condition in track(conditions, what, len(conditions))
        }

    return Home(
        mind,
        np.array([person(clip) for clip in words]),
        [mind.word(forms) for forms in uttered],
        mind.other(mind.ear.hears(mind.ear.talk)),
        scenes(words, CONDITIONS, "words"),
        nears,
        scenes(nears, NEAR_CONDITIONS, "near-misses"),
        life.along(grounds),
        hours,
    )


def enrolments(home: Home, count: int) -> Iterator[Enrolment]:
    """Each voice that says the word often enough is taught `count` words, twice with others chosen."""
    grounds, patience = home.mind.grounds, home.mind.patience
    for who in sorted(set(home.people)):
        own = home.people == who
        every = np.flatnonzero(own)
        if len(every) < count + _LEAST_LEFT:
            continue
        for draw in range(_DRAWS):
            chosen = np.random.default_rng([draw, count]).permutation(every)[:count].tolist()
            taught = [home.taught[at] for at in chosen]
            judged = judge(taught, [], grounds, patience)
            voice = Voice("", "", 0.5, judged.words, home.talk.peaks(judged.line, patience), [], [], [])
            left = own.copy()
            left[chosen] = False
            yield Enrolment(
                who,
                own,
                left,
                where(taught, len(grounds.word)),
                judged.line,
                logit(best_threshold(voice, home.mind.ear.head.advice)),
            )


def logit(score: float) -> float:
    """Of a score, 0 to 1, exclusive."""
    return float(np.log(score / (1.0 - score)))
