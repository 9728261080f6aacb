"""What is said of something that is no broker; real sockets and servers."""

import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.mqtt.what_listens import what_listens
from tests.support.certificates import Authority
from tests.support.embedded import HOST, started
from tests.support.ports import free_port

Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(serve: Serve, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that does this with each connection, in a thread of its own."""
    open_ones: list[socket.socket] = []

    def run() -> None:
        while True:
            try:
                sock, _ = listening.accept()
                open_ones.append(sock)
                served = sock if context is None else context.wrap_socket(sock, server_side=True)
                open_ones.append(served)
                serve(served)
            except ssl.SSLError:
                continue
            except OSError:
                if listening.fileno() < 0:
                    return

    with socket.create_server((HOST, 0)) as listening:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()
    for sock in open_ones:
        sock.close()


def silent(_sock: socket.socket) -> None:
    """Hold the connection."""


def closing(sock: socket.socket) -> None:
    sock.close()


def saying(banner: bytes) -> Serve:
    def serve(sock: socket.socket) -> None:
        sock.sendall(banner)
        sock.shutdown(socket.SHUT_WR)

    return serve


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.mqtt.what_listens.WITHIN_S", 0.7)


@pytest.fixture
def encrypted(tmp_path: Path) -> ssl.SSLContext:
    pair = Authority(tmp_path).issue("server", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    return context


@pytest.mark.parametrize(
    ("banner", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "an SSH server"),
        (b"220 mail.example ESMTP\r\n", "a mail server (SMTP)"),
        (b"220 FTP ready\r\n", "an FTP or mail server"),
        (b'INFO {"server_id":"x"}\r\n', "NATS with its own protocol"),
        (b"AMQP\0\0\x09\x01", "a broker for AMQP"),
        (b"-ERR unknown command\r\n", "Redis"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "a web server (HTTP)"),
        (b"hello there\r\n", "it answers b'hello there"),
    ],
)
def test_a_server_is_named_by_what_it_says(banner: bytes, words: str) -> None:
    with serving(saying(banner)) as port:
        told = what_listens(HOST, port, tls=False)
    assert told is not None
    assert f"the server at {HOST}:{port} is not an MQTT broker" in told
    assert words in told


def test_one_that_is_silent_and_one_that_closes_are_told_apart() -> None:
    with serving(silent) as port:
        assert "accepts the connection and answers neither MQTT nor TLS nor HTTP" in str(
            what_listens(HOST, port, tls=False)
        )
        assert "accepts the connection and answers neither MQTT nor TLS nor HTTP" in str(
            what_listens(HOST, port, tls=True)
        )
    with serving(closing) as port:
        assert "closes every connection without an answer" in str(what_listens(HOST, port, tls=False))
        assert what_listens(HOST, port, tls=False, sure=True) is None, "brokers turn strangers away so"


def test_a_web_server_is_one_whether_it_answers_nonsense_or_not() -> None:
    server = http.server.ThreadingHTTPServer((HOST, 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        for tls in (False, True):
            assert "a web server (HTTP)" in str(what_listens(HOST, server.server_port, tls=tls))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_tls_where_none_was_expected_and_the_other_way_round(encrypted: ssl.SSLContext) -> None:
    connack = saying(b"\x20\x02\0\0")
    with serving(connack, encrypted) as port:
        told = what_listens(HOST, port, tls=False)
        assert told == f"at {HOST}:{port} an MQTT broker speaks TLS: write mqtts://{HOST}:{port}"
        assert what_listens(HOST, port, tls=True) is None
    with serving(connack) as port:
        told = what_listens(HOST, port, tls=True)
        assert f"at {HOST}:{port} is an MQTT broker without TLS: write mqtt://{HOST}:{port}" in str(told)
        assert what_listens(HOST, port, tls=False) is None
    with serving(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), encrypted) as port:
        for tls in (False, True):
            assert "a web server (HTTP), with TLS" in str(what_listens(HOST, port, tls=tls))


def test_a_broker_that_answers_is_left_alone() -> None:
    with started() as running:
        assert what_listens(HOST, running.port, tls=False) is None
        assert "is an MQTT broker without TLS" in str(what_listens(HOST, running.port, tls=True))


def test_a_port_for_websockets_only_is_told(encrypted: ssl.SSLContext) -> None:
    def switching(sock: socket.socket) -> None:
        asked = sock.recv(4096)
        if asked.startswith(b"GET /mqtt ") and b"Sec-WebSocket-Protocol: mqtt" in asked:
            sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)

    for context in (None, encrypted):
        with serving(switching, context) as port:
            for tls in (False, True):
                assert "speaks MQTT over WebSocket" in str(what_listens(HOST, port, tls=tls))


def test_a_port_that_nobody_has_by_tcp_may_be_one_of_udp() -> None:
    assert "no broker answers at" in str(what_listens(HOST, free_port(), tls=False))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        told = what_listens(HOST, sock.getsockname()[1], tls=False)
    assert "by UDP" in str(told)
    assert "MQTT needs TCP" in str(told)
