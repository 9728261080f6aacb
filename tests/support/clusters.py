"""Three NATS servers that are one broker: any of them may be killed and started again."""

import subprocess
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from infra import tls
from infra.mqtt.probe import Greeting, knock
from infra.secrets import secret_of
from infra.settings.broker import MqttSettings
from infra.settings.loader import load
from tests.support.ports import free_port
from tests.support.processes import run_sarvis
from tests.support.programs import program
from tests.support.services import Household, Service
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, accepts, unique

FORMED_WITHIN_S = 60.0


class NatsNode(Service):
    """One `nats-server` with the configuration in a file, which names its ports."""

    def __init__(self, config: Path, port: int) -> None:
        self.port = port
        self._config = config
        self._found = program("nats-server")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._config.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._found, "-c", str(self._config)], stdout=log, stderr=log, cwd=self._config.parent
            )

    def stop(self) -> None:
        if self.running and self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        return self._config.with_suffix(".log").read_text(errors="replace")


class Cluster(Household):
    """All its nodes, from when each of them lets a client in: until they have agreed on who leads, none answers.

    Args:
        settings: with the addresses of all nodes, and a user who may connect.
    """

    def __init__(self, nodes: list[NatsNode], settings: MqttSettings) -> None:
        self.nodes = nodes
        self.url = settings.url
        self._settings = settings

    def _open(self, running: ExitStack) -> None:
        for node in self.nodes:
            running.enter_context(node)
        self.wait_for_all()

    def wait_for_all(self) -> None:
        """Until each node lets a client in."""
        for node in self.nodes:
            wait_for(f"the node at {node.port} listens", partial(accepts, node.port), FORMED_WITHIN_S)
        for each in self._settings.nodes:
            wait_for(f"the node at {each.port} lets a client in", partial(self._lets_in, each), FORMED_WITHIN_S)

    def _lets_in(self, each: MqttSettings) -> bool:
        assert all(node.running for node in self.nodes), [node.log()[-2000:] for node in self.nodes]
        context = tls.client_context(each.ca_file, who="mqtt") if each.tls else None
        password = secret_of(None, each.password_file, "mqtt.password_file")
        with suppress(OSError):
            return knock(each, context, Greeting(unique("first"), each.username, password), 20.0).code == 0
        return False


def secure_cluster(folder: Path) -> Cluster:
    """Three nodes with TLS and users, as `sarvis broker config nats --cluster 3` writes them into FOLDER/hub."""
    port, route_port = three_free(), three_free()
    done = run_sarvis(
        "broker", "config", "nats", "--cluster", "3", "--out", str(folder / "hub"), "--host", "localhost",
        "--port", str(port), "--route-port", str(route_port), "--listen", HOST,
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    nodes = [NatsNode(folder / "hub" / f"nats-{number + 1}.conf", port + number) for number in range(3)]
    return Cluster(nodes, load(folder / "hub" / "bridge" / "sarvis.toml").mqtt)


def three_free() -> int:
    """The first of three free ports in a row."""
    while True:
        first = free_port()
        if (free_port(), free_port()) == (first + 1, first + 2):
            return first


def open_cluster(folder: Path) -> Cluster:
    """Three nodes without users and TLS."""
    ports = [(free_port(), free_port()) for _ in range(3)]
    routes = ", ".join(f'"nats-route://{HOST}:{route}"' for _, route in ports)
    nodes = []
    for number, (port, route) in enumerate(ports, start=1):
        config = folder / f"n{number}.conf"
        config.write_text(
            f'server_name: "n{number}"\nlisten: "{HOST}:-1"\n'
            f'jetstream {{ store_dir: "{folder}/n{number}" }}\n'
            f'cluster {{ name: "test", listen: "{HOST}:{route}", routes: [{routes}] }}\n'
            f'mqtt {{ listen: "{HOST}:{port}" }}\n'
        )
        nodes.append(NatsNode(config, port))
    return Cluster(nodes, MqttSettings(url=",".join(f"mqtt://{HOST}:{port}" for port, _ in ports)))
