from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from contract.errors import SettingsError
from edge_node.audio import read_wav
from edge_node.gate import Gate
from edge_node.wakeword.detector import FRAME_S, FRAME_SAMPLES
from edge_node.wakeword.enrolment import learn_voice
from edge_node.wakeword.native import NativeDetector

DATA = Path(__file__).parents[2] / "data"
WORD = read_wav(DATA / "ssabiseu_em_alex.wav")
OTHER = read_wav(DATA / "jarvis_near_miss.wav")
NOTHING = np.zeros(FRAME_SAMPLES, np.int16)


def fires(sound: npt.NDArray[np.int16], threshold: float) -> bool:
    """Whether a node in a silent room takes it for the word."""
    detector = NativeDetector()
    gate = Gate(detector.advice.gate(threshold=threshold))
    stream = np.concatenate((np.tile(NOTHING, 26), sound, np.tile(NOTHING, 4)))
    frames = stream[: len(stream) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    return any(
        gate.feed(detector.feed(frame), number * FRAME_S) is not None for number, frame in enumerate(frames, start=1)
    )


def test_a_words_score_is_the_highest_threshold_at_which_the_gate_would_hear_it() -> None:
    score = learn_voice([WORD] * 10, OTHER, NOTHING).words[0]
    assert fires(WORD, score - 1e-3)
    assert not fires(WORD, score + 1e-3)


def test_words_that_would_be_missed_are_counted() -> None:
    voice = learn_voice([*[WORD] * 9, OTHER], OTHER, NOTHING)
    assert (voice.missed, voice.false_accepts) == (1, 0)


def test_words_that_the_model_does_not_hear_are_refused() -> None:
    with pytest.raises(SettingsError, match="hears less than half of these words"):
        learn_voice([OTHER] * 10, WORD, NOTHING)


def test_where_nothing_speaks_against_it_the_threshold_stays_what_the_model_advises() -> None:
    assert learn_voice([WORD] * 10, OTHER, NOTHING).threshold == NativeDetector().advice.thresholds["normal"]


def test_what_is_labelled_as_not_the_word_raises_the_threshold_above_it_if_the_words_allow_it() -> None:
    quieter = read_wav(DATA / "ssabiseu_jf_nezumi.wav")
    voice = learn_voice([WORD] * 10, OTHER, NOTHING, hard_negatives=[quieter])
    assert (voice.missed, voice.false_accepts) == (0, 0)
    assert not fires(quieter, voice.threshold)
    assert fires(WORD, voice.threshold)
