"""Starts `sarvis` commands by forking a process that has loaded their libraries already.

A command is a process of its own, child of the test, with its own environment, folder and streams. Only libraries are
loaded beforehand, no module of this project: each command imports those anew, in its own order. It saves two thirds of
the processor time of a command's start. Tests in tests/e2e start every command from nothing.
"""

import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

LIBRARIES = (
    "aiosqlite", "alembic.command", "alembic.runtime.migration", "amqtt.broker", "argon2", "asyncpg",
    "cryptography.x509", "fastapi", "fastapi_swagger", "httpcore2", "httptools", "httpx2", "jwt", "msgspec",
    "numpy", "onnx", "onnxruntime", "paho.mqtt.client", "prometheus_client.core", "pydantic.v1", "rich.console",
    "rich.live", "rich.table", "soundfile", "soxr", "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite", "sqlalchemy.ext.asyncio", "starlette.middleware.cors", "structlog",
    "tarfile", "typer", "uvicorn", "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.websockets_sansio_impl", "uvloop", "wave", "websockets.asyncio.client",
)  # fmt: skip
"""Those that take long, and start no thread and open nothing when they are imported. A missing one is left out."""
OF_COMMANDS = (
    "aiosqlite", "cryptography.x509", "httpcore2", "httpx2", "jwt", "msgspec", "paho.mqtt.client", "prometheus_client",
    "pydantic.v1", "rich.table", "structlog", "typer", "websockets.asyncio.client",
)  # fmt: skip
"""The same for commands that soon end: to copy a process with all libraries takes longer than they do."""
SERVERS = frozenset({"app", "bridge", "broker", "demo", "edge", "fleet", "up"})
READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TZ", "OMP_", "OPENBLAS_", "MALLOC_")
"""Variables that an interpreter or a library reads when it is loaded: with others, a command starts from nothing."""

_SET_CHILD_SUBREAPER = 36
_REQUEST_BYTES = 1 << 20


_one_at_a_time = threading.Lock()


class _Switch:
    on = False


@contextlib.contextmanager
def preforked() -> Iterator[None]:
    """Inside, `popen` forks."""
    before, _Switch.on = _Switch.on, True
    try:
        yield
    finally:
        _Switch.on = before


def popen(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: Any) -> "subprocess.Popen[bytes]":
    """Run `python -m MODULE ...`, or another command, with pipes for what it says."""
    is_module = list(command[:2]) == [sys.executable, "-m"]
    forks = _Switch.on and is_module and _read_at_start(env) == _read_at_start(_environment())
    kind = _Preforked if forks else subprocess.Popen
    return kind(list(command), cwd=cwd, env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUTF8": "1"}


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}


class _Preforked(subprocess.Popen[bytes]):
    """Forked by the server; its own parent is this process, so that all else is as in the base class."""

    def _execute_child(self, args: list[str], *more: Any) -> None:
        cwd, env, pipes = more[4], more[5], more[9:15]
        try:
            with _one_at_a_time:  # of threads of a test: a process id must not be another thread's answer
                self.pid = _server(_libraries_of(args)).start(args, str(cwd), dict(env), [pipes[0], pipes[3], pipes[5]])
            self._child_created = True
        finally:
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


class _Server:
    """The process that has the libraries. It ends with this one, whose end of the socket is then closed."""

    def __init__(self, libraries: tuple[str, ...]) -> None:
        # What it forks twice has no parent soon, and becomes a child of this process.
        if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # Its streams are pipes, as those of a command are: Python looks at that when it starts.
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), *libraries],
                cwd=Path(__file__).parents[2],
                env=_environment(),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )

    def start(self, command: list[str], cwd: str, env: dict[str, str], streams: list[int]) -> int:
        """The process id."""
        socket.send_fds(self._socket, [json.dumps([command, cwd, env]).encode()], streams)
        answer = self._socket.recv(_REQUEST_BYTES)
        assert answer, "what forks commands has ended"
        return int(answer)


@functools.cache
def _server(libraries: tuple[str, ...]) -> _Server:
    return _Server(libraries)


def _libraries_of(command: Sequence[str]) -> tuple[str, ...]:
    is_short = command[2] == "sarvis" and not SERVERS & {*command[3:4]}
    return OF_COMMANDS if is_short else LIBRARIES


# --- in the process that forks ---


def _serve(asked: socket.socket) -> tuple[list[str], str, dict[str, str]]:
    """Returns only in a process that is to become a command."""
    while True:
        request, streams, _, _ = socket.recv_fds(asked, _REQUEST_BYTES, 3)
        if not request:
            os._exit(0)
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            parent = os.getpid()
            child = os.fork()
            if child:
                os.write(writing, str(child).encode())
                os._exit(0)
            while os.getppid() == parent:  # it ends soon; a command may ask whose child it is
                time.sleep(0.001)
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            for opened in (*streams, reading, writing):
                os.close(opened)
            asked.close()
            command, cwd, env = json.loads(request)
            return command, cwd, env
        os.waitpid(between, 0)  # only now the command is a child of who asked
        asked.send(os.read(reading, 32))
        for opened in (*streams, reading, writing):
            os.close(opened)


def main() -> None:
    """Load the libraries, fork, and become the command."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime reads it when it is imported
    for name in sys.argv[2:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    command, cwd, env = _serve(socket.socket(fileno=int(sys.argv[1])))
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[0] = cwd
    sys.argv = command[2:]
    runpy.run_module(command[2], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
