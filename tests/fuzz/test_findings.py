"""Proof that each attack can find something."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from contract.errors import SettingsError
from infra.settings.bridge import BridgeSettings
from infra.settings.loader import Settings
from tests.support.processes import Sarvis
from tests.support.waiting import wait_for
from tests.support.world import HOST, EmbeddedBroker
from tools.fuzz import configs, endpoints, frames, packets
from tools.fuzz.frames import Attempt, try_one
from tools.fuzz.house import Neighbour, Watch, house
from tools.fuzz.messages import EdgeWitness
from tools.fuzz.packets import Listener
from tools.fuzz.rawsocket import CLOSE, TEXT, Heard, RawSocket, frame
from tools.fuzz.readers import Memory
from tools.fuzz.record import Budget, Result, draw

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
ESTABLISHED = b'\x81\x21{"type":"connection_established"}'
UNMASKED = frame(TEXT, b"x", mask=None)


def kinds(result: Result) -> set[str]:
    return {finding.kind for finding in result.findings}


def test_the_same_seed_draws_the_same_inputs() -> None:
    assert draw(packets.conversations(), 50, 7) == draw(packets.conversations(), 50, 7)
    assert draw(packets.conversations(), 50, 7) != draw(packets.conversations(), 50, 8)


def test_a_budget_is_spent_and_told() -> None:
    told: list[int] = []
    spent = [len(batch) for batch in Budget(examples=25, tell=told.append).batches(st.integers(), 10)]
    assert sum(spent) == sum(told) == 25


def test_a_fault_that_comes_again_is_counted_and_listed_once() -> None:
    result = Result("x")
    for given in ("a", "b"):
        result.found("crash", "it broke", given)
    result.found("disturbed", "it broke", "c")
    assert (result.crashes, result.disturbed, [finding.given for finding in result.findings]) == (2, 1, ["a", "c"])


# --- processes and neighbours ---


def test_a_process_that_ends_is_seen_with_what_it_said(tmp_path: Path) -> None:
    with Sarvis(cwd=tmp_path, module="tests.no_such_module") as process:
        watch, result = Watch({"it": process}), Result("x")
        wait_for("its end", lambda: process.process.poll() is not None)
        process.err.append('{"event": "x", "level": "error", "exc_info": ["ValueError"]}')
        process.err.append("Traceback (most recent call last):")
        process.err.append('{"event": "fine", "level": "info"}')
        assert not watch.look(result, "input")
        process.process.returncode = 0
        process.err.clear()
    assert result.crashes == 3


def test_a_log_out_of_the_edge_and_the_end_of_the_bridge_are_seen(tmp_path: Path) -> None:
    with house(tmp_path, "embedded", with_edge=True) as there:
        assert there.edge is not None
        watch, result = there.watched(), Result("x")
        with EdgeWitness(there, there.edge) as witness, Neighbour(there.bridge, there.broker) as neighbour:
            witness.check()
            assert neighbour.settle(result)
            assert watch.look(result, "")
            assert result == Result("x")
            there.bridge.post("/api/auth/logout", {"uid": there.edge.uid})
            there.edge.event("logged_out")
            with pytest.raises(AssertionError, match="session became"):
                witness.check()
            there.bridge.sarvis.kill()
            assert not neighbour.settle(result)
            assert not watch.look(result, "")
    assert kinds(result) == {"crash", "disturbed"}


def test_a_listener_whose_broker_ends_is_disturbed(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path)
    broker.start()
    with Listener(broker.port) as listener:
        assert listener.settle(result := Result("x"), "")
        broker.kill()
        assert not listener.settle(result, "")
    assert kinds(result) == {"disturbed"}


def test_memory_that_grows_is_a_finding() -> None:
    memory, result = Memory("bridge", os.getpid()), Result("x")
    memory.look(result, "nothing")
    assert result.findings == []
    kept = b"x" * 64 * 2**20
    memory.look(result, "much")
    assert (kinds(result), len(kept)) == ({"broken"}, 64 * 2**20)


# --- frames ---


@contextmanager
def tcp_server(answer: bytes, *, hangs_up: bool = True) -> Iterator[int]:
    """Says the same to everybody, and nothing else."""
    ending = threading.Event()
    with socket.create_server((HOST, 0)) as listening:

        def serve() -> None:
            client, _ = listening.accept()
            with client:
                client.sendall(answer)
                while hangs_up and client.recv(65536):
                    pass
                ending.wait(0 if hangs_up else 20)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listening.getsockname()[1])
        ending.set()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "attempt", "fault"),
    [
        (b"HTTP/1.1 500 Oh\r\n\r\n", Attempt("x", (b"GET",), is_handshake=True), "5xx"),
        (b"SSH-2.0\r\n\r\n", Attempt("x", (b"GET",), is_handshake=True), "no status line"),
        (SWITCHING, Attempt("x", (b"GET",), is_handshake=True, refused=True), "accepted"),
        (b"HTTP/1.1 403 No\r\n\r\n", Attempt("x", ()), "for a good handshake"),
        (SWITCHING + ESTABLISHED, Attempt("x", (UNMASKED,), closes=frozenset({1002})), "instead of"),
        (SWITCHING + ESTABLISHED, Attempt("x", (b"",), answers=1), "heartbeat"),
        (SWITCHING + ESTABLISHED, Attempt("x", (b"",), pongs=1), "ping"),
        (SWITCHING + ESTABLISHED + b"\x88\x02\x03\xf3", Attempt("x", ()), "5xx"),
        (SWITCHING + ESTABLISHED + b"\x88\x02\x03\xed", Attempt("x", ()), "a close frame that says 03ed"),
        (SWITCHING + ESTABLISHED + frame(TEXT, b"{}"), Attempt("x", ()), "a frame of the server"),
        (SWITCHING + ESTABLISHED + b"\x81\x01{", Attempt("x", ()), "no JSON"),
        (SWITCHING + ESTABLISHED + b"\x88\x00\x81\x02{}", Attempt("x", ()), "after the close"),
    ],
)
def test_a_server_that_speaks_wrong_websocket_is_found(answer: bytes, attempt: Attempt, fault: str) -> None:
    with tcp_server(answer) as port, RawSocket(port) as raw:
        faults = frames._judge(attempt, _heard(raw, attempt))
    assert any(fault in found for found in faults), faults


def _heard(raw: RawSocket, attempt: Attempt) -> Heard:
    frames._begin(raw, attempt, {})
    raw.finish()
    return Heard.of(raw.data)


def test_a_server_that_never_answers_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.fuzz.rawsocket.PATIENCE_S", 0.2)
    with tcp_server(b"", hangs_up=False) as port, RawSocket(port) as raw:
        faults = try_one(raw, Attempt("x", (b"GET",), is_handshake=True), {})
    assert faults == [f"x: {frames.HANGS}"]


def test_a_client_of_ours_masks_and_a_server_of_ours_does_not() -> None:
    assert frame(CLOSE)[1] & 0x80
    heard = Heard.of(SWITCHING + ESTABLISHED + b"\x8a\x00\x88\x02\x03\xe8")
    assert (heard.count("connection_established"), heard.pongs, heard.close_code, heard.faults) == (1, 1, 1000, [])


# --- HTTP ---


EXAMPLE = "alice, of the example"


@contextmanager
def http_server(
    status: int, body: bytes, content_type: str = "application/json", asked: list[bytes] | None = None
) -> Iterator[str]:
    """Describes one endpoint that answers {"success": bool}, and does as it is told; `asked` gets the bodies."""
    described = {
        "openapi": "3.1.0",
        "info": {"title": "x", "version": "1"},
        "paths": {
            "/x": {
                "post": {
                    "requestBody": {
                        "required": True,
                        "content": {
                            "application/json": {
                                "schema": {"type": "object", "required": ["uid"], "examples": [{"uid": EXAMPLE}]}
                            }
                        },
                    },
                    "responses": {
                        str(code): {
                            "description": "x",
                            "content": {"application/json": {"schema": {"type": "object", "required": ["success"]}}},
                        }
                        for code in (200, 422)
                    },
                }
            }
        },
    }

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, code: int, data: bytes, kind: str) -> None:
            given = self.rfile.read(int(self.headers.get("content-length") or 0))
            if asked is not None:
                asked.append(given)
            self.send_response(code)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def do_GET(self) -> None:
            self._answer(200, json.dumps(described).encode(), "application/json")

        def do_POST(self) -> None:
            self._answer(status, body, content_type)

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):  # any method
                return self.do_POST
            raise AttributeError(name)

        def log_message(self, *_: Any) -> None:
            """In silence."""

    server = ThreadingHTTPServer((HOST, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [(500, b"{}", "server_error"), (200, b'{"oh":1}', "broken"), (418, b"{}", "broken"), (422, b"no", "broken")],
)
def test_a_server_that_answers_otherwise_than_described_is_found(status: int, body: bytes, kind: str) -> None:
    with http_server(status, body) as url:
        result = endpoints.attack(url, Budget(examples=16), lambda _given: True, Result("x"))
    assert kind in kinds(result)
    assert result.inputs > 8


def test_the_examples_of_the_description_are_tried() -> None:
    asked: list[bytes] = []
    with http_server(200, b'{"success":true}', asked=asked) as url:
        endpoints.attack(url, Budget(examples=16), lambda _given: True, Result("x"))
    wanted = {json.dumps({"uid": EXAMPLE}, separators=form).encode() for form in ((",", ":"), (", ", ": "))}
    assert wanted & set(asked)


# --- settings ---


def _breaks(_path: Path | None) -> Settings:
    raise KeyError("mqtt")


def _tells(_path: Path | None) -> Settings:
    raise SettingsError(f"setting mqtt.password: {configs.SECRET} is wrong")


def _is_mute(_path: Path | None) -> Settings:
    raise SettingsError("something is wrong")


def _is_endless(_path: Path | None) -> Settings:
    endless = BridgeSettings().model_copy(update={"drain_s": float("inf")})
    return Settings().model_copy(update={"bridge": endless})


@pytest.mark.parametrize(
    ("reader", "fault"),
    [
        (_breaks, "KeyError"),
        (_tells, "tells a secret"),
        (_is_mute, "names neither"),
        (_is_endless, "bridge.drain_s may be infinite"),
    ],
)
def test_a_reader_of_settings_that_fails_is_found(reader: Callable[[Path | None], Settings], fault: str) -> None:
    result = configs.attack(Budget(examples=3), reader)
    assert any(fault in finding.what for finding in result.findings)
