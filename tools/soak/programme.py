"""What is heard: minutes of rooms, music and people, the wake word among them; and what befalls the microphone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from edge_node.audio.format import FRAME_SAMPLES, SAMPLE_RATE_HZ
from edge_node.training import acoustics
from edge_node.training.acoustics import Chance, chance_from
from edge_node.training.engines.seam import Sound
from edge_node.training.features import read_clip
from edge_node.training.generate import generate
from edge_node.training.plan import Clip, plan
from edge_node.training.vocabulary import load_word
from edge_node.training.voices import Engine

Samples: TypeAlias = npt.NDArray[np.int16]

MINUTE = 60 * SAMPLE_RATE_HZ
_SLOT = 6 * SAMPLE_RATE_HZ
_SLOTS = MINUTE // _SLOT
_SPOKEN = 0.35
"""How many of the places without the wake word in a minute hold other words, most of them near-misses."""
_WORD = "싸비스"


@dataclass(frozen=True, slots=True)
class Mishap:
    """What the microphone does at one place of one minute, from `at` on, counted in samples.

    Attributes:
        kind: `gap`: `lost` samples do not come, and the driver says how many; `unplugged`: it is gone and comes back
            when `lost` samples have passed unheard, at the try after `tries` that fail.
    """

    kind: Literal["gap", "unplugged"]
    at: int
    lost: int
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Voices:
    """Clips, 16 kHz, float32: the word, and what is not."""

    words: Sequence[Sound]
    others: Sequence[Sound]


def voices(cache: Path, engines: Sequence[Engine], scale: float) -> Voices:
    """The words of held-out voices of these engines, and near-misses; said once, kept in the cache."""
    wanted = [clip for clip in plan(load_word(_WORD), scale) if clip.split == "test" and clip.engine in engines]
    said = generate(wanted, cache, cache)

    def of(kind: str) -> list[Sound]:
        return [_sound(cache, clip) for clip in said if clip.kind == kind]

    return Voices(of("word"), of("near"))


def _sound(cache: Path, clip: Clip) -> Sound:
    return read_clip(cache, clip)


class Programme:
    """This number of minutes and words, the same for the same seed."""

    def __init__(self, heard: Voices, minutes: int, words: int, mishaps: int, seed: int) -> None:
        self.minutes = minutes
        self._heard = heard
        self._seed = seed
        chance = chance_from(f"soak {seed}")
        self._words = np.bincount(np.arange(words) * minutes // words, minlength=minutes)
        # Never in the first minute: a node is first to be seen working.
        troubled = chance.permutation(np.arange(1, minutes))[: 2 * mishaps]
        self._troubled = {int(minute): number % 2 == 0 for number, minute in enumerate(troubled)}

    def minute(self, number: int) -> Samples:
        """What is to be heard in it, int16 (MINUTE,)."""
        chance = chance_from(f"soak {self._seed} minute {number}")
        level = 10 ** chance.uniform(-3.6, -2.0)
        background = acoustics.made_up_music if chance.random() < 0.3 else acoustics.steady_noise
        out = background(MINUTE, chance) * level
        said = [self._heard.words] * int(self._words[number])
        said += [self._heard.others] * round((_SLOTS - len(said)) * _SPOKEN)
        for slot, among in zip(chance.permutation(_SLOTS), said, strict=False):
            clip = self._in_a_room(among[int(chance.integers(len(among)))], level, chance)
            start = int(slot * _SLOT + chance.integers(_SLOT - len(clip)))
            out[start : start + len(clip)] += clip
        return acoustics.to_samples(out)

    @property
    def frames(self) -> int:
        """How many frames a node hears of it, see `frames`."""
        count = pending = 0
        for number in range(self.minutes):
            mishap = self.mishap(number)
            if mishap is not None and mishap.kind == "unplugged":
                count += (pending + mishap.at) // FRAME_SAMPLES
                pending = MINUTE - mishap.at - mishap.lost
            else:
                pending += MINUTE
            count += pending // FRAME_SAMPLES
            pending %= FRAME_SAMPLES
        return count

    def mishap(self, number: int) -> Mishap | None:
        """What befalls the microphone in it."""
        unplugged = self._troubled.get(number)
        if unplugged is None:
            return None
        chance = chance_from(f"soak {self._seed} mishap {number}")
        lost = int(chance.integers(SAMPLE_RATE_HZ // 50, 4 * SAMPLE_RATE_HZ))
        at = int(chance.integers(0, MINUTE - lost))
        return Mishap("unplugged", at, lost, int(chance.integers(0, 3))) if unplugged else Mishap("gap", at, lost)

    def _in_a_room(self, clip: Sound, level: float, chance: Chance) -> Sound:
        """At 8 to 30 dB above the background, in half of all cases in a room; no longer than a slot."""
        heard = acoustics.in_room(clip, chance) if chance.random() < 0.5 else clip
        loud = min(level * 10 ** (chance.uniform(8, 30) / 20), 0.2)
        return np.asarray(heard[: _SLOT - 1] * (loud / acoustics.rms(heard)), np.float32)


def frames(programme: Programme, silent_frames: int) -> Iterator[Samples]:
    """What a node hears of it, frame by frame, after this many of silence: what was lost is silence or never was.

    A frame that is unfinished when the microphone goes is never heard.
    """
    for _ in range(silent_frames):
        yield np.zeros(FRAME_SAMPLES, np.int16)
    pending = np.empty(0, np.int16)
    for number in range(programme.minutes):
        minute, mishap = programme.minute(number), programme.mishap(number)
        pieces = [minute]
        if mishap is not None:
            after = minute[mishap.at + mishap.lost :]
            pieces = [minute[: mishap.at], after]
            if mishap.kind == "gap":
                pieces.insert(1, np.zeros(mishap.lost, np.int16))
        for index, piece in enumerate(pieces):
            if index and mishap is not None and mishap.kind == "unplugged":
                pending = np.empty(0, np.int16)
            pending = np.concatenate((pending, piece))
            whole = len(pending) // FRAME_SAMPLES * FRAME_SAMPLES
            yield from pending[:whole].reshape(-1, FRAME_SAMPLES)
            pending = pending[whole:]
