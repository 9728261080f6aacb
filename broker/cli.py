"""`sarvis broker`: the embedded broker as a command."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from broker.embedded import EmbeddedBroker
from contract.settings import load
from contract.telemetry import configure_logging

app = typer.Typer(add_completion=False)


@app.callback(invoke_without_command=True)
def broker(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="address to listen on; whoever reaches it may do everything")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on; 0 takes a free one")] = None,
    config: Annotated[Path | None, typer.Option(help="settings file instead of ./sarvis.toml")] = None,
) -> None:
    """Run the embedded MQTT broker until it is interrupted; nothing is stored."""
    if context.invoked_subcommand is None:
        settings = load(config, broker__host=host, broker__port=port)
        configure_logging(settings.log)
        asyncio.run(serve(settings.broker.host, settings.broker.port))


async def serve(host: str, port: int) -> None:
    """Run a broker until SIGINT or SIGTERM; says on stdout when it is ready, raises StartError when it cannot be."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with EmbeddedBroker(host, port) as running:
        print(f"broker listening on {running.url}", flush=True)  # scripts wait for this line
        await stop.wait()
