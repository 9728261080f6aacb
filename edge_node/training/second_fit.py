"""Teaches the head of a second stage: the word against near-misses, and against what the first stage takes for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from edge_node.training.graph import kept
from edge_node.training.heads import Weights
from edge_node.training.progress import track
from edge_node.training.second import Directions, SecondMember, fresh, logits
from edge_node.wakeword.incremental import Floats

_BATCH = 96
_RATE = 2e-3
_SMOOTH = 0.02
_SLOTS_COUNT = 0.15
"""How much each slot's sound counts beside the word itself."""
_UNKNOWN = -1

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pupils:
    """What a head learns from.

    Attributes:
        steps: float16 or float32 (n, STEPS, 144).
        bags: indices of the windows of each voice group that are the word, are near-misses, or neither; drawn by share.
        shares: how much of a batch comes from each bag; together 1.
        is_word: for each window.
        held: for each window and slot the sound that stands there, as a number; -1 where that is not known (n, slots).
        sizes: how many sounds may stand in each slot.
    """

    steps: npt.NDArray[np.floating]
    bags: Sequence[Indices]
    shares: Sequence[float]
    is_word: npt.NDArray[np.bool_]
    held: Indices
    sizes: tuple[int, ...]


def learn(pupils: Pupils, seed: int, steps: int) -> SecondMember:
    """One head; the same seed gives the same head on the same computer."""
    chance = np.random.default_rng(seed)
    directions = Directions.of(pupils.steps[::5])
    along = directions.along(pupils.steps).astype(np.float16)
    key = jax.random.PRNGKey(seed)
    weights = fresh(key, pupils.sizes)
    optimiser, compiled = _stepper(steps, len(pupils.sizes))
    state = optimiser.init(weights)
    counts = [round(_BATCH * share) for share in pupils.shares]
    for _ in track(range(steps), f"learning the second stage {seed}", steps):
        drawn = [bag[chance.integers(0, len(bag), count)] for bag, count in zip(pupils.bags, counts, strict=True)]
        at = np.concatenate(drawn)
        wanted = np.where(pupils.is_word[at], 1 - _SMOOTH, _SMOOTH).astype(np.float32)
        key, now = jax.random.split(key)
        weights, state = compiled(
            weights,
            state,
            now,
            jnp.asarray(_hidden(along[at], chance)),
            jnp.asarray(wanted),
            jnp.asarray(pupils.held[at]),
        )
    return SecondMember(directions, pupils.sizes, {name: kept(value) for name, value in weights.items()})


_Step = Callable[..., tuple[Weights, optax.OptState]]


@cache
def _stepper(steps: int, slots: int) -> tuple[optax.GradientTransformation, _Step]:
    """Heads that differ by seed alone are compiled once."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, _RATE, min(200, steps // 4), steps)
    optimiser = optax.adamw(schedule, weight_decay=1e-2)

    def step(
        weights: Weights, state: optax.OptState, key: jax.Array, along: jax.Array, wanted: jax.Array, held: jax.Array
    ) -> tuple[Weights, optax.OptState]:
        def loss(weights: Weights) -> jax.Array:
            found, sounds = logits(weights, along, slots, (key, 0.25))
            total: jax.Array = optax.sigmoid_binary_cross_entropy(found, wanted).mean()
            for at, one in enumerate(sounds):
                known = held[:, at] != _UNKNOWN
                likely = jnp.take_along_axis(one, jnp.maximum(held[:, at], 0)[:, None], axis=1)[:, 0]
                total = total - _SLOTS_COUNT * jnp.where(known, likely, 0.0).mean()
            return total

        change, after = optimiser.update(jax.grad(loss)(weights), state, weights)
        changed: Weights = optax.apply_updates(weights, change)
        return changed, after

    compiled: _Step = jax.jit(step)
    return optimiser, compiled


def _hidden(along: npt.NDArray[np.float16], chance: np.random.Generator) -> Floats:
    """Blurred, moved by up to two steps, and a moment hidden: nothing single may decide."""
    out = along.astype(np.float32)
    for at in range(len(out)):
        moved = int(chance.integers(-2, 3))
        if moved:
            out[at] = np.roll(out[at], moved, axis=0)
        if chance.random() < 0.3:  # noqa: PLR2004 a share
            moment = int(chance.integers(0, out.shape[1] - 3))
            out[at, moment : moment + int(chance.integers(1, 4))] = 0.0
    return out + chance.normal(0.0, 0.15, out.shape).astype(np.float32)


def scores(member: SecondMember, steps: npt.NDArray[np.floating]) -> Floats:
    """Logits (n,) of windows (n, STEPS, 144)."""
    run = _runner(len(member.sizes))
    weights = {name: jnp.asarray(value) for name, value in member.weights.items()}
    found = [
        np.asarray(run(weights, jnp.asarray(member.directions.along(steps[at : at + 1024]))))
        for at in range(0, len(steps), 1024)
    ]
    return np.concatenate(found)


@cache
def _runner(slots: int) -> Callable[[Weights, jax.Array], jax.Array]:
    run: Callable[[Weights, jax.Array], jax.Array] = jax.jit(lambda weights, along: logits(weights, along, slots)[0])
    return run
