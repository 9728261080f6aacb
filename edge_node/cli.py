"""`sarvis edge`: listen until it is asked to end, or until the source ends."""

import asyncio
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from contract.errors import SettingsError
from edge_node.audio.sources import SOURCE_HELP
from edge_node.display.events import Events
from edge_node.serve import serve
from edge_node.tools_cli import bench, levels
from infra.settings.loader import load
from infra.telemetry import configure_logging, tell_of_process

app = typer.Typer(add_completion=False)

app.command()(levels)
app.command()(bench)


@app.callback(invoke_without_command=True)
def edge(
    context: typer.Context,
    *,
    device_id: Annotated[str | None, typer.Option(help="this device's name: letters, digits, _ and -")] = None,
    uid: Annotated[
        str | None, typer.Option(help="log this user in when no user is logged in and the user's app is connected")
    ] = None,
    source: Annotated[str | None, typer.Option(help=SOURCE_HELP)] = None,
    mqtt_url: Annotated[
        str | None, typer.Option(help="the broker, mqtt://HOST:PORT; a cluster's nodes with commas")
    ] = None,
    http_port: Annotated[
        int | None, typer.Option(help="port of the local log-out endpoint; 0 chooses a free one")
    ] = None,
    state_dir: Annotated[Path | None, typer.Option(help="folder of the device's durable state")] = None,
    config: Annotated[Path | None, typer.Option(help="settings file instead of ./sarvis.toml")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print events as JSON lines")] = False,
) -> None:
    """Recognise the wake word, publish wakes, obey log-outs."""
    if context.invoked_subcommand is not None:
        return
    settings = load(
        config,
        edge__device_id=device_id,
        edge__uid=uid,
        edge__source=source,
        mqtt__url=mqtt_url,
        edge__http_port=http_port,
        edge__state_dir=state_dir,
    )
    configure_logging(settings.log, serves=True)
    tell_of_process("edge", version("sarvis"))
    if settings.edge.device_id is None:
        raise SettingsError("setting edge.device_id is missing: name this device with --device-id")
    asyncio.run(serve(settings, settings.edge.device_id, Events(sys.stdout, as_json=as_json)))
