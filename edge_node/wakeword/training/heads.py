"""Small networks on 16 embeddings, in JAX for learning and in ONNX for the edge; an ensemble is one file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from edge_node.wakeword.incremental import EMBEDDING_SIZE
from edge_node.wakeword.native import HEAD_EMBEDDINGS
from edge_node.wakeword.training.graph import Graph

Architecture: TypeAlias = Literal["dense", "conv"]
Weights: TypeAlias = dict[str, jax.Array]
Windows: TypeAlias = npt.NDArray[np.float32]

_DENSE = (64, 32)
_CHANNELS = 48
_KERNEL = 3
_INPUT = "embeddings"


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


def export(members: Sequence[Member], path: Path, notes: dict[str, str], bias: float = 0.0) -> None:
    """Write the ensemble as one openWakeWord head: (1, 16, 96) -> (1, 1), sigmoid of mean logit + bias.

    `notes` goes into the file's metadata.
    """
    graph = Graph("wake word")
    outputs = [_member(graph, member) for member in members]
    total = outputs[0] if len(outputs) == 1 else graph.add("Sum", outputs)
    mean = graph.add("Mul", [total, graph.constant(np.float32(1 / len(members)))])
    score = graph.add("Sigmoid", [graph.add("Add", [mean, graph.constant(np.float32(bias))])])
    graph.write(path, (_INPUT, (1, HEAD_EMBEDDINGS, EMBEDDING_SIZE)), (score, "score", (1, 1)), notes)


def _member(graph: Graph, member: Member) -> str:
    weights = member.weights
    centred = graph.add("Sub", [_INPUT, graph.constant(member.scale.mean)])
    scaled = graph.add("Mul", [centred, graph.constant((1.0 / member.scale.deviation).astype(np.float32))])

    def dense(name: str, of: str) -> str:
        product = graph.add("MatMul", [of, graph.weights(weights[f"{name}.w"])])
        return graph.add("Add", [product, graph.constant(weights[f"{name}.b"])])

    def relu(of: str) -> str:
        return graph.add("Relu", [of])

    if member.architecture == "dense":
        flat = graph.add("Reshape", [scaled, graph.constant(np.array([1, -1], np.int64))])
        return dense("out", relu(dense("mid", relu(dense("in", flat)))))
    hidden = graph.add("Transpose", [relu(dense("in", scaled))], perm=[0, 2, 1])
    for name in ("conv1", "conv2"):
        # ONNX wants (out, in, time), ours is (time, in, out).
        kernel = graph.weights(np.ascontiguousarray(weights[f"{name}.w"].transpose(2, 1, 0)))
        bias = graph.constant(weights[f"{name}.b"])
        hidden = relu(graph.add("Conv", [hidden, kernel, bias], kernel_shape=[_KERNEL]))
    back = graph.add("Transpose", [hidden], perm=[0, 2, 1])
    look = graph.add("Softmax", [dense("look", back)], axis=1)
    axis = graph.constant(np.array([1], np.int64))
    attended = graph.add("ReduceSum", [graph.add("Mul", [look, back]), axis], keepdims=0)
    highest = graph.add("ReduceMax", [back], axes=[1], keepdims=0)
    return dense("out", relu(dense("mid", graph.add("Concat", [attended, highest], axis=1))))
