"""Commands of a document, each in a terminal of its own."""

import re
import subprocess
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.support.waiting import wait_for

BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def commands_of(document: Path) -> list[str]:
    """What it tells people to type, in its order."""
    shown = "\n".join(BLOCK.findall(document.read_text(encoding="utf-8"))).replace("\\\n", " ")
    return [line.removeprefix("$ ").strip() for line in shown.splitlines() if line.startswith("$ ")]


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
        process.wait(15)
        reader.join()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()

    def sees(self, name: str, words: str) -> None:
        """Wait until a line with these words stands in the terminal."""
        try:
            wait_for(f"{words!r}", lambda: any(words in line for line in self.lines[name]), 40)
        except AssertionError as error:
            raise AssertionError(f"{error} in the {name}'s terminal:\n" + "\n".join(self.lines[name])) from None

    def close(self) -> None:
        self._stack.close()
