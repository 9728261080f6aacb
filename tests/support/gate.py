"""What lies between a phone and the bridge: a network that is good, gone, silent, half open, or somebody else's."""

import socket
import threading
from contextlib import suppress
from typing import Literal, Self

HOST = "127.0.0.1"
IDLE_S = 5.0
"""After which a portal closes a connection."""

Mode = Literal["good", "gone", "silent", "portal", "redirect", "busy"]

_PAGE = b"<!doctype html><title>Hotel</title><h1>Please accept the terms</h1>"
_ANSWERS: dict[Mode, bytes] = {
    "portal": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(_PAGE), _PAGE),
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: /portal\r\nContent-Length: 0\r\n\r\n",
    "busy": b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
}


class Gate:
    """A TCP port before another one.

    Attributes:
        asked: the first lines of requests that somebody else than the bridge answered.
    """

    def __init__(self, upstream_port: int) -> None:
        self.asked: list[str] = []
        self._upstream_port = upstream_port
        self._mode: Mode = "good"
        self._flows = threading.Event()
        self._flows.set()
        self._open: set[socket.socket] = set()
        self._over = False

    def __enter__(self) -> Self:
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, name="gate")]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._flows.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in list(self._threads):
            thread.join()

    @property
    def origin(self) -> str:
        """How a browser calls the bridge through it."""
        return f"http://localhost:{self.port}"

    def become(self, mode: Mode) -> None:
        """For all connections from now on; what was connected is cut, unless that makes it good again."""
        self._mode = mode
        if mode != "good":
            self.cut()

    def stall(self) -> None:
        """Nothing flows any more on any connection; nobody is told."""
        self._flows.clear()

    def flow(self) -> None:
        """What was held comes, late."""
        self._flows.set()

    def cut(self) -> None:
        """End all connections."""
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._over:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, client)

    def _start(self, does: object, *given: socket.socket) -> None:
        thread = threading.Thread(target=does, args=given, name="gate")  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _serve(self, client: socket.socket) -> None:
        mode = self._mode
        self._open.add(client)
        try:
            with client, suppress(OSError):
                if mode == "good":
                    self._forward(client)
                elif mode != "gone":
                    self._answer(client, mode)
        finally:
            self._open.discard(client)

    def _answer(self, client: socket.socket, mode: Mode) -> None:
        client.settimeout(None if mode == "silent" else IDLE_S)
        while data := client.recv(65536):
            if mode in _ANSWERS:
                line = data.split(b"\r\n")[0].decode("latin-1")
                self.asked.append(line)
                client.sendall(_ANSWERS["portal" if "/portal" in line else mode])

    def _forward(self, client: socket.socket) -> None:
        with socket.create_connection((HOST, self._upstream_port)) as bridge:
            self._open.add(bridge)
            up = threading.Thread(target=self._pump, args=(client, bridge), name="gate")
            up.start()
            self._pump(bridge, client)
            up.join()
            self._open.discard(bridge)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
