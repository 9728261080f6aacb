from pathlib import Path

import jax
import numpy as np
import numpy.typing as npt
import onnx
import pytest

from edge_node.wakeword.runtime import open_model
from edge_node.wakeword.training.graph import kept
from edge_node.wakeword.training.second import FRAMES, ROWS, export, fresh, logits, rows_of

# Compiled as a whole, which takes less time than its parts.
LOGITS = jax.jit(logits)


def network(seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """Random weights and biases."""
    chance = np.random.default_rng(seed)
    return {
        name: kept(chance.normal(0.0, 0.15, values.shape))
        for name, values in jax.eval_shape(fresh, jax.random.PRNGKey(0)).items()
    }


def logits_of(weights: dict[str, npt.NDArray[np.float32]], rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(LOGITS(weights, rows))


def exported(path: Path, rows: npt.NDArray[np.float32]) -> list[float]:
    session = open_model(path)
    return [float(session.run(None, {"rows": one[np.newaxis]})[0][0, 0]) for one in rows]


def test_the_exported_network_gives_the_logits_that_jax_gives(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(3.0, 2.0, (5, ROWS, 32)).cumsum(1).astype(np.float32)
    rows[-1] *= 1e-4  # nearly silent
    weights = network(1)
    export(weights, tmp_path / "second.onnx", {})
    expected = logits_of(weights, rows)
    assert np.ptp(expected) > 0.01, "rows differ"
    np.testing.assert_allclose(exported(tmp_path / "second.onnx", rows), expected, rtol=1e-4, atol=1e-4)


def test_loudness_does_not_matter_and_silence_has_a_finite_logit(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(0.0, 2.0, (1, ROWS, 32)).astype(np.float32)
    silence = np.zeros_like(rows)
    export(network(1), tmp_path / "second.onnx", {})
    quiet, loud, nothing = exported(tmp_path / "second.onnx", np.concatenate([rows, rows + 5, silence]))
    assert loud == pytest.approx(quiet, abs=1e-3)
    assert np.isfinite(nothing)
    assert nothing == pytest.approx(float(logits_of(network(1), silence)[0]), abs=1e-4)


def test_notes_are_read_from_the_file_and_no_part_is_left(tmp_path: Path) -> None:
    export(network(1), tmp_path / "second.onnx", {"word": "싸비스"})
    model = onnx.load(str(tmp_path / "second.onnx"))
    assert {entry.key: entry.value for entry in model.metadata_props} == {"word": "싸비스"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["second.onnx"]


def test_rows_end_with_the_frame_that_is_asked_for() -> None:
    mel = np.arange(3 * 28 * 8 * 32).reshape(3, 28, 8, 32).astype(np.float16)
    pairs = np.array([(0, FRAMES - 1), (2, 27), (1, 22)])
    found = rows_of(mel, pairs)
    assert found.shape == (3, ROWS, 32)
    assert found.dtype == np.float32
    for one, (scene, last) in zip(found, pairs, strict=True):
        np.testing.assert_array_equal(one, mel[scene, last - FRAMES + 1 : last + 1].reshape(ROWS, 32))


def test_only_dropping_something_changes_the_logits() -> None:
    weights, key = network(1), jax.random.PRNGKey(2)
    rows = np.random.default_rng(1).normal(0.0, 1.0, (1, ROWS, 32)).astype(np.float32)
    plain = LOGITS(weights, rows)
    np.testing.assert_allclose(LOGITS(weights, rows, (key, 0.0)), plain, atol=1e-5)
    assert not np.allclose(LOGITS(weights, rows, (key, 0.5)), plain, atol=1e-3)
