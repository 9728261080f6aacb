"""From scores to thresholds: how strict is strict, fixed on audio that nothing is reported on."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edge_node.training.intervals import Rate
from edge_node.training.judge import Hour, false_accepts
from edge_node.wakeword.gate import GateSettings

FALSE_ACCEPTS_PER_HOUR = {"lenient": 1.5, "normal": 0.75, "strict": 0.1}
"""What each strictness may cost in hours of recordings that the model has not learned from."""

_GRID = 400


def thresholds(hours: Sequence[Hour], patience: int) -> dict[str, float]:
    """For each strictness the lowest threshold that keeps its rate of false accepts over `hours`."""
    return {name: lowest(hours, patience, rate) for name, rate in FALSE_ACCEPTS_PER_HOUR.items()}


def lowest(hours: Sequence[Hour], patience: int, per_hour: float) -> float:
    """The lowest threshold, on a grid even in logits, with at most that many false accepts per hour."""
    allowed = per_hour * sum(hour.hours for hour in hours)
    low, high = 0, _GRID - 1
    while (
        low < high
    ):  # false accepts fall as thresholds rise, but for the gate's refractory time, which is no matter here
        middle = (low + high) // 2
        if false_accepts(hours, GateSettings(grid()[middle], patience)) <= allowed:
            high = middle
        else:
            low = middle + 1
    return float(grid()[low])


def grid() -> npt.NDArray[np.float64]:
    """Thresholds to choose from."""
    return 1 / (1 + np.exp(-np.linspace(-5, 9, _GRID)))


def folds(lengths: Mapping[str, float], count: int) -> list[list[str]]:
    """Names in `count` parts of about the same length, the longest first to the shortest part."""
    parts: list[list[str]] = [[] for _ in range(count)]
    for name in sorted(lengths, key=lambda name: (-lengths[name], name)):
        min(parts, key=lambda part: sum(lengths[one] for one in part)).append(name)
    return parts


def thresholds_from_others(hours: Sequence[Hour], patience: int, count: int) -> dict[str, dict[str, Rate]]:
    """False accepts of each package, per strictness, at thresholds that were fixed on packages of other folds."""
    found: dict[str, dict[str, Rate]] = {}
    for names in folds({hour.name: hour.hours for hour in hours}, count):
        fixed = thresholds([hour for hour in hours if hour.name not in names], patience)
        for hour in hours:
            if hour.name in names:
                found[hour.name] = {
                    name: Rate(false_accepts([hour], GateSettings(threshold, patience)), hour.hours)
                    for name, threshold in fixed.items()
                }
    return {hour.name: found[hour.name] for hour in hours}
