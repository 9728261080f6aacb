"""`sarvis bridge`: serve until SIGINT or SIGTERM, then drain."""

import asyncio
import signal
import socket
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from bridge.abortable import AbortableProtocol
from bridge.app import create_app
from bridge.app_protocol import MAX_FRAME_BYTES
from bridge.service import Bridge
from bridge.sql_store import SqlStore
from contract.settings import Settings, load
from contract.telemetry import configure_logging
from contract.web import BACKLOG, Server, address, listen

app = typer.Typer(add_completion=False)

PING_INTERVAL_S = 20.0
PING_TIMEOUT_S = 20.0


@app.command()
def bridge(
    host: Annotated[str | None, typer.Option(help="address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on; 0 takes a free one")] = None,
    mqtt_url: Annotated[str | None, typer.Option(help="the broker, mqtt://HOST:PORT")] = None,
    store_url: Annotated[str | None, typer.Option(help="the ledger, sqlite:///PATH")] = None,
    restored: Annotated[
        bool, typer.Option("--restored", help="the ledger is a back-up: everybody gets the full time-out from now")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="settings file instead of ./sarvis.toml")] = None,
) -> None:
    """Turn MQTT into pushes to apps, and keep the ledger of sessions."""
    settings = load(config, bridge__host=host, bridge__port=port, mqtt__url=mqtt_url, store__url=store_url)
    configure_logging(settings.log)
    asyncio.run(serve(settings, restored=restored))


async def serve(settings: Settings, *, restored: bool = False) -> None:
    """Run the bridge; raises StartError when its address or its ledger is not to be had."""
    listening = listen("the bridge", settings.bridge.host, settings.bridge.port, option="--port")
    store = await SqlStore.open(settings.store)
    try:
        await _serve(settings, store, listening, restored=restored)
    finally:
        await store.close()


async def _serve(settings: Settings, store: SqlStore, listening: socket.socket, *, restored: bool) -> None:
    the_bridge = Bridge(settings, store)
    config = uvicorn.Config(
        create_app(the_bridge),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws=AbortableProtocol,
        ws_max_size=MAX_FRAME_BYTES,
        # A compressor per socket costs 38 KiB for messages of 100 bytes.
        ws_per_message_deflate=False,
        ws_ping_interval=PING_INTERVAL_S,
        ws_ping_timeout=PING_TIMEOUT_S,
        timeout_graceful_shutdown=5,
        backlog=BACKLOG,
    )
    server = Server(config)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stopping.set)
    async with the_bridge.running(restored=restored):
        serving = asyncio.create_task(server.serve(sockets=[listening]), name="http")
        print(f"bridge listening on http://{address(listening)}", flush=True)
        stop = asyncio.create_task(stopping.wait(), name="stop")
        await asyncio.wait([serving, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        await the_bridge.drain()
        server.should_exit = True
        await serving
