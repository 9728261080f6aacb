from pathlib import Path

import numpy as np
import pytest

from contract.errors import SettingsError
from edge_node.audio.format import FRAME_S, FRAME_SAMPLES
from edge_node.audio.sources import SourceOptions, open_source
from edge_node.wakeword.features import embedding_model_path
from edge_node.wakeword.gate import Gate, Trigger
from edge_node.wakeword.native import Head, NativeDetector, shipped_model_path

ROOT = Path(__file__).parents[4]
WAKE_WORDS = [ROOT / "sarvis/clips/ssabiseu.wav", *sorted((ROOT / "tests/data").glob("ssabiseu_*.wav"))]
NORMAL = Head().advice.thresholds["normal"]
NEAR_MISS = ROOT / "tests/data/jarvis_near_miss.wav"


def hear(clip: Path, lead_in_s: float = 2.5) -> tuple[list[float | None], list[Trigger]]:
    """Scores per frame, and triggers."""
    detector = NativeDetector()
    gate, scores, triggers = Gate(detector.advice.gate()), [], []
    with open_source(f"wav:{clip}", SourceOptions(lead_in_s=lead_in_s, pace=False)) as frames:
        for number, frame in enumerate(frames, start=1):
            scores.append(detector.feed(frame))
            trigger = gate.feed(scores[-1], number * FRAME_S)
            if trigger is not None:
                triggers.append(trigger)
    return scores, triggers


def test_there_are_three_voices() -> None:
    assert len(WAKE_WORDS) == 3


@pytest.mark.parametrize("clip", WAKE_WORDS, ids=lambda clip: clip.stem)
@pytest.mark.parametrize("lead_in_s", [2.5, 2.52, 2.54, 2.56])
def test_the_wake_word_fires_once_wherever_frames_begin(clip: Path, lead_in_s: float) -> None:
    _, triggers = hear(clip, lead_in_s)
    assert len(triggers) == 1
    assert triggers[0].score >= NORMAL
    assert lead_in_s < triggers[0].at_s < lead_in_s + 2.0


@pytest.mark.parametrize("lead_in_s", [2.5, 2.52, 2.54, 2.56])
def test_the_near_miss_does_not_fire(lead_in_s: float) -> None:
    scores, triggers = hear(NEAR_MISS, lead_in_s)
    assert triggers == []
    assert max(score for score in scores if score is not None) < NORMAL / 2.0


def test_the_same_recording_gives_identical_scores_and_events() -> None:
    assert hear(WAKE_WORDS[0]) == hear(WAKE_WORDS[0])


def test_the_first_score_needs_two_seconds_of_audio() -> None:
    detector = NativeDetector()
    scores = [detector.feed(np.zeros(FRAME_SAMPLES, np.int16)) for _ in range(26)]
    assert scores[:24] == [None] * 24
    assert all(score is not None and 0.0 <= score < 0.01 for score in scores[24:])


def test_a_detector_is_called_after_its_model_file() -> None:
    assert NativeDetector().model == NativeDetector(shipped_model_path()).model == "ssabiseu"


def test_a_model_of_another_shape_is_refused_with_both_shapes() -> None:
    with pytest.raises(SettingsError) as refused:
        NativeDetector(embedding_model_path())
    assert "embedding_model.onnx" in str(refused.value)
    assert "76, 32, 1" in str(refused.value)
    assert "(1, 16, 96)" in str(refused.value)


@pytest.mark.parametrize("content", [None, b"", b"no model"], ids=["missing", "empty", "text"])
def test_an_unreadable_model_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "mine.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"mine\.onnx.*\(1, 16, 96\)") as refused:
        NativeDetector(path)
    assert refused.value.exit_code == 2
