"""`sarvis edge`: listen until SIGINT or SIGTERM, or until the source ends."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn

from contract import mqtt
from contract.clock import SystemClock
from contract.errors import SarvisError, SettingsError
from contract.http_protocol import PunctualProtocol, Room
from contract.settings import EdgeSettings, Settings, load, networks
from contract.telemetry import configure_logging
from contract.web import Server, address, listen
from edge_node.audio import SourceOptions, open_source
from edge_node.events import Alarm, ConsoleIndicator, Events
from edge_node.gate import Gate, Trigger
from edge_node.listener import Listener
from edge_node.microphone import MicrophoneOptions
from edge_node.node import EdgeNode
from edge_node.state import StateFile
from edge_node.wakeword import selftest
from edge_node.wakeword.native import NativeDetector
from edge_node.wakeword.openwakeword import OpenWakeWordDetector
from edge_node.watchdog import DEAF_S, Watchdog, notifier, watchdog_s
from edge_node.web import Node, create_app

app = typer.Typer(add_completion=False)

SETTLE_S = 5.0
STOP_S = 10.0
WATCH_EVERY_S = 0.25
LIVE = ("mic", "exec", "stdin")
"""Sources that are silent only by mistake."""


class ListenerFailedError(SarvisError):
    """The node hears nothing any more; whoever supervises the process should start it again."""


@app.command()
def edge(
    *,
    device_id: Annotated[str | None, typer.Option(help="this device's name: letters, digits, _ and -")] = None,
    uid: Annotated[
        str | None, typer.Option(help="log this user in whenever nobody is and the user's app lives")
    ] = None,
    source: Annotated[str | None, typer.Option(help="mic, mic:NAME, exec:COMMAND, wav:FILE, stdin or silence")] = None,
    mqtt_url: Annotated[str | None, typer.Option(help="the broker, mqtt://HOST:PORT")] = None,
    http_port: Annotated[
        int | None, typer.Option(help="port of the local log-out endpoint; 0 takes a free one")
    ] = None,
    state_dir: Annotated[Path | None, typer.Option(help="folder of the device's durable state")] = None,
    config: Annotated[Path | None, typer.Option(help="settings file instead of ./sarvis.toml")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print events as JSON lines")] = False,
) -> None:
    """Hear the wake word, tell the bridge, obey its log-outs."""
    settings = load(
        config,
        edge__device_id=device_id,
        edge__uid=uid,
        edge__source=source,
        mqtt__url=mqtt_url,
        edge__http_port=http_port,
        edge__state_dir=state_dir,
    )
    configure_logging(settings.log)
    if settings.edge.device_id is None:
        raise SettingsError("setting edge.device_id is missing: name this device with --device-id")
    asyncio.run(serve(settings, settings.edge.device_id, Events(sys.stdout, as_json=as_json)))


async def serve(settings: Settings, device_id: str, events: Events) -> None:
    """Run the node; raises SettingsError or StartError before it listens, ListenerFailedError when it turns deaf."""
    edge = settings.edge
    clock = SystemClock()
    mqtt.check(settings.mqtt)
    selftest.check()
    detector = NativeDetector(edge.model) if edge.engine == "native" else OpenWakeWordDetector(edge.model)
    gate = Gate(detector.advice.gate(edge.strictness, edge.threshold, edge.patience, edge.refractory_s))
    source = open_source(
        edge.source,
        SourceOptions(
            microphone=MicrophoneOptions(rate_hz=edge.rate_hz, channel=edge.channel),
            return_s=edge.microphone_return_s,
            on_change=lambda change: alarm("microphone_lost", change == "lost"),
        ),
    )
    listening = listen("the edge's log-out endpoint", edge.http_host, edge.http_port, option="--http-port")
    state_file = StateFile(edge.state_dir, device_id)
    node = EdgeNode(
        settings,
        device_id,
        detector.model,
        clock=clock,
        state_file=state_file,
        events=events,
        indicator=ConsoleIndicator(events),
    )
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stopping.set)
    deaf: asyncio.Future[BaseException | None] = loop.create_future()

    def alarm(name: Alarm, raised: bool) -> None:
        loop.call_soon_threadsafe(node.alarm, name, raised)

    def on_silence(silent: bool) -> None:
        if edge.source.partition(":")[0] in LIVE:
            alarm("digital_silence", silent)

    def on_trigger(trigger: Trigger) -> None:
        loop.call_soon_threadsafe(node.heard, trigger, clock.monotonic())

    def on_end(error: BaseException | None) -> None:
        loop.call_soon_threadsafe(deaf.set_result, error)

    listener = Listener(source, detector, gate, on_trigger, on_end, on_silence)
    PunctualProtocol.room = Room.all_there_is()
    server = Server(_http(node, edge))
    tasks: list[asyncio.Task[None]] = [
        asyncio.create_task(server.serve(sockets=[listening]), name="http"),
        asyncio.create_task(node.run(), name="node"),
        asyncio.create_task(_set(stopping), name="signals"),
    ]
    notify = notifier(os.environ)
    # Who plays files or feeds standard input may pause; a lost microphone has its own time.
    deaf_s = edge.microphone_return_s + DEAF_S if edge.source.partition(":")[0] in {"mic", "exec"} else None
    watchdog = Watchdog(notify, watchdog_s(os.environ, os.getpid()), deaf_s, clock.monotonic())
    tasks.append(asyncio.create_task(_watch(watchdog, listener, clock), name="watchdog"))
    listener.start()
    events.emit("listening", device_id=device_id, source=edge.source, model=detector.model, http=address(listening))
    ends: list[asyncio.Future[Any]] = [deaf, *tasks]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if deaf.done() and deaf.result() is None:
        await node.settle(SETTLE_S)
    notify("STOPPING=1")
    await asyncio.to_thread(listener.stop, STOP_S)
    server.should_exit = True
    await asyncio.wait(tasks[:1])
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    state_file.close()
    _raise_failure(deaf.result() if deaf.done() else None, results)


def _http(node: Node, edge: EdgeSettings) -> uvicorn.Config:
    name = socket.gethostname()
    app = create_app(node, allow=networks(edge.http_allow), hosts=[edge.http_host, name, f"{name}.local"])
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http=PunctualProtocol,
        # A caller is who holds the connection, not whom a header names.
        proxy_headers=False,
    )


def _raise_failure(why_deaf: BaseException | None, results: list[BaseException | None]) -> None:
    """End the process with what ended the node, if it was a fault."""
    if why_deaf is not None:
        raise ListenerFailedError(f"the node hears nothing any more: {why_deaf}") from why_deaf
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _watch(watchdog: Watchdog, listener: Listener, clock: SystemClock) -> None:
    while True:
        watchdog.look(listener.scored, clock.monotonic())
        await asyncio.sleep(WATCH_EVERY_S)


async def _set(event: asyncio.Event) -> None:
    await event.wait()
