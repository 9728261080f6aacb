"""The head of the second stage: a small network on the recogniser's states, in JAX for learning and ONNX for the edge.

It has a second task: which sound stands in each slot of the word. What it finds there counts for its first task.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from edge_node.training.graph import Graph, annotate
from edge_node.training.heads import Weights
from edge_node.training.second_windows import STEPS
from edge_node.wakeword.incremental import Floats, Numbers
from edge_node.wakeword.recogniser import STATE_SIZE
from edge_node.wakeword.second_stage import FIRST, SECOND, STATES, noted
from edge_node.wakeword.voice import model_sha256

DIRECTIONS = 64
_CHANNELS = 48
_KERNEL = 5
_LOOKS = 2
_HIDDEN = 32
_UNLIKELY = -6.0
"""A slot's logarithmic likelihood counts no further down than this."""
_INPUT = "states"


@dataclass(frozen=True, slots=True)
class Directions:
    """Of most variance of averaged states, scaled to variance 1: (x - mean) @ axes.

    Attributes:
        mean: float32 (144,).
        axes: float32 (144, DIRECTIONS).
    """

    mean: Floats
    axes: Floats

    @classmethod
    def of(cls, steps: npt.NDArray[np.floating]) -> "Directions":
        """Of teaching windows (n, STEPS, 144)."""
        flat = steps.reshape(-1, STATE_SIZE).astype(np.float64)
        mean: Numbers = flat.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov((flat - mean).T))
        most = np.argsort(-values)[:DIRECTIONS]
        axes = vectors[:, most] / np.sqrt(np.maximum(values[most], 1e-9))
        return cls(mean.astype(np.float32), axes.astype(np.float32))

    def along(self, steps: npt.NDArray[np.floating]) -> Floats:
        """float32 (..., DIRECTIONS)."""
        return np.asarray((steps.astype(np.float32) - self.mean) @ self.axes, np.float32)


@dataclass(frozen=True, slots=True)
class SecondMember:
    """A head, learned; `sizes` is how many sounds may stand in each slot, the word's own being the first."""

    directions: Directions
    sizes: tuple[int, ...]
    weights: dict[str, npt.NDArray[np.float32]]


def fresh(key: jax.Array, sizes: Sequence[int]) -> Weights:
    """Random weights (He)."""
    keys = iter(jax.random.split(key, 6 + 2 * len(sizes)))

    def layer(name: str, *shape: int) -> Weights:
        fan_in = int(np.prod(shape[:-1]))
        return {
            f"{name}.w": jax.random.normal(next(keys), shape) * np.sqrt(2.0 / fan_in),
            f"{name}.b": jnp.zeros(shape[-1]),
        }

    weights = {
        **layer("in", DIRECTIONS, _CHANNELS),
        **layer("conv1", _KERNEL, _CHANNELS, _CHANNELS),
        **layer("conv2", _KERNEL, _CHANNELS, _CHANNELS),
        **layer("look", _CHANNELS, _LOOKS + len(sizes)),
        **layer("mid", (_LOOKS + 1) * _CHANNELS + len(sizes), _HIDDEN),
        **layer("out", _HIDDEN, 1),
    }
    for number, size in enumerate(sizes):
        weights |= layer(f"slot{number}", _CHANNELS, size)
    return weights


def logits(
    weights: Weights, steps: jax.Array, slots: int, drop: tuple[jax.Array, float] | None = None
) -> tuple[jax.Array, list[jax.Array]]:
    """Logits (n,) of steps along directions (n, STEPS, DIRECTIONS), and each slot's log posteriors (n, its sounds)."""
    masks = iter(jax.random.split(drop[0], 4)) if drop else iter(())

    def dropped(values: jax.Array) -> jax.Array:
        if drop is None:
            return values
        kept = jax.random.bernoulli(next(masks), 1 - drop[1], values.shape)
        return jnp.where(kept, values / (1 - drop[1]), 0.0)

    def dense(name: str, values: jax.Array) -> jax.Array:
        return values @ weights[f"{name}.w"] + weights[f"{name}.b"]

    hidden = jax.nn.relu(dense("in", steps))
    for name in ("conv1", "conv2"):
        hidden = hidden + dropped(jax.nn.relu(_conv(hidden, weights[f"{name}.w"]) + weights[f"{name}.b"]))
    looks = jax.nn.softmax(dense("look", hidden), axis=1)
    pooled = jnp.einsum("nsl,nsc->nlc", looks, hidden)
    held = [jax.nn.log_softmax(dense(f"slot{at}", pooled[:, _LOOKS + at])) for at in range(slots)]
    own = [jnp.maximum(one[:, :1], _UNLIKELY) for one in held]
    seen = [pooled[:, :_LOOKS].reshape(len(steps), -1), hidden.max(axis=1), *own]
    middle = jax.nn.relu(dense("mid", dropped(jnp.concatenate(seen, axis=1))))
    return dense("out", dropped(middle))[:, 0], held


def _conv(values: jax.Array, kernel: jax.Array) -> jax.Array:
    """Over time, zeros around, as products of matrices: faster on a processor than XLA's convolution."""
    around = kernel.shape[0] // 2
    padded = jnp.pad(values, ((0, 0), (around, around), (0, 0)))
    steps = values.shape[1]
    return sum((padded[:, at : at + steps] @ kernel[at] for at in range(kernel.shape[0])), jnp.zeros(()))


def export(
    members: Sequence[SecondMember], path: Path, notes: dict[str, str], slope: float = 1.0, bias: float = 0.0
) -> None:
    """Write heads as one network: states (1, STATES, 144) -> logit (1, 1), slope x (mean of their logits + bias).

    `notes` goes into the file's metadata.
    """
    graph = Graph("second stage")
    pairs = graph.add("Slice", [_INPUT, *(graph.constant(np.array([at], np.int64)) for at in (0, 2 * STEPS, 1))])
    apart = graph.add("Reshape", [pairs, graph.constant(np.array([STEPS, 2, STATE_SIZE], np.int64))])
    steps = graph.add("ReduceMean", [apart], axes=[1], keepdims=0)
    found = [_member(graph, steps, member) for member in members]
    mean = graph.add("Mul", [_sum(graph, found), graph.constant(np.float32(slope / len(members)))])
    logit = graph.add("Add", [mean, graph.constant(np.float32(slope * bias))])
    graph.write(path, (_INPUT, (1, STATES, STATE_SIZE)), (logit, "logit", (1, 1)), notes)


def _sum(graph: Graph, parts: Sequence[str]) -> str:
    total = parts[0]
    for part in parts[1:]:
        total = graph.add("Add", [total, part])
    return total


def _member(graph: Graph, steps: str, member: SecondMember) -> str:
    """The logit (1, 1) of steps (STEPS, 144); vectors are rows."""
    weights = member.weights

    def dense(name: str, values: str) -> str:
        return _dense(graph, values, weights[f"{name}.w"], weights[f"{name}.b"])

    centred = graph.add("Sub", [steps, graph.constant(member.directions.mean)])
    along = graph.add("MatMul", [centred, graph.weights(member.directions.axes)])
    hidden = graph.add("Relu", [dense("in", along)])
    for name in ("conv1", "conv2"):
        turned = graph.add(
            "Unsqueeze", [graph.add("Transpose", [hidden], perm=[1, 0]), graph.constant(np.array([0], np.int64))]
        )
        # ONNX wants (out, in, time), ours is (time, in, out).
        parts = [turned, graph.weights(weights[f"{name}.w"].transpose(2, 1, 0)), graph.constant(weights[f"{name}.b"])]
        around = _KERNEL // 2
        convolved = graph.add("Relu", [graph.add("Conv", parts, kernel_shape=[_KERNEL], pads=[around, around])])
        back = graph.add(
            "Transpose", [graph.add("Squeeze", [convolved, graph.constant(np.array([0], np.int64))])], perm=[1, 0]
        )
        hidden = graph.add("Add", [hidden, back])
    looks = graph.add("Softmax", [dense("look", hidden)], axis=0)
    pooled = graph.add("MatMul", [graph.add("Transpose", [looks], perm=[1, 0]), hidden])
    own = []
    for number in range(len(member.sizes)):
        held = graph.add(
            "LogSoftmax", [dense(f"slot{number}", _rows(graph, pooled, _LOOKS + number, _LOOKS + number + 1))], axis=-1
        )
        first = graph.add("Slice", [held, *(graph.constant(np.array([at], np.int64)) for at in (0, 1, 1))])
        own.append(graph.add("Max", [first, graph.constant(np.float32(_UNLIKELY))]))
    seen = graph.add("Reshape", [_rows(graph, pooled, 0, _LOOKS), graph.constant(np.array([1, -1], np.int64))])
    highest = graph.add("ReduceMax", [hidden], axes=[0], keepdims=1)
    middle = graph.add("Relu", [dense("mid", graph.add("Concat", [seen, highest, *own], axis=1))])
    return dense("out", middle)


def _dense(graph: Graph, values: str, weights: Floats, bias: Floats) -> str:
    return graph.add("Add", [graph.add("MatMul", [values, graph.weights(weights)]), graph.constant(bias)])


def _rows(graph: Graph, of: str, start: int, end: int) -> str:
    return graph.add("Slice", [of, *(graph.constant(np.array([at], np.int64)) for at in (start, end, 0))])


def with_second(model: Path, second: Path, asked_from: float, advice: str = "") -> None:
    """Put an exported second stage into the model's file, in place of one that is there.

    It is asked from the first stage's score `asked_from` on, 0 to 1. `advice` is the metadata that says when scores of
    both count. What belongs to the first stage alone, a voice for example, still fits. ValueError if `second` is none.
    """
    note = noted(second.read_bytes(), asked_from, advice)
    annotate(model, {SECOND: note, FIRST: model_sha256(model)})
