"""Computes the embedding network incrementally: the same numbers for a quarter of the work.

The network slides over 76 mel rows, and 68 of them were there in the frame before. None of its convolutions pads in
time, and its strides multiply to the 8 rows of a frame. So each convolution over three rows keeps the last two of its
input, and the 8 rows of a frame give exactly one embedding. The graph is rewritten in memory, from the package's file.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from contract.errors import StartError
from edge_node.wakeword.runtime import Model, open_bytes

ROWS_PER_FRAME = 8
MEL_BINS = 32
EMBEDDING_SIZE = 96
WARM_UP_FRAMES = 10
"""Before that some of the 76 rows are no real audio."""

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]

_KEPT_ROWS = 2
_STREAMS = "streams"
_PASSED_ON = {"LeakyRelu": ("alpha",), "Max": (), "MaxPool": ("kernel_shape", "strides")}


class IncrementalNetwork:
    """Embeds frame after frame of one or several independent streams.

    The result for a stream is the same, bit for bit, whatever streams run beside it.
    """

    def __init__(self, path: Path, streams: int = 1) -> None:
        self._session, shapes = _opened(path)
        self._states = [np.zeros((streams, *shape), np.float32) for shape in shapes]

    def feed(self, rows: Floats) -> Floats:
        """Embeddings, float32 (streams, 96), of the 76 rows that end with these: float32 (streams, 8, 32)."""
        given = {"rows": rows[:, np.newaxis]}
        given |= {f"kept_{number}": state for number, state in enumerate(self._states)}
        embedding, *self._states = self._session.run(None, given)
        found: Floats = embedding
        return found


@cache
def _opened(path: Path) -> tuple[Model, list[tuple[int, int, int]]]:
    """The rewritten network, which keeps nothing itself and may run in several threads, and the shapes of its states.

    Once in a process: a node's start uses it for the check and for listening.
    """
    graph = _Graph(path)
    return open_bytes(graph.model.SerializeToString()), graph.states


class _Graph:
    """The rewritten network, and the shapes of what its convolutions keep."""

    def __init__(self, path: Path) -> None:
        source = onnx.load(str(path)).graph
        self.states: list[tuple[int, int, int]] = []
        self._weights = {weight.name: weight for weight in source.initializer}
        self._used: set[str] = set()
        self._nodes: list[Any] = []
        self._inputs = [_tensor("rows", (1, ROWS_PER_FRAME, MEL_BINS))]
        self._outputs: list[Any] = []
        self._last, self._shape = "rows", (1, ROWS_PER_FRAME, MEL_BINS)
        for node in source.node:
            self._take_over(path, node)
        self._nodes.append(helper.make_node("Flatten", [self._last], ["embedding"], axis=1))
        self.model = helper.make_model(
            helper.make_graph(
                self._nodes,
                "incremental",
                self._inputs,
                [_tensor("embedding", (EMBEDDING_SIZE,)), *self._outputs],
                [*(self._weights[name] for name in sorted(self._used)), *_constants()],
            ),
            opset_imports=[helper.make_opsetid("", 13)],
            ir_version=8,
        )

    def _take_over(self, path: Path, node: Any) -> None:
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Reshape":
            return  # only about where the one channel stands
        if node.op_type == "Conv":
            self._convolve(node, attributes)
        elif node.op_type in _PASSED_ON:
            kept = {name: attributes[name] for name in _PASSED_ON[node.op_type]}
            self._used.update(node.input[1:])
            self._nodes.append(helper.make_node(node.op_type, [self._last, *node.input[1:]], node.output, **kept))
            channels, rows, bins = self._shape
            over_rows, over_bins = kept.get("strides", (1, 1))
            self._shape = (channels, rows // over_rows, bins // over_bins)
        else:
            raise StartError(f"{path} is another network than SARVIS knows: it has a {node.op_type}")
        self._last = node.output[0]

    def _convolve(self, node: Any, attributes: dict[str, Any]) -> None:
        self._used.update(node.input[1:])
        filters, _, over_rows, _ = numpy_helper.to_array(self._weights[node.input[1]]).shape
        source = self._last if over_rows == 1 else self._with_what_was_kept()
        self._nodes.append(
            helper.make_node(
                "Conv",
                [source, *node.input[1:]],
                node.output,
                kernel_shape=attributes["kernel_shape"],
                pads=attributes.get("pads", [0, 0, 0, 0]),
            )
        )
        self._shape = (filters, *self._shape[1:])

    def _with_what_was_kept(self) -> str:
        number = len(self.states)
        channels, _, bins = self._shape
        shape = (channels, _KEPT_ROWS, bins)
        self.states.append(shape)
        self._inputs.append(_tensor(f"kept_{number}", shape))
        self._outputs.append(_tensor(f"keep_{number}", shape))
        both = f"both_{number}"
        self._nodes.append(helper.make_node("Concat", [f"kept_{number}", self._last], [both], axis=2))
        self._nodes.append(helper.make_node("Slice", [both, "from", "to", "over_rows"], [f"keep_{number}"]))
        return both


def _tensor(name: str, shape: tuple[int, ...]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [_STREAMS, *shape])


def _constants() -> list[Any]:
    values = {"from": -_KEPT_ROWS, "to": np.iinfo(np.int64).max, "over_rows": 2}
    return [numpy_helper.from_array(np.array([value], np.int64), name) for name, value in values.items()]
