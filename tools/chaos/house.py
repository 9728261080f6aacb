"""The house that is attacked: real processes, a fault proxy before the bridge and one before the attacked edge."""

import contextlib
import json
import os
import signal
import threading
import time
from abc import ABC, abstractmethod
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
from tests.support.waiting import wait_for
from tests.support.world import BROKERS, HOST, Broker
from tools.chaos.links import Links

ROOT = Path(__file__).parents[2]
BEAT_EVERY_S = 0.4
TARGET, BYSTANDER = "target", "bystander"

Json = dict[str, Any]


@dataclass(frozen=True)
class Times:
    """What the bridges are told of time; in seconds.

    Attributes:
        slack_s: what a busy machine may add, and what the design says that several bridges add.
    """

    timeout_s: float = 4.0
    grace_s: float = 1.5
    coalesce_s: float = 0.4
    restart_grace_s: float = 1.0
    spread_s: float = 0.2
    slack_s: float = 2.0

    @property
    def restart_costs_s(self) -> float:
        """How much later a user leaves because the bridge was started again."""
        return self.restart_grace_s + self.spread_s + self.coalesce_s

    @property
    def settings(self) -> dict[str, str]:
        return {
            "SARVIS_BRIDGE__HEARTBEAT_TIMEOUT_S": str(self.timeout_s),
            "SARVIS_BRIDGE__LEASE_GRACE_S": str(self.grace_s),
            "SARVIS_BRIDGE__HEARTBEAT_COALESCE_S": str(self.coalesce_s),
            "SARVIS_BRIDGE__RESTART_GRACE_S": str(self.restart_grace_s),
            "SARVIS_BRIDGE__EXPIRY_SPREAD_S": str(self.spread_s),
            "SARVIS_BRIDGE__OFFLINE_GRACE_S": "1",
            "SARVIS_MQTT__RECONNECT_MAX_S": "0.4",
            "SARVIS_MQTT__KEEPALIVE_S": "2",
            "PYTHONPATH": str(ROOT),
        }


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


class Premises(ABC):
    """The attacked edge and a bystander's, their files and what passed the proxies, and how to ask a bridge.

    Who makes one sets `at_bridge`, the way of all bridges to the broker, `at_edge`, that of the attacked edge, and
    `direct`, the address without a proxy.

    Attributes:
        down_s: for how long in all no user could be logged out; restarts count with their grace.
    """

    at_bridge: Links
    at_edge: Links
    direct: str
    times: Times

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.flags = folder / "flags"
        self.flags.mkdir()
        self.edges: dict[str, Sarvis] = {}
        self.out: dict[str, list[Json]] = {TARGET: [], BYSTANDER: []}
        self.deaths: dict[str, list[float]] = {TARGET: [], BYSTANDER: []}
        self.down_s = 0.0
        self.http = httpx2.Client(trust_env=False, timeout=2)
        self._edge_ports = {TARGET: free_port(), BYSTANDER: free_port()}
        self._passed: dict[int, _Log] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @abstractmethod
    def _open(self, stack: contextlib.ExitStack) -> None:
        """Start all; the stack ends it, the last first."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Of a bridge: where several are, of one of them by chance."""

    @abstractmethod
    def log(self) -> list[str]:
        """The last lines of the bridges."""

    def _open_edges(self, stack: contextlib.ExitStack) -> None:
        stack.callback(self.http.close)
        for device in (TARGET, BYSTANDER):
            self.start_edge(device)
            stack.callback(lambda device=device: end_process(self.edges[device]))  # type: ignore[misc]

    def start_edge(self, device: str) -> None:
        self.edges[device] = self._launch(
            "edge", "--json", "--device-id", device, "--source", "silence",
            "--mqtt-url", self.at_edge.url if device == TARGET else self.direct,
            "--http-port", str(self._edge_ports[device]),
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

    def _launch(self, *arguments: str, **more: str) -> Sarvis:
        settings = {**self.times.settings, "CHAOS_DIR": str(self.flags), **more}
        return Sarvis(*arguments, cwd=self.folder, settings=settings, module="tools.chaos.launch")

    def lives(self, url: str) -> bool:
        """Whether the bridge at this address answers."""
        try:
            return self.http.get(f"{url}/livez").status_code == 200
        except httpx2.HTTPError:
            return False

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

    def passed(self, links: Links, since: float = 0.0) -> Iterator[Passed]:
        """Messages about devices that passed since then (wall-clock), in the order of each proxy."""
        for proxy in links.proxies:
            known = self._passed.setdefault(proxy.port, _Log())
            for one in proxy.seen[known.read :]:
                known.read += 1
                levels = one.topic.split("/")
                if levels[-3] == "devices" and one.payload:
                    message = json.loads(one.payload)
                    known.passed.append(Passed(one.wall, one.direction, levels[-1], levels[-2], message))
            yield from (passed for passed in known.passed if passed.at >= since)

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
            f"ws{self.url.removeprefix('http')}/ws/app/{uid}/",
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


class House(Premises):
    """Broker, bridge, the attacked edge and a bystander's, with both proxies. Used by one thread, and its beaters."""

    def __init__(self, folder: Path, broker: str, times: Times = Times()) -> None:
        super().__init__(folder)
        self.times = times
        self.broker: Broker = BROKERS[broker](folder)
        self.bridge: Sarvis
        self._http_port = free_port()

    def _open(self, stack: contextlib.ExitStack) -> None:
        self.broker.start()
        stack.callback(self.broker.stop)
        self.direct = self.broker.url
        self.at_bridge = stack.enter_context(Links.to([self.broker.port]))
        self.at_edge = stack.enter_context(Links.to([self.broker.port]))
        self.start_bridge()
        stack.callback(lambda: end_process(self.bridge))
        self._open_edges(stack)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._http_port}"

    def log(self) -> list[str]:
        return self.bridge.err[-20:]

    def start_bridge(self) -> None:
        self.bridge = self._launch("bridge", "--port", str(self._http_port), "--mqtt-url", self.at_bridge.url)
        self.bridge.line_after("bridge listening on")
        wait_for("the bridge lives", lambda: self.lives(self.url))

    def bridge_restarts(self, *, dead_since: float) -> None:
        """It was killed at `dead_since` (monotonic); start it again."""
        self.bridge.process.wait()
        self.bridge.stop()
        self.start_bridge()
        self.down_s += time.monotonic() - dead_since + self.times.restart_costs_s

    def broker_restarts(self, after_s: float) -> None:
        self.broker.kill()
        time.sleep(after_s)
        self.broker.start()


class Beater:
    """A phone that beats by HTTP until it is told to be silent."""

    def __init__(self, house: Premises, uid: str, logged_in_at: float) -> None:
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


def end_process(process: Sarvis) -> None:
    """End it, also if it is stopped."""
    process.process.send_signal(signal.SIGCONT)
    process.stop()


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
