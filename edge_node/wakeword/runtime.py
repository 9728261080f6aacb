"""onnxruntime, as a device in somebody's room may run it: one quiet thread, and no word to anybody.

From 1.32 on, onnxruntime for Linux writes a device id and events below the home and temporary folders and uploads
them, unless ORT_DISABLE_TELEMETRY is set when it is imported. So it is imported here and nowhere else.
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
