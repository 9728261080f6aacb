"""Devices that post triggers by HTTP."""

import re
import socket

from tests.support.world import HOST
from tools.bench.apps import AT_ONCE, Lost

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Caller:
    """One connection, one request at a time."""

    def __init__(self, port: int, api_key: str | None, timeout_s: float) -> None:
        self.busy = False
        self.sock = socket.create_connection((HOST, port), timeout=timeout_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = f"X-API-Key: {api_key}\r\n" if api_key else ""
        self._head = (
            f"POST /api/voice-command/trigger HTTP/1.1\r\nHost: {HOST}:{port}\r\n"
            f"Content-Type: application/json\r\n{key}Content-Length: "
        )
        self._unread = b""

    def ask(self, uid: str, what: str) -> None:
        """Send a request."""
        self.busy = True
        body = f'{{"uid":"{uid}","command":"{what}","timestamp":"2026-01-01T00:00:00+00:00"}}'
        self.sock.sendall(f"{self._head}{len(body)}\r\n\r\n{body}".encode())

    def read(self) -> bool | None:
        """Whether the trigger was carried out, once the answer is there."""
        data = self.sock.recv(AT_ONCE)
        if not data:
            raise Lost("the server has hung up on a trigger")
        self._unread += data
        head, end, body = self._unread.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not end or length is None or len(body) < int(length[1]):
            return None
        self._unread = b""
        self.busy = False
        return head.startswith(b"HTTP/1.1 200") and b'"success":true' in body
