"""The second stage: a small convolutional network on the log-mel of the last 1.6 s, for candidates only."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from edge_node.wakeword.incremental import MEL_BINS, Floats
from edge_node.wakeword.second_stage import FRAMES, ROWS, SECOND, noted
from edge_node.wakeword.training.features import Half
from edge_node.wakeword.training.graph import Graph, annotate, kept
from edge_node.wakeword.training.heads import Weights
from edge_node.wakeword.training.progress import track

_LAYERS = ((16, 2, 1), (24, 2, 2), (32, 2, 2), (48, 2, 2))
_HIDDEN = 32
_BATCH = 128
_SMOOTH = 0.02
_EPSILON = 1e-3
_INPUT = "rows"

Rows = npt.NDArray[np.float32]


def fresh(key: jax.Array) -> Weights:
    """Random weights (He)."""
    keys = iter(jax.random.split(key, len(_LAYERS) + 2))
    weights: Weights = {}
    channels = 1
    for number, (wide, _, _) in enumerate(_LAYERS):
        fan_in = 9 * channels
        weights[f"conv{number}.w"] = jax.random.normal(next(keys), (wide, channels, 3, 3)) * np.sqrt(2 / fan_in)
        weights[f"conv{number}.b"] = jnp.zeros(wide)
        channels = wide
    weights["mid.w"] = jax.random.normal(next(keys), (2 * channels, _HIDDEN)) * np.sqrt(1 / channels)
    weights["mid.b"] = jnp.zeros(_HIDDEN)
    weights["out.w"] = jax.random.normal(next(keys), (_HIDDEN, 1)) * np.sqrt(1 / _HIDDEN)
    weights["out.b"] = jnp.zeros(1)
    return weights


def logits(weights: Weights, rows: jax.Array, drop: tuple[jax.Array, float] | None = None) -> jax.Array:
    """(n,) of log-mel rows (n, ROWS, 32); each piece is scaled by its own mean and deviation."""
    mean = rows.mean((1, 2), keepdims=True)
    hidden = ((rows - mean) / jnp.sqrt(((rows - mean) ** 2).mean((1, 2), keepdims=True) + _EPSILON))[:, None]
    for number, (_, down, across) in enumerate(_LAYERS):
        hidden = jax.lax.conv_general_dilated(hidden, weights[f"conv{number}.w"], (down, across), ((1, 1), (1, 1)))
        hidden = jax.nn.relu(hidden + weights[f"conv{number}.b"][:, None, None])
    pooled = jnp.concatenate([hidden.mean((2, 3)), hidden.max((2, 3))], axis=1)
    if drop is not None:
        pooled = jnp.where(jax.random.bernoulli(drop[0], 1 - drop[1], pooled.shape), pooled / (1 - drop[1]), 0.0)
    hidden = jax.nn.relu(pooled @ weights["mid.w"] + weights["mid.b"])
    found: jax.Array = (hidden @ weights["out.w"] + weights["out.b"])[:, 0]
    return found


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a head takes for the word although it is not.

    Attributes:
        mel: rows of recordings, (frames, 8, 32).
        last: the last frame of each candidate.
    """

    mel: Floats
    last: npt.NDArray[np.int64]

    def rows(self, chosen: npt.NDArray[np.int64]) -> Rows:
        """Of some of the candidates: float32 (n, ROWS, 32)."""
        found = self.mel[self.last[chosen, None] + np.arange(-FRAMES + 1, 1)]
        return np.asarray(found.reshape(len(chosen), ROWS, MEL_BINS), np.float32)


def learn(
    mel: Half,
    word: npt.NDArray[np.int64],
    near: npt.NDArray[np.int64],
    candidates: Candidates,
    seed: int,
    steps: int = 3500,
) -> dict[str, npt.NDArray[np.float32]]:
    """Weights from scenes' rows (scenes, frames, 8, 32) and pairs (scene, last frame) that are the word or are not."""
    chance = np.random.default_rng(seed)
    key = jax.random.PRNGKey(seed)
    weights = fresh(key)
    optimiser = optax.adamw(
        optax.warmup_cosine_decay_schedule(0.0, 2e-3, min(200, steps // 4), steps), weight_decay=1e-3
    )
    state = optimiser.init(weights)

    def step(
        weights: Weights, state: optax.OptState, key: jax.Array, rows: jax.Array, wanted: jax.Array
    ) -> tuple[Weights, optax.OptState]:
        def loss(weights: Weights) -> jax.Array:
            mean: jax.Array = optax.sigmoid_binary_cross_entropy(logits(weights, rows, (key, 0.3)), wanted).mean()
            return mean

        change, after = optimiser.update(jax.grad(loss)(weights), state, weights)
        changed: Weights = optax.apply_updates(weights, change)
        return changed, after

    compiled: Callable[..., tuple[Weights, optax.OptState]] = jax.jit(step)
    word, near = (pairs[pairs[:, 1] >= FRAMES - 1] for pairs in (word, near))
    half, quarter = _BATCH // 2, _BATCH // 4
    wanted = jnp.asarray(np.repeat([1 - _SMOOTH, _SMOOTH], half), jnp.float32)
    for _ in track(range(steps), f"learning the second stage {seed}", steps):
        bags = ((word, half), (near, half - quarter))
        pairs = np.concatenate([bag[chance.integers(0, len(bag), count)] for bag, count in bags])
        taken = chance.integers(0, len(candidates.last), quarter)
        rows = np.concatenate([rows_of(mel, pairs), candidates.rows(taken)])
        key, now = jax.random.split(key)
        weights, state = compiled(weights, state, now, jnp.asarray(_masked(rows, chance)), wanted)
    return {name: kept(value) for name, value in weights.items()}


def rows_of(mel: Half, pairs: npt.NDArray[np.int64]) -> Rows:
    """The rows that end with each (scene, last frame): float32 (n, ROWS, 32)."""
    steps = np.arange(-FRAMES + 1, 1)
    found = mel[pairs[:, :1], pairs[:, 1:] + steps]
    return np.asarray(found.reshape(len(pairs), ROWS, MEL_BINS), np.float32)


def _masked(rows: Rows, chance: np.random.Generator) -> Rows:
    """Shifted up or down a band, a band or a moment hidden: nothing single may decide."""
    out = rows.copy()
    for at in range(len(out)):
        if chance.random() < 0.5:  # noqa: PLR2004 a share
            out[at] = np.roll(out[at], int(chance.integers(-1, 2)), axis=1)
        if chance.random() < 0.4:  # noqa: PLR2004 a share
            band, wide = int(chance.integers(0, MEL_BINS - 4)), int(chance.integers(1, 5))
            out[at, :, band : band + wide] = out[at].mean()
        if chance.random() < 0.3:  # noqa: PLR2004 a share
            moment = int(chance.integers(0, ROWS - 12))
            out[at, moment : moment + int(chance.integers(2, 12))] = out[at].mean()
    return out + chance.normal(0.0, 0.05, out.shape).astype(np.float32)


def export(
    weights: dict[str, npt.NDArray[np.float32]],
    path: Path,
    notes: dict[str, str],
    slope: float = 1.0,
    bias: float = 0.0,
) -> None:
    """Write the network: rows (1, ROWS, 32) -> logit (1, 1), which is slope x (the network's logit + bias).

    `notes` goes into the file's metadata.
    """
    graph = Graph("second stage")
    centred = graph.add("Sub", [_INPUT, graph.add("ReduceMean", [_INPUT], axes=[1, 2])])
    power = graph.add("ReduceMean", [graph.add("Mul", [centred, centred])], axes=[1, 2])
    deviation = graph.add("Sqrt", [graph.add("Add", [power, graph.constant(np.float32(_EPSILON))])])
    hidden = graph.add("Unsqueeze", [graph.add("Div", [centred, deviation]), graph.constant(np.array([1], np.int64))])
    for number, (_, down, across) in enumerate(_LAYERS):
        parts = [hidden, graph.weights(weights[f"conv{number}.w"]), graph.constant(weights[f"conv{number}.b"])]
        convolved = graph.add("Conv", parts, strides=[down, across], pads=[1, 1, 1, 1], kernel_shape=[3, 3])
        hidden = graph.add("Relu", [convolved])
    pooled = [graph.add(kind, [hidden], axes=[2, 3], keepdims=0) for kind in ("ReduceMean", "ReduceMax")]
    both = graph.add("Concat", pooled, axis=1)
    middle = graph.add("Gemm", [both, graph.weights(weights["mid.w"]), graph.constant(weights["mid.b"])])
    last = [graph.add("Relu", [middle]), graph.weights(weights["out.w"]), graph.constant(weights["out.b"])]
    stretched = graph.add("Mul", [graph.add("Gemm", last), graph.constant(np.float32(slope))])
    logit = graph.add("Add", [stretched, graph.constant(np.float32(slope * bias))])
    graph.write(path, (_INPUT, (1, ROWS, MEL_BINS)), (logit, "logit", (1, 1)), notes)


def with_second(model: Path, second: Path, asked_from: float) -> None:
    """Put an exported second stage into the head's file `model`, in place of one that is there.

    It is asked from the head's score `asked_from` on, 0 to 1. ValueError if `second` is none.
    """
    annotate(model, {SECOND: noted(second.read_bytes(), asked_from)})
