"""Draws what scripts/bench wrote: `python -m tools.bench.plots REPORT.json [GROWTH.json] --folder docs`.

REPORT.json (`--json`) becomes performance-systems.png, GROWTH.json (`--growth --json`) performance-growth.png. Needs
matplotlib, which the extra `train` brings.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = {
    "sarvis": "SARVIS",
    "sarvis_required": "SARVIS, credentials",
    "sarvis_legacy": "SARVIS, documented protocol",
    "guide": "documented server",
    "node_ws": "Node.js, ws",
    "node_confirmed": "Node.js, confirmed",
    "node_red": "Node-RED",
    "nats_ws": "NATS, no bridge",
    "mosquitto_ws": "Mosquitto, no bridge",
    "floor": "send(2) alone",
}
OURS, OURS_PALE, OTHER, OTHER_PALE, INK = "#0b6e8f", "#8cc3d6", "#7a7a7a", "#c9c9c9", "#333333"
STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.edgecolor": "#999999",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True)
class Bar:
    """A system's number, and between which ends its rounds lie."""

    system: str
    value: float
    low: float
    high: float


def bars(rows: Sequence[Mapping[str, Any]], key: str, qos: int | None = None) -> list[Bar]:
    """The number of each system that has it; with one QoS, if one is given (the floor, which has none, counts as 1)."""
    found = {}
    for row in rows:
        there = 1 if row["qos"] is None else row["qos"]
        if row.get(key) is not None and (qos is None or there == qos):
            ends = row["spread"].get(key, {"min": row[key], "max": row[key]})
            found[row["system"]] = Bar(row["system"], row[key], ends["min"], ends["max"])
    return list(found.values())


def lines(growth: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[tuple[int, float]]]:
    """Points (apps, number) of each system, by apps; a step without the number is left out."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in sorted(growth, key=lambda row: int(row["apps"])):
        if row.get(key) is not None:
            found.setdefault(row["system"], []).append((row["apps"], row[key]))
    return found


def draw_systems(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """CPU per wake by system, QoS 0 and 1; memory of a connection; connects."""
    plt = _pyplot()
    figure, axes = plt.subplot_mosaic(
        [["wake", "memory"], ["wake", "connects"]], figsize=(12, 8.4), width_ratios=(1.15, 1), layout="constrained"
    )
    by_qos = [("QoS 0", bars(rows, "cpu_us_per_event", 0)), ("QoS 1", bars(rows, "cpu_us_per_event", 1))]
    _bars(axes["wake"], by_qos, "CPU per wake", "CPU, µs per wake", least_first=True, form=",.0f")
    memory = [("", bars(rows, "kib_per_connection"))]
    _bars(axes["memory"], memory, "Memory of an idle connection", "KiB per connection", least_first=True, form=",.1f")
    coming = [("first time", bars(rows, "connects_per_s")), ("reconnect storm", bars(rows, "storm_per_s"))]
    _bars(axes["connects"], coming, "Apps that connect at once", "connects per second", least_first=False, form=",.0f")
    figure.savefig(file, dpi=120)
    plt.close(figure)


def draw_growth(growth: Sequence[Mapping[str, Any]], file: Path) -> None:
    """CPU per wake, memory of a connection and connects over the number of apps."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    for axis, key, title, unit in (
        (axes[0], "cpu_us_per_event", "CPU per wake, QoS 1", "µs"),
        (axes[1], "kib_per_connection", "Memory of an idle connection", "KiB"),
        (axes[2], "connects_per_s", "Apps that connect at once", "connects per second"),
    ):
        found = lines(growth, key)
        for system, points in found.items():
            colour = OURS if system.startswith("sarvis") else OTHER
            axis.plot(*zip(*points, strict=True), marker="o", color=colour, label=NAMES.get(system, system))
        steps = sorted({apps for points in found.values() for apps, _ in points})
        axis.set(xscale="log", xlabel="apps", ylabel=unit, title=title)
        axis.set_ylim(bottom=0)
        axis.yaxis.set_major_formatter("{x:,.0f}")
        axis.set_xticks(steps, [_short(apps) for apps in steps])
        axis.minorticks_off()
        axis.grid(axis="y", alpha=0.3)
    axes[0].legend(frameon=False, loc="best")
    figure.savefig(file, dpi=120)
    plt.close(figure)


def _bars(
    axis: Any, groups: Sequence[tuple[str, Sequence[Bar]]], title: str, unit: str, *, least_first: bool, form: str
) -> None:
    """Horizontal bars, the best on top; the last group decides which is best and has the full colour."""
    groups = [(label, found) for label, found in groups if found]
    axis.set(title=title, xlabel=unit)
    if not groups:
        return
    best = {bar.system: bar.value for _, found in groups for bar in found}
    order = sorted(best, key=best.__getitem__, reverse=not least_first)
    height = 0.8 / len(groups)
    longest = max(bar.high for _, found in groups for bar in found)
    for number, (_, found) in enumerate(groups):
        pale = number < len(groups) - 1
        for bar in found:
            single = sum(bar.system in {other.system for other in group} for _, group in groups) == 1
            there = order.index(bar.system) + (0.0 if single else (number - (len(groups) - 1) / 2) * height)
            ours = bar.system.startswith("sarvis")
            colour = (OURS_PALE if pale else OURS) if ours else (OTHER_PALE if pale else OTHER)
            axis.barh(there, bar.value, height * 0.92, color=colour)
            if bar.high > bar.low:
                axis.plot((bar.low, bar.high), (there, there), color=INK, linewidth=1.2, solid_capstyle="butt")
            place = (max(bar.high, bar.value) + longest * 0.012, there)
            axis.annotate(format(bar.value, form), place, va="center", fontsize=9.5, color=INK)
    axis.set_yticks(range(len(order)), [NAMES.get(system, system) for system in order])
    axis.invert_yaxis()
    axis.set_xlim(0, longest * 1.14)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.locator_params(axis="x", nbins=6)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    if len(groups) > 1:
        _legend(axis, [label for label, _ in groups], "upper right" if least_first else "lower right")


def _legend(axis: Any, labels: Sequence[str], place: str) -> None:
    colours = [OTHER_PALE, OTHER][-len(labels) :]
    handles = [axis.barh(0, 0, color=colour) for colour in colours]
    axis.legend(handles, labels, frameon=False, loc=place)


def _short(apps: int) -> str:
    return f"{apps // 1000}k" if apps >= 1000 and apps % 1000 == 0 else f"{apps:,}"


def _pyplot() -> Any:
    import matplotlib as mpl  # noqa: PLC0415 - only who draws needs it

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    mpl.rcParams.update(STYLE)
    return plt


def main() -> None:
    """Draw what was given."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench.plots", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT.json")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the pictures go")
    arguments = parser.parse_args()
    for file in arguments.reports:
        report = json.loads(file.read_text())
        if "growth" in report:
            draw_growth(report["growth"], arguments.folder / "performance-growth.png")
        elif "rows" in report:
            draw_systems(report["rows"], arguments.folder / "performance-systems.png")
        else:
            parser.error(f"{file} was not written by scripts/bench --json")


if __name__ == "__main__":
    main()
