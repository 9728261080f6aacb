"""What lies between a phone and its bridge: the way, a network that says nothing, or somebody else who answers."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
PORTAL = b"<!doctype html><title>Hotel</title><h1>Please accept the terms</h1>"


def answer(status: str, body: bytes = PORTAL, *headers: str) -> bytes:
    """An HTTP answer in HTML, unless `headers` say otherwise."""
    kind = () if any(one.lower().startswith("content-type") for one in headers) else ("content-type: text/html",)
    lines = [f"HTTP/1.1 {status}", *kind, *headers, f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class Street:
    """Use it in a `with` block; `url` is the bridge's, as a phone sees it.

    What is set counts from the next request on; `cut` ends the connections that there are.

    Attributes:
        foreign: what answers instead of the bridge; None: the bridge.
        silent: requests are taken and never answered.
        shut: nobody is there.
        lost: requests for a path that ends so are never answered.
    """

    def __init__(self, port: int) -> None:
        self.foreign: bytes | None = None
        self.silent = False
        self.shut = False
        self.lost = "\0"
        self._port = port
        self._ended = threading.Event()
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((HOST, 0), backlog=100)
        # A browser gives its storage and its service workers to localhost as to a host with HTTPS.
        self.url = f"http://localhost:{self._listener.getsockname()[1]}"

    def clear(self) -> None:
        """The bridge again."""
        self.foreign, self.silent, self.shut, self.lost = None, False, False, "\0"
        self.cut()

    def cut(self) -> None:
        """End all connections."""
        for one in list(self._connections):
            _close(one)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        _close(self._listener)
        self.cut()
        for thread in self._threads:
            thread.join()

    def _start(self, what: object, *given: socket.socket) -> None:
        thread = threading.Thread(target=what, args=given, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                phone, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, phone)

    def _serve(self, phone: socket.socket) -> None:
        """One request at a time is looked at; a WebSocket passes."""
        self._connections.add(phone)
        bridge: socket.socket | None = None
        with contextlib.suppress(OSError):
            while data := phone.recv(65536):
                path = data.split(b" ", 2)[1].decode() if data[:4] in {b"GET ", b"POST", b"HEAD"} else ""
                if self.shut:
                    break
                if self.silent or path.endswith(self.lost):
                    continue
                if self.foreign is not None:
                    phone.sendall(self.foreign)
                    continue
                if bridge is None:
                    bridge = socket.create_connection((HOST, self._port))
                    self._connections.add(bridge)
                    self._start(self._back, bridge, phone)
                bridge.sendall(data)
        for one in (phone, bridge):
            if one is not None:
                _close(one)
                self._connections.discard(one)

    def _back(self, bridge: socket.socket, phone: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := bridge.recv(65536):
                while self.silent and not self._ended.wait(0.05):
                    pass
                phone.sendall(data)
        _close(bridge)
        _close(phone)


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
