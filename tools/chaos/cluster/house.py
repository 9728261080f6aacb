"""What is attacked: bridges on one ledger in PostgreSQL, three NATS nodes, and gates and proxies between them."""

import random
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx2

from tests.support.clusters import open_cluster
from tests.support.gate import Gate
from tests.support.jetson import Jetson
from tests.support.ports import free_port
from tests.support.postgres import PASSWORD, Postgres
from tests.support.processes import Sarvis, run_sarvis
from tests.support.proxy import FaultProxy
from tests.support.push_service import CONTACT, PushService
from tests.support.waiting import wait_for
from tests.support.world import HOST, EmbeddedBroker
from tools.chaos.house import Premises, Times, end_process, kill
from tools.chaos.links import Links

SEEN_WITHIN_S = 3.0
"""So long a bridge that died is counted on by the others."""
TIMES = Times(timeout_s=6.0, grace_s=3.0, coalesce_s=2.0, slack_s=6.0)
NAMES = ("a", "b", "c")
HTTP_USER = "http-user"
"""Of a Jetson that speaks only HTTP."""


class Node(Protocol):
    """A server of the broker."""

    port: int

    def start(self) -> None: ...
    def kill(self) -> None: ...


@dataclass(frozen=True)
class Hurt:
    """What was not well, from when to when; wall-clock."""

    fault: str
    what: str
    since: float
    until: float


class ClusterHouse(Premises):
    """Bridges `a`, `b` (and `c`), each with proxies to all nodes and a gate to the database.

    Args:
        nodes: of NATS; 1: the embedded broker instead.

    Attributes:
        hurts: what the harness did to which of them.
    """

    def __init__(self, folder: Path, bridges: int = 2, nodes: int = 3, without: str | None = None) -> None:
        super().__init__(folder)
        self.times = TIMES
        self.names = NAMES[:bridges]
        self.bridges: dict[str, Sarvis] = {}
        self.gates: dict[str, Gate] = {}
        self.links: dict[str, Links] = {}
        self.nodes: list[Node] = []
        self.hurts: list[Hurt] = []
        self.ports = {name: free_port() for name in self.names}
        self.chance = random.Random(0)  # noqa: S311 - no secret
        self._nodes = nodes
        self._without = without

    def _open(self, stack: ExitStack) -> None:
        self.server = Postgres()
        stack.callback(self.server.remove)
        self.server.start()
        self.server.make("ledger")
        (self.folder / "password").write_text(f"{PASSWORD}\n")
        (self.folder / "password").chmod(0o600)
        self.pushes = stack.enter_context(PushService())
        self.jetson = stack.enter_context(Jetson())
        self._open_broker(stack)
        self.at_edge = stack.enter_context(Links.to(node.port for node in self.nodes))
        for name in self.names:
            self.gates[name] = stack.enter_context(Gate(self.server.port))
            self.links[name] = stack.enter_context(Links.to(node.port for node in self.nodes))
        self.at_bridge = Links(proxy for links in self.links.values() for proxy in links.proxies)
        for name in self.names:
            self.start_bridge(name)
            stack.callback(lambda name=name: end_process(self.bridges[name]))  # type: ignore[misc]
        wait_for("the bridges know each other", lambda: all(map(self._knows_all, self.names)))
        self._add_jetson()
        self._open_edges(stack)

    def _add_jetson(self) -> None:
        told = run_sarvis(
            "device", "add", "http-jetson", "--uid", HTTP_USER, "--logout-url", self.jetson.url, cwd=self.folder,
            settings={
                "SARVIS_STORE__URL": f"postgresql://sarvis@{HOST}:{self.server.port}/ledger",
                "SARVIS_STORE__PASSWORD_FILE": str(self.folder / "password"),
            },
        )  # fmt: skip
        assert told.returncode == 0, told.stderr

    def _open_broker(self, stack: ExitStack) -> None:
        if self._nodes == 1:
            broker = stack.enter_context(EmbeddedBroker(self.folder))
            self.nodes = [broker]
        else:
            cluster = stack.enter_context(open_cluster(self.folder))
            self.nodes = list(cluster.nodes)
        self.direct = ",".join(f"mqtt://{HOST}:{node.port}" for node in self.nodes)

    def url_of(self, name: str) -> str:
        return f"http://{HOST}:{self.ports[name]}"

    @property
    def url(self) -> str:
        return self.url_of(self.chance.choice(self.names))

    def log(self) -> list[str]:
        return [line for bridge in self.bridges.values() for line in bridge.err[-10:]]

    def name_at(self, proxy: FaultProxy) -> str | None:
        """Whose way to the broker it is on; None: an edge's."""
        return next((name for name, links in self.links.items() if proxy in links.proxies), None)

    def name_of(self, pid: int) -> str:
        """Which bridge it was; it may be dead."""
        return next(name for name, bridge in self.bridges.items() if bridge.process.pid == pid)

    def start_bridge(self, name: str) -> None:
        """Returns when it listens; with the name that it had before, that is when the name is free."""
        self.bridges[name] = self._launch(
            "bridge", "--port", str(self.ports[name]), "--mqtt-url", self.links[name].url,
            **{
                "SARVIS_BRIDGE__INSTANCE": name,
                "SARVIS_BRIDGE__DRAIN_LEAD_S": "0.5",
                "SARVIS_BRIDGE__DRAIN_S": "7",
                "SARVIS_BRIDGE__STORIES_FILE": f"stories-{name}.db",
                "SARVIS_STORE__URL": f"postgresql://sarvis@{HOST}:{self.gates[name].port}/ledger",
                "SARVIS_STORE__PASSWORD_FILE": str(self.folder / "password"),
                "SARVIS_PUSH__ENABLED": "true",
                "SARVIS_PUSH__CONTACT": CONTACT,
                "SARVIS_PUSH__KEY_FILE": str(self.folder / "vapid.pem"),
                "SARVIS_PUSH__SERVICES": f'["{self.pushes.origin}"]',
                **({"CHAOS_WITHOUT": self._without} if self._without else {}),
            },
        )  # fmt: skip
        self.bridges[name].line_after("bridge listening on")

    def bridge_restarts(self, name: str) -> None:
        """It is dead, or ends by itself."""
        self.bridges[name].stop()
        self.start_bridge(name)

    def kill_bridge(self, name: str) -> float:
        """SIGKILL; the wall-clock time."""
        return kill(self.bridges[name])

    def crash_database(self) -> None:
        self.server.stop(by=signal.SIGQUIT)

    def hurt(self, fault: str, what: str, since: float) -> None:
        """From then until now this was done to a bridge, or to `all`."""
        self.hurts.append(Hurt(fault, what, since, time.time()))

    def _knows_all(self, name: str) -> bool:
        try:
            lines = self.http.get(f"{self.url_of(name)}/metrics").text.splitlines()
        except httpx2.HTTPError:
            return False
        return f"sarvis_peers {float(len(self.names) - 1)}" in lines
