"""The trade-off as a picture: what is missed and what is wrongly taken, against false accepts per hour."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_node.training.evaluate import Point

_COLOURS = ("C0", "C1", "C2")


def draw(curve: Sequence[Point], thresholds: dict[str, float], path: Path, alone: Sequence[Point] = ()) -> None:
    """Write the picture of a model's thresholds; of the head `alone`, without its second stage, lines are dashed."""
    import matplotlib as mpl  # noqa: PLC0415 only who draws needs it

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for points, dashed in ((alone, True), (curve, False)):
        if points:
            _missed(left, points, dashed=dashed)
            _taken(right, points, dashed=dashed)
    for rate, names in _by_rate(curve, thresholds).items():
        left.axvline(rate, color="grey", linewidth=0.6)
        left.annotate(", ".join(names), (rate, 48), fontsize=8, rotation=90, ha="right", va="top")
    left.set(xscale="log", xlabel="false accepts per hour", ylabel="missed, %", ylim=(0, 50))
    right.set(xlabel="missed, clean, %", ylabel="taken for the word, %", xlim=(0, 50), ylim=(0, 100))
    for axes in (left, right):
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _missed(axes: Any, points: Sequence[Point], *, dashed: bool) -> None:
    shown = [point for point in points if point.false_accepts_per_hour > 0]
    rates = [point.false_accepts_per_hour for point in shown]
    lines = {
        "clean": [point.missed_clean for point in shown],
        "noise at 10 dB": [point.missed_ten_db for point in shown],
        "unseen engine, clean": [point.missed_unseen_engine for point in shown],
    }
    _lines(axes, rates, lines, dashed=dashed)


def _taken(axes: Any, points: Sequence[Point], *, dashed: bool) -> None:
    lines = {
        "near-misses by the vowel": [point.taken_hard for point in points],
        "other near-misses": [point.taken_other for point in points],
    }
    _lines(axes, [100 * point.missed_clean for point in points], lines, dashed=dashed)


def _lines(axes: Any, across: Sequence[float], lines: dict[str, list[float]], *, dashed: bool) -> None:
    for colour, (label, values) in zip(_COLOURS, lines.items(), strict=False):
        style: dict[str, Any] = {"linestyle": "--", "linewidth": 1} if dashed else {"marker": "."}
        told = f"{label}, head alone" if dashed else label
        axes.plot(across, [100 * value for value in values], color=colour, label=told, **style)


def _by_rate(curve: Sequence[Point], thresholds: dict[str, float]) -> dict[float, list[str]]:
    """Which strictnesses lie at a rate of false accepts; one without any has no place on a logarithmic axis."""
    found: dict[float, list[str]] = {}
    for name, threshold in thresholds.items():
        near = min(curve, key=lambda point: abs(point.threshold - threshold))
        if near.false_accepts_per_hour > 0:
            found.setdefault(near.false_accepts_per_hour, []).append(name)
    return found
