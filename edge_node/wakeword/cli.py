"""`sarvis wakeword`: what a model makes of recordings."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from contract.errors import SarvisError
from edge_node.audio import SourceOptions, open_source
from edge_node.gate import Gate
from edge_node.wakeword.detector import FRAME_S
from edge_node.wakeword.native import NativeDetector

app = typer.Typer(no_args_is_help=True, help="Judge recordings with a wake-word model.")


@app.callback()
def _wakeword() -> None:
    """Judge recordings with a wake-word model."""


@app.command()
def score(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="WAV files, any rate, any channels")],
) -> None:
    """Print one JSON line per file: highest score, whether it fires, and at which second of the file."""
    for file in files:
        try:
            result = score_file(file)
        except SarvisError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from error
        line = {"file": str(file), "score": result.score, "fired": result.at_s is not None, "at_s": result.at_s}
        typer.echo(json.dumps(line, ensure_ascii=False))


@dataclass(frozen=True, slots=True)
class Score:
    """What a file got.

    Attributes:
        score: the highest score of any frame.
        at_s: seconds from the file's beginning to the first trigger; None if it does not fire.
    """

    score: float
    at_s: float | None


def score_file(file: Path) -> Score:
    """Hear a file as `--source wav:FILE` plays it, but as fast as it is read; SettingsError if it is no audio."""
    detector, gate = NativeDetector(), Gate()
    highest, fired_at_s = 0.0, None
    options = SourceOptions(pace=False)
    with open_source(f"wav:{file}", options) as frames:
        for number, frame in enumerate(frames, start=1):
            current = detector.feed(frame)
            highest = max(highest, current or 0.0)
            trigger = gate.feed(current, number * FRAME_S)
            if trigger is not None and fired_at_s is None:
                fired_at_s = round(trigger.at_s - options.lead_in_s, 3)
    return Score(round(highest, 4), fired_at_s)
