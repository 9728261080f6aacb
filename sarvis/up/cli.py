"""`sarvis up`: the whole system on this machine, to try it with a phone."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from contract.errors import SettingsError, StartError
from contract.names import check_uid, is_device_id
from infra import terminal
from sarvis.children import ChildFailedError

WORD = Path(__file__).parent.parent / "clips" / "ssabiseu.wav"


def up(
    *,
    uid: Annotated[str, typer.Option(help="the name of the user whose phone rings")] = "alice",
    device_id: Annotated[str, typer.Option(help="the name of the device that listens")] = "jetson-1",
    source: Annotated[
        str | None, typer.Option(help="mic, or another source of `sarvis edge`, instead of a recorded voice at key w")
    ] = None,
    lan: Annotated[bool, typer.Option("--lan", help="let phones in this network connect, without TLS")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="of the bridge; another one if it is taken")] = 8000,
) -> None:
    """Run broker, bridge and edge to try SARVIS with a phone: prints a link, and what happens; Ctrl-C ends all."""
    terminal.output_is_all()
    try:
        check_uid(uid)
    except ValueError as error:
        raise SettingsError(f"--uid {error}") from None
    if not is_device_id(device_id):
        raise SettingsError("--device-id: letters, digits, _ and -, at most 64")
    try:
        from edge_node.audio.sources import check_source  # noqa: PLC0415 - errors above need no library
        from sarvis.up.house import Wanted  # noqa: PLC0415
        from sarvis.up.run import run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise StartError(f"sarvis up needs {error.name}, which is not installed: pip install 'sarvis[edge]'") from None
    if source == "stdin":
        raise SettingsError("--source stdin: this terminal has the keys; take mic, mic:NAME, exec:COMMAND or wav:FILE")
    if source is not None and source.startswith("wav:"):
        source = f"wav:{Path(source.removeprefix('wav:')).absolute()}"  # the edge runs in a folder of its own
    if source is not None:
        check_source(source)
    try:
        asyncio.run(run(Wanted(uid, device_id, source, port, lan), WORD, Console()))
    except ChildFailedError as error:
        raise StartError(str(error)) from None
