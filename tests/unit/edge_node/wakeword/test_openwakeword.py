"""Our engine beside the package whose features it computes."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from contract.errors import SettingsError, StartError
from edge_node.audio.format import FRAME_SAMPLES
from edge_node.wakeword import batch as twin
from edge_node.wakeword import openwakeword
from edge_node.wakeword.native import Head
from edge_node.wakeword.openwakeword import OpenWakeWordDetector

WORDS = sorted((Path(__file__).parents[3] / "data").glob("*.wav"))


# It does not install on later ones. Nothing is skipped there: there is nothing to compare with.
if sys.version_info < (3, 12):

    @pytest.mark.filterwarnings("ignore")
    def test_the_native_engine_scores_as_openwakeword_does() -> None:
        noise = np.random.default_rng(1).normal(0.0, 300.0, 16_000 * (4 + 3 * len(WORDS)))
        for number, clip in enumerate(WORDS):
            speech, _ = soundfile.read(clip, dtype="int16")
            begin = 16_000 * (3 + 3 * number)
            noise[begin : begin + len(speech)] += speech
        samples = np.clip(noise, -32768, 32767).astype(np.int16)
        detector = OpenWakeWordDetector()
        frames = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
        theirs = [detector.feed(frame) for frame in frames]
        ours = twin.scores(samples, Head(second_stage=False))
        assert [score is None for score in theirs] == list(np.isnan(ours))
        told = np.array([score for score in theirs if score is not None])
        np.testing.assert_allclose(ours[~np.isnan(ours)], told, rtol=0.0, atol=1e-4)
        assert told.max() > detector.advice.thresholds["normal"]
        assert detector.model == "ssabiseu"


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openwakeword", None)
    monkeypatch.setitem(sys.modules, "openwakeword.model", None)
    with pytest.raises(StartError, match=r"sarvis\[openwakeword\].*native"):
        OpenWakeWordDetector()


def test_a_model_that_is_none_is_refused_as_by_the_native_engine(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_text("no model")
    with pytest.raises(SettingsError, match=r"mine\.onnx"):
        openwakeword.OpenWakeWordDetector(tmp_path / "mine.onnx")
