import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import numpy.typing as npt
import onnx
import pytest

from edge_node.training.graph import kept
from edge_node.training.heads import Architecture, Member, Scale, export, fresh, logits
from edge_node.wakeword.native import ADVICE, Advice, Head

pytestmark = pytest.mark.slow

ARCHITECTURES: tuple[Architecture, ...] = ("dense", "conv")
# Compiled as a whole, which takes less time than its parts.
LOGITS = {architecture: jax.jit(partial(logits, architecture)) for architecture in ARCHITECTURES}


def member(architecture: Architecture, seed: int) -> Member:
    """A network with random weights and biases."""
    chance = np.random.default_rng(seed)
    shapes = jax.eval_shape(partial(fresh, architecture), jax.random.PRNGKey(0))
    weights = {
        name: kept(chance.normal(0.0, np.sqrt(2.0 / np.prod(values.shape[:-1])), values.shape))
        for name, values in shapes.items()
    }
    mean, deviation = chance.normal(0.0, 5.0, 96), chance.uniform(2.0, 20.0, 96)
    return Member(architecture, weights, Scale(mean.astype(np.float32), deviation.astype(np.float32)))


def windows(count: int = 6) -> npt.NDArray[np.float32]:
    return np.random.default_rng(7).normal(0.0, 12.0, (count, 16, 96)).astype(np.float32)


def logits_of(one: Member) -> npt.NDArray[np.float64]:
    scaled = (windows() - one.scale.mean) / one.scale.deviation
    return np.asarray(LOGITS[one.architecture](one.weights, scaled), np.float64)


def sigmoid(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1 / (1 + np.exp(-values))


def exported(path: Path) -> list[float]:
    head = Head(path)
    return [head.score(window) for window in windows()]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_exported_network_gives_the_scores_that_jax_gives(tmp_path: Path, architecture: Architecture) -> None:
    one = member(architecture, 1)
    export([one], tmp_path / "one.onnx", {})
    expected = sigmoid(logits_of(one))
    assert np.ptp(expected) > 0.01, "windows differ"
    np.testing.assert_allclose(exported(tmp_path / "one.onnx"), expected, atol=1e-5)


def test_an_ensemble_is_the_mean_of_its_members_logits(tmp_path: Path) -> None:
    members = [member("conv", 1), member("dense", 2), member("conv", 3)]
    export(members, tmp_path / "three.onnx", {})
    mean = np.mean([logits_of(one) for one in members], axis=0)
    np.testing.assert_allclose(exported(tmp_path / "three.onnx"), sigmoid(mean), atol=1e-5)


@pytest.mark.parametrize("bias", [-0.7, 0.4])
def test_bias_shifts_the_mean_logit(tmp_path: Path, bias: float) -> None:
    members = [member("dense", 1), member("dense", 2)]
    export(members, tmp_path / "two.onnx", {}, bias=bias)
    mean = np.mean([logits_of(one) for one in members], axis=0)
    np.testing.assert_allclose(exported(tmp_path / "two.onnx"), sigmoid(mean + bias), atol=1e-5)


def test_notes_are_read_from_the_file(tmp_path: Path) -> None:
    advice = {"thresholds": {"lenient": 0.2, "normal": 0.4, "strict": 0.6}, "patience": 3}
    path = tmp_path / "one.onnx"
    export([member("dense", 1)], path, {"word": "싸비스", ADVICE: json.dumps(advice)})
    found = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    assert found == {"word": "싸비스", ADVICE: json.dumps(advice)}
    assert Head(path).advice == Advice({"lenient": 0.2, "normal": 0.4, "strict": 0.6}, 3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_engine_accepts_the_file_as_a_head_of_its_name(tmp_path: Path, architecture: Architecture) -> None:
    export([member(architecture, 1)], tmp_path / "mine.onnx", {})
    head = Head(tmp_path / "mine.onnx")
    assert (head.name, head.advice) == ("mine", Advice())


def test_a_file_is_written_whole_into_a_folder_that_need_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "models" / "mine.onnx"
    export([member("dense", 1)], path, {})
    export([member("dense", 2)], path, {})
    assert [entry.name for entry in path.parent.iterdir()] == ["mine.onnx"]
    np.testing.assert_allclose(exported(path), sigmoid(logits_of(member("dense", 2))), atol=1e-5)


def test_fresh_weights_are_of_the_key_and_begin_without_bias() -> None:
    compute = jax.jit(partial(fresh, "dense"))
    first, same, other = (compute(jax.random.PRNGKey(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], same[name]) for name in first)
    assert not np.array_equal(first["in.w"], other["in.w"])
    assert not any(np.any(values) for name, values in first.items() if name.endswith(".b"))


def test_only_dropping_something_changes_the_logits() -> None:
    one, key, compute = member("dense", 1), jax.random.PRNGKey(2), LOGITS["dense"]
    plain = compute(one.weights, windows() / 12)
    np.testing.assert_allclose(compute(one.weights, windows() / 12, (key, 0.0)), plain, atol=1e-5)
    assert not np.allclose(compute(one.weights, windows() / 12, (key, 0.5)), plain, atol=1e-2)
