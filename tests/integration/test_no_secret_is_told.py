"""Real processes whose secret comes back to them in what a server says: no line of theirs tells it."""

import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import pytest

from tests.support.ports import free_port
from tests.support.processes import Sarvis, run_sarvis
from tests.support.waiting import wait_for
from tests.support.world import HOST, Edge

CANARY = "sarvis_0123456789ab_CANARYcanaryCANARY+canary/CANARYcanary=="
TOKEN = "eyCANARY.canaryCANARYcanary.CANARY-canary_CANARY"
SEEN = "CANARY"

Answer = Literal["status", "header", "detail"]


@contextmanager
def echo(answer: Answer) -> Iterator[str]:
    """A server that repeats what it was sent, where the text of a library's exception quotes it; its host and port."""
    listening = socket.create_server((HOST, 0))

    def serve() -> None:
        while True:
            try:
                peer, _ = listening.accept()
            except OSError:
                return
            with peer, suppress(OSError):
                asked = b""
                while b"\r\n\r\n" not in asked and (more := peer.recv(65536)):
                    asked += more
                line = asked.replace(b"\r\n", b" ")
                if answer == "status":
                    peer.sendall(line + b"\r\n\r\n")
                elif answer == "header":
                    peer.sendall(b"HTTP/1.1 200 OK\r\nX-\x00: " + line + b"\r\n\r\n")
                else:
                    body = json.dumps({"detail": line.decode()}).encode()
                    head = f"HTTP/1.1 503 No\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
                    peer.sendall(head.encode() + body)

    thread = threading.Thread(target=serve, name="echo")
    thread.start()
    try:
        yield f"{HOST}:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def keep(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize("answer", ["status", "header", "detail"])
def test_an_operators_command_does_not_tell_its_key_whatever_the_bridge_answers(tmp_path: Path, answer: Answer) -> None:
    with echo(answer) as server:
        settings = {
            "SARVIS_OPERATOR__URL": f"http://{server}/",
            "SARVIS_OPERATOR__API_KEY_FILE": keep(tmp_path / "key", f"\ufeff {CANARY}\r\n\r\n"),
        }
        done = run_sarvis("sessions", "logout", "alice", cwd=tmp_path, settings=settings)
    assert done.returncode == 1
    assert "authorization: Bearer ***" in done.stderr
    assert SEEN not in done.stdout + done.stderr


def test_a_node_and_its_doctor_do_not_tell_their_key_whatever_the_bridge_answers(tmp_path: Path) -> None:
    key = tmp_path / "key"
    with echo("status") as server:
        settings = {
            "SARVIS_EDGE__UPLINK": "http",
            "SARVIS_EDGE__BRIDGE_URL": f"http://proxy-user:{CANARY[-8:-2]}CANARY@{server}",
            "SARVIS_EDGE__API_KEY_FILE": keep(key, CANARY),
        }
        with Edge(tmp_path, None, uid="alice", settings=settings) as edge:
            edge.event("logged_in")
            edge.hear_word()
            edge.event("outcome", lambda line: line["status"] == "unknown")
            # While it runs somebody writes what no key can be; the next one is right again.
            keep(key, f"{CANARY}\n{CANARY}\n")
            edge.hear_word()
            wait_for("it told of the file", lambda: "more than one line" in "\n".join(edge.sarvis.err))
        assert "illegal status line" in "\n".join(edge.sarvis.err)
        told = [*edge.sarvis.out, *edge.sarvis.err]
        keep(key, CANARY)
        done = run_sarvis("doctor", "--json", "--source", "silence", cwd=tmp_path, settings=settings)
    assert "illegal status line" in done.stdout
    assert SEEN not in "\n".join([*told, done.stdout, done.stderr])


@pytest.mark.parametrize("legacy", [False, True])
def test_an_app_does_not_tell_its_token_or_the_password_in_its_address(tmp_path: Path, legacy: bool) -> None:
    more = ["--legacy"] if legacy else []
    with echo("status") as server:
        settings = {
            "SARVIS_APP__URL": f"ws://bob:{TOKEN}@{server}/",
            "SARVIS_APP__TOKEN_FILE": keep(tmp_path / "token", f"{TOKEN}\r\n"),
        }
        with Sarvis("app", "--uid", "alice", "--json", *more, cwd=tmp_path, settings=settings) as app:
            app.event("it tries again", lambda event: event["event"] == "retry", nth=2)
    assert SEEN not in "\n".join([*app.out, *app.err])


BY_HTTP = {"SARVIS_EDGE__UPLINK": "http", "SARVIS_EDGE__BRIDGE_URL": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("setting", "content", "command", "more"),
    [
        ("operator.api_key_file", f"{CANARY}é".encode(), "sessions logout alice", {}),
        (
            "edge.api_key_file",
            f"{CANARY}\nmore\n".encode(),
            "edge --device-id x --source silence --http-port 0 --state-dir state",
            BY_HTTP,
        ),
        ("app.token_file", f"{CANARY}é".encode("latin-1"), "app --uid alice --url ws://127.0.0.1:1", {}),
        ("mqtt.password_file", f"{CANARY}\x07".encode(), "bridge --port 0", {"SARVIS_MQTT__USERNAME": "bridge"}),
        ("auth.key_file", f"k1 {CANARY[:20]}\n".encode(), "token app alice", {}),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_what_no_secret_can_be_is_refused_at_the_start_by_setting_and_file(
    tmp_path: Path, setting: str, content: bytes, command: str, more: Mapping[str, str]
) -> None:
    path = keep(tmp_path / "secret", content)
    section, key = setting.split(".")
    settings = {**more, f"SARVIS_{section.upper()}__{key.upper()}": path}
    done = run_sarvis(*command.split(), cwd=tmp_path, settings=settings)
    assert done.returncode == 2, done.stderr
    assert setting in done.stderr
    assert path in done.stderr
    assert "Traceback" not in done.stderr
    assert SEEN not in done.stdout + done.stderr


def test_a_password_in_the_brokers_address_is_refused_and_not_told(tmp_path: Path) -> None:
    done = run_sarvis(
        "bridge",
        cwd=tmp_path,
        settings={"SARVIS_MQTT__URL": f"mqtt://bridge:{CANARY}@{HOST}", "SARVIS_MQTT__PASSWORD": CANARY},
    )
    assert done.returncode == 2
    assert "mqtt.password_file" in done.stderr
    assert SEEN not in done.stderr


def test_a_log_out_address_is_listed_without_its_password_and_key(tmp_path: Path) -> None:
    address = f"http://user:{TOKEN}@{HOST}:{free_port()}/out?key={TOKEN}"
    (tmp_path / "ledger.db").touch()  # as `sarvis broker config` leaves it
    added = run_sarvis("device", "add", "kitchen", "--uid", "alice", "--logout-url", address, cwd=tmp_path)
    assert added.returncode == 0, added.stderr
    listed = run_sarvis("device", "list", cwd=tmp_path)
    assert "/out?key=***" in listed.stdout
    broken = run_sarvis("device", "add", "k", "--logout-url", f"http://user:{TOKEN}/x@{HOST}/", cwd=tmp_path)
    assert broken.returncode == 2
    assert SEEN not in "".join(done.stdout + done.stderr for done in (added, broken, listed))


def test_a_fault_of_ours_is_told_by_a_traceback_without_secrets(tmp_path: Path) -> None:
    # A plug-in of Python's own start makes the command fail with all that it was given.
    (tmp_path / "sitecustomize.py").write_text(
        "import httpx2\n"
        "def fail(self, *_, **__):\n"
        "    raise ZeroDivisionError(f'with {self.headers!r} and {dict(self.headers)}')\n"
        "httpx2.Client.post = fail\n"
    )
    settings = {"SARVIS_OPERATOR__API_KEY": CANARY, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}
    done = run_sarvis("sessions", "logout", "alice", cwd=tmp_path, settings=settings)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "Bearer ***" in done.stderr
    assert SEEN not in done.stderr
