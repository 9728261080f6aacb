"""Runs a node as a process: listening, session and local endpoint, until one of them ends."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from contract.clock import Clock, SystemClock
from contract.errors import SarvisError, SettingsError
from edge_node.audio.sources import open_source
from edge_node.display.events import Events
from edge_node.display.lights import open_indicator
from edge_node.listening.service import ListeningService, OpenSource
from edge_node.local_api.node import Node
from edge_node.metrics import Numbers, exposition
from edge_node.new_models import folder_of, starting_model, updater
from edge_node.session.state_file import StateFile
from edge_node.session.wake_outbox import WakeOutbox
from edge_node.uplink.http import HttpNode
from edge_node.uplink.mqtt import EdgeNode
from edge_node.wakeword import selftest
from infra import expiry
from infra.expiry import Ending
from infra.mqtt import session as mqtt
from infra.settings.base import networks
from infra.settings.edge import EdgeSettings
from infra.settings.loader import Settings
from infra.stopping import Stop
from infra.tasks import Tasks
from infra.web.http_protocol import IDLE_S, PunctualProtocol
from infra.web.late import Late
from infra.web.server import Server, address, listen

SETTLE_S = 5.0
SETTLE_LOOK_S = 0.05


class ListenerFailedError(SarvisError):
    """The node no longer receives sound; a supervisor should restart the process."""


async def serve(settings: Settings, device_id: str, events: Events, *, open_source: OpenSource = open_source) -> None:
    """Run the node; raises SettingsError or StartError before it listens, ListenerFailedError when listening fails.

    SettingsError, too, if the source turns out to deliver something other than sound.
    """
    # From the first moment: everything opened below is closed, and no lamp stays on.
    with Stop() as stop, contextlib.ExitStack() as opened:
        await _serve(settings, device_id, events, open_source, opened, stop)


async def _serve(
    settings: Settings,
    device_id: str,
    events: Events,
    open_source: OpenSource,
    opened: contextlib.ExitStack,
    stop: Stop,
) -> None:
    edge = settings.edge
    clock = SystemClock()
    if edge.uplink == "mqtt":
        mqtt.check(settings.mqtt)
    selftest.check()
    models = folder_of(settings, device_id)
    model_path = None if models is None else starting_model(models, edge, device_id)
    listening_service = ListeningService(edge, device_id, clock, open_source, model=model_path)
    opened.enter_context(listening_service.open())
    listening = listen("the edge's log-out endpoint", edge.http_host, edge.http_port, option="--http-port")
    opened.callback(listening.close)
    state_file = StateFile(edge.state_dir, device_id)
    opened.callback(state_file.close)
    model = listening_service.detector.model
    indicator = open_indicator(edge, events)
    opened.callback(indicator.close)
    node: EdgeNode | HttpNode
    if edge.uplink == "mqtt":
        node = EdgeNode.open(
            settings, device_id, model, clock=clock, state_file=state_file, events=events, indicator=indicator
        )
    else:
        node = HttpNode.open(edge, clock=clock, state_file=state_file, events=events, indicator=indicator)

    def numbers() -> Numbers:
        return replace(listening_service.numbers(), waiting=len(node.outbox), dropped=node.outbox.dropped)

    server = Server(endpoint(node, listening_service.set_mute, exposition(numbers), edge))
    # The endpoint goes last, whatever ended the node; a fault of it ends the node, too.
    async with Tasks() as endpoint_task:
        serving = endpoint_task.start(server.serve(sockets=[listening]), "http")
        try:
            async with Tasks() as tasks:
                tasks.start(node.run(), "node")
                if models is not None and isinstance(node, EdgeNode):
                    tasks.start(updater(settings, device_id, models, node, listening_service, clock).run(), "models")
                tasks.start(listening_service.watch(), "watchdog")
                tasks.start(expiry.watch(lambda: _endings(settings), clock), "expiry")
                asked = tasks.start(stop.asked.wait(), "signals")
                listening_service.start(node)
                events.emit("listening", device_id=device_id, source=edge.source, model=model, http=address(listening))
                try:
                    ends: list[asyncio.Future[Any]] = [listening_service.end, asked, serving]
                    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                    if listening_service.end.done():
                        _raise_why_deaf(listening_service.end.result())
                        await _settle(node.outbox, clock)
                finally:
                    await asyncio.gather(listening_service.stop(), asyncio.to_thread(indicator.close))
        finally:
            server.should_exit = True
            await asyncio.wait([serving])


def endpoint(
    node: Node, set_mute: Callable[[bool], bool], metrics: Callable[[], bytes], edge: EdgeSettings
) -> uvicorn.Config:
    """The local endpoint, ready to be served."""
    name = socket.gethostname()
    short = name.partition(".")[0]
    hosts = [edge.http_host, name, short, f"{short}.local", *edge.http_hosts]
    allow = networks(edge.http_allow)

    def make() -> ASGIApp:
        from edge_node.local_api.app import create_app  # noqa: PLC0415 - FastAPI takes a quarter of a node's start

        return create_app(node, set_mute, metrics, allow=allow, hosts=hosts)

    return uvicorn.Config(
        Late(make),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http=PunctualProtocol,
        timeout_keep_alive=IDLE_S,
        # The caller is the peer of the connection, not an address in a header.
        proxy_headers=False,
    )


def _raise_why_deaf(why: BaseException | None) -> None:
    """End the process with the error that ended the listening, if it was one."""
    if isinstance(why, SettingsError):
        raise why
    if why is not None:
        raise ListenerFailedError(f"the node hears nothing any more: {why}") from why


async def _settle(outbox: WakeOutbox, clock: Clock) -> None:
    """A source has ended: wait until its last wakes were sent."""
    until = clock.monotonic() + SETTLE_S
    while len(outbox) and clock.monotonic() < until:
        await clock.sleep(SETTLE_LOOK_S)


async def _endings(settings: Settings) -> list[Ending]:
    if settings.edge.uplink == "mqtt":
        return expiry.of_mqtt(settings.mqtt)
    return expiry.of_certificates({}, {"edge.ca_file": settings.edge.ca_file})
