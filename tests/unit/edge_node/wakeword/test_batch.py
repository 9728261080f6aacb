from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from contract.errors import StartError
from edge_node.audio.format import FRAME_SAMPLES
from edge_node.wakeword import batch as twin
from edge_node.wakeword import selftest
from edge_node.wakeword.native import Head, NativeDetector

DATA = Path(__file__).parents[3] / "data"


def recording(seconds: float = 20.0) -> npt.NDArray[np.int16]:
    """Noise with clips in it."""
    samples = np.random.default_rng(3).normal(0.0, 300.0, round(seconds * 16_000))
    for number, clip in enumerate(sorted(DATA.glob("*.wav"))):
        speech, _ = soundfile.read(clip, dtype="int16")
        at = round((2.5 + 3.0 * number) * 16_000)
        samples[at : at + len(speech)] += speech[: len(samples) - at]
    return np.clip(samples, -32768, 32767).astype(np.int16)


def streamed(samples: npt.NDArray[np.int16], model: Path | None = None) -> npt.NDArray[np.float32]:
    detector = NativeDetector(model)
    frames = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    found = [detector.feed(frame) for frame in frames]
    return np.array([np.nan if score is None else score for score in found], np.float32)


@pytest.mark.parametrize("streams", [1, 2, 7, 32, 1000])
def test_the_twin_gives_the_scores_of_the_stream_bit_for_bit(streams: int) -> None:
    samples = recording()
    there = streamed(samples)
    np.testing.assert_array_equal(twin.scores(samples, Head(), streams), there)
    assert np.nanmax(there) > Head().advice.thresholds["normal"], "a word is in it"


@pytest.mark.parametrize("frames", [0, 1, 9, 10, 24, 25, 26, 40])
def test_short_recordings_have_the_same_ends(frames: int) -> None:
    samples = recording(4.0)[: frames * FRAME_SAMPLES + 100]
    np.testing.assert_array_equal(twin.scores(samples, Head()), streamed(samples))


def test_the_engine_knows_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    selftest.check()
    monkeypatch.setattr(selftest, "sound", lambda: [frame // 2 for frame in _sound()])
    with pytest.raises(StartError, match="Reinstall numpy and onnxruntime"):
        selftest.check()


_sound = selftest.sound
