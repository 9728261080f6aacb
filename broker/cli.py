"""`sarvis broker`: the embedded broker as a command."""

import asyncio
import signal
from typing import Annotated

import typer

from broker.embedded import EmbeddedBroker

app = typer.Typer(name="broker", no_args_is_help=False)


@app.callback(invoke_without_command=True)
def broker(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="The address to listen on; everybody who reaches it may do everything.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one and prints it.")] = 1883,
) -> None:
    """Run the embedded MQTT broker until it is interrupted; nothing is stored."""
    if context.invoked_subcommand is None:
        asyncio.run(serve(host, port))


async def serve(host: str, port: int) -> None:
    """Run a broker until SIGINT or SIGTERM; says on stdout when it is ready, raises StartError when it cannot be."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with EmbeddedBroker(host, port) as running:
        print(f"broker listening on {running.url}", flush=True)  # scripts wait for this line
        await stop.wait()
