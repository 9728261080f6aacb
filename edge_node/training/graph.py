"""Small ONNX graphs, node by node."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

_OPSET = 17
_IR_VERSION = 9


def kept(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Learned numbers as they come back from a file."""
    return np.asarray(np.asarray(values, np.float16), np.float32)


class Graph:
    """A network in the making; names of nodes and constants are numbers."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """A node with one output; returns the output's name."""
        name = f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, values: npt.ArrayLike) -> str:
        """Numbers as they are."""
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def weights(self, values: npt.ArrayLike) -> str:
        """Learned numbers, kept in half the bytes (float16) and computed with as float32."""
        kept = self.constant(np.asarray(values, np.float16))
        return self.add("Cast", [kept], to=TensorProto.FLOAT)

    def write(
        self,
        path: Path,
        inputs: tuple[str, Sequence[int]],
        output: tuple[str, str, Sequence[int]],
        notes: Mapping[str, str],
    ) -> None:
        """Write the network: float32 input (name, shape), output (node, name, shape); `notes` become metadata."""
        node, name, shape = output
        end = helper.make_node("Identity", [node], [name])
        graph = helper.make_graph(
            [*self._nodes, end],
            self._title,
            [helper.make_tensor_value_info(inputs[0], TensorProto.FLOAT, inputs[1])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        helper.set_model_props(model, dict(notes))
        onnx.checker.check_model(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        save(model, path)


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a model whole, or not at all."""
    part = path.with_suffix(".part")
    onnx.save(model, part)
    part.replace(path)


def annotate(path: Path, notes: Mapping[str, str]) -> None:
    """Add `notes` to the metadata of a model's file, in place of those of the same names."""
    model = onnx.load(path)
    known = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(model, known | dict(notes))
    save(model, path)
