"""What a configuration is rendered from, the same for every broker product."""

from dataclasses import dataclass
from pathlib import Path

from contract.errors import SettingsError

MAX_CONNECTIONS = 10_000
MAX_PACKET_BYTES = 65_536
"""Ours are below 9 KiB, topic included."""
PID_FILE = "broker.pid"
DATA = "data"
CERTS = "certs"

_LINE_ENDS = ("\n", "\r", "\0")


@dataclass(frozen=True, slots=True)
class Plan:
    """A broker to be configured; all paths are absolute.

    Attributes:
        folder: where its configuration, users and data are.
        listen: the address for everybody, with TLS.
        client_ca: who signs client certificates; without it there are passwords.
        revoked: the list of certificates that were taken back.
        operator_port: Mosquitto's listener for operators, with TLS and passwords; None when it has none.
        local_port: Mosquitto's listener on loopback, with passwords and without TLS.
        owner: the system's user that the broker runs as.
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


def check_lines(*texts: str) -> None:
    """Raises SettingsError when a text would begin a new line of a configuration."""
    for text in texts:
        if any(end in text for end in _LINE_ENDS):
            raise SettingsError(f"{text!r} has a line end, which no configuration file can hold; choose another")
