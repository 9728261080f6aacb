"""Learns a voice: a verifier that knows these people's word, and where the threshold must be in this room."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from contract.errors import SettingsError
from edge_node.gate import Gate
from edge_node.wakeword.adopting import Learned
from edge_node.wakeword.augment import variants
from edge_node.wakeword.detector import FRAME_S, FRAME_SAMPLES, SAMPLE_RATE_HZ
from edge_node.wakeword.grounds import ASKED_FROM, BEST_FRAMES, Grounds, Numbers
from edge_node.wakeword.incremental import Floats
from edge_node.wakeword.native import HEAD_EMBEDDINGS, Advice, Head, NativeDetector
from edge_node.wakeword.twin import embeddings_of, mel_rows, scores_of
from edge_node.wakeword.verifier import Insight, SecondLook
from edge_node.wakeword.voice import Voice, model_sha256

Samples = npt.NDArray[np.int16]

FAINTEST, HIGHEST = 0.2, 0.99
"""Below, words are not the model's; above, hardly anything is heard any more."""

_LEAD_SAMPLES = 26 * FRAME_SAMPLES
_TAIL_SAMPLES = 4 * FRAME_SAMPLES
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
    """From int16 (n,) each, mono at 16 kHz; raises SettingsError if the model hears too few of the words at all.

    Each word is judged by a verifier that was made without it: what its score says holds for the next word, too.
    """
    ear = Ear(Head(model), room, speech)
    grounds = Grounds.load(model)
    heard = [ear.hears(word) for word in words]
    # A verifier would learn any word; this is still to be the model's.
    _refuse_faint([ear.peak(one) for one in heard], FAINTEST)
    heard += [ear.hears(word) for word in hard_positives]
    verifier, look = None, None
    without: list[SecondLook | None] = [None] * len(heard)
    if grounds is not None:
        insight = Insight(ear.head.path, grounds.layers)
        known = [ear.word(sound, grounds, insight) for sound in (*words, *hard_positives)]
        verifier = grounds.verifier(known)
        look = SecondLook(verifier, insight)
        others = [grounds.verifier([*known[:at], *known[at + 1 :]]) for at in range(len(known))]
        without = [SecondLook(other, insight) for other in others]
    scores = [ear.peak(one, other) for one, other in zip(heard, without, strict=True)]
    voice = Voice(
        model_sha256=model_sha256(model),
        made_at="",
        threshold=HIGHEST,
        words=scores[: len(words)],
        talk=ear.peaks(ear.hears(speech), look),
        room=ear.peaks(ear.hears(room), look),
        labelled_words=scores[len(words) :],
        labelled_others=[ear.peak(ear.hears(sound), look) for sound in hard_negatives],
        verifier=verifier,
    )
    return _fitted(voice, ear.head.advice, grounds)


def learn_again(
    voice: Voice, hard_positives: Sequence[Samples], hard_negatives: Sequence[Samples], model: Path | None = None
) -> Voice:
    """With other labels, from what the voice remembers: another threshold, the same verifier. Nobody speaks again."""
    ear = Ear(Head(model), np.zeros(0, np.int16), np.zeros(0, np.int16))
    look = Learned.of(voice, model).look
    labelled = replace(
        voice,
        labelled_words=[ear.peak(ear.hears(sound), look) for sound in hard_positives],
        labelled_others=[ear.peak(ear.hears(sound), look) for sound in hard_negatives],
    )
    return _fitted(labelled, ear.head.advice, Grounds.load(model) if look is not None else None)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a node with this voice would have done while it was taught.

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
    """Let the engine and the gate of a node hear all of it, frame by frame; each sound after 2 s of the room."""
    return Rehearsal(
        sum(_wakes(learned, word, room, model) > 0 for word in words),
        len(words),
        sum(_wakes(learned, other, room, model) for other in (speech, room)),
    )


def _wakes(learned: Learned, sound: Samples, room: Samples, model: Path | None) -> int:
    detector = NativeDetector(model)
    detector.adopt(learned.look)
    gate = Gate(detector.advice.gate(threshold=learned.threshold))
    stream = _after_the_room(sound, room)
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
            "the model hears less than half of these words: `sarvis edge levels`, then try again nearer"
        )


def best_threshold(voice: Voice, advice: Advice) -> float:
    """Where fewest mistakes are; of equals that which is nearest to `normal`.

    Never below `lenient`: a minute of other sound cannot tell what an hour would.
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
    """The model in a room where people talk; both int16 (n,), perhaps empty."""

    head: Head
    room: Samples
    talk: Samples

    def hears(self, sound: Samples) -> Heard:
        """A sound of its own, int16 (n,), after 2 s of the room: an engine needs them before it can score."""
        return self._hears(_after_the_room(sound, self.room))

    def _hears(self, stream: Samples) -> Heard:
        mel = mel_rows(stream)
        embedded = embeddings_of(mel)
        return Heard(np.nan_to_num(scores_of(embedded, self.head, mel)), embedded)

    def word(self, sound: Samples, grounds: Grounds, insight: Insight) -> Numbers:
        """What is seen of an utterance and of its variants, along the axes (any number, D)."""
        stream = _after_the_room(sound, self.room)
        found: list[Floats] = []
        for variant in (stream, *variants(stream, self.room, self.talk)):
            heard = self._hears(variant)
            best = np.argsort(-heard.scores, kind="stable")[:BEST_FRAMES]
            found += [insight.of(heard.window(frame)) for frame in best.tolist() if heard.scores[frame] >= ASKED_FROM]
        return grounds.along(np.stack(found)) if found else np.empty((0, len(grounds.word)))

    def peak(self, heard: Heard, look: SecondLook | None = None) -> float:
        """The highest of `peaks`."""
        return max(self.peaks(heard, look), default=0.0)

    def peaks(self, heard: Heard, look: SecondLook | None = None) -> list[float]:
        """The highest score of each second that the gate would hear: of so many frames in a row the lowest counts."""
        found = heard.scores
        if look is not None:
            found = found.copy()
            for frame in np.flatnonzero(found >= ASKED_FROM).tolist():
                found[frame] = look.fuse(float(found[frame]), heard.window(frame))
        runs = np.lib.stride_tricks.sliding_window_view(found, self.head.advice.patience).min(axis=1)
        return [round(float(runs[at : at + _PER_SECOND].max()), 4) for at in range(0, len(runs), _PER_SECOND)]


def _after_the_room(sound: Samples, room: Samples) -> Samples:
    lead = np.resize(room, _LEAD_SAMPLES) if len(room) else np.zeros(_LEAD_SAMPLES, np.int16)
    return np.concatenate((lead, sound, np.zeros(_TAIL_SAMPLES, np.int16)))
