import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests.support.prefork import popen
from tests.support.waiting import PATIENCE_S, wait_for

STOP_WITHIN_S = PATIENCE_S
LEDGER_HERE = {
    "SARVIS_STORE__URL": "sqlite:///ledger.db",
    "SARVIS_BRIDGE__STORIES_FILE": "stories.db",
    "SARVIS_BROKER__DIR": "broker",
}
"""Each test's bridge keeps its ledger in its own folder."""


class Sarvis:
    """One running `sarvis` command; its lines are collected, and it is ended by its own pid."""

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        settings: Mapping[str, str] | None = None,
        stdin: int | IO[bytes] | None = None,
        module: str = "sarvis",
        files: str | None = None,
    ) -> None:
        """`files`: so many may it open, SOFT:HARD or both in one number."""
        bounded = [] if files is None else ["prlimit", f"--nofile={files}"]
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("SARVIS_")}
        self.process = popen(
            [*bounded, sys.executable, "-m", module, *arguments],
            cwd=cwd,
            env={**inherited, "PYTHONUTF8": "1", "SARVIS_LOG__FORMAT": "json", **LEDGER_HERE, **(settings or {})},
            stdin=subprocess.DEVNULL if stdin is None else stdin,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=self._collect, args=(self.process.stdout, self.out), daemon=True),
            threading.Thread(target=self._collect, args=(self.process.stderr, self.err), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = self.stop()
        if kind is None:
            assert code in {0, -9}, f"exit code {code}\n" + "\n".join(self.err)
            assert "Traceback" not in "\n".join(self.err), "\n".join(self.err)

    @staticmethod
    def _collect(stream: IO[bytes] | None, lines: list[str]) -> None:
        assert stream is not None
        with stream:
            # A generator: each line is there as soon as it was read.
            lines.extend(raw.decode(errors="replace").rstrip("\n") for raw in stream)

    def stop(self) -> int:
        """SIGTERM, then the exit code; SIGKILL when it does not obey."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            if self.process.stdin is not None:
                self.process.stdin.close()
        for reader in self._readers:
            reader.join()
        return code

    @contextmanager
    def starting(self) -> Iterator[None]:
        """While it comes up: if that fails, it does not stay behind."""
        try:
            yield
        except BaseException:
            self.kill()
            self.stop()
            raise

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def may_say_more(self) -> bool:
        """Whether it runs, or has ended with lines that are not read yet."""
        return self.process.poll() is None or any(reader.is_alive() for reader in self._readers)

    def told(self, what: str) -> list[dict[str, Any]]:
        """Wait until its log has an event of this name; all of that name so far. Its lines are read as they come."""
        self.event(what, lambda event: event.get("event") == what)
        return [event for event in self.events() if event.get("event") == what]

    def events(self) -> list[dict[str, Any]]:
        """The JSON objects among its lines, those of standard error (the log) after those of standard output."""
        found = []
        for line in [*self.out, *self.err]:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                found.append(event)
        return found

    def event(
        self, what: str, wanted: Callable[[dict[str, Any]], bool], *, nth: int = 1, within_s: float = PATIENCE_S
    ) -> dict[str, Any]:
        """Wait for the nth JSON line that is wanted."""

        def look() -> dict[str, Any] | None:
            goes_on = self.may_say_more()
            found = [event for event in self.events() if wanted(event)]
            if len(found) >= nth:
                return found[nth - 1]
            assert goes_on, f"ended with {self.process.poll()} before: {what}\n" + "\n".join(self.err)
            return None

        try:
            return wait_for(what, look, within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join([*self.out, *self.err])) from None

    def line_after(self, words: str) -> str:
        """Wait for a line of standard output that begins with these words; the rest of it."""

        def look() -> str | None:
            goes_on = self.may_say_more()
            rest = [line.removeprefix(words) for line in self.out if line.startswith(words)]
            if rest:
                return rest[0].strip()
            assert goes_on, f"ended with {self.process.poll()}\n" + "\n".join(self.err)
            return None

        return wait_for(f"a line that begins with {words!r}", look)


def run_sarvis(
    *arguments: str,
    cwd: Path,
    settings: Mapping[str, str] | None = None,
    within_s: float = 120.0,
    files: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `files` as in Sarvis."""
    bounded = [] if files is None else ["prlimit", f"--nofile={files}"]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SARVIS_")}
    command = [*bounded, sys.executable, "-m", "sarvis", *arguments]
    environment = {**inherited, "PYTHONUTF8": "1", **LEDGER_HERE, **(settings or {})}
    with popen(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL) as process:
        try:
            out, err = process.communicate(timeout=within_s)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, *map(_text, (out, err)))


def _text(said: bytes) -> str:
    return said.decode().replace("\r\n", "\n")
