from pathlib import Path

import jax
import numpy as np
import numpy.typing as npt
import onnx
import pytest

from edge_node.wakeword.native import ADVICE, Head, shipped_model_path
from edge_node.wakeword.runtime import open_model
from edge_node.wakeword.second_stage import FRAMES, ROWS, SECOND
from edge_node.wakeword.training.graph import annotate, kept
from edge_node.wakeword.training.second import export, fresh, logits, rows_of, with_second

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


def test_the_exported_logit_is_shifted_by_the_bias_and_both_are_stretched_by_the_slope(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(0.0, 2.0, (3, ROWS, 32)).astype(np.float32)
    export(network(1), tmp_path / "plain.onnx", {})
    export(network(1), tmp_path / "fitted.onnx", {}, slope=0.4, bias=-1.5)
    plain = np.array(exported(tmp_path / "plain.onnx", rows))
    np.testing.assert_allclose(exported(tmp_path / "fitted.onnx", rows), 0.4 * (plain - 1.5), atol=1e-5)


def test_a_head_is_given_a_second_stage_in_place_of_its_old_one_and_keeps_its_other_notes(tmp_path: Path) -> None:
    model, rows = tmp_path / "mine.onnx", np.random.default_rng(1).normal(0.0, 2.0, (1, ROWS, 32)).astype(np.float32)
    model.write_bytes(shipped_model_path().read_bytes())
    advice = '{"thresholds": {"lenient": 0.1, "normal": 0.2, "strict": 0.3}, "patience": 3}'
    annotate(model, {ADVICE: advice, "word": "싸비스"})
    for seed, asked_from in ((1, 0.9), (2, 0.25)):
        export(network(seed), tmp_path / "second.onnx", {})
        with_second(model, tmp_path / "second.onnx", asked_from)
    second = Head(model).second
    assert second is not None
    assert second.asked_from == 0.25
    assert second.logit(rows[0].reshape(FRAMES, 8, 32)) == exported(tmp_path / "second.onnx", rows)[0]
    notes = {entry.key: entry.value for entry in onnx.load(str(model)).metadata_props}
    assert {name: value for name, value in notes.items() if name != SECOND} == {ADVICE: advice, "word": "싸비스"}
    assert Head(model).score(window := np.ones((16, 96), np.float32)) == Head().score(window)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mine.onnx", "second.onnx"]


def test_what_is_no_second_stage_is_not_put_into_a_head(tmp_path: Path) -> None:
    model = tmp_path / "mine.onnx"
    model.write_bytes(shipped_model_path().read_bytes())
    with pytest.raises(ValueError, match=r"\(1, 16, 96\).*expected.*\(1, 160, 32\)"):
        with_second(model, shipped_model_path(), 0.2)
    export(network(1), tmp_path / "second.onnx", {})
    with pytest.raises(ValueError, match=r"1\.2"):
        with_second(model, tmp_path / "second.onnx", 1.2)
    assert model.read_bytes() == shipped_model_path().read_bytes()
