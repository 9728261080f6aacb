"""Configures onnxruntime: one thread, no telemetry.

From 1.32 on, onnxruntime for Linux writes a device id and events below the home and temporary folders and uploads them,
unless ORT_DISABLE_TELEMETRY is set when it is imported. So only this module imports it.
"""

import os
from pathlib import Path
from typing import TypeAlias

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

Model: TypeAlias = onnxruntime.InferenceSession


def open_model(path: Path) -> Model:
    """The model on one CPU thread that sleeps between frames; raises onnxruntime's own errors."""
    return _open(str(path))


def open_bytes(model: bytes) -> Model:
    """The same of a model in memory."""
    return _open(model)


def _open(model: str | bytes) -> Model:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return Model(model, options, providers=["CPUExecutionProvider"])


def has_shapes(model: Model, given: tuple[int, ...], made: tuple[int, ...]) -> bool:
    """Whether the model maps one float32 tensor to one; open dimensions, named or None, fit as well."""
    inputs, outputs = model.get_inputs(), model.get_outputs()
    return (
        len(inputs) == len(outputs) == 1
        and inputs[0].type == outputs[0].type == "tensor(float)"
        and _fits(inputs[0].shape, given)
        and _fits(outputs[0].shape, made)
    )


def shapes_of(model: Model) -> str:
    """Shapes of all inputs, then of all outputs, for messages."""
    return ", ".join(str(tuple(part.shape)) for part in (*model.get_inputs(), *model.get_outputs()))


def _fits(shape: list[int | str | None], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        size == want or not isinstance(size, int) for size, want in zip(shape, wanted, strict=True)
    )
