"""Small networks on 16 embeddings, in JAX for learning and in ONNX for the edge; an ensemble is one file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_node.wakeword.incremental import EMBEDDING_SIZE
from edge_node.wakeword.native import HEAD_EMBEDDINGS

Architecture: TypeAlias = Literal["dense", "conv"]
Weights: TypeAlias = dict[str, jax.Array]
Windows: TypeAlias = npt.NDArray[np.float32]

_DENSE = (64, 32)
_CHANNELS = 48
_KERNEL = 3
_OPSET = 17
_IR_VERSION = 9


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and deviation of each of the 96 numbers of an embedding, float32 (96,)."""

    mean: npt.NDArray[np.float32]
    deviation: npt.NDArray[np.float32]


def fresh(architecture: Architecture, key: jax.Array) -> Weights:
    """Random weights (He)."""
    keys = iter(jax.random.split(key, 8))

    def layer(name: str, *shape: int) -> Weights:
        fan_in = int(np.prod(shape[:-1]))
        return {
            f"{name}.w": jax.random.normal(next(keys), shape) * np.sqrt(2.0 / fan_in),
            f"{name}.b": jnp.zeros(shape[-1]),
        }

    if architecture == "dense":
        wide, narrow = _DENSE
        return {
            **layer("in", HEAD_EMBEDDINGS * EMBEDDING_SIZE, wide),
            **layer("mid", wide, narrow),
            **layer("out", narrow, 1),
        }
    return {
        **layer("in", EMBEDDING_SIZE, _CHANNELS),
        **layer("conv1", _KERNEL, _CHANNELS, _CHANNELS),
        **layer("conv2", _KERNEL, _CHANNELS, _CHANNELS),
        **layer("look", _CHANNELS, 1),
        **layer("mid", 2 * _CHANNELS, 32),
        **layer("out", 32, 1),
    }


def logits(
    architecture: Architecture, weights: Weights, windows: jax.Array, drop: tuple[jax.Array, float] | None = None
) -> jax.Array:
    """(n,) of scaled windows (n, 16, 96); with `drop` (key, rate) for learning."""
    masks = iter(jax.random.split(drop[0], 4)) if drop else iter(())

    def dropped(values: jax.Array) -> jax.Array:
        if drop is None:
            return values
        kept = jax.random.bernoulli(next(masks), 1 - drop[1], values.shape)
        return jnp.where(kept, values / (1 - drop[1]), 0.0)

    def dense(name: str, values: jax.Array) -> jax.Array:
        return values @ weights[f"{name}.w"] + weights[f"{name}.b"]

    if architecture == "dense":
        hidden = dropped(jax.nn.relu(dense("in", windows.reshape(len(windows), -1))))
        return dense("out", dropped(jax.nn.relu(dense("mid", hidden))))[:, 0]
    hidden = jax.nn.relu(dense("in", windows))
    for name in ("conv1", "conv2"):
        hidden = dropped(jax.nn.relu(_conv(hidden, weights[f"{name}.w"]) + weights[f"{name}.b"]))
    look = jax.nn.softmax(dense("look", hidden), axis=1)
    pooled = jnp.concatenate([(look * hidden).sum(1), hidden.max(1)], axis=1)
    return dense("out", dropped(jax.nn.relu(dense("mid", pooled))))[:, 0]


def _conv(values: jax.Array, kernel: jax.Array) -> jax.Array:
    """Over time without padding, as products of matrices: faster on a processor than XLA's convolution."""
    steps = values.shape[1] - kernel.shape[0] + 1
    return sum((values[:, at : at + steps] @ kernel[at] for at in range(kernel.shape[0])), jnp.zeros(()))


@dataclass(frozen=True, slots=True)
class Member:
    """One network of an ensemble, learned."""

    architecture: Architecture
    weights: dict[str, npt.NDArray[np.float32]]
    scale: Scale


def export(members: Sequence[Member], path: Path, notes: dict[str, str], bias: float = 0.0, slope: float = 1.0) -> None:
    """Write the ensemble as one openWakeWord head: (1, 16, 96) -> (1, 1), sigmoid of slope x (mean logit + bias).

    `notes` goes into the file's metadata.
    """
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    names = _Names(nodes, constants)
    outputs = [_member(names, number, member) for number, member in enumerate(members)]
    total = outputs[0] if len(outputs) == 1 else names.add("Sum", outputs)
    mean = names.add("Mul", [total, names.constant(np.float32(slope / len(members)))])
    shifted = names.add("Add", [mean, names.constant(np.float32(slope * bias))])
    nodes.append(helper.make_node("Sigmoid", [shifted], ["score"]))
    graph = helper.make_graph(
        nodes,
        "wake word",
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, [1, HEAD_EMBEDDINGS, EMBEDDING_SIZE])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [1, 1])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    helper.set_model_props(model, notes)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    onnx.save(model, part)
    part.replace(path)


class _Names:
    """Nodes and constants under numbered names."""

    def __init__(self, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> None:
        self._nodes = nodes
        self._constants = constants

    def add(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, values: npt.ArrayLike) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name


def _member(names: _Names, number: int, member: Member) -> str:  # noqa: ARG001 numbers are the caller's order
    weights = member.weights
    centred = names.add("Sub", ["embeddings", names.constant(member.scale.mean)])
    scaled = names.add("Mul", [centred, names.constant((1.0 / member.scale.deviation).astype(np.float32))])

    def dense(name: str, of: str) -> str:
        product = names.add("MatMul", [of, names.constant(weights[f"{name}.w"])])
        return names.add("Add", [product, names.constant(weights[f"{name}.b"])])

    def relu(of: str) -> str:
        return names.add("Relu", [of])

    if member.architecture == "dense":
        flat = names.add("Reshape", [scaled, names.constant(np.array([1, -1], np.int64))])
        return dense("out", relu(dense("mid", relu(dense("in", flat)))))
    hidden = names.add("Transpose", [relu(dense("in", scaled))], perm=[0, 2, 1])
    for name in ("conv1", "conv2"):
        # ONNX wants (out, in, time), ours is (time, in, out).
        kernel = names.constant(np.ascontiguousarray(weights[f"{name}.w"].transpose(2, 1, 0)))
        hidden = relu(names.add("Conv", [hidden, kernel, names.constant(weights[f"{name}.b"])], kernel_shape=[_KERNEL]))
    back = names.add("Transpose", [hidden], perm=[0, 2, 1])
    look = names.add("Softmax", [dense("look", back)], axis=1)
    axis = names.constant(np.array([1], np.int64))
    attended = names.add("ReduceSum", [names.add("Mul", [look, back]), axis], keepdims=0)
    highest = names.add("ReduceMax", [back], axes=[1], keepdims=0)
    return dense("out", relu(dense("mid", names.add("Concat", [attended, highest], axis=1))))
