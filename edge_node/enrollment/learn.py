"""Learns a voice: a verifier of these people's word, and the threshold for this room."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from contract.errors import SettingsError
from edge_node.audio.format import FRAME_S, FRAME_SAMPLES
from edge_node.enrollment.augment import variants
from edge_node.wakeword.batch import embeddings_of, mel_rows, scores_of
from edge_node.wakeword.foreign_heads import Fit
from edge_node.wakeword.gate import Gate
from edge_node.wakeword.grounds import ASKED_FROM, BEST_FRAMES, Grounds
from edge_node.wakeword.impression import Impression, Line, peaks, where
from edge_node.wakeword.incremental import Floats, Numbers
from edge_node.wakeword.native import HEAD_EMBEDDINGS, Advice, Head, NativeDetector
from edge_node.wakeword.verifier import SUREST, Insight
from edge_node.wakeword.voice import Memory, Voice, model_sha256
from edge_node.wakeword.voice_watch import Learned

Samples = npt.NDArray[np.int16]

FAINTEST, HIGHEST = 0.2, 0.99
"""Below, words are not the model's; above, the node recognises almost nothing."""

_TAIL_SAMPLES = 4 * FRAME_SAMPLES


def learn_voice(
    words: Sequence[Samples],
    speech: Samples,
    room: Samples,
    *,
    hard_negatives: Sequence[Samples] = (),
    hard_positives: Sequence[Samples] = (),
    model: Path | None = None,
) -> Voice:
    """From int16 (n,) each, mono at 16 kHz.

    Raises SettingsError if the model recognises too few of the words at all.
    """
    ear = Ear(Head(model, second_stage=False), room, speech)
    heard = [ear.hears(word) for word in words]
    # A verifier would learn any word; the word must remain the model's.
    _refuse_faint([ear.peak(one) for one in heard], FAINTEST)
    talk, quiet = ear.hears(speech), ear.hears(room)
    voice = Voice(
        model_sha256=model_sha256(model),
        made_at="",
        threshold=HIGHEST,
        words=[ear.peak(one) for one in heard],
        talk=ear.peaks(talk),
        room=ear.peaks(quiet),
        labelled_words=[],
        labelled_others=[],
    )
    # A verifier receives the window that most heads receive.
    grounds = Grounds.load(model) if ear.head.fit == Fit() else None
    if grounds is None:
        return _labelled(voice, ear, hard_positives, hard_negatives)
    mind = Mind(ear, grounds, Insight(ear.head.path, grounds.layers))
    taught = [mind.word([one, *ear.variants(word)]) for word, one in zip(words, heard, strict=True)]
    remembered = replace(voice, memory=Memory(grounds.mark, taught, mind.other(talk), mind.other(quiet)))
    return _verified(remembered, mind, hard_positives, hard_negatives)


def learn_again(
    voice: Voice, hard_positives: Sequence[Samples], hard_negatives: Sequence[Samples], model: Path | None = None
) -> Voice:
    """Learn with other labels from the stored memory of the voice, without new recordings.

    Raises SettingsError if it has a verifier, but no memory for the model's present grounds.
    """
    ear = Ear(Head(model, second_stage=False), np.zeros(0, np.int16), np.zeros(0, np.int16))
    if voice.verifier is None:
        return _labelled(voice, ear, hard_positives, hard_negatives)
    grounds = Grounds.load(model)
    if grounds is None or voice.memory is None or grounds.mark != voice.memory.grounds:
        raise SettingsError("this voice was learned with other grounds of the model; enrol again with these")
    mind = Mind(ear, grounds, Insight(ear.head.path, grounds.layers))
    return _verified(voice, mind, hard_positives, hard_negatives)


def _labelled(voice: Voice, ear: "Ear", positives: Sequence[Samples], negatives: Sequence[Samples]) -> Voice:
    """With these labels: a threshold alone."""
    told = replace(
        voice,
        labelled_words=[ear.peak(ear.hears(sound)) for sound in positives],
        labelled_others=[ear.peak(ear.hears(sound)) for sound in negatives],
    )
    return _fitted(told, ear.head.advice, None)


def _verified(voice: Voice, mind: "Mind", positives: Sequence[Samples], negatives: Sequence[Samples]) -> Voice:
    """With these labels: a verifier and a threshold, from the voice's memory."""
    memory = voice.memory
    if memory is None:
        raise ValueError("the voice remembers nothing")
    more = [mind.word([mind.ear.hears(sound), *mind.ear.variants(sound)]) for sound in positives]
    others = [mind.other(mind.ear.hears(sound)) for sound in negatives]
    judged = judge([*memory.words, *more], others, mind.grounds, mind.patience)
    told = replace(
        voice,
        words=judged.words[: len(memory.words)],
        talk=memory.talk.peaks(judged.line, mind.patience),
        room=memory.room.peaks(judged.line, mind.patience),
        labelled_words=judged.words[len(memory.words) :],
        labelled_others=[one.peak(judged.line, mind.patience) for one in others],
        verifier=mind.grounds.verifier(judged.line),
    )
    return _fitted(told, mind.ear.head.advice, mind.grounds)


@dataclass(frozen=True, slots=True)
class Judged:
    """A verifier along the axes, and the score of each word."""

    line: Line
    words: list[float]


def judge(words: Sequence[Impression], others: Sequence[Impression], grounds: Grounds, patience: int) -> Judged:
    """Learn from words and hard negatives.

    Each word is scored by a verifier that was made without it: so its score is representative of the next word.
    """
    size = len(grounds.word)
    none = where(others, size)
    scores = [
        word.peak(grounds.line(where([*words[:at], *words[at + 1 :]], size), none), patience)
        for at, word in enumerate(words)
    ]
    return Judged(grounds.line(where(words, size), none), scores)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a node with this voice would have done during the lesson.

    Attributes:
    heard: how many of `words` woke it.
    words: how many there were.
    woken: how often other sound woke it.
    """

    heard: int
    words: int
    woken: int


def rehearse(
    learned: Learned, words: Sequence[Samples], speech: Samples, room: Samples, model: Path | None = None
) -> Rehearsal:
    """Run all of it through the engine and the gate of a node, frame by frame; each sound after 2 s of the room."""
    return Rehearsal(
        sum(_wakes(learned, word, room, model) > 0 for word in words),
        len(words),
        sum(_wakes(learned, other, room, model) for other in (speech, room)),
    )


def _wakes(learned: Learned, sound: Samples, room: Samples, model: Path | None) -> int:
    detector = NativeDetector(model, second_stage=False)
    detector.adopt(learned.look, alone=True)
    gate = Gate(detector.advice.gate(threshold=learned.threshold))
    stream = _after_the_room(sound, room, detector.head)
    frames = stream[: len(stream) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    return sum(gate.feed(detector.feed(frame), at * FRAME_S) is not None for at, frame in enumerate(frames, start=1))


def _fitted(voice: Voice, advice: Advice, grounds: Grounds | None) -> Voice:
    threshold = best_threshold(voice, advice)
    fitted = replace(
        voice,
        threshold=threshold,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        false_accepts_per_hour=grounds.false_accepts(threshold) if grounds is not None else None,
    )
    _refuse_faint([*fitted.words, *fitted.labelled_words], fitted.threshold)
    return fitted


def _refuse_faint(scores: Sequence[float], threshold: float) -> None:
    if sum(score < threshold for score in scores) * 2 > len(scores):
        raise SettingsError(
            "the model recognises less than half of these words: check the microphone with `sarvis edge levels`, "
            "then try again nearer"
        )


def best_threshold(voice: Voice, advice: Advice) -> float:
    """The threshold with the fewest errors; of equals the nearest to `normal`.

    Never below `lenient`: a minute of other sound cannot predict an hour.
    """
    lowest, usual = advice.thresholds["lenient"], advice.thresholds["normal"]
    edges: list[float] = sorted({lowest, HIGHEST, usual, *_all(voice)})
    between = [math.sqrt(low * high) for low, high in pairwise(edges)]
    candidates = [edge for edge in (*edges, *between) if lowest <= edge <= HIGHEST]

    def mistakes(candidate: float) -> tuple[int, float]:
        tried = replace(voice, threshold=candidate)
        return tried.missed + tried.false_accepts, abs(candidate - usual)

    best: float = min(candidates, key=mistakes)
    return round(best, 4)


def _all(voice: Voice) -> list[float]:
    return [*voice.words, *voice.talk, *voice.room, *voice.labelled_words, *voice.labelled_others]


@dataclass(frozen=True, slots=True)
class Heard:
    """Scores of the model alone (frames,), and embeddings (frames, 96)."""

    scores: Floats
    embedded: Floats

    def window(self, frame: int) -> Floats:
        """The 16 embeddings that end with a frame."""
        return self.embedded[frame - HEAD_EMBEDDINGS + 1 : frame + 1]


@dataclass(frozen=True, slots=True)
class Ear:
    """The model's first stage in a room where people talk; both int16 (n,), perhaps empty.

    A voice is learned with the first stage alone: grounds are statistics of that.
    """

    head: Head
    room: Samples
    talk: Samples

    def hears(self, sound: Samples) -> Heard:
        """An isolated sound, int16 (n,), after 2 s of the room, which an engine needs before it can score."""
        return self._hears(_after_the_room(sound, self.room, self.head))

    def _hears(self, stream: Samples) -> Heard:
        embedded = embeddings_of(mel_rows(stream, self.head.fit.scale))
        return Heard(np.nan_to_num(scores_of(embedded, self.head)), embedded)

    def variants(self, sound: Samples) -> list[Heard]:
        """Variants of an utterance (`augment.py`), each after 2 s of the room."""
        whole = _after_the_room(sound, self.room, self.head)
        return [self._hears(one) for one in variants(whole, self.room, self.talk)]

    def peak(self, heard: Heard) -> float:
        """The highest of `peaks`."""
        return max(self.peaks(heard), default=0.0)

    def peaks(self, heard: Heard) -> list[float]:
        """Of the model alone, as `impression.peaks`."""
        return peaks(heard.scores, self.head.advice.patience)


@dataclass(frozen=True, slots=True)
class Mind:
    """The results of an ear, along the axes of grounds."""

    ear: Ear
    grounds: Grounds
    insight: Insight

    @property
    def patience(self) -> int:
        """How many consecutive frames the gate requires."""
        return self.ear.head.advice.patience

    def word(self, forms: Sequence[Heard]) -> Impression:
        """An utterance as it was said, with its variants; its place is that of all of them."""
        return self._impression(forms[0], forms)

    def other(self, heard: Heard) -> Impression:
        """Other sound; its place is where it is most similar to the word."""
        return self._impression(heard, [heard])

    def _impression(self, heard: Heard, forms: Sequence[Heard]) -> Impression:
        asked = np.flatnonzero(heard.scores >= ASKED_FROM).tolist()
        sure = np.clip(heard.scores[asked].astype(np.float64), SUREST, 1.0 - SUREST)
        places = [
            (form, frame)
            for form in forms
            for frame in np.argsort(-form.scores, kind="stable")[:BEST_FRAMES].tolist()
            if form.scores[frame] >= ASKED_FROM
        ]
        logits = np.log(sure / (1.0 - sure)).tolist()
        seen = self._along([(heard, frame) for frame in asked])
        return Impression.of(len(heard.scores), asked, logits, seen, self._along(places))

    def _along(self, places: Sequence[tuple[Heard, int]]) -> Numbers:
        if not places:
            return np.empty((0, len(self.grounds.word)))
        return self.grounds.along(np.stack([self.insight.of(heard.window(frame)) for heard, frame in places]))


def _after_the_room(sound: Samples, room: Samples, head: Head) -> Samples:
    count = (head.lead_frames + 2) * FRAME_SAMPLES
    lead = np.resize(room, count) if len(room) else np.zeros(count, np.int16)
    return np.concatenate((lead, sound, np.zeros(_TAIL_SAMPLES, np.int16)))
