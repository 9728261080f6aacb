"""Guides a person who teaches the word, and accepts or rejects utterances; without I/O."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from contract.errors import SettingsError
from edge_node.audio.format import FRAME_S, Frame
from edge_node.audio.levels import dead
from edge_node.enrollment.takes import OVER_ROOM_DB, Samples, Segmenter, Utterance, Verdict, judge, room_level

FEWEST_WORDS, MOST_WORDS = 10, 20

WHY: Mapping[Verdict, str] = {
    "too_early": "that had begun before the microphone was ready",
    "clipped": "too loud: the sound is cut off; speak softer, go farther away or turn the microphone's gain down",
    "too_long": "too long for the word alone",
    "several_words": "that was more than one word",
    "too_short": "too short: that was not a word",
    "too_quiet": "too quiet: speak louder, come nearer or turn the microphone's gain up",
    "too_noisy": f"too noisy: less than {OVER_ROOM_DB:g} dB above the room",
}
"""Why an utterance is unfit for learning."""

_HOW = (
    "as you always say it",
    "once more like that",
    "from where you mostly stand",
    "a little softer",
    "a little louder",
    "faster",
    "slower",
    "turned away from the microphone",
    "from farther away",
    "from near",
)
_DEAF_S = 12.0
_KEY_S = 0.4
"""Excludes the sound of the pressed key from the recording."""
_TOLD_EVERY_S = 10.0
_MOST_PAUSES = 4
"""Other speech may take this many times its length, because people pause."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is recorded; SettingsError if there are too few or too many words, or no time for the rest."""

    word: str = "싸비스"
    words: int = 12
    speech_s: float = 60.0
    room_s: float = 60.0

    def __post_init__(self) -> None:
        check_count(self.words)
        if not (self.speech_s > 0.0 and self.room_s > 0.0):
            raise SettingsError("other speech and the room need some seconds each")


def check_count(words: int) -> None:
    """SettingsError unless this number of utterances suffices for learning."""
    if not FEWEST_WORDS <= words <= MOST_WORDS:
        raise SettingsError(f"{FEWEST_WORDS} to {MOST_WORDS} utterances of the word are needed, not {words}")


class Prompter:
    """Guides through the room, the word and other speech; the returned lines are to be shown.

    Attributes:
    words: usable utterances, int16 (n,) each.
    speech, room: int16 (n,).
    done: all is recorded.
    stopped: the speaker has cancelled.
    waiting: for Enter.
    """

    def __init__(self, plan: Plan) -> None:
        self.words: list[Samples] = []
        self.done = self.stopped = False
        self._plan = plan
        self._step = "room"
        self.waiting = True
        self._skip_s = 0.0
        self._quiet_s = 0.0
        self._told_s = 0.0
        self._spoken_s = 0.0
        self._room: list[Frame] = []
        self._speech: list[Frame] = []
        self._room_db = 0.0
        self._segmenter = Segmenter(0.0)

    @property
    def room(self) -> Samples:
        """The recording of the room."""
        return _joined(self._room)

    @property
    def speech(self) -> Samples:
        """The recording of other speech."""
        return _joined(self._speech)

    def begin(self) -> list[str]:
        """The first lines."""
        plan = self._plan
        return [
            f"Three steps: the room, {plan.words} times «{plan.word}», other speech.",
            "Enter begins a step; q and Enter ends it all, and changes nothing.",
            f"1. The room. Leave usual appliances on, and do not speak for {plan.room_s:g} s.",
            "   Press Enter to begin.",
        ]

    def line(self, text: str) -> list[str]:
        """The person pressed Enter, perhaps after a letter."""
        self._skip_s, self._quiet_s = _KEY_S, 0.0
        match text.strip().lower():
            case "q":
                self.stopped = True
                return ["   Stopped."]
            case "r" if self._step == "words" and self.words and not self.waiting:
                self.words.pop()
                return ["   The last one is deleted.", self._ask()]
        if not self.waiting:
            return []
        self.waiting = False
        if self._step == "words":
            self._segmenter = Segmenter(self._room_db)
            return [self._ask()]
        return ["   The room is recorded." if self._step == "room" else "   Speech is recorded."]

    def feed(self, frame: Frame) -> list[str]:
        """Process 80 ms from the microphone."""
        if self.waiting or self.done or self.stopped:
            return []
        if self._skip_s > 0.0:
            self._skip_s -= FRAME_S
            return []
        match self._step:
            case "room":
                return self._hear_room(frame)
            case "words":
                return self._hear_word(frame)
        return self._hear_speech(frame)

    def _hear_room(self, frame: Frame) -> list[str]:
        self._room.append(frame)
        seconds = len(self._room) * FRAME_S
        if seconds < self._plan.room_s:
            return self._progress(seconds, self._plan.room_s)
        self._room_db = room_level(self.room)
        self._next("words")
        told = [f"   The room is at {self._room_db:.0f} dB."]
        if all(map(dead, self._room)):
            told = ["   Nothing but zeros came: is the microphone muted, or is this the wrong one?"]
        return [
            *told,
            f"2. The word, {self._plan.words} times. Say it once, and wait for the answer; r deletes the last one.",
            "   Press Enter to begin.",
        ]

    def _hear_word(self, frame: Frame) -> list[str]:
        utterance = self._segmenter.feed(frame)
        if utterance is not None:
            self._quiet_s = 0.0
            return self._take(utterance)
        self._quiet_s = 0.0 if self._segmenter.speaking else self._quiet_s + FRAME_S
        if self._quiet_s < _DEAF_S:
            return []
        self._quiet_s = 0.0
        return ["   No word was recorded: speak louder or nearer; `sarvis edge levels` shows the microphone's level."]

    def _take(self, utterance: Utterance) -> list[str]:
        verdict = judge(utterance, self._room_db)
        if verdict != "fine":
            return [f"   Again, please: {WHY[verdict]}."]
        self.words.append(utterance.samples)
        told = [f"   Good: {utterance.length_s:.1f} s, {utterance.level_db - self._room_db:.0f} dB above the room."]
        if len(self.words) < self._plan.words:
            return [*told, self._ask()]
        self._next("speech")
        return [
            *told,
            f"3. Other speech, {self._plan.speech_s:g} s: talk of your day, read aloud; never say «{self._plan.word}».",
            "   Press Enter to begin.",
        ]

    def _ask(self) -> str:
        number = len(self.words)
        return f"   {number + 1} of {self._plan.words}: «{self._plan.word}», {_HOW[number % len(_HOW)]}"

    def _hear_speech(self, frame: Frame) -> list[str]:
        self._speech.append(frame)
        self._segmenter.feed(frame)
        if self._segmenter.speaking:
            self._spoken_s += FRAME_S
        if self._spoken_s >= self._plan.speech_s:
            self.done = True
            return [f"   Thank you: {self._spoken_s:.0f} s of speech."]
        if len(self._speech) * FRAME_S < _MOST_PAUSES * self._plan.speech_s:
            return self._progress(self._spoken_s, self._plan.speech_s)
        told = (
            f"   Only {self._spoken_s:.0f} s of that were speech: louder or nearer, please. Press Enter to try again."
        )
        self._speech.clear()
        self._spoken_s = 0.0
        self._next("speech")
        return [told]

    def _progress(self, seconds: float, of_s: float) -> list[str]:
        if seconds - self._told_s < _TOLD_EVERY_S:
            return []
        self._told_s = seconds
        return [f"   {seconds:.0f} of {of_s:g} s"]

    def _next(self, step: str) -> None:
        self._step, self.waiting, self._told_s = step, True, 0.0
        self._segmenter = Segmenter(self._room_db)


def _joined(frames: list[Frame]) -> Samples:
    return np.concatenate(frames) if frames else np.empty(0, np.int16)


def unfit(words: list[Utterance], room_db: float) -> dict[int, str]:
    """The unfit ones of these, by index, with the reason."""
    found = {place: judge(word, room_db) for place, word in enumerate(words)}
    return {place: WHY[verdict] for place, verdict in found.items() if verdict != "fine"}
