"""A bridge of its own process, its broker dead on purpose: that must not stop delivery to a socket held here."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from tests.support.ports import free_port

START_S = 20.0
STOP_S = 20.0


@pytest.fixture(scope="session")
def bridge_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a running bridge; at the end it must leave with 0 and without a traceback."""
    home = tmp_path_factory.mktemp("bridge")
    log = home / "stderr"
    with socket.socket() as dead_broker, log.open("wb") as stderr:
        dead_broker.bind(("127.0.0.1", 0))  # bound but not listening: nobody else gets the port, nobody answers
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "sarvis", "bridge"],
            cwd=home,  # no sarvis.toml of a developer, no state in a home folder
            env=_environment(home, port, dead_broker.getsockname()[1]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        try:
            _wait_until_alive(process, port, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                code = process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
    told = log.read_text(errors="replace")
    assert "Traceback" not in told, told
    assert code == 0, told


def _environment(home: Path, port: int, broker_port: int) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SARVIS_")}
    return inherited | {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "SARVIS_BRIDGE__PORT": str(port),
        "SARVIS_MQTT__URL": f"mqtt://127.0.0.1:{broker_port}",
    }


def _wait_until_alive(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_S
    while not _is_alive(port):
        if process.poll() is not None or time.monotonic() > until:
            pytest.fail(f"the bridge did not start (exit code {process.poll()}):\n{log.read_text(errors='replace')}")
        time.sleep(0.05)


def _is_alive(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/livez")
        with connection.getresponse() as response:
            response.read()
            return response.status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
