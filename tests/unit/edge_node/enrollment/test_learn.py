from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from contract.errors import SettingsError
from edge_node.audio.format import FRAME_SAMPLES, SAMPLE_RATE_HZ
from edge_node.audio.soundfiles import read_wav
from edge_node.enrollment.augment import variants
from edge_node.enrollment.learn import Rehearsal, learn_again, learn_voice, rehearse
from edge_node.wakeword.native import NativeDetector, shipped_model_path
from edge_node.wakeword.voice import Voice
from edge_node.wakeword.voice_watch import Learned

pytestmark = pytest.mark.slow

DATA = Path(__file__).parents[3] / "data"
WORD = read_wav(DATA / "ssabiseu_em_alex.wav")
OTHER = read_wav(DATA / "jarvis_near_miss.wav")
SOMEBODY_ELSE = read_wav(DATA / "ssabiseu_jf_nezumi.wav")
NOTHING = np.zeros(FRAME_SAMPLES, np.int16)
NOBODY = np.zeros(0, np.int16)


def words(count: int = 5) -> list[npt.NDArray[np.int16]]:
    """One voice, never twice the same: a little later, louder or softer."""
    later = [np.concatenate((np.zeros(160 * number, np.int16), WORD)) for number in range(count)]
    return [(word * (0.6 + 0.04 * number)).astype(np.int16) for number, word in enumerate(later)]


@pytest.fixture(scope="module")
def voice() -> Voice:
    return learn_voice(words(), OTHER, NOTHING, hard_negatives=[SOMEBODY_ELSE])


@pytest.fixture(scope="module")
def unlabelled() -> Voice:
    """The same, before anything was labelled."""
    return learn_voice(words(), OTHER, NOTHING)


def heard(voice: Voice, sound: npt.NDArray[np.int16], threshold: float) -> bool:
    """Whether a node in a silent room takes it for the word."""
    learned = Learned(threshold, Learned.of(voice).look)
    return rehearse(learned, [sound], NOBODY, NOTHING).heard == 1


def test_a_score_is_the_highest_threshold_at_which_the_gate_would_hear_it() -> None:
    learned = learn_voice(words(1), SOMEBODY_ELSE, NOTHING)
    score = max(learned.talk)
    assert 0.1 < score < 0.9
    assert heard(learned, SOMEBODY_ELSE, score - 2e-3)
    assert not heard(learned, SOMEBODY_ELSE, score + 2e-3)


def test_a_verifier_tells_its_teachers_word_from_another_persons(unlabelled: Voice) -> None:
    assert min(unlabelled.words) >= peak(WORD)
    assert replay(unlabelled, SOMEBODY_ELSE) < peak(SOMEBODY_ELSE) - 0.3


def peak(sound: npt.NDArray[np.int16]) -> float:
    """The highest score of the first stage alone."""
    return highest(NativeDetector(second_stage=False), sound)


def highest(detector: NativeDetector, sound: npt.NDArray[np.int16]) -> float:
    stream = np.concatenate((np.zeros(26 * FRAME_SAMPLES, np.int16), sound, np.zeros(4 * FRAME_SAMPLES, np.int16)))
    frames = stream[: len(stream) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    scores = [detector.feed(frame) or 0.0 for frame in frames]
    return max(min(pair) for pair in pairwise(scores))


def test_each_word_is_judged_by_a_verifier_that_did_not_learn_from_it() -> None:
    with_it = learn_voice([*words(1), SOMEBODY_ELSE], OTHER, NOTHING)
    without_it = learn_voice(words(1), OTHER, NOTHING)
    assert with_it.words[-1] == pytest.approx(replay(without_it, SOMEBODY_ELSE), abs=2e-3)
    assert with_it.words[-1] < replay(with_it, SOMEBODY_ELSE) - 0.1


def test_words_that_would_be_missed_are_counted() -> None:
    learned = learn_voice([*words(4), OTHER], OTHER, NOTHING)
    assert (learned.missed, learned.false_accepts) == (1, 0)


def test_words_that_the_model_does_not_recognise_are_refused_with_a_verifier_too() -> None:
    with pytest.raises(SettingsError, match="recognises less than half of these words"):
        learn_voice([OTHER] * 10, WORD, NOTHING)


def test_where_nothing_speaks_against_it_the_threshold_stays_what_the_model_advises(unlabelled: Voice) -> None:
    assert unlabelled.threshold == NativeDetector(second_stage=False).advice.thresholds["normal"]
    assert unlabelled.false_accepts_per_hour is not None


def test_the_threshold_never_falls_below_lenient() -> None:
    learned = learn_voice([*words(4), *[OTHER] * 3], NOTHING, NOTHING)
    assert learned.threshold >= NativeDetector(second_stage=False).advice.thresholds["lenient"]


def test_a_label_not_the_word_raises_the_threshold_above_it_if_the_words_allow_it(voice: Voice) -> None:
    assert (voice.missed, voice.false_accepts) == (0, 0)
    assert not heard(voice, SOMEBODY_ELSE, voice.threshold)
    assert heard(voice, WORD, voice.threshold)


def test_labels_have_the_same_effect_without_the_sound_of_the_enrolment(voice: Voice, unlabelled: Voice) -> None:
    assert unlabelled.verifier != voice.verifier
    told = learn_again(unlabelled, [], [SOMEBODY_ELSE])
    assert replace(told, made_at="") == replace(voice, made_at="")
    taken_back = learn_again(told, [], [])
    assert replace(taken_back, made_at="") == replace(unlabelled, made_at="")


def test_a_word_that_is_labelled_teaches_like_one_that_was_said(voice: Voice) -> None:
    more = learn_again(voice, [SOMEBODY_ELSE], [])
    assert len(more.labelled_words) == 1
    assert replay(more, SOMEBODY_ELSE) > replay(voice, SOMEBODY_ELSE)


def test_a_label_not_the_word_lowers_the_verifiers_score_also_of_its_variants() -> None:
    """A threshold alone would have to rise above it, and miss words for it."""
    nothing_told = learn_voice(words(1), OTHER, NOTHING)
    told = learn_again(nothing_told, [], [SOMEBODY_ELSE])
    softer = np.concatenate((np.zeros(700, np.int16), (SOMEBODY_ELSE * 0.7).astype(np.int16)))
    for sound in (SOMEBODY_ELSE, softer):
        alone = replay(nothing_told, sound)
        assert alone > 0.1, "otherwise there is nothing to learn"
        assert replay(told, sound) < 0.1 * alone
    assert told.missed == 0
    assert told.threshold == nothing_told.threshold


def replay(voice: Voice, sound: npt.NDArray[np.int16]) -> float:
    """The highest score that a node with this voice gives it."""
    detector = NativeDetector()
    detector.adopt(Learned.of(voice).look, alone=True)
    return highest(detector, sound)


def test_a_voice_whose_memory_is_of_other_grounds_is_not_learned_again(voice: Voice) -> None:
    assert voice.memory is not None
    for memory in (replace(voice.memory, grounds="0"), None):
        with pytest.raises(SettingsError, match="learned with other grounds of the model; enrol again"):
            learn_again(replace(voice, memory=memory), [], [])


def test_without_grounds_labels_move_the_threshold_alone(tmp_path: Path) -> None:
    model = tmp_path / "mine.onnx"
    model.write_bytes(shipped_model_path().read_bytes())
    learned = learn_voice(words(), OTHER, NOTHING, hard_negatives=[SOMEBODY_ELSE], model=model)
    assert (learned.verifier, learned.memory) == (None, None)
    assert learned.labelled_others == [pytest.approx(peak(SOMEBODY_ELSE), abs=0.05)]
    again = learn_again(learned, [], [], model)
    assert again.labelled_others == []
    assert again.words == learned.words


def test_a_rehearsal_is_what_a_node_would_do(voice: Voice) -> None:
    learned = Learned.of(voice)
    assert rehearse(learned, [WORD, OTHER], np.concatenate((OTHER, WORD)), NOTHING) == Rehearsal(1, 2, 1)


def test_an_utterance_is_also_heard_later_farther_and_in_noise_10_db_below_it() -> None:
    stream = np.concatenate((np.zeros(20_000, np.int16), WORD))
    talk = np.random.default_rng(0).normal(0.0, 50.0, SAMPLE_RATE_HZ * 4).astype(np.int16)
    later, farther, talkers, fan = variants(stream, NOBODY, talk)
    assert np.array_equal(later[FRAME_SAMPLES // 2 :], stream[: -FRAME_SAMPLES // 2])
    assert not farther[:19_000].any()
    for noisy in (talkers, fan):
        word, noise = noisy[20_000:].astype(float), noisy[:19_000].astype(float)
        loudest = np.sort((word[: len(word) // 1280 * 1280].reshape(-1, 1280) ** 2).mean(axis=1))[-5:].mean()
        assert 10 * np.log10(loudest / (noise**2).mean()) == pytest.approx(10.0, abs=2.0)
    assert all(
        np.array_equal(one, two)
        for one, two in zip(variants(stream, NOBODY, talk), variants(stream, NOBODY, talk), strict=True)
    )
