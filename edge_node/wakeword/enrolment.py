"""Learns a voice: where the model's threshold must be for these people in this room."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from contract.errors import SettingsError
from edge_node.wakeword.detector import FRAME_SAMPLES, SAMPLE_RATE_HZ
from edge_node.wakeword.native import Head
from edge_node.wakeword.twin import scores
from edge_node.wakeword.voice import Voice, model_sha256

Samples = npt.NDArray[np.int16]

LOWEST, HIGHEST = 0.2, 0.9
"""Thresholds beyond these are for nobody: there the model hears everything, or nothing."""

_LEAD_SAMPLES = 26 * FRAME_SAMPLES
_PER_SECOND = SAMPLE_RATE_HZ // FRAME_SAMPLES


def learn_voice(
    words: Sequence[Samples],
    speech: Samples,
    room: Samples,
    *,
    hard_negatives: Sequence[Samples] = (),
    hard_positives: Sequence[Samples] = (),
    model: Path | None = None,
) -> Voice:
    """From int16 (n,) each, mono at 16 kHz; raises SettingsError if the model hears too few of the words at all."""
    judge = _Judge(Head(model), room)
    voice = Voice(
        model_sha256=model_sha256(model),
        made_at="",
        threshold=HIGHEST,
        words=[judge.peak(word) for word in words],
        talk=judge.peaks(speech),
        room=judge.peaks(room),
        labelled_words=[],
        labelled_others=[],
    )
    return _fitted(voice, judge, hard_positives, hard_negatives)


def learn_again(
    voice: Voice, hard_positives: Sequence[Samples], hard_negatives: Sequence[Samples], model: Path | None = None
) -> Voice:
    """With other labels, from what the voice remembers; nobody has to speak again."""
    return _fitted(voice, _Judge(Head(model), np.zeros(0, np.int16)), hard_positives, hard_negatives)


def _fitted(voice: Voice, judge: "_Judge", positives: Iterable[Samples], negatives: Iterable[Samples]) -> Voice:
    labelled = replace(
        voice,
        labelled_words=[judge.peak(sound) for sound in positives],
        labelled_others=[judge.peak(sound) for sound in negatives],
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    usual = judge.head.advice.thresholds["normal"]
    fitted = replace(labelled, threshold=_threshold(labelled, usual))
    if fitted.missed * 2 > len(fitted.words) + len(fitted.labelled_words):
        raise SettingsError(
            "the model hears less than half of these words: `sarvis edge levels`, then try again nearer"
        )
    return fitted


def _threshold(voice: Voice, usual: float) -> float:
    """Where fewest mistakes are; of equals that which is nearest to the usual one."""
    edges: list[float] = sorted({LOWEST, HIGHEST, usual, *_all(voice)})
    between = [math.sqrt(low * high) for low, high in pairwise(edges)]
    candidates = [edge for edge in (*edges, *between) if LOWEST <= edge <= HIGHEST]

    def mistakes(candidate: float) -> tuple[int, float]:
        tried = replace(voice, threshold=candidate)
        return tried.missed + tried.false_accepts, abs(candidate - usual)

    best: float = min(candidates, key=mistakes)
    return round(best, 4)


def _all(voice: Voice) -> list[float]:
    return [*voice.words, *voice.talk, *voice.room, *voice.labelled_words, *voice.labelled_others]


@dataclass(frozen=True, slots=True)
class _Judge:
    """The model, after a lead-in of the room: an engine needs 2 s before it can score."""

    head: Head
    room: Samples

    def peak(self, sound: Samples) -> float:
        return max(self.peaks(sound), default=0.0)

    def peaks(self, sound: Samples) -> list[float]:
        """The highest score of each second that the gate would hear: of so many frames in a row the lowest counts."""
        lead = np.resize(self.room, _LEAD_SAMPLES) if len(self.room) else np.zeros(_LEAD_SAMPLES, np.int16)
        given = np.concatenate((lead, sound, np.zeros(4 * FRAME_SAMPLES, np.int16)))
        found = np.nan_to_num(scores(given, self.head))
        patience = self.head.advice.patience
        runs = np.lib.stride_tricks.sliding_window_view(found, patience).min(axis=1)
        return [round(float(runs[at : at + _PER_SECOND].max()), 4) for at in range(0, len(runs), _PER_SECOND)]
