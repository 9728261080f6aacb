"""The model that comes with SARVIS, as tests want it."""

from pathlib import Path

import onnx
from onnx import helper

from edge_node.wakeword.native import shipped_model_path
from edge_node.wakeword.second_stage import FIRST, SECOND


def first_stage(path: Path) -> Path:
    """Write the shipped model without its second stage."""
    model = onnx.load(shipped_model_path())
    helper.set_model_props(
        model, {one.key: one.value for one in model.metadata_props if one.key not in {SECOND, FIRST}}
    )
    onnx.save(model, path)
    return path
