"""Commands of a document, each in a terminal of its own."""

import contextlib
import os
import pty
import re
import subprocess
import threading
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.support.waiting import PATIENCE_S, wait_for

BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def commands_of(document: Path, section: str | None = None, *, without: Collection[str] = ()) -> list[str]:
    """What it, or the section of this heading, tells people to type, in its order; or all but that of some sections."""
    text = document.read_text(encoding="utf-8")
    if section is not None:
        text = _section(text, section)
    for heading in without:
        text = text.replace(_section(text, heading), "")
    shown = "\n".join(BLOCK.findall(text)).replace("\\\n", " ")
    return [line.removeprefix("$ ").strip() for line in shown.splitlines() if line.startswith("$ ")]


def _section(text: str, heading: str) -> str:
    begin = text.index(f"\n## {heading}\n")
    end = text.find("\n## ", begin + 1)
    return text[begin : end if end >= 0 else None]


class Terminals:
    """Processes, each as in its own terminal; their lines can be waited for."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.env = dict(env)
        self.lines: dict[str, list[str]] = {}
        self._stack = ExitStack()

    def start(
        self, name: str, arguments: list[str], settings: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            arguments,
            cwd=self.folder,
            env={**self.env, **(settings or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        lines = self.lines.setdefault(name, [])
        stdout = process.stdout
        assert stdout is not None
        reader = threading.Thread(target=lambda: lines.extend(raw.decode().rstrip() for raw in stdout), daemon=True)
        reader.start()
        self._stack.callback(self._stop, process, reader)
        return process

    @staticmethod
    def _stop(process: subprocess.Popen[bytes], reader: threading.Thread) -> None:
        process.terminate()
        process.wait(PATIENCE_S)
        reader.join()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()

    def sees(self, name: str, words: str) -> None:
        """Wait until a line with these words stands in the terminal."""
        try:
            wait_for(f"{words!r}", lambda: any(words in line for line in self.lines[name]))
        except AssertionError as error:
            raise AssertionError(f"{error} in the {name}'s terminal:\n" + "\n".join(self.lines[name])) from None

    def close(self) -> None:
        self._stack.close()


class Pty:
    """A command in a terminal of its own, as over SSH: what it shows is collected, lines are typed into it."""

    def __init__(self, arguments: list[str], folder: Path, env: Mapping[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            arguments, cwd=folder, env=dict(env), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self._shown = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(PATIENCE_S)
        self._reader.join()
        os.close(self._ours)

    @property
    def shown(self) -> str:
        return self._shown.decode(errors="replace").replace("\r\n", "\n")

    def sees(self, words: str, within_s: float = PATIENCE_S) -> None:
        """Wait until it shows these words."""
        try:
            wait_for(f"{words!r}", lambda: words in self.shown or self.process.poll() is not None, within_s)
            self._reader.join(1.0 if self.process.poll() is not None else 0.0)
            assert words in self.shown, f"ended with {self.process.poll()} before {words!r}"
        except AssertionError as error:
            raise AssertionError(f"{error} in the terminal:\n{self.shown}") from None

    def types(self, line: str = "") -> None:
        """A line and Enter."""
        os.write(self._ours, line.encode() + b"\n")

    def ends(self, within_s: float = PATIENCE_S) -> int:
        """Its exit code."""
        code = self.process.wait(within_s)
        self._reader.join()
        return code

    def _read(self) -> None:
        # A terminal that nobody holds open any more ends with an error, not with nothing.
        with contextlib.suppress(OSError):
            while chunk := os.read(self._ours, 4096):
                self._shown += chunk
