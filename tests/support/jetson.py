"""A Jetson that speaks only HTTP: takes log-outs as a test tells it to."""

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.support.waiting import PATIENCE_S, wait_for

HOST = "127.0.0.1"
LOGOUT_PATH = "/api/auth/logout"


@dataclass(frozen=True)
class Post:
    """What came."""

    path: str
    content_type: str
    body: Any


class Jetson:
    """Use it in a `with` block. `status` is what it answers; while it is held it answers nothing at all."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.endless = False
        """It answers with a body that does not end."""
        self.posts: list[Post] = []
        self.answered = 0
        self._free = threading.Event()
        self._free.set()
        self._server = ThreadingHTTPServer((HOST, 0), self._handler())
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self.url = f"http://{HOST}:{self.port}{LOGOUT_PATH}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        jetson = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                jetson.posts.append(Post(self.path, self.headers["content-type"], body))
                jetson._free.wait(PATIENCE_S)
                try:
                    self._answer()
                except OSError:  # it did not wait so long
                    return
                jetson.answered += 1

            def _answer(self) -> None:
                self.send_response(jetson.status)
                self.send_header("location", "/elsewhere")
                if not jetson.endless:
                    self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")
                while jetson.endless:
                    self.wfile.write(b" " * 65536)

            def log_message(self, *_: Any) -> None:
                """In silence."""

        return Handler

    def hold(self) -> None:
        """From now on it lets who posts wait."""
        self._free.clear()

    def release(self) -> None:
        """It answers again, also those who wait."""
        self._free.set()

    def bodies(self) -> list[Any]:
        return [post.body for post in self.posts]

    def post(self, nth: int = 1, within_s: float = PATIENCE_S) -> Post:
        """Wait for the nth post."""
        wait_for(f"post {nth} to the device; came {self.posts}", lambda: len(self.posts) >= nth, within_s)
        return self.posts[nth - 1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.endless = False
        self.release()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
