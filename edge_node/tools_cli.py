"""`sarvis edge levels` and `sarvis edge bench`: measure this microphone and this machine."""

import json
import resource
import time
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from edge_node.audio.format import FRAME_S, FRAME_SAMPLES
from edge_node.audio.levels import FLOOR_DB, Level, advice, level
from edge_node.audio.microphone import MicrophoneOptions
from edge_node.audio.sources import SOURCE_HELP, SourceOptions, open_source
from edge_node.wakeword import selftest
from edge_node.wakeword.native import NativeDetector
from infra import terminal
from infra.settings.loader import load

_Source = Annotated[str | None, typer.Option(help=SOURCE_HELP)]
_Config = Annotated[Path | None, typer.Option(help="settings file instead of ./sarvis.toml")]
_AsJson = Annotated[bool, typer.Option("--json", help="for programs")]

_BAR = 48
_GREEN_DB, _YELLOW_DB = -30.0, -9.0
_BENCH_FRAMES = 500
_BENCH_ROUNDS = 3


def levels(
    *,
    source: _Source = None,
    seconds: Annotated[float | None, typer.Option(min=0.08, help="end after this much audio")] = None,
    config: _Config = None,
    as_json: _AsJson = False,
) -> None:
    """Show the loudness until interrupted; at the end print advice. No sound is stored or sent."""
    edge = load(config, edge__source=source).edge
    terminal.output_is_all()
    options = SourceOptions(
        lead_in_s=0.0,
        microphone=MicrophoneOptions(rate_hz=edge.rate_hz, channel=edge.channel),
        return_s=edge.microphone_return_s,
    )
    console = Console()
    heard: list[Level] = []
    count = None if seconds is None else max(round(seconds / FRAME_S), 1)
    try:
        with (
            open_source(edge.source, options) as frames,
            Live(console=console, auto_refresh=False, transient=True) as live,
        ):
            for frame in islice(frames, count):
                heard.append(level(frame))
                if as_json:
                    typer.echo(json.dumps(asdict(heard[-1])))
                else:
                    live.update(_meter(heard[-1], max(one.peak_db for one in heard[-25:])), refresh=True)
                del heard[:-2000]
    except KeyboardInterrupt:
        pass
    if not as_json:
        console.print(advice(heard))


def _meter(now: Level, peak_db: float) -> Text:
    filled = round(_BAR * (now.rms_db - FLOOR_DB) / -FLOOR_DB)
    at = min(round(_BAR * (peak_db - FLOOR_DB) / -FLOOR_DB), _BAR - 1)
    bar = Text()
    for place in range(_BAR):
        decibels = FLOOR_DB * (1 - place / _BAR)
        colour = "green" if decibels < _GREEN_DB else "yellow" if decibels < _YELLOW_DB else "red"
        bar.append("█" if place < filled else "|" if place == at else "·", style=colour if place <= at else "dim")
    return bar.append(f"  {now.rms_db:6.1f} dB, peak {peak_db:6.1f} dB")


def bench(*, config: _Config = None, as_json: _AsJson = False) -> None:
    """Measure the cost of listening here: CPU of this process per frame of 80 ms, and memory."""
    edge = load(config).edge
    selftest.check()
    frames = list(
        np.random.default_rng(1).normal(0.0, 1000.0, (_BENCH_FRAMES, FRAME_SAMPLES)).astype(np.int16),
    )
    best_s = min(_round(frames, edge.model) for _ in range(_BENCH_ROUNDS))
    found = {
        "cpu_ms_per_frame": round(best_s * 1000, 3),
        "share_of_a_core": round(best_s / FRAME_S, 5),
        "times_real_time": round(FRAME_S / best_s, 1),
        "memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo(
        f"{found['cpu_ms_per_frame']} ms of CPU for each 80 ms of sound: {found['share_of_a_core']:.2%} of a core, "
        f"{found['times_real_time']} times real time, {found['memory_mib']} MiB\n"
        + ("this machine is fast enough" if best_s < FRAME_S / 2 else "this machine is too slow to listen all the time")
    )


def _round(frames: list[np.ndarray[tuple[int, ...], np.dtype[np.int16]]], model: Path | None) -> float:
    detector = NativeDetector(model)
    began = time.process_time()
    for frame in frames:
        detector.feed(frame)
    return (time.process_time() - began) / len(frames)
