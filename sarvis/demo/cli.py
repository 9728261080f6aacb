"""`sarvis demo`: the whole system on this machine."""

import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from contract.errors import StartError
from infra import terminal
from infra.stopping import Stop
from sarvis.children import ChildFailedError
from sarvis.demo.story import Story

CLIP = Path(__file__).parent.parent / "clips" / "ssabiseu.wav"
LEAD_IN_S = 2.5


def demo(
    wav: Annotated[
        Path, typer.Option(help="the recording for the microphone, instead of the recorded «싸비스»")
    ] = CLIP,
) -> None:
    """Run broker, bridge, edge and app, play a recording to the edge, and print what happens."""
    terminal.output_is_all()
    length_s = _length_s(wav) + LEAD_IN_S
    console = Console()
    console.print("[bold]SARVIS demo[/]: broker, bridge, app and edge, each a real process on this machine\n")
    began = time.monotonic()
    try:
        ended_by = asyncio.run(_tell(Story(console, wav.resolve(), length_s)))
    except ChildFailedError as error:
        console.print(f"\n[bold red]failed[/]: {error}", markup=True, highlight=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from None
    if ended_by is not None:
        print(f"ended by {ended_by.name} before it was done", file=sys.stderr)
        raise typer.Exit(128 + ended_by)
    console.print(f"\n[bold green]All of it happened[/], in {time.monotonic() - began:.0f} s.", highlight=False)


async def _tell(story: Story) -> signal.Signals | None:
    """Print the story; returns the signal that ended it, if any.

    A process that is starting is also ended: signals do not raise here.
    """
    telling = asyncio.create_task(story.tell(), name="demo")
    with Stop(on_asked=telling.cancel) as stop:
        try:
            await telling
        except asyncio.CancelledError:
            return stop.by
    return None


def _length_s(wav: Path) -> float:
    try:
        from edge_node.audio.format import SAMPLE_RATE_HZ  # noqa: PLC0415
        from edge_node.audio.soundfiles import read_wav  # noqa: PLC0415 - only the demo needs the extra [edge]
    except ModuleNotFoundError as error:
        raise StartError(f"the demo needs {error.name}, which is not installed: pip install 'sarvis[edge]'") from None
    return len(read_wav(wav)) / SAMPLE_RATE_HZ
