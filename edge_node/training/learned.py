"""Networks that were learned already, kept in the cache: what is stopped goes on where it was."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_node.training.features import RECIPE
from edge_node.training.heads import Architecture, Member, Scale

_SCALE = "scale."


def member(cache: Path, architecture: Architecture, description: str, learn: Callable[[], Member]) -> Member:
    """The network that `learn` makes, or made before from what `description` tells of: everything that decides."""
    name = hashlib.sha256(f"{RECIPE} {architecture} {description}".encode()).hexdigest()[:16]
    path = cache / "learned" / f"{architecture}-{name}.npz"
    if not path.exists():
        _save(path, learn())
    with np.load(path) as kept:
        numbers = dict(kept)
    scale = Scale(numbers.pop(f"{_SCALE}mean"), numbers.pop(f"{_SCALE}deviation"))
    return Member(architecture, numbers, scale)


def _save(path: Path, one: Member) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    scale = {f"{_SCALE}mean": one.scale.mean, f"{_SCALE}deviation": one.scale.deviation}
    # By keyword numpy's stub takes only arrays of any kind, which these are.
    np.savez(part, **one.weights, **scale)  # type: ignore[arg-type]
    part.replace(path)
