"""`sarvis bridge`: serve until it is asked to end, then drain."""

import asyncio
import gc
import socket
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
import uvloop

from bridge.api.app import create_app, origins_of
from bridge.api.closing import Closing
from bridge.api.fast_trigger import FastTrigger
from bridge.auth.proxies import BehindProxies, Proxies
from bridge.endings import endings
from bridge.operator.proxies_cli import config as write_config
from bridge.service import VERSION, Bridge
from bridge.storage.opening import open_store
from bridge.storage.sql.rollouts import SqlRollouts
from bridge.storage.sql.store import SqlStore
from bridge.storage.sqlite import creation as beginning
from bridge.storage.store import Identity, LedgerLostError
from bridge.stories.place import place_of
from bridge.websocket.asgi.uvicorn_protocol import AbortableProtocol
from bridge.websocket.stream.upgrade import StreamUpgrade
from contract.app_socket import MAX_FRAME_BYTES
from contract.clock import SystemClock
from contract.errors import StartError
from infra import expiry
from infra.expiry import Ending
from infra.mqtt.session import check as check_mqtt
from infra.settings.base import is_loopback
from infra.settings.loader import Settings, config_file, load
from infra.stopping import Stop
from infra.tasks import Tasks
from infra.telemetry import configure_logging, get_logger, tell_of_process
from infra.tls import Reloading
from infra.web.http_protocol import IDLE_S, PunctualProtocol
from infra.web.server import BACKLOG, Server, address, listen

app = typer.Typer(add_completion=False)
app.command("config")(write_config)
log = get_logger("bridge")

COLLECT_AFTER = (10_000, 20, 20)
"""Python's own thresholds are (700, 10, 10)."""

PING_INTERVAL_S = 20.0
PING_TIMEOUT_S = 20.0
"""A silent peer is cut off after both; the stream pings somewhat later, and gives up no later."""


@app.callback(invoke_without_command=True)
def bridge(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on; 0 chooses a free one")] = None,
    mqtt_url: Annotated[
        str | None, typer.Option(help="the broker, mqtt://HOST:PORT; a cluster's nodes with commas")
    ] = None,
    store_url: Annotated[str | None, typer.Option(help="the ledger, sqlite:///PATH or postgresql://...")] = None,
    restored: Annotated[
        bool, typer.Option("--restored", help="the ledger is a back-up: every user gets the full time-out from now")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="settings file instead of ./sarvis.toml")] = None,
) -> None:
    """Deliver wakes from MQTT to apps, and keep the ledger of sessions."""
    if context.invoked_subcommand is not None:
        return
    settings = load(config, bridge__host=host, bridge__port=port, mqtt__url=mqtt_url, store__url=store_url)
    configure_logging(settings.log, serves=True)
    tell_of_process("bridge", VERSION)
    uvloop.run(serve(settings, restored=restored, prepared=beginning.prepared_by(config_file(config))))


async def serve(settings: Settings, *, restored: bool = False, prepared: Path | None = None) -> None:
    """Run the bridge; raises StartError if its address or its ledger is unavailable, or if it would be open to all.

    `prepared` is the result of `creation.prepared_by`.
    """
    with Stop(reload=dict) as stop:
        await _open(settings, stop, restored=restored, prepared=prepared)


async def _open(settings: Settings, stop: Stop, *, restored: bool, prepared: Path | None) -> None:
    _refuse_to_be_open_to_others(settings)
    with closing(listen("the bridge", settings.bridge.host, settings.bridge.port, option="--port")) as listening:
        me = Identity(settings.bridge.instance, VERSION, address(listening))
        store = await open_store(settings.store, restored=restored, me=me)
        beginning.settle(prepared, settings.store.path if settings.store.is_file else None)
        if store.restored:
            log.info("ledger_is_a_back_up", told="every user gets the full time-out from now")
        try:
            await _serve(settings, store, listening, stop, restored=restored or store.restored)
        finally:
            await store.close()


async def _serve(settings: Settings, store: SqlStore, listening: socket.socket, stop: Stop, *, restored: bool) -> None:
    the_bridge = Bridge(settings, store, rollouts=SqlRollouts(store))
    check_mqtt(settings.mqtt)
    tls = _tls(settings)
    origins = origins_of(the_bridge)
    entrance = None
    if settings.bridge.websocket == "fast":
        entrance = StreamUpgrade.of(the_bridge, origins, (PING_INTERVAL_S + PING_TIMEOUT_S) / 3)
    config = uvicorn.Config(
        Closing(
            BehindProxies(FastTrigger(create_app(the_bridge), the_bridge, origins), Proxies.of(settings)), the_bridge
        ),
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
        # uvicorn would trust any local peer, and reads neither Forwarded nor the host.
        proxy_headers=False,
        server_header=False,
    )
    server = Server(config, tls=tls.context if tls else None)
    stop.reload = lambda: _read_again(tls, the_bridge)
    stories = place_of(settings) if settings.bridge.stories_days else None
    async with the_bridge.running(restored=restored, stories=stories), Tasks() as watching:
        _spare_the_collector()
        if tls:
            watching.start(tls.run(), "certificate")
        watching.start(expiry.watch(partial(_endings, the_bridge, store), SystemClock()), "expiry")
        watching.start(_until_lost(store), "ledger")
        if entrance:
            watching.start(entrance.shared.run(), "keep-alive")
        await _serve_until_asked(server, listening, the_bridge, stop, "https" if tls else "http")


async def _serve_until_asked(
    server: Server, listening: socket.socket, the_bridge: Bridge, stop: Stop, scheme: str
) -> None:
    """Serve until it is asked to end, or until this is cancelled, for a fault elsewhere: apps are sent away first."""
    async with Tasks() as tasks:
        serving = tasks.start(server.serve(sockets=[listening]), "http")
        asked = tasks.start(stop.asked.wait(), "stop")
        drained = tasks.start(the_bridge.asked_to_leave.wait(), "drain")
        print(f"bridge listening on {scheme}://{address(listening)}", flush=True)
        try:
            await asyncio.wait([serving, asked, drained], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await stop.unless_in_haste(the_bridge.drain())
            server.should_exit = True
            await server.ended(serving, stop.in_haste)


async def _until_lost(store: SqlStore) -> None:
    """Wait until the ledger has gone on without this bridge; then raise LedgerLostError."""
    await store.lost.wait()
    raise LedgerLostError(f"{store.problem}; start the bridge again, it then reads the ledger anew")


def _read_again(tls: Reloading | None, the_bridge: Bridge) -> dict[str, str]:
    """Reload now the files that are otherwise checked once a second."""
    told = (
        {"signing_keys": ", ".join(the_bridge.authenticator.read_again())} if the_bridge.authenticator.required else {}
    )
    if tls is not None:
        told["certificate"] = "renewed" if tls.look() else "as before"
    return told


async def _endings(the_bridge: Bridge, store: SqlStore) -> list[Ending]:
    apps = [connection.principal for connection in the_bridge.hub]
    return await endings(the_bridge.settings, store, apps, the_bridge.clock.utc_now())


def _spare_the_collector() -> None:
    """Make garbage collections look only at new objects, and run rarely.

    Imports leave a third of a million objects: collecting over them stopped all traffic for a quarter of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _tls(settings: Settings) -> Reloading | None:
    bridge = settings.bridge
    if bridge.tls_cert is not None and bridge.tls_key is not None:
        return Reloading(bridge.tls_cert, bridge.tls_key, who="bridge")
    if not is_loopback(bridge.host) and not bridge.trusted_proxies:
        log.warning(
            "credentials_in_clear",
            told="set bridge.tls_cert and bridge.tls_key: without TLS the network can read tokens and keys",
        )
    return None


def _refuse_to_be_open_to_others(settings: Settings) -> None:
    if settings.auth.mode == "open" and not is_loopback(settings.bridge.host):
        raise StartError(
            f"the bridge would be open to every machine that reaches {settings.bridge.host}: set auth.mode = "
            "required (then issue credentials with `sarvis token app` and `sarvis token api`), or set bridge.host "
            "to 127.0.0.1"
        )
    if settings.auth.mode == "open" and settings.bridge.trusted_proxies:
        raise StartError(
            "bridge.trusted_proxies needs auth.mode = required: behind a proxy any client could connect without a "
            "credential"
        )
