"""Starts broker, bridge and edge for one user and one device, each a process, and follows what happens."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.tasks import Tasks
from sarvis.children import Child, ChildFailedError, Line

START_S = 60.0
STEP_S = 30.0
ANYWHERE = "0.0.0.0"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to start.

    Attributes:
        source: of sound, as `edge.source`; None: a recorded voice.
        port: of the bridge; another free one if it is taken.
        lan: also phones in this network reach the bridge.
    """

    uid: str
    device_id: str
    source: str | None
    port: int
    lan: bool


@dataclass(frozen=True, slots=True)
class House:
    """The running system.

    Attributes:
        link: opens the app's page and logs the user in.
        console: logs a browser of this machine in to the operator's console, once.
        mqtt_url: for MQTT tools.
        config: the settings, for other commands.
    """

    wanted: Wanted
    link: str
    console: str
    mqtt_url: str
    config: Path
    broker: Child
    bridge: Child
    edge: Child

    async def follow(self, on_event: Callable[[Line], None]) -> None:
        """Call `on_event` with each event of the edge; raises ChildFailedError when a process ends."""
        async with Tasks() as tasks:
            for child in (self.broker, self.bridge):
                tasks.start(_listen(child, lambda _: None), f"watch {child.name}")
            await _listen(self.edge, on_event)


@asynccontextmanager
async def house(wanted: Wanted, folder: Path) -> AsyncIterator[House]:
    """Start everything in `folder`; raises ChildFailedError. All processes have ended afterwards."""
    settings = {
        "SARVIS_BROKER__DIR": str(folder / "broker"),
        "SARVIS_STORE__URL": f"sqlite:///{folder / 'ledger.db'}",
        "SARVIS_AUTH__KEY_FILE": str(folder / "signing.keys"),
    }
    async with contextlib.AsyncExitStack() as running:

        async def start(name: str, *arguments: str, hears: bool = False, **more: str) -> Child:
            child = await Child.start(name, *arguments, folder=folder, settings=settings | more, hears=hears)
            running.push_async_callback(child.stop)
            return child

        broker = await start("broker", "broker", "--port", "0")
        mqtt_url = await broker.url(START_S)
        bridge = await start(
            "bridge", "bridge", "--mqtt-url", mqtt_url,
            "--host", ANYWHERE if wanted.lan else LOOPBACK, "--port", str(_free(wanted)),
            SARVIS_AUTH__MODE="required",
        )  # fmt: skip
        http_url = await bridge.url(START_S)
        port = http_url.rsplit(":", 1)[1].rstrip("/")
        config = folder / "sarvis.toml"
        config.write_text(f'[bridge]\nport = {port}\n\n[store]\nurl = "{settings["SARVIS_STORE__URL"]}"\n')
        await bridge.expect("the bridge reaches the broker", lambda line: line.get("event") == "mqtt_connected", STEP_S)
        await _done(await start("device add", "device", "add", wanted.device_id, "--uid", wanted.uid))
        (token,) = await _done(await start("token app", "token", "app", wanted.uid))
        (key,) = await _done(await start("token api", "token", "api", "sarvis up", "--role", "operator"))
        console = await start(
            "console", "console", "--bridge", f"http://{LOOPBACK}:{port}", SARVIS_OPERATOR__API_KEY=key
        )
        (console_link,) = await _done(console)
        edge = await start(
            "edge", "edge", "--json", "--device-id", wanted.device_id, "--uid", wanted.uid,
            "--source", wanted.source or "stdin",
            "--mqtt-url", mqtt_url, "--http-port", "0", "--state-dir", str(folder / "edge"),
            hears=wanted.source is None,
        )  # fmt: skip
        await edge.expect("the edge listens", lambda line: line.get("event") == "listening", START_S)
        host = own_address() if wanted.lan else LOOPBACK
        link = f"http://{host}:{port}/app/#token={token}"
        yield House(wanted, link, console_link, mqtt_url, config, broker, bridge, edge)


def own_address() -> str:
    """This machine's address in its network; loopback if it is in none. Nothing is sent."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # an address for documentation: only the route to it is looked up
        return str(probe.getsockname()[0])
    return LOOPBACK


def _free(wanted: Wanted) -> int:
    """The wanted port, or 0 for another one if it is taken."""
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((ANYWHERE if wanted.lan else LOOPBACK, wanted.port))
        return wanted.port
    return 0


async def _done(child: Child) -> list[str]:
    """The lines that a command printed; raises ChildFailedError if it failed."""
    async with asyncio.timeout(START_S):
        said = await child.ended()
    if child.process.returncode:
        raise ChildFailedError(f"sarvis {child.name}: exit code {child.process.returncode}.{child.words()}")
    return [str(line["text"]) for line in said if "text" in line]


async def _listen(child: Child, on_event: Callable[[Line], None]) -> None:
    async for line in child.lines():
        if "event" in line:
            on_event(line)
    code = await child.process.wait()
    raise ChildFailedError(f"the {child.name} ended with exit code {code}.{child.words()}")
