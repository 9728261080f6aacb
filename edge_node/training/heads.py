"""Small networks on 16 embeddings, in JAX for learning and in ONNX for the edge; an ensemble is one file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from edge_node.training.graph import Graph
from edge_node.wakeword.incremental import EMBEDDING_SIZE
from edge_node.wakeword.native import HEAD_EMBEDDINGS

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
    stacks = {kind: [member for member in members if member.architecture == kind] for kind in _STACKS}
    logits = [_STACKS[kind](graph, alike) for kind, alike in stacks.items() if alike]
    every = logits[0] if len(logits) == 1 else graph.add("Concat", logits, axis=0)
    mean = _reshaped(graph, graph.add("ReduceMean", [every], axes=[0]), 1, 1)
    score = graph.add("Sigmoid", [graph.add("Add", [mean, graph.constant(np.float32(bias))])])
    graph.write(path, (_INPUT, (1, HEAD_EMBEDDINGS, EMBEDDING_SIZE)), (score, "score", (1, 1)), notes)


def _dense_stack(graph: Graph, members: Sequence[Member]) -> str:
    """Logits (members, 1, 1). All first layers are one product: on a processor a node costs as much as its numbers."""
    wide, _ = _DENSE
    flat = _reshaped(graph, _INPUT, 1, -1)
    hidden = _first_layer(graph, flat, members, HEAD_EMBEDDINGS)
    hidden = _reshaped(graph, hidden, len(members), 1, wide)
    for name in ("mid", "out"):
        product = graph.add("MatMul", [hidden, graph.weights(_stacked(members, f"{name}.w"))])
        hidden = graph.add("Add", [product, graph.constant(_stacked(members, f"{name}.b")[:, np.newaxis])])
        if name != "out":
            hidden = graph.add("Relu", [hidden])
    return hidden


def _conv_stack(graph: Graph, members: Sequence[Member]) -> str:
    """Logits (members, 1, 1); vectors are columns, as convolutions want channels first."""
    count = len(members)
    hidden = _first_layer(graph, _reshaped(graph, _INPUT, -1, EMBEDDING_SIZE), members, 1)
    hidden = _reshaped(graph, graph.add("Transpose", [hidden], perm=[1, 0]), 1, count * _CHANNELS, -1)
    for name in ("conv1", "conv2"):
        # ONNX wants (out, in, time), ours is (time, in, out).
        kernels = np.concatenate([member.weights[f"{name}.w"].transpose(2, 1, 0) for member in members])
        biases = np.concatenate([member.weights[f"{name}.b"] for member in members])
        parts = [hidden, graph.weights(kernels), graph.constant(biases)]
        hidden = graph.add("Relu", [graph.add("Conv", parts, kernel_shape=[_KERNEL], group=count)])
    hidden = _reshaped(graph, hidden, count, _CHANNELS, -1)
    look = _reshaped(graph, graph.add("Softmax", [_column_layer(graph, members, "look", hidden)], axis=2), count, -1, 1)
    highest = graph.add("ReduceMax", [hidden], axes=[2], keepdims=1)
    pooled = graph.add("Concat", [graph.add("MatMul", [hidden, look]), highest], axis=1)
    middle = graph.add("Relu", [_column_layer(graph, members, "mid", pooled)])
    return _column_layer(graph, members, "out", middle)


_STACKS: dict[Architecture, Callable[[Graph, Sequence[Member]], str]] = {"dense": _dense_stack, "conv": _conv_stack}


def _first_layer(graph: Graph, rows: str, members: Sequence[Member], embeddings: int) -> str:
    """What all networks make first of rows of so many embeddings, side by side; each scales them in its own way.

    Scales are folded into weights, which onnxruntime does once, when it loads the file.
    """
    weights, biases = [], []
    for member in members:
        per_number = (1.0 / member.scale.deviation).astype(np.float32)
        learned = member.weights["in.w"].reshape(embeddings, EMBEDDING_SIZE, -1)
        scaled = graph.add("Mul", [graph.weights(learned), graph.constant(per_number[:, np.newaxis])])
        weights.append(_reshaped(graph, scaled, embeddings * EMBEDDING_SIZE, -1))
        centre = np.tile(member.scale.mean * per_number, embeddings)
        biases.append(member.weights["in.b"] - centre @ member.weights["in.w"])
    every = weights[0] if len(weights) == 1 else graph.add("Concat", weights, axis=1)
    product = graph.add("MatMul", [rows, every])
    return graph.add("Relu", [graph.add("Add", [product, graph.constant(np.concatenate(biases))])])


def _column_layer(graph: Graph, members: Sequence[Member], name: str, columns: str) -> str:
    """Of columns (members, in, n): (members, out, n)."""
    product = graph.add("MatMul", [graph.weights(_stacked(members, f"{name}.w").transpose(0, 2, 1)), columns])
    return graph.add("Add", [product, graph.constant(_stacked(members, f"{name}.b")[:, :, np.newaxis])])


def _stacked(members: Sequence[Member], name: str) -> npt.NDArray[np.float32]:
    return np.stack([member.weights[name] for member in members])


def _reshaped(graph: Graph, of: str, *shape: int) -> str:
    return graph.add("Reshape", [of, graph.constant(np.array(shape, np.int64))])
