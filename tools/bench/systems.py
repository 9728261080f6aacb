"""What is measured, each as a process of its own that is pinned to a core."""

import asyncio
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import httpx2

from bridge.auth import api_keys, tokens
from bridge.storage.sqlite.store import SqliteStore
from contract.clock import iso
from infra.settings.bridge import StoreSettings
from tests.support.debian import find
from tests.support.ports import free_port
from tests.support.waiting import wait_for
from tests.support.world import HOST, PREFIX, accepts
from tools.bench.apps import App, MqttApp, NatsApp, NodeRedApp
from tools.bench.npm import NotHereError, node, packages
from tools.bench.packets import device, user
from tools.bench.processes import Process, on_core

HERE = Path(__file__).parent
NO_LIMIT = "10000000/second"
LIMITS = {f"SARVIS_LIMITS__{name}": NO_LIMIT for name in ("ADDRESS", "FAILURES", "CALLER", "APP", "FRAMES", "DEVICE")}
"""One machine plays a whole town; the limits are counted, but let it through."""


@dataclass
class Running:
    """A system that serves; who is let in where credentials are required; its MQTT port if it is the broker."""

    process: Process
    port: int
    mqtt_port: int | None = None
    tokens: dict[int, str] = field(default_factory=dict)
    api_key: str | None = None
    ledger: Path | None = None


class Start(Protocol):
    """Starts a system in a folder of its own, for a number of apps; raises NotHereError."""

    def __call__(self, folder: Path, mqtt_port: int, apps: int) -> Running: ...


@dataclass(frozen=True)
class System:
    """A way from MQTT and HTTP to apps.

    Attributes:
        kind: how its apps speak.
        v2: they speak sarvis.v2 and confirm each wake.
        outcomes: what a device is told of each wake.
        http: there is an HTTP trigger.
    """

    name: str
    start: Start
    kind: type[App] = App
    v2: bool = False
    outcomes: tuple[str, ...] = ()
    http: bool = True


def start_sarvis(
    folder: Path,
    mqtt_port: int,
    apps: int,
    *,
    required: bool = False,
    profile: Path | None = None,
    more: Mapping[str, str] | None = None,
    without: str = "",
    mqtt_url: str | None = None,
) -> Running:
    """`sarvis bridge` with its defaults, but for the limits; with more settings, `without` something.

    `mqtt_url`: instead of the port, for a broker of several nodes.
    """
    settings = {**LIMITS, "SARVIS_STORE__URL": "sqlite:///ledger.db", **(more or {})}
    given: dict[int, str] = {}
    api_key = None
    if required:
        settings |= {"SARVIS_AUTH__MODE": "required", "SARVIS_AUTH__KEY_FILE": str(folder / "signing.keys")}
        given, api_key = _let_in(folder, apps)
    profiled = [] if profile is None else ["-m", "cProfile", "-o", str(profile.absolute())]
    process = Process(
        "sarvis",
        [
            sys.executable,
            *profiled,
            "-m",
            *(["tools.bench.without", without] if without else ["sarvis"]),
            "bridge",
            "--port",
            "0",
            "--mqtt-url",
            mqtt_url or f"mqtt://{HOST}:{mqtt_port}",
        ],
        folder,
        {**settings, "PYTHONPATH": str(HERE.parents[1])} if without else settings,
    )
    port = int(process.said(rf"bridge listening on http://{HOST}:(\d+)"))
    ready = f"http://{HOST}:{port}/readyz"
    wait_for("the bridge is ready", lambda: httpx2.get(ready, trust_env=False).status_code == 200)
    return Running(process, port, tokens=given, api_key=api_key, ledger=folder / "ledger.db")


def _let_in(folder: Path, apps: int) -> tuple[dict[int, str], str]:
    """Every user is logged in on a device; tokens for the apps, a key for those who call by HTTP."""
    path = folder / "signing.keys"
    tokens.make_missing(path)
    signing = tokens.read(path)[0]
    written = api_keys.make("bench", "caller", iso(datetime.now(UTC)), None)
    store = StoreSettings(url=f"sqlite:///{folder / 'ledger.db'}")

    async def fill() -> None:
        opened = await SqliteStore.open(store)
        await opened.add_api_key(written.row)
        await opened.close()

    asyncio.run(fill())
    connection = sqlite3.connect(store.path)
    with connection:
        connection.executemany(
            "INSERT INTO sessions (session_id, device_id, uid, generation) VALUES (?, ?, ?, 1)",
            [(f"{app:032x}", device(app), user(app)) for app in range(apps)],
        )
        connection.executemany(
            "INSERT INTO promises (uid, until_s, floored) VALUES (?, 3660.0, 0)", [(user(app),) for app in range(apps)]
        )
    connection.close()
    now = time.time()
    return {app: tokens.issue(signing, user(app), now=now, valid_s=3600.0) for app in range(apps)}, written.text


def start_guide(folder: Path, mqtt_port: int, apps: int) -> Running:
    """The documented server."""
    del apps
    environment = {"PYTHONPATH": str(HERE.parents[1])}
    process = Process("guide", [sys.executable, "-m", "tools.bench.guide_server", str(mqtt_port)], folder, environment)
    port = int(process.said(rf"guide listening on http://{HOST}:(\d+)"))
    process.said("(subscribed)")
    process.said("(Application startup complete)")
    return Running(process, port)


def start_node(folder: Path, mqtt_port: int, apps: int, *, mode: str = "documented") -> Running:
    """The same on Node.js; with the mode "confirmed" it does what the bridge does on sarvis.v2."""
    del apps
    given = [str(packages("mqtt", "ws")), str(mqtt_port), PREFIX, mode]
    process = Process("node", [node(), str(HERE / "node_server.mjs"), *given], folder)
    port = int(process.said(rf"node listening on http://{HOST}:(\d+)"))
    process.said("(subscribed)")
    return Running(process, port)


def start_node_red(folder: Path, mqtt_port: int, apps: int) -> Running:
    """Node-RED without its editor, with the flow that its user would draw (node_red_flow.json).

    A websocket node sends to all of a path, or to the session that a message bears. So an app says in its first message
    who it is, a function node keeps the session of each user in the flow's context, and another one puts it on the wake
    that `mqtt in` has read as JSON, before `websocket out`. A status node forgets who left. The HTTP trigger is
    `http in`, the same function, `http response`. All else are defaults.
    """
    del apps
    home = packages("node-red", folder="node-red") / "node_modules" / "node-red"
    port = free_port()
    (folder / "settings.js").write_text(
        f"module.exports = {{ uiPort: {port}, uiHost: '{HOST}', disableEditor: true, httpAdminRoot: false }};\n"
    )
    flow = str(shutil.copy(HERE / "node_red_flow.json", folder))
    command = [node(), str(home / "red.js"), "--userDir", str(folder), "--settings", str(folder / "settings.js"), flow]
    process = Process("node_red", command, folder, {"MQTT_PORT": str(mqtt_port), "WAKES": f"{PREFIX}/devices/+/wake"})
    # It subscribes in the same breath, before anything that is said to the broker after this was read.
    process.said("(Connected to broker)")
    wait_for("Node-RED's port", lambda: accepts(port))
    return Running(process, port)


def start_nats(folder: Path, mqtt_port: int, apps: int) -> Running:
    """NATS, broker and WebSocket server in one: nothing stands between devices and apps."""
    del mqtt_port, apps
    program = find("nats-server", os.environ.get("PATH", os.defpath))
    if program is None:
        raise NotHereError("nats-server is not installed")
    port, own_mqtt, client = free_port(), free_port(), free_port()
    config = folder / "nats.conf"
    config.write_text(
        f'server_name: bench\nlisten: "{HOST}:{client}"\njetstream {{ store_dir: "{folder / "jetstream"}" }}\n'
        f'mqtt {{ listen: "{HOST}:{own_mqtt}" }}\nwebsocket {{ listen: "{HOST}:{port}", no_tls: true }}\n'
    )
    process = Process("nats", [program, "-c", str(config)], folder)
    process.said("(Server is ready)")
    return Running(process, port, own_mqtt)


def start_mosquitto_ws(folder: Path, mqtt_port: int, apps: int) -> Running:
    """Mosquitto, broker and WebSocket server in one: each app subscribes to what its device says, nothing else."""
    del mqtt_port, apps
    own_mqtt, port = free_port(), free_port()
    listeners = f"listener {own_mqtt} {HOST}\nlistener {port} {HOST}\nprotocol websockets\n"
    process = start_mosquitto(folder, "mosquitto_ws", listeners)
    try:
        wait_for("mosquitto's ports", lambda: accepts(own_mqtt) and accepts(port))
    except AssertionError:
        process.stop()
        raise
    return Running(process, port, own_mqtt)


SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        System("sarvis", start_sarvis, v2=True, outcomes=("sent", "acked")),
        System("sarvis_required", partial(start_sarvis, required=True), v2=True, outcomes=("sent", "acked")),
        System("sarvis_legacy", start_sarvis, outcomes=("sent",)),
        System("guide", start_guide),
        System("node_ws", start_node),
        System("node_confirmed", partial(start_node, mode="confirmed"), v2=True, outcomes=("sent", "acked")),
        System("node_red", start_node_red, NodeRedApp),
        System("nats_ws", start_nats, NatsApp, http=False),
        System("mosquitto_ws", start_mosquitto_ws, MqttApp, http=False),
    )
}
FLOOR = "floor"
NAMES = (*SYSTEMS, FLOOR)
ONLY_WITH_ALL = ("node_red", "mosquitto_ws")


def profiled(system: System, file: Path) -> System:
    """The bridge under cProfile, which writes the file when it ends."""
    return replace(system, name=f"{system.name} (profiled)", start=partial(start_sarvis, profile=file))


@contextmanager
def mosquitto(folder: Path, core: int | None) -> Iterator[tuple[int, int]]:
    """A broker; its process and port. Raises NotHereError."""
    port = free_port()
    with on_core(core):
        process = start_mosquitto(folder, "mosquitto", f"listener {port} {HOST}\n")
    try:
        wait_for("mosquitto's port", lambda: accepts(port))
        yield process.pid, port
    finally:
        process.stop()


def start_mosquitto(folder: Path, name: str, listeners: str) -> Process:
    """Debian's Mosquitto, which keeps nothing on disk unless the lines say so. Raises NotHereError."""
    program = find("mosquitto", os.environ.get("PATH", os.defpath))
    if program is None:
        raise NotHereError("mosquitto is not installed")
    config = folder / f"{name}.conf"
    config.write_text(
        "allow_anonymous true\nset_tcp_nodelay true\nmax_inflight_messages 0\n"
        f"log_type error\nlog_type warning\n{listeners}"
    )
    return Process(name, [program, "-c", str(config)], folder)
