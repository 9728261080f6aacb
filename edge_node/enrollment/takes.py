"""Finds utterances in a stream, and says which are fit to learn from; without I/O.

All levels are in dB below full scale, of blocks of 20 ms.
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from edge_node.audio.format import FRAME_SAMPLES, SAMPLE_RATE_HZ, Frame
from edge_node.audio.levels import FLOOR_DB

OVER_ROOM_DB = 10.0
"""Words must be this much louder than the room."""

Samples = npt.NDArray[np.int16]
Levels = npt.NDArray[np.float64]
Verdict = Literal["fine", "too_early", "clipped", "too_long", "several_words", "too_short", "too_quiet", "too_noisy"]

BLOCK_SAMPLES = 320
_BLOCK_S = BLOCK_SAMPLES / SAMPLE_RATE_HZ
_FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ

_ONSET_DB = 6.0
_QUIETEST_ROOM_DB = -66.0
"""Below that, a room counts as silent."""
_QUIET_DB = -50.0
_FULL = 32767
_CLIPPED_SAMPLES = 3
_SHORTEST_S, _LONGEST_S = 0.25, 1.5
_PAUSE_S = 0.3
"""Longer silence than any within a word: another word."""
_PLOSIVE_S, _ONE_WORD_S = 0.12, 1.2
"""Silence that a plosive may make; but what follows must still fit into one word."""
_LEAD_S, _HANGOVER_S, _GIVE_UP_S = 1.0, 0.5, 4.0


@dataclass(frozen=True, slots=True)
class Utterance:
    """A person said something.

    Attributes:
    samples: int16 (n,), mono at 16 kHz, with up to 1 s before it and 0.5 s after it.
    length_s: from its first loud block to its last.
    pause_s: the longest silence inside it.
    level_db: exceeded by a fifth of it.
    clipped: samples at full scale.
    whole: false if it may have begun before the recording.
    """

    samples: Samples
    length_s: float
    pause_s: float
    level_db: float
    clipped: int
    whole: bool = True


def levels(samples: Samples) -> Levels:
    """The level of each whole block of int16 (n,): float64 (n // 320,), at least FLOOR_DB."""
    blocks = samples[: len(samples) // BLOCK_SAMPLES * BLOCK_SAMPLES].reshape(-1, BLOCK_SAMPLES).astype(np.float64)
    power = (blocks**2).mean(axis=1) / 32768.0**2
    found: Levels = np.maximum(10.0 * np.log10(np.maximum(power, 1e-12)), FLOOR_DB)
    return found


def room_level(samples: Samples) -> float:
    """The level that a room exceeds for a tenth of the time; -66 dB for a silent room."""
    found = levels(samples)
    return max(float(np.percentile(found, 90)), _QUIETEST_ROOM_DB) if len(found) else _QUIETEST_ROOM_DB


def judge(utterance: Utterance, room_db: float) -> Verdict:
    """Whether it is one word, loud enough and above the room's noise.

    The first fault that applies, the clearest first.
    """
    hurried = utterance.pause_s >= _PLOSIVE_S and utterance.length_s > _ONE_WORD_S
    wrong: dict[Verdict, bool] = {
        "too_early": not utterance.whole,
        "clipped": utterance.clipped >= _CLIPPED_SAMPLES,
        "too_noisy": not utterance.length_s or utterance.level_db < room_db + OVER_ROOM_DB,
        "several_words": utterance.pause_s >= _PAUSE_S or hurried,
        "too_long": utterance.length_s > _LONGEST_S,
        "too_short": utterance.length_s < _SHORTEST_S,
        "too_quiet": utterance.level_db < _QUIET_DB,
    }
    return next((verdict for verdict, so in wrong.items() if so), "fine")


class Segmenter:
    """Cuts a stream of frames into utterances, by their loudness above the room."""

    def __init__(self, room_db: float) -> None:
        self._onset_db = room_db + _ONSET_DB
        self._lead: deque[Frame] = deque(maxlen=round(_LEAD_S / _FRAME_S))
        self._open: list[Frame] = []
        self._lead_frames = 0
        self._silent_s = 0.0
        self._whole = False

    @property
    def speaking(self) -> bool:
        """Whether an utterance has begun and is not over."""
        return bool(self._open)

    def feed(self, frame: Frame) -> Utterance | None:
        """The utterance that ends with this frame: after half a second of silence, or at the maximum length."""
        loud = bool((levels(frame) >= self._onset_db).any())
        if not self._open:
            if not loud:
                self._lead.append(frame)
                self._whole = True
                return None
            self._open, self._lead_frames = list(self._lead), len(self._lead)
            self._lead.clear()
        self._open.append(frame)
        self._silent_s = 0.0 if loud else self._silent_s + _FRAME_S
        too_long = (len(self._open) - self._lead_frames) * _FRAME_S >= _GIVE_UP_S
        return self._close() if self._silent_s >= _HANGOVER_S or too_long else None

    def _close(self) -> Utterance:
        samples = np.concatenate(self._open)
        found = replace(measured(samples, self._onset_db - _ONSET_DB), whole=self._whole)
        self._open, self._silent_s = [], 0.0
        self._whole = found.length_s < _GIVE_UP_S - _HANGOVER_S
        return found


def measured(samples: Samples, room_db: float) -> Utterance:
    """A recording of int16 (n,) as one utterance; of length 0 if nothing in it is louder than the room."""
    found = levels(samples)
    loud = np.flatnonzero(found >= room_db + _ONSET_DB)
    clipped = int((np.abs(samples.astype(np.int32)) >= _FULL).sum())
    if not len(loud):
        return Utterance(samples, 0.0, 0.0, FLOOR_DB, clipped)
    within = found[loud[0] : loud[-1] + 1]
    pause = int(np.diff(loud).max(initial=1)) - 1
    return Utterance(samples, len(within) * _BLOCK_S, pause * _BLOCK_S, float(np.percentile(within, 80)), clipped)
