"""`sarvis demo`: the whole system on this machine."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from contract.errors import StartError
from sarvis.demo.processes import DemoFailedError
from sarvis.demo.story import Story

CLIP = Path(__file__).parent.parent / "clips" / "ssabiseu.wav"
LEAD_IN_S = 2.5


def demo(
    wav: Annotated[Path, typer.Option(help="what the microphone hears, instead of the recorded «싸비스»")] = CLIP,
) -> None:
    """Run broker, bridge, edge and app, let the edge hear a recording, and tell what happens."""
    length_s = _length_s(wav) + LEAD_IN_S
    console = Console()
    console.print("[bold]SARVIS demo[/]: broker, bridge, app and edge, each a real process on this machine\n")
    began = time.monotonic()
    try:
        asyncio.run(Story(console, wav.resolve(), length_s).tell())
    except DemoFailedError as error:
        console.print(f"\n[bold red]failed[/]: {error}", markup=True, highlight=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from None
    console.print(f"\n[bold green]All of it happened[/], in {time.monotonic() - began:.0f} s.", highlight=False)


def _length_s(wav: Path) -> float:
    try:
        from edge_node.soundfiles import read_wav  # noqa: PLC0415 - only the demo needs the extra [edge]
        from edge_node.wakeword.detector import SAMPLE_RATE_HZ  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise StartError(f"the demo needs {error.name}, which is not installed: pip install 'sarvis[edge]'") from None
    return len(read_wav(wav)) / SAMPLE_RATE_HZ
