"""A node as a process: ears, session and local endpoint together, until a signal, the end of the source or a fault."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import uvicorn

from contract import expiry, mqtt
from contract.clock import SystemClock
from contract.errors import SarvisError, SettingsError
from contract.expiry import Ending
from contract.http_protocol import IDLE_S, PunctualProtocol, Room
from contract.sections.base import networks
from contract.sections.edge import EdgeSettings
from contract.settings import Settings
from contract.web import Server, address, listen
from edge_node.audio import open_source
from edge_node.ears import Ears, OpenSource
from edge_node.events import Events
from edge_node.http_node import HttpNode
from edge_node.lights import open_indicator
from edge_node.metrics import Numbers, exposition
from edge_node.node import EdgeNode
from edge_node.outbox import WakeOutbox
from edge_node.state import StateFile
from edge_node.wakeword import selftest
from edge_node.web import Node, create_app

SETTLE_S = 5.0
SETTLE_LOOK_S = 0.05


class ListenerFailedError(SarvisError):
    """The node hears nothing any more; whoever supervises the process should start it again."""


async def serve(settings: Settings, device_id: str, events: Events, *, open_source: OpenSource = open_source) -> None:
    """Run the node; raises SettingsError or StartError before it listens, ListenerFailedError when it turns deaf.

    SettingsError, too, when what it listens to turns out to be no sound.
    """
    with contextlib.ExitStack() as opened:
        await _serve(settings, device_id, events, open_source, opened)


async def _serve(
    settings: Settings, device_id: str, events: Events, open_source: OpenSource, opened: contextlib.ExitStack
) -> None:
    edge = settings.edge
    clock = SystemClock()
    if edge.uplink == "mqtt":
        mqtt.check(settings.mqtt)
    selftest.check()
    ears = Ears(edge, device_id, clock, open_source)
    opened.callback(ears.close)
    listening = listen("the edge's log-out endpoint", edge.http_host, edge.http_port, option="--http-port")
    state_file = StateFile(edge.state_dir, device_id)
    model = ears.detector.model
    indicator = open_indicator(edge, events)
    opened.callback(indicator.close)
    node: EdgeNode | HttpNode
    if edge.uplink == "mqtt":
        node = EdgeNode(
            settings, device_id, model, clock=clock, state_file=state_file, events=events, indicator=indicator
        )
    else:
        node = HttpNode(edge, clock=clock, state_file=state_file, events=events, indicator=indicator)
    stopping = asyncio.Event()
    # Before the line that says it listens: whoever reads that may send a signal at once.
    for signum in _signals():
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    PunctualProtocol.room = Room.all_there_is()

    def numbers() -> Numbers:
        return replace(ears.numbers(), waiting=len(node.outbox), dropped=node.outbox.dropped)

    server = Server(endpoint(node, ears.set_mute, exposition(numbers), edge))
    tasks: list[asyncio.Task[None]] = [
        asyncio.create_task(server.serve(sockets=[listening]), name="http"),
        asyncio.create_task(node.run(), name="node"),
        asyncio.create_task(_set(stopping), name="signals"),
        asyncio.create_task(ears.watch(), name="watchdog"),
        asyncio.create_task(expiry.watch(lambda: _endings(settings), clock), name="expiry"),
    ]
    ears.start(node)
    events.emit("listening", device_id=device_id, source=edge.source, model=model, http=address(listening))
    ends: list[asyncio.Future[Any]] = [ears.end, *tasks]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if ears.end.done() and ears.end.result() is None:
        await _settle(node.outbox)
    await asyncio.gather(ears.stop(), asyncio.to_thread(indicator.close))
    server.should_exit = True
    await asyncio.wait(tasks[:1])
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    state_file.close()
    _raise_failure(ears.end.result() if ears.end.done() else None, results)


def endpoint(
    node: Node, set_mute: Callable[[bool], bool], metrics: Callable[[], bytes], edge: EdgeSettings
) -> uvicorn.Config:
    """The local endpoint, ready to be served."""
    name = socket.gethostname()
    short = name.partition(".")[0]
    hosts = [edge.http_host, name, short, f"{short}.local", *edge.http_hosts]
    app = create_app(node, set_mute, metrics, allow=networks(edge.http_allow), hosts=hosts)
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http=PunctualProtocol,
        timeout_keep_alive=IDLE_S,
        # A caller is who holds the connection, not whom a header names.
        proxy_headers=False,
    )


def _signals() -> list[signal.Signals]:
    """What ends a node: also the end of its terminal, of which programs in groups of their own do not hear."""
    hung_up = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else []  # nohup has ignored it
    return [signal.SIGINT, signal.SIGTERM, *hung_up]


def _raise_failure(why_deaf: BaseException | None, results: list[BaseException | None]) -> None:
    """End the process with what ended the node, if it was a fault."""
    if isinstance(why_deaf, SettingsError):
        raise why_deaf
    if why_deaf is not None:
        raise ListenerFailedError(f"the node hears nothing any more: {why_deaf}") from why_deaf
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _settle(outbox: WakeOutbox) -> None:
    """A source has ended: give what was heard at its end the time to arrive."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_S):
            while len(outbox):  # noqa: ASYNC110 - once in a process's life
                await asyncio.sleep(SETTLE_LOOK_S)


async def _endings(settings: Settings) -> list[Ending]:
    if settings.edge.uplink == "mqtt":
        return expiry.of_mqtt(settings.mqtt)
    return expiry.of_certificates({}, {"edge.ca_file": settings.edge.ca_file})


async def _set(event: asyncio.Event) -> None:
    await event.wait()
