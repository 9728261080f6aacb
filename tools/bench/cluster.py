"""What several bridges cost, and how fast they follow each other: `scripts/bench --cluster [--rounds 3] [--json FILE]`.

Two bridges share a ledger in PostgreSQL (Debian's, started for this) and Mosquitto. CPU is that of the bridges'
processes. What one bridge alone costs and what two cost is measured by turns, and only the ratios of one run count: two
cores carry `2 x alone / (both bridges together)` times what one carries, as far as the bridges' CPU limits it. How
long wakes stop is measured as an app hears it, which comes back at once. The loss of a node is measured with three NATS
servers, one wake each 20 ms, and a device that repeats a wake without an outcome after 2 s, as an edge does.
"""

import argparse
import gc
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Self
from uuid import uuid4

import httpx2
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.support.clusters import open_cluster
from tests.support.postgres import PASSWORD, Postgres
from tests.support.waiting import wait_for
from tests.support.world import HOST
from tools.bench.load import Load, Window
from tools.bench.processes import Cores, allow_many_files, cpu_s, on_core
from tools.bench.systems import Running, mosquitto, start_sarvis
from tools.chaos.cluster.voice import Voice

OUTSTANDING = 50
QUIET_S = 1.0
IDLE_S = 3.0
LATER_S = 0.5
"""What one bridge was told and the other has to hear is done then."""
EACH_S = 0.02
"""Between two wakes of which one must ring."""
AGAIN_S = 2.0
GIVEN_UP_S = 10.0
LOSS_S = 16.0
"""For how long wakes are watched when a node is killed: a NATS cluster may hold them for 8 s."""


@dataclass
class Figures:
    """What was measured, by name; in microseconds of CPU, in milliseconds, or as a ratio."""

    found: dict[str, list[float]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def add(self, name: str, *values: float) -> None:
        self.found.setdefault(name, []).extend(values)

    def middle(self, name: str) -> float:
        return statistics.median(self.found[name])


class Place:
    """A database and a broker, on which bridges of any name start."""

    def __init__(self, folder: Path, server: Postgres, mqtt_url: str, cores: Cores) -> None:
        self.url = mqtt_url
        self._folder = folder
        self._server = server
        self._cores = cores
        self._password = folder / "password"
        self._password.write_text(f"{PASSWORD}\n")
        self._password.chmod(0o600)
        self._ledger = ""
        self.new_ledger()

    def new_ledger(self) -> None:
        """Bridges that start from now on share one that is empty."""
        self._ledger = f"l{uuid4().hex[:12]}"
        self._server.make(self._ledger)

    @contextmanager
    def bridge(self, name: str) -> Iterator[Running]:
        """See `start_named`; it is stopped when the block ends."""
        running = self.start_named(name)
        try:
            yield running
        finally:
            running.process.stop()

    def start_named(self, name: str) -> Running:
        """A bridge with its ledger in PostgreSQL; it is ready."""
        return self._start(
            name,
            SARVIS_BRIDGE__INSTANCE=name,
            SARVIS_STORE__URL=self._server.url(self._ledger),
            SARVIS_STORE__PASSWORD_FILE=str(self._password),
            SARVIS_BRIDGE__DRAIN_S="1",
            SARVIS_BRIDGE__DRAIN_LEAD_S="0",
        )

    @contextmanager
    def alone(self) -> Iterator[Running]:
        """One on a file of SQLite."""
        running = self._start(f"sqlite-{uuid4().hex[:6]}")
        try:
            yield running
        finally:
            running.process.stop()

    def _start(self, name: str, **more: str) -> Running:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        with on_core(self._cores.system):
            return start_sarvis(folder, 0, 0, more=more, mqtt_url=self.url)


def peers_of(running: Running) -> int:
    """How many other bridges it knows of."""
    lines = httpx2.get(f"http://{HOST}:{running.port}/metrics", trust_env=False).text.splitlines()
    return next((int(float(line.split()[1])) for line in lines if line.startswith("sarvis_peers ")), 0)


def know(*bridges: Running) -> None:
    """Wait until each knows the others, and no more."""
    for one in bridges:
        wait_for("the bridges know each other", lambda one=one: peers_of(one) == len(bridges) - 1)  # type: ignore[misc]


def spent(bridges: Sequence[Running], act: Callable[[], object]) -> list[float]:
    """CPU seconds of each bridge for this, without what it spends in that time when nothing happens."""
    idle, quiet_s = _used(bridges, lambda: time.sleep(IDLE_S))
    used, took_s = _used(bridges, act)
    return [one - rest * took_s / quiet_s for one, rest in zip(used, idle, strict=True)]


def _used(bridges: Sequence[Running], act: Callable[[], object]) -> tuple[list[float], float]:
    before, began = [cpu_s(one.process.pid) for one in bridges], time.monotonic()
    act()
    time.sleep(LATER_S)
    after = [cpu_s(one.process.pid) for one in bridges]
    return [now - then for now, then in zip(after, before, strict=True)], time.monotonic() - began


class Costs:
    """CPU of wakes and connections at one bridge, of bridges that share a ledger."""

    def __init__(self, place: Place, figures: Figures, apps: int, events: int) -> None:
        self._mqtt_port = int(place.url.rsplit(":", 1)[1])
        self._figures = figures
        self._apps = apps
        self._events = events

    def measure(self, name: str, bridges: Sequence[Running]) -> None:
        """Apps come to the first bridge and are woken; `name` tells who is there."""
        with Load(bridges[0].port, self._mqtt_port, apps=self._apps, v2=True) as load:
            came = spent(bridges, lambda: load.come(self._apps))
            self._add(f"{name}: connect", came, self._apps)
            load.wakes(1, max(self._events // 5, 1), OUTSTANDING)()
            load.outcomes(0)
            act = load.wakes(1, self._events, OUTSTANDING)
            rang = spent(bridges, lambda: self._judged(name, act, load))
            self._add(f"{name}: wake", rang, self._events)
        know(*bridges)

    def _judged(self, name: str, act: Window, load: Load) -> None:
        account = act()
        told = load.outcomes(2 * self._events)
        # Asked for by the other bridge, an outcome is told again.
        few = [f"{told.get(one, 0)} outcomes {one}" for one in ("sent", "acked") if told.get(one, 0) < self._events]
        self._figures.faults += [f"{name}: {fault}" for fault in [*account.faults({}, ()), *few]]

    def _add(self, name: str, seconds: list[float], count: int) -> None:
        for who, one in zip(("own", "other"), seconds, strict=False):
            self._figures.add(f"{name}, {who}", one / count * 1e6)


def costs(place: Place, figures: Figures, arguments: argparse.Namespace) -> None:
    """One bridge alone and two, by turns; each round with fresh ones."""
    measuring = Costs(place, figures, arguments.apps, arguments.events)
    for number in range(arguments.rounds):
        print(f"costs, round {number + 1}", file=sys.stderr, flush=True)
        with place.alone() as only:
            measuring.measure("SQLite", [only])
        place.new_ledger()
        with place.bridge("a") as a:
            know(a)
            measuring.measure("one", [a])
            with place.bridge("b") as b:
                know(a, b)
                measuring.measure("two", [a, b])


class Ear:
    """An app of sarvis.v2 that notes when it was rung; it comes back at once, at the next bridge that lets it in."""

    def __init__(self, uid: str, bridges: Sequence[Running]) -> None:
        self.uid = uid
        self.rung: dict[str, float] = {}
        self._bridges = list(bridges)
        self._over = False
        self._socket = self._open(self._bridges[0])
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._socket.close()
        self._thread.join()

    def _open(self, bridge: Running) -> ClientConnection:
        socket = connect(
            f"ws://{HOST}:{bridge.port}/ws/app/{self.uid}/?client=ear",
            subprotocols=[Subprotocol("sarvis.v2")], compression=None, proxy=None, open_timeout=2, close_timeout=1,
        )  # fmt: skip
        socket.recv(2)
        return socket

    def _live(self) -> None:
        while not self._over:
            with suppress(ConnectionClosed):
                while True:
                    message = json.loads(self._socket.recv())
                    if message["type"] == "voice_command":
                        self.rung.setdefault(message["id"], time.monotonic())
                        self._socket.send(json.dumps({"type": "ack", "id": message["id"]}))
            self._come_back()

    def _come_back(self) -> None:
        while not self._over:
            self._bridges.append(self._bridges.pop(0))
            with suppress(OSError, TimeoutError, WebSocketException):
                self._socket = self._open(self._bridges[0])
                return


def log_outs(a: Running, b: Running, figures: Figures, count: int) -> None:
    """A log-out by A, until the socket at B is closed; from the request, and from its answer."""
    with httpx2.Client(trust_env=False) as http:
        for _ in range(count):
            uid = f"out-{uuid4().hex[:8]}"
            socket = connect(f"ws://{HOST}:{b.port}/ws/app/{uid}/", compression=None, proxy=None)
            socket.recv()
            closed: list[float] = []
            reader = threading.Thread(target=_until_closed, args=(socket, closed))
            reader.start()
            asked = time.monotonic()
            http.post(f"http://{HOST}:{a.port}/api/auth/logout", json={"uid": uid}).raise_for_status()
            answered = time.monotonic()
            reader.join()
            figures.add("log-out: request to close at the other", (closed[0] - asked) * 1e3)
            figures.add("log-out: answer to close at the other", (closed[0] - answered) * 1e3)


def _until_closed(socket: ClientConnection, closed: list[float]) -> None:
    try:
        while True:
            socket.recv()
    except ConnectionClosed:
        closed.append(time.monotonic())


def verdicts(voice: Voice, figures: Figures, count: int) -> None:
    """A wake for a user who is nowhere, until the device hears that."""
    for _ in range(count):
        wake_id = f"absent-{uuid4().hex[:8]}"
        at = time.time()
        voice.say("absent", f"absent-{wake_id}", wake_id, qos=1, ttl_ms=10_000)
        wait_for("an outcome", partial(voice.outcomes, wake_id))
        figures.add("no user there: outcome", (voice.outcomes(wake_id)[0][0] - at) * 1e3)


def killed(place: Place, voice: Voice, figures: Figures, count: int) -> None:
    """A bridge is killed; how long its app, which comes back to the other, hears no wake."""
    with place.bridge("b") as b:
        for number in range(count):
            a = place.start_named("a")
            know(a, b)
            with Ear(f"ear-{number}-{uuid4().hex[:6]}", [a, b]) as ear:
                said = _wakes_around(voice, ear, a.process.kill)
            rang = sorted(ear.rung.values())
            figures.add("bridge killed: no wake for", max(y - x for x, y in pairwise(rang)) * 1e3)
            lost = set(said) - ear.rung.keys()
            figures.faults += [f"bridge killed: {len(lost)} wakes never rang"] if lost else []


def _wakes_around(voice: Voice, ear: Ear, act: Callable[[], object], for_s: float = 4.0) -> dict[str, float]:
    """Wakes for the ear before and after; each is repeated as an edge does. When each was said."""
    said: dict[str, float] = {}
    again: dict[str, int] = {}
    began = time.monotonic()
    done = False
    while time.monotonic() < began + for_s:
        if not done and time.monotonic() > began + QUIET_S:
            act()
            done = True
        wake_id = f"e-{uuid4().hex[:10]}"
        said[wake_id] = time.monotonic()
        voice.say("ear", ear.uid, wake_id, qos=1, ttl_ms=10_000)
        _repeat(voice, ear, said, again)
        time.sleep(EACH_S)
    end = time.monotonic() + GIVEN_UP_S
    while set(said) - ear.rung.keys() and time.monotonic() < end:
        _repeat(voice, ear, said, again)
        time.sleep(EACH_S)
    return said


def _repeat(voice: Voice, ear: Ear, said: dict[str, float], again: dict[str, int]) -> None:
    now = time.monotonic()
    for wake_id, at in said.items():
        due = now - at > AGAIN_S * (again.get(wake_id, 0) + 1)
        if due and wake_id not in ear.rung and not voice.outcomes(wake_id):
            again[wake_id] = again.get(wake_id, 0) + 1
            voice.say("ear", ear.uid, wake_id, qos=0, age_ms=round((now - at) * 1000), ttl_ms=10_000)


def nodes_lost(folder: Path, server: Postgres, cores: Cores, figures: Figures) -> None:
    """Each node of a NATS cluster is killed once; how late the latest wake rings then."""
    with open_cluster(folder) as cluster:
        place = Place(folder, server, cluster.url, cores)
        with place.bridge("a") as a, place.bridge("b") as b, Voice([node.port for node in cluster.nodes]) as voice:
            know(a, b)
            for node in cluster.nodes:
                with Ear(f"ear-{uuid4().hex[:6]}", [a, b]) as ear:
                    said = _wakes_around(voice, ear, node.kill, LOSS_S)
                late = [ear.rung[wake_id] - at for wake_id, at in said.items() if wake_id in ear.rung]
                figures.add("node killed: latest wake that rang", max(late) * 1e3)
                unrung = [wake_id for wake_id in said if wake_id not in ear.rung]
                figures.add("node killed: wakes of which a bridge said that no user is there", len(unrung))
                silent = [wake_id for wake_id in unrung if not voice.outcomes(wake_id)]
                figures.faults += [f"node killed: {len(silent)} wakes without an outcome"] if silent else []
                node.start()
                cluster.wait_for_all()


def tell(figures: Figures) -> None:
    """Each figure with its spread, and the ratios of this run."""
    for name, values in figures.found.items():
        print(f"{name:64} {statistics.median(values):10.1f}   ({min(values):.1f} to {max(values):.1f}, {len(values)})")
    middle = figures.middle
    own, other = middle("two: wake, own"), middle("two: wake, other")
    alone, connect = middle("one: wake, own"), middle("one: connect, own")
    together = middle("two: connect, own") + middle("two: connect, other")
    print(f"a wake of the other bridge, of an own one      {other / own:.2f}")
    print(f"an own wake, more than alone                   {own - alone:+.1f} us")
    print(f"two cores carry this many times the wakes        {2 * alone / (own + other):.2f}")
    print(f"two cores carry this many times the connections  {2 * connect / together:.2f}")
    for fault in figures.faults:
        print(f"FAULT {fault}")


def main() -> None:
    """Measure, tell, and end with 1 if a wake was lost or came twice."""
    parser = argparse.ArgumentParser(prog="scripts/bench --cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--apps", type=int, default=500)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=50, help="log-outs, and wakes for users who are nowhere")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    allow_many_files()
    gc.disable()
    figures = Figures()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        cores = Cores(None, None)
        server = Postgres()
        stack.callback(server.remove)
        server.start()
        _, port = stack.enter_context(mosquitto(folder, None))
        place = Place(folder, server, f"mqtt://{HOST}:{port}", cores)
        costs(place, figures, arguments)
        with Voice([port]) as voice:
            with place.bridge("a") as a, place.bridge("b") as b:
                know(a, b)
                log_outs(a, b, figures, arguments.times)
                verdicts(voice, figures, arguments.times)
            place.new_ledger()
            killed(place, voice, figures, arguments.kills)
        (folder / "nats").mkdir()
        nodes_lost(folder / "nats", server, cores, figures)
    tell(figures)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures.found, indent=2) + "\n")
    sys.exit(1 if figures.faults else 0)


if __name__ == "__main__":
    main()
