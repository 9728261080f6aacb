from pathlib import Path

import numpy as np
import onnx
import pytest

from contract.errors import StartError
from edge_node.wakeword.features import embedding_model_path
from edge_node.wakeword.incremental import IncrementalNetwork


def rows(count: int, seed: int = 1) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return np.random.default_rng(seed).normal(0.0, 1.0, (count, 8, 32)).astype(np.float32)


def test_a_stream_is_the_same_bit_for_bit_whatever_runs_beside_it() -> None:
    many, one = IncrementalNetwork(embedding_model_path(), 7), IncrementalNetwork(embedding_model_path())
    streams = [rows(30, seed) for seed in range(7)]
    for frame in range(30):
        together = many.feed(np.stack([stream[frame] for stream in streams]))
        np.testing.assert_array_equal(together[3], one.feed(streams[3][np.newaxis, frame])[0])


def test_what_was_heard_before_the_last_76_rows_is_forgotten() -> None:
    one, other = IncrementalNetwork(embedding_model_path()), IncrementalNetwork(embedding_model_path())
    for frame in rows(20, 5):
        one.feed(frame[np.newaxis])
    for frame in rows(12):
        last = one.feed(frame[np.newaxis]), other.feed(frame[np.newaxis])
    np.testing.assert_array_equal(*last)


def test_another_network_is_refused_by_name(tmp_path: Path) -> None:
    strange = onnx.helper.make_model(
        onnx.helper.make_graph([onnx.helper.make_node("Tanh", ["rows"], ["y"])], "strange", [], [])
    )
    path = tmp_path / "strange.onnx"
    onnx.save(strange, str(path))
    with pytest.raises(StartError, match=r"strange\.onnx .* Tanh"):
        IncrementalNetwork(path)
