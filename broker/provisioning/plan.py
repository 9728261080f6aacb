"""The data from which a broker's configuration is rendered."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contract.errors import SettingsError

MAX_CONNECTIONS = 10_000
MAX_PACKET_BYTES = 65_536
"""Our messages are below 9 KiB, topic included."""
PID_FILE = "broker.pid"
DATA = "data"
CERTS = "certs"
ROUTES = "routes"
"""The folder of the authority, certificate and key by which the nodes of a cluster recognise each other."""
ROUTE_PORT = 6222
"""Where the nodes of a cluster listen for each other."""

_LINE_ENDS = ("\n", "\r", "\0")


@dataclass(frozen=True, slots=True)
class Node:
    """One server of a cluster: where clients reach it, and where the other nodes do."""

    number: int
    host: str
    port: int
    route_port: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster of which a broker is a node.

    Attributes:
    node: the broker itself.
    nodes: all, in the order of their numbers.
    cert, key, ca: by these nodes recognise each other. No client has a certificate of this authority.
    """

    node: Node
    nodes: tuple[Node, ...]
    cert: Path
    key: Path
    ca: Path


def nodes_of(hosts: Sequence[str], count: int, port: int, route_port: int) -> tuple[Node, ...]:
    """The nodes on these machines, all of them on the one that is named alone; those of one machine differ by port.

    Raises SettingsError.
    """
    if len(hosts) not in {1, count}:
        raise SettingsError(
            f"--cluster {count} needs --host {count} times, once for each node's machine, or once for all nodes on one "
            "machine, which is for trying it"
        )
    machines = list(hosts) * (count if len(hosts) == 1 else 1)
    nodes = []
    for number, host in enumerate(machines, start=1):
        before = machines[: number - 1].count(host)
        nodes.append(Node(number, host, port + before, route_port + before))
    return tuple(nodes)


def pid_file(number: int | None) -> str:
    """Its name, for a node of a cluster or a broker alone."""
    return PID_FILE if number is None else PID_FILE.replace(".", f"-{number}.")


@dataclass(frozen=True, slots=True)
class Plan:
    """A broker to be configured; all paths are absolute.

    Attributes:
    folder: of its configuration, users and data.
    listen: the address for all clients, with TLS.
    client_ca: the authority of client certificates; None: passwords.
    revoked: the list of revoked certificates.
    operator_port: Mosquitto's listener for operators, with TLS and passwords; None for none.
    local_port: Mosquitto's listener on loopback, with passwords and without TLS.
    owner: the system user that runs the broker.
    cluster: for a node of a cluster.
    """

    folder: Path
    listen: str
    port: int
    server_cert: Path
    server_key: Path
    client_ca: Path | None = None
    revoked: Path | None = None
    operator_port: int | None = None
    local_port: int | None = None
    owner: str | None = None
    cluster: Cluster | None = None


def check_lines(*texts: str) -> None:
    """Raises SettingsError if a text would begin a new line of a configuration."""
    for text in texts:
        if any(end in text for end in _LINE_ENDS):
            raise SettingsError(f"{text!r} has a line end, which a configuration file cannot contain; choose another")
