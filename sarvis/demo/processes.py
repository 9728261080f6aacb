"""Real processes of ours whose lines can be waited for."""

import asyncio
import contextlib
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.errors import SarvisError
from contract.settings import ENV_PREFIX

LAST_LINES = 8
STOP_WITHIN_S = 8.0

Line = dict[str, Any]


class DemoFailedError(SarvisError):
    """A step of the demo did not happen."""


@dataclass
class Child:
    """One `sarvis` command. Lines that are JSON objects are its events, others are events of the key `text`."""

    name: str
    process: asyncio.subprocess.Process
    _lines: asyncio.Queue[Line | None] = field(default_factory=asyncio.Queue)
    _said: list[Line] = field(default_factory=list)
    _last: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    _readers: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def start(cls, name: str, *arguments: str, folder: Path, settings: Mapping[str, str]) -> "Child":
        """Start `sarvis ARGUMENTS`, its settings these alone, its working folder `folder`."""
        inherited = {key: value for key, value in os.environ.items() if not key.upper().startswith(ENV_PREFIX)}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sarvis",
            *arguments,
            cwd=folder,
            env={**inherited, "PYTHONUTF8": "1", "SARVIS_LOG__FORMAT": "json", **settings},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        child = cls(name, process)
        for stream in (process.stdout, process.stderr):
            assert stream is not None  # noqa: S101 - both are pipes
            child._readers.append(asyncio.create_task(child._read(stream), name=f"read {name}"))
        return child

    async def expect(self, what: str, wanted: Callable[[Line], bool], within_s: float) -> Line:
        """The next line that is wanted; raises DemoFailedError with what did not come and the child's last words."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    line = await self._lines.get()
                    if line is None:
                        code = await self.process.wait()
                        raise DemoFailedError(f"{what}: the {self.name} ended with exit code {code}.{self._words()}")
                    if wanted(line):
                        return line
        except TimeoutError:
            raise DemoFailedError(f"{what}: nothing came within {within_s:.0f} s.{self._words()}") from None

    def kill(self) -> None:
        """SIGKILL: it cannot say goodbye."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def ended(self) -> list[Line]:
        """Everything it said in its life, once it has ended."""
        await self.process.wait()
        await asyncio.gather(*self._readers)
        return self._said

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not heard."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    def _words(self) -> str:
        return "".join(f"\n  {self.name}: {text}" for text in self._last)

    async def _read(self, stream: asyncio.StreamReader) -> None:
        async for raw in stream:
            text = raw.decode(errors="replace").rstrip()
            self._last.append(text)
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict):
                    self._said.append(line)
                    self._lines.put_nowait(line)
                    continue
            self._lines.put_nowait({"text": text})
        if all(reader.done() or reader is asyncio.current_task() for reader in self._readers):
            self._lines.put_nowait(None)
