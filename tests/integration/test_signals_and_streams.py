"""What each process does with signals and with standard streams that cannot be used; all of them real."""

import contextlib
import os
import pty
import select
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.processes import LEDGER_HERE, Sarvis
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import NO_BROKER, unique

EDGE = ("edge", "--source", "silence", "--http-port", "0", "--state-dir", "state", "--mqtt-url", NO_BROKER)


@dataclass(frozen=True)
class Server:
    arguments: tuple[str, ...]
    ready: str


SERVERS = {
    "broker": Server(("broker", "--port", "0"), "broker listening on "),
    "bridge": Server(("bridge", "--port", "0", "--mqtt-url", NO_BROKER), "bridge listening on "),
    "edge": Server((*EDGE, "--device-id", "jetson-1"), "listening"),
}
ENDS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def environment(**more: str) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SARVIS_")}
    return {**inherited, "PYTHONUTF8": "1", "SARVIS_LOG__FORMAT": "json", **LEDGER_HERE, **more}


def shell(folder: Path, command: str, *, within_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    """`$SARVIS` in a command is the program; the exit code is that of the first in a pipeline that failed."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=folder,
        env=environment(SARVIS=f"{sys.executable} -m sarvis", SARVIS_AUTH__KEY_FILE="keys"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )


def signalled(
    folder: Path, point: str, happens: signal.Signals | str, *arguments: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    name = happens.name if isinstance(happens, signal.Signals) else happens
    return subprocess.run(
        [sys.executable, "-m", "tests.support.signalled", point, name, *arguments],
        cwd=folder,
        env=environment(PYTHONPATH=str(Path(__file__).parents[2]), SARVIS_AUTH__KEY_FILE="keys", **settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def closed_well(folder: Path) -> bool:
    """The ledger's run has ended: nothing of it is open in the file."""
    with contextlib.closing(sqlite3.connect(folder / "ledger.db")) as ledger:
        return ledger.execute("SELECT opened FROM service").fetchall() == [(None,)]


# --- streams ---


@pytest.mark.parametrize("command", ["--version", "token --help", "token list", "device list", "token rotate"])
@pytest.mark.parametrize("streams", [">/dev/full", ">&-", "<&- >&-"])
def test_a_command_whose_output_is_lost_fails_and_reports_it(tmp_path: Path, command: str, streams: str) -> None:
    (tmp_path / "ledger.db").touch()
    shell(tmp_path, "$SARVIS token api somebody")
    done = shell(tmp_path, f"$SARVIS {command} {streams}")
    why = "No space left on device" if "full" in streams else "Bad file descriptor"
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (
        1,
        [f"error: standard output cannot be written: {why}"],
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-", "<&- >&- 2>&-"])
def test_without_standard_error_the_exit_code_still_says_what_was_wrong(tmp_path: Path, streams: str) -> None:
    assert shell(tmp_path, f"$SARVIS sessions list {streams}").returncode == 3
    assert shell(tmp_path, f"$SARVIS sessions {streams} --no-such").returncode == 2


@pytest.mark.parametrize("command", ["--help", "edge levels --source silence --json", "demo"])
def test_a_reader_who_has_enough_ends_a_command_without_a_word(tmp_path: Path, command: str) -> None:
    # It reads nothing: what is shorter than a pipe has room for would be written before a reader has enough.
    done = shell(tmp_path, f"$SARVIS {command} | head -c 0")
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("name", list(SERVERS))
@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_what_serves_goes_on_without_streams_and_no_file_takes_their_numbers(
    tmp_path: Path, name: str, streams: str
) -> None:
    with subprocess.Popen(
        ["bash", "-c", f"exec {sys.executable} -m sarvis {' '.join(SERVERS[name].arguments)} {streams}"],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
    ) as process:
        try:
            wait_for("it listens", lambda: process.poll() is not None or listens(process.pid))
            taken = [str(Path(f"/proc/{process.pid}/fd/{number}").readlink()) for number in range(3)]
            process.terminate()
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
    assert set(taken) <= {"/dev/null", "/dev/full"}
    assert name != "bridge" or closed_well(tmp_path)


def listens(pid: int) -> bool:
    with contextlib.suppress(OSError):
        held = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in held:
                return True
    return False


# --- before and while it starts, and while it ends ---


@pytest.mark.parametrize("signum", ENDS)
def test_ctrl_c_while_libraries_load_is_no_traceback(tmp_path: Path, signum: signal.Signals) -> None:
    command = signalled(tmp_path, "sarvis.commands", signum, "token", "list")
    assert (command.returncode, command.stderr) == (128 + signum, f"ended by {signum.name} before it was done\n")
    for server in SERVERS.values():
        done = signalled(tmp_path, "sarvis.commands", signum, *server.arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


POINTS = {
    "bridge": ["bridge.cli:load", "bridge.cli:check_mqtt", "bridge.service:Bridge.drain", "bridge.cli:SqlStore.close"],
    "broker": ["broker.cli:load", "broker.cli:_access", "broker.server.embedded:HardenedBroker.shutdown"],
    "edge": [
        "edge_node.cli:load",
        "edge_node.serve:listen",
        "edge_node.serve:EdgeNode.open",
        "edge_node.listening.service:ListeningService.stop",
    ],
}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("name", "point"), [(name, point) for name, points in POINTS.items() for point in points])
def test_a_signal_while_it_starts_or_ends_tidies_up(
    tmp_path: Path, name: str, point: str, signum: signal.Signals
) -> None:
    started = Sarvis(
        point, signum.name, *SERVERS[name].arguments, cwd=tmp_path, module="tests.support.signalled",
        settings={"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    with started:
        if point.endswith((".drain", ".close", ".shutdown", ".stop")):
            wait_for("it is ready", lambda: any(SERVERS[name].ready in line for line in started.out))
            started.process.send_signal(signum)
        assert started.process.wait(PATIENCE_S) == 0
    assert not any("Traceback" in line for line in started.err)
    if (tmp_path / "ledger.db").exists():
        assert closed_well(tmp_path)


def test_a_second_signal_does_not_wait_for_the_apps(tmp_path: Path) -> None:
    with Sarvis(*SERVERS["bridge"].arguments, cwd=tmp_path, settings={"SARVIS_BRIDGE__DRAIN_S": "600"}) as bridge:
        address = bridge.line_after("bridge listening on http://")
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port))) as app:
            app.sendall(
                b"GET /ws/app/alice HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            assert b" 101 " in app.recv(100)
            bridge.process.send_signal(signal.SIGINT)
            wait_for("the app is told", lambda: app.recv(4096))
            assert bridge.process.poll() is None
            bridge.process.send_signal(signal.SIGINT)
            assert bridge.process.wait(PATIENCE_S) == 0
    assert closed_well(tmp_path)


@pytest.mark.parametrize("signum", ENDS)
def test_an_interrupted_command_reports_it_and_exits_with_the_signals_number(
    tmp_path: Path, signum: signal.Signals
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        command = Sarvis("sessions", "logout", "alice", "--port", str(port), cwd=tmp_path)
        try:
            silent.settimeout(PATIENCE_S)
            asks, _ = silent.accept()
            command.process.send_signal(signum)
            assert command.process.wait(PATIENCE_S) == 128 + signum
        finally:
            command.kill()
            command.stop()
        asks.close()
    assert command.err == [f"ended by {signum.name} before it was done"]


# --- SIGHUP, and terminals that close ---


@pytest.mark.parametrize("name", ["broker", "bridge"])
def test_kill_hup_has_it_read_its_files_and_go_on(tmp_path: Path, name: str) -> None:
    with Sarvis(*SERVERS[name].arguments, cwd=tmp_path) as server:
        server.line_after(SERVERS[name].ready)
        for time in (1, 2):
            server.process.send_signal(signal.SIGHUP)
            told = server.event("it says so", lambda line: line.get("event") == "files_read_again", nth=time)
            assert told["signal"] == "SIGHUP"
        assert server.process.poll() is None


def test_kill_hup_ends_an_edge_tidily_and_it_says_so(tmp_path: Path) -> None:
    with Sarvis(*SERVERS["edge"].arguments, "--json", cwd=tmp_path) as node:
        node.event("it listens", lambda line: line.get("event") == "listening")
        node.process.send_signal(signal.SIGHUP)
        assert node.process.wait(PATIENCE_S) == 0
    node.event("it says so", lambda line: line.get("event") == "ends" and line["signal"] == "SIGHUP")


PYTHON = (sys.executable, "-m", "sarvis")
LIVES = {
    **{name: (server.arguments, server.ready) for name, server in SERVERS.items()},
    "app": (("app", "--uid", "alice", "--url", "ws://127.0.0.1:9"), "trying again"),
    "levels": (("edge", "levels", "--source", "silence"), "dB"),
}


class Window:
    """A terminal whose window can be closed. Nothing reads beside the test: a reader would hold the window open."""

    def __init__(self, command: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
        self._window, terminal = pty.openpty()
        # setsid makes the session, and this terminal its own.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *command], cwd=folder, env=env, stdin=terminal, stdout=terminal,
            stderr=terminal,
        )  # fmt: skip
        os.close(terminal)
        self._shown = b""

    def sees(self, words: str) -> None:
        def look() -> bool:
            if select.select([self._window], [], [], 0.0)[0]:
                self._shown += os.read(self._window, 4096)
            return words in self._shown.decode(errors="replace")

        wait_for(words, look)

    def close(self) -> None:
        os.close(self._window)


@contextlib.contextmanager
def in_window(folder: Path, *arguments: str, **settings: str) -> Iterator[Window]:
    """Ends what a test that fails has left."""
    window = Window([*arguments], folder, environment(**settings))
    try:
        yield window
    finally:
        for pid in of_environment(settings["SARVIS_BRIDGE__INSTANCE"]):
            os.kill(pid, signal.SIGKILL)
        window.process.wait(PATIENCE_S)


@pytest.mark.parametrize("name", list(LIVES))
def test_a_terminal_that_closes_leaves_no_orphan(tmp_path: Path, name: str) -> None:
    arguments, ready = LIVES[name]
    mark = unique("terminal")
    with in_window(tmp_path, *PYTHON, *arguments, SARVIS_BRIDGE__INSTANCE=mark) as window:
        window.sees(ready)
        assert of_environment(mark)
        window.close()
        wait_for("it has ended", lambda: not of_environment(mark))
    if name == "bridge":
        assert closed_well(tmp_path)


def of_environment(mark: str) -> set[int]:
    """Processes with that in their environment, no zombies."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and mark.encode() in (entry / "environ").read_bytes():
                found.add(int(entry.name))
    return found


def test_nohup_keeps_it_alive_when_its_terminal_closes(tmp_path: Path) -> None:
    mark = unique("nohup")
    command = ("nohup", *PYTHON, *SERVERS["broker"].arguments)
    with in_window(tmp_path, *command, SARVIS_BRIDGE__INSTANCE=mark) as window:
        out = tmp_path / "nohup.out"
        wait_for("it listens", lambda: out.exists() and "broker listening" in out.read_text())
        (pid,) = (one for one in of_environment(mark) if listens(one))
        window.close()
        os.kill(pid, signal.SIGHUP)
        # Had one of the two been heard, the next would have come to nobody.
        with contextlib.suppress(subprocess.TimeoutExpired):
            window.process.wait(1)
        assert listens(pid)
        os.kill(pid, signal.SIGTERM)
        wait_for("it has ended", lambda: not of_environment(mark))


# --- the children of the demo ---


@pytest.mark.parametrize("signum", [*ENDS, signal.SIGKILL, signal.SIGQUIT])
def test_the_demo_takes_its_processes_with_it(tmp_path: Path, signum: signal.Signals) -> None:
    mark = unique("demo")
    demo = Sarvis("demo", cwd=tmp_path, settings={"MARK_OF_THIS": mark, "TMPDIR": str(tmp_path)})
    try:
        wait_for("its processes", lambda: any("logged in" in line for line in demo.out))
        children = of_environment(mark) - {demo.process.pid}
        assert len(children) >= 3
        demo.process.send_signal(signum)
        code = demo.process.wait(PATIENCE_S)
        wait_for("they have ended", lambda: not of_environment(mark))
    finally:
        demo.kill()
        demo.stop()
    if signum in ENDS:
        assert code == 128 + signum
        assert demo.err == [f"ended by {signum.name} before it was done"]
        assert not list(tmp_path.glob("sarvis-demo-*"))
