"""Brokers that nobody here made, as they start by themselves: NATS and iotcore (PyPI), aedes (npm); skipped by name."""

import importlib.util
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

from tests.support.ports import free_port
from tests.support.programs import absent, program
from tests.support.services import Service
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, accepts
from tools.bench.npm import NotHereError, node, packages

AEDES_VERSION = "1.2.0"
AEDES = """
import { createRequire } from "node:module";
import { createServer } from "node:net";
const [, , home, port] = process.argv;
const { Aedes } = createRequire(`${home}/`)("aedes");
const broker = await Aedes.createBroker();
createServer(broker.handle).listen(Number(port), "127.0.0.1");
"""


class ForeignBroker(Service):
    """A program that listens on a port of its own, on loopback, and lets everybody in."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._line = self.line(folder)

    @abstractmethod
    def line(self, folder: Path) -> list[str]:
        """How it is started; skips by name what is not here."""

    @property
    def url(self) -> str:
        return f"mqtt://{HOST}:{self.port}"

    def start(self) -> None:
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(self._line, stdout=log, stderr=log, cwd=self._folder)
        try:
            wait_for(f"{self._line[0]} listens", self._serves, 60.0)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _serves(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "broker.log").read_text(errors="replace")
        return accepts(self.port)


class Nats(ForeignBroker):
    """nats-server with JetStream, without users."""

    def line(self, folder: Path) -> list[str]:
        config = folder / "nats.conf"
        config.write_text(
            f'server_name: "open"\nlisten: "{HOST}:-1"\njetstream {{ store_dir: "{folder}/data" }}\n'
            f'mqtt {{ listen: "{HOST}:{self.port}" }}\n'
        )
        return [program("nats-server"), "-c", str(config)]


class IotCore(ForeignBroker):
    """rumqttd in a wheel."""

    def line(self, folder: Path) -> list[str]:
        del folder
        if importlib.util.find_spec("iotcore") is None:
            absent("iotcore", why="it has no wheel for this Python")
        return [sys.executable, "-m", "iotcore", "--listen", HOST, "--port", str(self.port)]


class Aedes(ForeignBroker):
    """A broker of Node.js."""

    def line(self, folder: Path) -> list[str]:
        script = folder / "aedes.mjs"
        script.write_text(AEDES)
        try:
            return [
                node(),
                str(script),
                str(packages(f"aedes@{AEDES_VERSION}", folder=f"aedes-{AEDES_VERSION}")),
                str(self.port),
            ]
        except NotHereError as error:
            absent("aedes", why=str(error))


FOREIGN: dict[str, Callable[[Path], ForeignBroker]] = {"nats": Nats, "aedes": Aedes, "iotcore": IotCore}
