"""The house that is attacked: real processes, a fault proxy before the bridge and one before the attacked edge."""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.support.ports import free_port
from tests.support.processes import Sarvis
from tests.support.proxy import FaultProxy
from tests.support.waiting import wait_for
from tests.support.world import BROKERS, HOST, Broker

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 4.0
GRACE_S = 1.5
COALESCE_S = 0.4
RESTART_GRACE_S = 1.0
SPREAD_S = 0.2
BEAT_EVERY_S = 0.4
TARGET, BYSTANDER = "target", "bystander"
SETTINGS = {
    "SARVIS_BRIDGE__HEARTBEAT_TIMEOUT_S": str(TIMEOUT_S),
    "SARVIS_BRIDGE__LEASE_GRACE_S": str(GRACE_S),
    "SARVIS_BRIDGE__HEARTBEAT_COALESCE_S": str(COALESCE_S),
    "SARVIS_BRIDGE__RESTART_GRACE_S": str(RESTART_GRACE_S),
    "SARVIS_BRIDGE__EXPIRY_SPREAD_S": str(SPREAD_S),
    "SARVIS_BRIDGE__OFFLINE_GRACE_S": "1",
    "SARVIS_MQTT__RECONNECT_MAX_S": "0.4",
    "SARVIS_MQTT__KEEPALIVE_S": "2",
    "PYTHONPATH": str(ROOT),
}

Json = dict[str, Any]


@dataclass(frozen=True)
class Passed:
    """A message that passed a proxy; `at` is wall-clock."""

    at: float
    direction: str
    kind: str
    device: str
    message: Json


@dataclass
class _Log:
    """What was read of a proxy's log so far."""

    read: int = 0
    passed: list[Passed] = field(default_factory=list)


class House:
    """Broker, bridge, the attacked edge and a bystander's, with both proxies. Used by one thread, and its beaters."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.folder = folder
        self.broker: Broker = BROKERS[broker](folder)
        self.flags = folder / "flags"
        self.flags.mkdir()
        self.bridge: Sarvis
        self.edges: dict[str, Sarvis] = {}
        self.out: dict[str, list[Json]] = {TARGET: [], BYSTANDER: []}
        self.deaths: dict[str, list[float]] = {TARGET: [], BYSTANDER: []}
        self.down_s = 0.0
        """For how long in all the bridge could not live; restarts count with their grace."""
        self.http = httpx2.Client(trust_env=False, timeout=2)
        self._http_port = free_port()
        self._edge_ports = {TARGET: free_port(), BYSTANDER: free_port()}
        self._passed: dict[int, _Log] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.broker.start()
        self._stack.callback(self.broker.stop)
        self.at_bridge = self._stack.enter_context(FaultProxy(self.broker.port))
        self.at_edge = self._stack.enter_context(FaultProxy(self.broker.port))
        self.start_bridge()
        for device in (TARGET, BYSTANDER):
            self.start_edge(device)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as stack:
            stack.push(self._stack.pop_all())
            for process in (self.bridge, *self.edges.values()):
                stack.callback(process.stop)
                stack.callback(process.process.send_signal, signal.SIGCONT)
            stack.callback(self.http.close)

    # Processes

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._http_port}"

    def start_bridge(self) -> None:
        self.bridge = self._launch(
            "bridge", "--port", str(self._http_port), "--mqtt-url", f"mqtt://{HOST}:{self.at_bridge.port}"
        )
        self.bridge.line_after("bridge listening on")
        wait_for("the bridge lives", self._lives)

    def _lives(self) -> bool:
        try:
            return self.http.get(f"{self.url}/livez").status_code == 200
        except httpx2.HTTPError:
            return False

    def bridge_restarts(self, *, dead_since: float) -> None:
        """It was killed at `dead_since` (monotonic); start it again."""
        self.bridge.process.wait()
        self.bridge.stop()
        self.start_bridge()
        self.down_s += time.monotonic() - dead_since + RESTART_GRACE_S + SPREAD_S + COALESCE_S

    def start_edge(self, device: str) -> None:
        port = self.at_edge.port if device == TARGET else self.broker.port
        self.edges[device] = self._launch(
            "edge", "--json", "--device-id", device, "--source", "silence",
            "--mqtt-url", f"mqtt://{HOST}:{port}", "--http-port", str(self._edge_ports[device]),
            "--state-dir", str(self.folder / "state"),
        )  # fmt: skip

    def edge_restarts(self, *, died_at: float) -> None:
        """The target was killed at `died_at` (wall-clock)."""
        edge = self.edges[TARGET]
        edge.process.wait()
        edge.stop()
        self.out[TARGET] += _events(edge)
        self.deaths[TARGET].append(died_at)
        self.start_edge(TARGET)

    def broker_restarts(self, after_s: float) -> None:
        self.broker.kill()
        time.sleep(after_s)
        self.broker.start()

    def _launch(self, *arguments: str) -> Sarvis:
        settings = {**SETTINGS, "CHAOS_DIR": str(self.flags)}
        return Sarvis(*arguments, cwd=self.folder, settings=settings, module="tools.chaos.launch")

    # What the edge says and what it keeps

    def events(self, device: str) -> list[Json]:
        """All events of the device, over its deaths."""
        return [*self.out[device], *_events(self.edges[device])]

    def journal(self, device: str) -> list[Json]:
        """What it stored, in order."""
        path = self.flags / f"{device}.journal"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def state(self, device: str) -> Json:
        """Its state file as it is on disk."""
        state: Json = json.loads((self.folder / "state" / f"{device}.json").read_text())
        return state

    def held(self, device: str) -> str | None:
        held = self.state(device)["held"]
        return held["session_id"] if held else None

    # Topics

    def passed(self, proxy: FaultProxy, since: float = 0.0) -> Iterator[Passed]:
        """Messages about devices that passed since then (wall-clock)."""
        known = self._passed.setdefault(proxy.port, _Log())
        for one in proxy.seen[known.read :]:
            known.read += 1
            levels = one.topic.split("/")
            if levels[-3] == "devices" and one.payload:
                known.passed.append(Passed(one.wall, one.direction, levels[-1], levels[-2], json.loads(one.payload)))
        return (passed for passed in known.passed if passed.at >= since)

    # People

    def post(self, path: str, body: Json) -> Json | None:
        """The answer, None when there was none or it was a refusal."""
        try:
            response = self.http.post(self.url + path, json=body)
        except httpx2.HTTPError:
            return None
        answer: Json | None = response.json() if response.status_code == 200 else None
        return answer

    def app(self, uid: str) -> ClientConnection:
        """A new socket of sarvis.v2; raises OSError or WebSocketException."""
        return connect(
            f"ws://{HOST}:{self._http_port}/ws/app/{uid}/",
            subprotocols=[Subprotocol("sarvis.v2")],
            compression=None,
            proxy=None,
            open_timeout=2,
            close_timeout=1,
        )

    def log_out_by_app(self, uid: str) -> bool:
        """True when the log-out was acknowledged."""
        try:
            with self.app(uid) as app:
                app.send(json.dumps({"type": "logout"}))
                while True:
                    if json.loads(app.recv(timeout=2))["type"] == "logout_ack":
                        return True
        except (OSError, TimeoutError, WebSocketException):
            return False


class Beater:
    """A phone that beats by HTTP until it is told to be silent."""

    def __init__(self, house: House, uid: str, logged_in_at: float) -> None:
        self.uid = uid
        self.last_sign = logged_in_at
        """When the last sign of life that was answered was sent."""
        self.last_try = self.last_sign
        """When the last one was sent, answered or not."""
        self.signs: list[float] = []
        """When each one that was answered was sent."""
        self._house = house
        self._silent = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"beater {uid}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._silent.set()
        self._thread.join()

    def _beat(self) -> None:
        with httpx2.Client(trust_env=False, timeout=2) as http:
            while not self._silent.wait(BEAT_EVERY_S):
                sent = self.last_try = time.time()
                with contextlib.suppress(httpx2.HTTPError):
                    answer = http.post(f"{self._house.url}/api/app/heartbeat", json={"uid": self.uid})
                    if answer.status_code == 200:
                        self.last_sign = sent
                        self.signs.append(sent)


def _events(edge: Sarvis) -> list[Json]:
    return [json.loads(line) for line in list(edge.out)]


def kill(process: Sarvis) -> float:
    """SIGKILL; the wall-clock time."""
    at = time.time()
    os.kill(process.process.pid, signal.SIGKILL)
    process.process.wait()
    return at


def eventually(what: str, condition: Callable[[], bool], within_s: float) -> bool:
    """Does it come true in time?"""
    try:
        wait_for(what, condition, within_s)
    except AssertionError:
        return False
    return True
