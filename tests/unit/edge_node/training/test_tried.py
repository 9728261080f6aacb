from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_node.wakeword.native import Head
from edge_node.wakeword.training import heads, tried
from edge_node.wakeword.training.features import KEPT_FRAMES, SceneBlock
from tests.unit.edge_node.training.test_heads import exported, member

CHANCE = np.random.default_rng(3)


def scenes(count: int) -> SceneBlock:
    return SceneBlock(
        CHANCE.normal(0.0, 5.0, (count, KEPT_FRAMES, 96)).astype(np.float16),
        CHANCE.normal(2.0, 1.0, (count, KEPT_FRAMES, 8, 32)).astype(np.float16),
        np.full(count, 22 * 1280),
        np.arange(count),
    )


def recording(frames: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    embedded = CHANCE.normal(0.0, 5.0, (frames, 96)).astype(np.float32)
    embedded[:9] = np.nan
    return embedded, CHANCE.normal(2.0, 1.0, (frames, 8, 32)).astype(np.float32)


def test_networks_of_an_ensemble_become_models_by_name(tmp_path: Path) -> None:
    one, two = member("dense", 1), member("conv", 2)
    tried.networks(tmp_path, {"dense": [one], "both": [one, two]})
    heads.export([one], tmp_path / "expected.onnx", {})
    assert exported(tmp_path / "dense.onnx") == exported(tmp_path / "expected.onnx")
    assert exported(tmp_path / "both.onnx") != exported(tmp_path / "expected.onnx")


def test_the_same_model_with_more_patience(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    heads.export([member("conv", 1)], model, {})
    tried.more_patient(tmp_path, model, 3)
    patient = Head(tmp_path / "patience-3.onnx")
    assert patient.advice.patience == 3
    assert patient.advice.thresholds == Head(model).advice.thresholds
    assert exported(patient.path) == exported(model)
    assert Head(model).advice.patience == 2


def test_a_second_stage_is_learned_and_put_into_a_copy_of_the_model(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    heads.export([member("conv", 1)], model, {}, bias=9.0)  # takes all for the word
    is_word = np.array([True, False] * 4)
    tried.with_second_stage(
        tmp_path, model, scenes(8), is_word, {"one": recording(60), "two": recording(40)}, seed=1, steps=3
    )
    both = Head(tmp_path / "second-stage.onnx")
    assert both.second is not None
    assert Head(model).second is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "second-stage.onnx"]
    embedded, rows = recording(60)
    window = embedded[30:46]
    assert both.score(window) == Head(model).score(window)
    assert both.judge(window, rows[26:46]) != both.score(window)


def test_candidates_are_of_the_recording_that_they_were_found_in(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    heads.export([member("conv", 1)], model, {})
    first, second = recording(60), recording(40)
    found = tried._candidates(Head(model), {"one": first, "two": second})
    assert sorted(found.last) == [*range(24, 60), *range(60 + 24, 100)], "every frame with a score and rows enough"
    at = list(found.last).index(60 + 30)
    np.testing.assert_array_equal(found.rows(np.array([at])).reshape(20, 8, 32), second[1][11:31])
