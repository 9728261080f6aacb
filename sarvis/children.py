"""Child processes whose output lines can be waited for."""

import asyncio
import contextlib
import json
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.errors import SarvisError
from infra.orphans import GUARD
from infra.settings.loader import ENV_PREFIX

LAST_LINES = 8
REMEMBERED = 1000
STOP_WITHIN_S = 8.0

Line = dict[str, Any]


class ChildFailedError(SarvisError):
    """A child ended, or did not say in time what was expected."""


@dataclass
class Child:
    """One `sarvis` command. Lines that are JSON objects are its events, others are events with the key `text`."""

    name: str
    process: asyncio.subprocess.Process
    _lines: asyncio.Queue[Line | None] = field(default_factory=asyncio.Queue)
    _said: deque[Line] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _last: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    _readers: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def start(
        cls, name: str, *arguments: str, folder: Path, settings: Mapping[str, str], hears: bool = False
    ) -> "Child":
        """Start `sarvis ARGUMENTS` with only these settings, in the folder `folder`.

        `hears`: its standard input is a pipe (`process.stdin`).
        """
        inherited = {key: value for key, value in os.environ.items() if not key.upper().startswith(ENV_PREFIX)}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sarvis",
            *arguments,
            cwd=folder,
            env={
                **inherited,
                **GUARD.environment(),
                "PYTHONUTF8": "1",
                "SARVIS_LOG__FORMAT": "json",
                **settings,
            },
            stdin=asyncio.subprocess.PIPE if hears else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # Ctrl-C goes to the parent, which ends its processes in order.
            start_new_session=True,
        )
        GUARD.watch(process.pid)
        child = cls(name, process)
        for stream in (process.stdout, process.stderr):
            assert stream is not None  # noqa: S101 - both are pipes
            child._readers.append(asyncio.create_task(child._read(stream), name=f"read {name}"))
        return child

    async def expect(self, what: str, wanted: Callable[[Line], bool], within_s: float) -> Line:
        """The next matching line; raises ChildFailedError with the missing line and the child's last output."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    line = await self._lines.get()
                    if line is None:
                        code = await self.process.wait()
                        raise ChildFailedError(f"{what}: the {self.name} ended with exit code {code}.{self.words()}")
                    if wanted(line):
                        return line
        except TimeoutError:
            raise ChildFailedError(f"{what}: nothing came within {within_s:.0f} s.{self.words()}") from None

    async def url(self, within_s: float) -> str:
        """The address at which a server says that it listens; raises ChildFailedError."""
        words = f"{self.name} listening on "
        line = await self.expect(
            f"the {self.name} starts", lambda line: str(line.get("text", "")).startswith(words), within_s
        )
        return str(line["text"]).removeprefix(words).strip()

    def kill(self) -> None:
        """SIGKILL: the process cannot disconnect cleanly."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def ended(self) -> list[Line]:
        """Its output, at most the last 1,000 lines, once it has ended."""
        await self.process.wait()
        await asyncio.gather(*self._readers)
        return list(self._said)

    async def lines(self) -> AsyncIterator[Line]:
        """Its lines from now on, until it ends."""
        while (line := await self._lines.get()) is not None:
            yield line

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL if it does not end."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()
        GUARD.forget(self.process.pid)
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    def words(self) -> str:
        """Its last lines, for an error."""
        return "".join(f"\n  {self.name}: {text}" for text in self._last)

    async def _read(self, stream: asyncio.StreamReader) -> None:
        async for raw in stream:
            text = raw.decode(errors="replace").rstrip()
            self._last.append(text)
            line: Line = {"text": text}
            with contextlib.suppress(ValueError):
                found = json.loads(text)
                line = found if isinstance(found, dict) else line
            self._said.append(line)
            self._lines.put_nowait(line)
        if all(reader.done() or reader is asyncio.current_task() for reader in self._readers):
            self._lines.put_nowait(None)
