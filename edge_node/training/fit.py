"""Teaches heads: the word against near-misses and against everything else, with rounds of what they still confuse."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from edge_node.training.features import Half, SceneBlock, delays, window
from edge_node.training.graph import kept
from edge_node.training.heads import Architecture, Member, Scale, Weights, Windows, fresh, logits
from edge_node.training.progress import track
from edge_node.wakeword.native import HEAD_EMBEDDINGS

_HEARD = (0, 8800)
"""In samples after the word's end: a window that ends here must say yes."""
_NOT_YET = -7200
"""Before this, a window does not hold enough of the word to say yes."""
_NEAR = (-6400, 14400)

_BATCH = 512
_SMOOTH = 0.02
_HARD_SHARE = 0.6
_HARD_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Shares:
    """How much of what a network hears is the word and how much sounds like it; the rest is anything else."""

    word: float
    near: float


LIFE = Shares(word=0.3, near=0.12)
CONTRAST = Shares(word=0.42, near=0.5)


@dataclass(frozen=True, slots=True)
class Lesson:
    """Windows to learn from, by index into blocks of embeddings.

    Attributes:
        scenes: embeddings of scenes.
        word: (n, 2) rows of (scene, last frame) that must say yes.
        near: the same for near-misses and for what precedes the word.
        passages: audio without the word, frame by frame.
    """

    scenes: Half
    word: npt.NDArray[np.int64]
    near: npt.NDArray[np.int64]
    passages: list[Half]


def lesson(block: SceneBlock, is_word: npt.NDArray[np.bool_], passages: list[Half]) -> Lesson:
    """`is_word` says for each clip of the block whether it is the word."""
    late = delays(block.ends)
    able = np.arange(late.shape[1]) >= HEAD_EMBEDDINGS - 1
    word = is_word[block.clips][:, None]
    yes = word & (late >= _HEARD[0]) & (late <= _HEARD[1]) & able
    no = ((~word & (late >= _NEAR[0]) & (late <= _NEAR[1])) | (word & (late < _NOT_YET))) & able
    return Lesson(block.embedded, np.argwhere(yes), np.argwhere(no), passages)


_Step: TypeAlias = Callable[[Weights, optax.OptState, jax.Array, jax.Array, jax.Array], tuple[Weights, optax.OptState]]


def learn(
    taught: Lesson, architecture: Architecture, seed: int, steps: int = 9000, shares: Shares = LIFE, rounds: int = 3
) -> Member:
    """One network; the same seed gives the same network on the same computer.

    After each round but the last, what it confuses most is looked for, and heard more often from then on.
    """
    chance = np.random.default_rng(seed)
    scale = _scale(taught)
    key = jax.random.PRNGKey(seed)
    weights = fresh(architecture, key)
    optimiser, compiled = _stepper(architecture, steps)
    state = optimiser.init(weights)
    bags = _Bags(taught, chance, shares)
    per_round = steps // rounds
    for number in track(range(steps), f"learning {architecture} {seed}", steps):
        if number and number % per_round == 0:
            bags.dwell_on_the_hard(partial(_score_as_heard, architecture, weights, scale))
        windows, wanted = bags.draw(_BATCH)
        key, now = jax.random.split(key)
        weights, state = compiled(weights, state, now, jnp.asarray(_scaled(windows, scale)), jnp.asarray(wanted))
    return Member(architecture, {name: kept(value) for name, value in weights.items()}, scale)


@cache
def _stepper(architecture: Architecture, steps: int) -> tuple[optax.GradientTransformation, _Step]:
    """Networks that differ by seed alone are compiled once."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1.5e-3, min(300, steps // 4), steps)
    optimiser = optax.adamw(schedule, weight_decay=1e-3)

    def step(
        weights: Weights, state: optax.OptState, key: jax.Array, windows: jax.Array, wanted: jax.Array
    ) -> tuple[Weights, optax.OptState]:
        def loss(weights: Weights) -> jax.Array:
            blur, drop, cut = jax.random.split(key, 3)
            seen = windows + 0.15 * jax.random.normal(blur, windows.shape)
            seen = seen * jax.random.bernoulli(cut, 0.95, (*windows.shape[:2], 1))
            found = logits(architecture, weights, seen, (drop, 0.3))
            mean: jax.Array = optax.sigmoid_binary_cross_entropy(found, wanted).mean()
            return mean

        return _update(optimiser, weights, state, jax.grad(loss)(weights))

    compiled: _Step = jax.jit(step)
    return optimiser, compiled


def _update(
    optimiser: optax.GradientTransformation, weights: Weights, state: optax.OptState, slope: Weights
) -> tuple[Weights, optax.OptState]:
    change, state = optimiser.update(slope, state, weights)
    changed: Weights = optax.apply_updates(weights, change)
    return changed, state


def _scale(taught: Lesson) -> Scale:
    some = np.concatenate(
        [taught.scenes[::7].reshape(-1, taught.scenes.shape[-1]), *(one[::5] for one in taught.passages)]
    )
    some = some.astype(np.float32)
    return Scale(some.mean(0), some.std(0) + 1e-3)


def _scaled(windows: Windows, scale: Scale) -> Windows:
    return (windows - scale.mean) / scale.deviation


def _score_as_heard(
    architecture: Architecture, weights: Weights, scale: Scale, windows: Windows
) -> npt.NDArray[np.float32]:
    return _score(architecture, weights, _scaled(windows, scale))


def _score(architecture: Architecture, weights: Weights, scaled: Windows) -> npt.NDArray[np.float32]:
    run = _runner(architecture)
    found = [np.asarray(run(weights, jnp.asarray(scaled[at : at + 4096]))) for at in range(0, len(scaled), 4096)]
    return np.concatenate(found) if found else np.zeros(0, np.float32)


@cache
def _runner(architecture: Architecture) -> Callable[[Weights, jax.Array], jax.Array]:
    run: Callable[[Weights, jax.Array], jax.Array] = jax.jit(partial(logits, architecture))
    return run


_Score: TypeAlias = Callable[[Windows], npt.NDArray[np.float32]]


class _Bags:
    """Draws batches; remembers which negatives are hard."""

    def __init__(self, taught: Lesson, chance: np.random.Generator, shares: Shares) -> None:
        self._taught = taught
        self._chance = chance
        self._shares = shares
        self._starts = np.cumsum([0, *(max(len(one) - HEAD_EMBEDDINGS + 1, 0) for one in taught.passages)])
        self._passages = np.concatenate(taught.passages)
        self._offsets = np.cumsum([0, *(len(one) for one in taught.passages)])
        self._hard_passages = np.empty(0, np.int64)

    def draw(self, count: int) -> tuple[Windows, npt.NDArray[np.float32]]:
        words, nears = int(count * self._shares.word), int(count * self._shares.near)
        word = self._taught.word[self._chance.integers(0, len(self._taught.word), words)]
        near = self._taught.near[self._chance.integers(0, len(self._taught.near), nears)]
        rest = self._pick(int(self._starts[-1]), self._hard_passages, count - words - nears)
        both = np.concatenate([word, near])
        windows = np.concatenate([window(self._taught.scenes, both[:, 1], both[:, 0]), self._of_passages(rest)])
        wanted = np.full(count, _SMOOTH / 2, np.float32)
        wanted[:words] = 1 - _SMOOTH
        return windows, wanted

    def dwell_on_the_hard(self, score: _Score) -> None:
        """Find the passages that score highest; from now on many are drawn from these.

        Not so near-misses: the hardest of them are the word, to this network, and it would stop to hear the word.
        """
        every = np.arange(int(self._starts[-1]))
        self._hard_passages = self._hardest(every, score)

    def _pick(self, among: int, hard: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
        easy = self._chance.integers(0, among, count)
        if len(hard):
            many = int(count * _HARD_SHARE)
            easy[:many] = hard[self._chance.integers(0, len(hard), many)]
        return easy

    def _hardest(self, at: npt.NDArray[np.int64], score: _Score) -> npt.NDArray[np.int64]:
        pieces = (self._of_passages(at[start : start + 8192]) for start in range(0, len(at), 8192))
        scores = np.concatenate([score(windows) for windows in pieces])
        return at[np.argsort(-scores)[:_HARD_KEPT]]

    def _of_passages(self, at: npt.NDArray[np.int64]) -> Windows:
        which = np.searchsorted(self._starts, at, side="right") - 1
        first = at - self._starts[which] + self._offsets[which]
        return np.asarray(self._passages[first[:, None] + np.arange(HEAD_EMBEDDINGS)], np.float32)
