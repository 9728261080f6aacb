from pathlib import Path

import pytest

from edge_node.training import heads, tried
from edge_node.wakeword.native import Head
from tests.unit.edge_node.training.test_heads import exported, member

pytestmark = pytest.mark.slow


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
