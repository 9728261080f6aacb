"""A phoneme recogniser: log-mel of up to 7.6 kHz through conformer blocks, one state or posterior per 20 ms.

The network is built in memory as ONNX, from the package's weights (`hama_weights.py`).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_node.wakeword.hama_weights import Weights, read_weights
from edge_node.wakeword.incremental import Floats
from edge_node.wakeword.runtime import Model, open_bytes

HOP_SAMPLES = 160
STATE_SIZE = 144
BLOCKS = 4
STATES_FROM = 3
"""Whose states a second stage sees: the output of this block."""

_WINDOW_SAMPLES = 400
_HEADS = 4
_KERNEL = 31
_LOWEST_POWER = 1e-10
_EPSILON = 1e-5
_FULL_SCALE = 32768.0

# Tensors that the exporter left without a name: the first of each block, counted on as they are used.
_DEPTHWISE, _DEPTHWISE_STEP = 804, 3
_PRODUCTS, _PRODUCTS_STEP = 829, 9


def states_of(samples: int) -> int:
    """The number of states that this number of samples gives."""
    return (samples // HOP_SAMPLES) // 2 + 1


class Recogniser:
    """Listens to pieces of one length; raises RecogniserMissingError without the package.

    Args:
        samples: length of each piece, at 16 kHz.
        blocks: how many of the blocks are computed; all BLOCKS give posteriors, fewer the states of the last.
    """

    def __init__(self, samples: int, blocks: int = STATES_FROM, weights: Weights | None = None) -> None:
        weights = read_weights() if weights is None else weights
        self._samples = samples
        rows = samples // HOP_SAMPLES + 1
        self._session: Model = open_bytes(_Builder(weights, rows, blocks).model().SerializeToString())

    def states(self, samples: npt.NDArray[np.int16]) -> Floats:
        """Of int16 (samples,): float32 (n, 144), or log posteriors (n, 191) with all blocks; n as `states_of`."""
        if samples.shape != (self._samples,):
            raise ValueError(f"it listens to pieces of {self._samples} samples, not {samples.shape}")
        # Mirrored at the ends, as the package does.
        padded = np.pad(samples.astype(np.float32) / np.float32(_FULL_SCALE), _WINDOW_SAMPLES // 2, mode="reflect")
        spans = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW_SAMPLES)[::HOP_SAMPLES]
        found: Floats = self._session.run(None, {"spans": np.ascontiguousarray(spans)})[0]
        return found


class _Builder:
    """Puts the graph together, node by node; values are (time, numbers) but where it says otherwise.

    Two dimensions, as products with three cost onnxruntime a reshape before and after each.
    """

    def __init__(self, weights: Weights, rows: int, blocks: int) -> None:
        self._weights = weights
        self._rows, self._blocks = rows, blocks
        self._states = (rows - 1) // 2 + 1
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def model(self) -> onnx.ModelProto:
        """Spans (rows, 400) -> states (n, 144), or log posteriors (n, 191) of all blocks."""
        hidden = self._stem(self._log_mel())
        for number in range(self._blocks):
            hidden = self._block(number, hidden)
        size = STATE_SIZE
        if self._blocks == BLOCKS:
            weights = self._weights["acoustic_model.model.proj.weight"][:, :, 0]
            size = len(weights)
            hidden = self._linear(hidden, weights.T, self._weights["acoustic_model.model.proj.bias"])
            hidden = self._add("LogSoftmax", [hidden], axis=-1)
        self._nodes.append(helper.make_node("Identity", [hidden], ["states"]))
        graph = helper.make_graph(
            self._nodes,
            "recogniser",
            [helper.make_tensor_value_info("spans", TensorProto.FLOAT, (self._rows, _WINDOW_SAMPLES))],
            [helper.make_tensor_value_info("states", TensorProto.FLOAT, (self._states, size))],
            self._constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)

    def _log_mel(self) -> str:
        """A row of 80 natural logarithms for every 10 ms, rounded to half precision as the package does."""
        kernels = [self._weights[f"stft_{part}_kernel"][:, 0].T for part in ("real", "imag")]
        both = self._add("MatMul", ["spans", self._constant(np.concatenate(kernels, axis=1))])
        squares = self._add("Mul", [both, both])
        filters = np.concatenate([self._weights["mel_fb"]] * 2)
        power = self._add("MatMul", [squares, self._constant(filters)])
        logarithm = self._add("Log", [self._add("Max", [power, self._constant(np.float32(_LOWEST_POWER))])])
        halves = self._add("Cast", [logarithm], to=TensorProto.FLOAT16)
        return self._add("Cast", [halves], to=TensorProto.FLOAT)

    def _stem(self, mel: str) -> str:
        parts = [self._over_time(mel), *(self._constant(self._weights[f"onnx::Conv_{at}"]) for at in (801, 802))]
        return self._back(self._add("Gelu", [self._add("Conv", parts, strides=[2], pads=[1, 1])]))

    def _block(self, number: int, hidden: str) -> str:
        name = f"acoustic_model.model.blocks.{number}."
        first = _PRODUCTS + _PRODUCTS_STEP * number
        hidden = self._half_forward(hidden, f"{name}ffn1", first)
        hidden = self._add("Add", [hidden, self._attention(hidden, name, first + 2)])
        hidden = self._add("Add", [hidden, self._convolution(hidden, f"{name}conv", number)])
        hidden = self._half_forward(hidden, f"{name}ffn2", first + 7)
        return self._norm(hidden, f"{name}norm")

    def _half_forward(self, hidden: str, name: str, product: int) -> str:
        inner = self._product(self._norm(hidden, f"{name}.norm"), product, f"{name}.fc1.bias")
        outer = self._product(self._silu(inner), product + 1, f"{name}.fc2.bias")
        return self._add("Add", [hidden, self._add("Mul", [outer, self._constant(np.float32(0.5))])])

    def _attention(self, hidden: str, name: str, product: int) -> str:
        """Every state looks at all others; no state knows its place."""
        size = STATE_SIZE // _HEADS
        all_three = self._product(self._norm(hidden, f"{name}attn_norm"), product, f"{name}attn.in_proj_bias")
        apart = self._constant(np.array([self._states, 3 * _HEADS, size], np.int64))
        by_head = self._add("Transpose", [self._add("Reshape", [all_three, apart])], perm=[1, 0, 2])
        query, key, value = (self._slice(by_head, part * _HEADS, (part + 1) * _HEADS, 0) for part in range(3))
        likeness = self._add("MatMul", [query, self._add("Transpose", [key], perm=[0, 2, 1])])
        scaled = self._add("Mul", [likeness, self._constant(np.float32(size**-0.5))])
        seen = self._add("MatMul", [self._add("Softmax", [scaled], axis=-1), value])
        joined = self._constant(np.array([self._states, STATE_SIZE], np.int64))
        flat = self._add("Reshape", [self._add("Transpose", [seen], perm=[1, 0, 2]), joined])
        return self._product(flat, product + 4, f"{name}attn.out_proj.bias")

    def _convolution(self, hidden: str, name: str, number: int) -> str:
        """What a gate lets through, over 31 states of each number alone; the norm of a batch is part of the weights."""
        both = self._pointwise(self._norm(hidden, f"{name}.norm"), f"{name}.pointwise1")
        value, gate = (self._slice(both, at, at + STATE_SIZE, 1) for at in (0, STATE_SIZE))
        gated = self._add("Mul", [value, self._add("Sigmoid", [gate])])
        at = _DEPTHWISE + _DEPTHWISE_STEP * number
        parts = [self._over_time(gated)]
        parts += [self._constant(self._weights[f"onnx::Conv_{place}"]) for place in (at, at + 1)]
        around = _KERNEL // 2
        convolved = self._add("Conv", parts, pads=[around, around], group=STATE_SIZE)
        return self._pointwise(self._back(self._silu(convolved)), f"{name}.pointwise2")

    def _over_time(self, values: str) -> str:
        """(time, numbers) -> (1, numbers, time), as convolutions want it."""
        first = self._constant(np.array([0], np.int64))
        return self._add("Unsqueeze", [self._add("Transpose", [values], perm=[1, 0]), first])

    def _back(self, values: str) -> str:
        first = self._constant(np.array([0], np.int64))
        return self._add("Transpose", [self._add("Squeeze", [values, first])], perm=[1, 0])

    def _pointwise(self, hidden: str, name: str) -> str:
        return self._linear(hidden, self._weights[f"{name}.weight"][:, :, 0].T, self._weights[f"{name}.bias"])

    def _product(self, hidden: str, number: int, bias: str) -> str:
        return self._linear(hidden, self._weights[f"onnx::MatMul_{number}"], self._weights[bias])

    def _linear(self, hidden: str, weights: Floats, bias: Floats) -> str:
        return self._add("Gemm", [hidden, self._constant(weights), self._constant(bias)])

    def _norm(self, hidden: str, name: str) -> str:
        parts = [hidden, *(self._constant(self._weights[f"{name}.{part}"]) for part in ("weight", "bias"))]
        return self._add("LayerNormalization", parts, axis=-1, epsilon=_EPSILON)

    def _silu(self, hidden: str) -> str:
        return self._add("Mul", [hidden, self._add("Sigmoid", [hidden])])

    def _slice(self, hidden: str, start: int, end: int, axis: int) -> str:
        return self._add("Slice", [hidden, *(self._constant(np.array([at], np.int64)) for at in (start, end, axis))])

    def _constant(self, values: npt.ArrayLike) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name
