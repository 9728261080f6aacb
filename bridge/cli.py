"""`sarvis bridge`: serve until SIGINT or SIGTERM, then drain."""

import asyncio
import gc
import signal
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
import uvloop

from bridge.app import create_app, origins_of
from bridge.app_protocol import MAX_FRAME_BYTES
from bridge.auth.proxies import BehindProxies, Proxies
from bridge.quick_trigger import QuickTrigger
from bridge.service import Bridge
from bridge.sql_store import SqlStore
from bridge.store import StoreError
from bridge.websocket.abortable import AbortableProtocol
from bridge.websocket.entrance import Entrance
from contract import expiry
from contract.clock import SystemClock
from contract.errors import StartError
from contract.expiry import Ending
from contract.http_protocol import IDLE_S, PunctualProtocol, Room
from contract.mqtt import check as check_mqtt
from contract.sections.base import is_loopback
from contract.settings import Settings, load
from contract.telemetry import configure_logging, get_logger
from contract.tls import Reloading
from contract.web import BACKLOG, Server, address, listen

app = typer.Typer(add_completion=False)
log = get_logger("bridge")

COLLECT_AFTER = (10_000, 20, 20)
"""Python's own are (700, 10, 10)."""

PING_INTERVAL_S = 20.0
PING_TIMEOUT_S = 20.0
"""After both a silent peer is cut off; the fast way asks somewhat later, and gives up no later."""


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
    uvloop.run(serve(settings, restored=restored))


async def serve(settings: Settings, *, restored: bool = False) -> None:
    """Run the bridge; raises StartError when its address or its ledger is not to be had, or it would be open to all."""
    _refuse_to_be_open_to_others(settings)
    listening = listen("the bridge", settings.bridge.host, settings.bridge.port, option="--port")
    store = await SqlStore.open(settings.store, restored=restored)
    if store.restored:
        log.info("ledger_is_a_back_up", told="everybody gets the full time-out from now")
    try:
        await _serve(settings, store, listening, restored=restored or store.restored)
    finally:
        await store.close()


async def _serve(settings: Settings, store: SqlStore, listening: socket.socket, *, restored: bool) -> None:
    the_bridge = Bridge(settings, store)
    check_mqtt(settings.mqtt)
    tls = _tls(settings)
    origins = origins_of(the_bridge)
    entrance = None
    if settings.bridge.websocket == "fast":
        entrance = Entrance.of(the_bridge, origins, (PING_INTERVAL_S + PING_TIMEOUT_S) / 3)
    config = uvicorn.Config(
        BehindProxies(QuickTrigger(create_app(the_bridge), the_bridge, origins), Proxies.of(settings)),
        log_config=None,
        access_log=False,
        lifespan="off",
        http=PunctualProtocol,
        ws=entrance or AbortableProtocol,
        ws_max_size=MAX_FRAME_BYTES,
        # A compressor per socket costs 38 KiB for messages of 100 bytes.
        ws_per_message_deflate=False,
        ws_ping_interval=PING_INTERVAL_S,
        ws_ping_timeout=PING_TIMEOUT_S,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=5,
        backlog=BACKLOG,
        # uvicorn would believe any local peer, and knows neither Forwarded nor the host.
        proxy_headers=False,
        server_header=False,
    )
    PunctualProtocol.room = Room.all_there_is()
    server = Server(config, tls=tls.context if tls else None)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stopping.set)
    async with the_bridge.running(restored=restored):
        _spare_the_collector()
        serving = asyncio.create_task(server.serve(sockets=[listening]), name="http")
        watching = [asyncio.create_task(tls.run(), name="certificate")] if tls else []
        watching.append(
            asyncio.create_task(expiry.watch(lambda: _endings(settings, store), SystemClock()), name="expiry")
        )
        if entrance:
            watching.append(asyncio.create_task(entrance.house.run(), name="keep-alive"))
        print(f"bridge listening on {'https' if tls else 'http'}://{address(listening)}", flush=True)
        stop = asyncio.create_task(stopping.wait(), name="stop")
        await asyncio.wait([serving, stop, *watching, *the_bridge.tasks], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        await the_bridge.drain()
        server.should_exit = True
        await serving
        for task in [*watching, *the_bridge.tasks]:
            if task.done():
                task.result()  # a fault of ours: the process ends with a traceback and an exit code
        for task in watching:
            task.cancel()


async def _endings(settings: Settings, store: SqlStore) -> list[Ending]:
    """What ends some day: certificates, and the keys of callers and operators."""
    try:
        keys = list(await store.api_keys())
    except StoreError:
        keys = []
    advice = "make another with sarvis token api, and revoke this one"
    of_keys = [
        Ending(f"API key {key.key_id} ({key.role} {key.name})", datetime.fromtimestamp(key.expires_at, UTC), advice)
        for key in keys
        if key.expires_at is not None
    ]
    certificates = expiry.of_certificates({"bridge.tls_cert": settings.bridge.tls_cert}, {})
    return [*certificates, *expiry.of_mqtt(settings.mqtt), *of_keys]


def _spare_the_collector() -> None:
    """Let garbage collections look only at what comes from now on, and rarely.

    All that was imported is a third of a million objects: looking at them stopped everybody for a quarter of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _tls(settings: Settings) -> Reloading | None:
    bridge = settings.bridge
    if bridge.tls_cert is not None and bridge.tls_key is not None:
        return Reloading(bridge.tls_cert, bridge.tls_key, who="bridge")
    if not is_loopback(bridge.host) and not bridge.trusted_proxies:
        log.warning("credentials_in_clear", told="set bridge.tls_cert and bridge.tls_key: tokens and keys can be read")
    return None


def _refuse_to_be_open_to_others(settings: Settings) -> None:
    if settings.auth.mode == "open" and not is_loopback(settings.bridge.host):
        raise StartError(
            f"the bridge would be open to everybody who reaches {settings.bridge.host}: set auth.mode = required "
            f"(then give out `sarvis token app` and `sarvis token api`), or let bridge.host be 127.0.0.1"
        )
    if settings.auth.mode == "open" and settings.bridge.trusted_proxies:
        raise StartError(
            "bridge.trusted_proxies makes sense only with auth.mode = required: behind a proxy everybody could come in"
        )
