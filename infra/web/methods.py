"""Answers HEAD, OPTIONS and 405 for every path, as HTTP requires.

HEAD is answered where GET is, OPTIONS lists the methods, and a final slash in a path is ignored: not all callers and
health checkers write exactly the documented form.
"""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NO_CONTENT, NOT_FOUND, NOT_ALLOWED = 204, 404, 405
SERVER = "/"
"""The path of the whole server, also as `*`: only OPTIONS is answered."""


def is_about_the_server(scope: Scope) -> bool:
    """Whether a client checks that the server runs at all, as HAProxy does by default."""
    return (scope["method"], scope["path"]) == ("OPTIONS", SERVER)


class Resources:
    """Runs before everything that judges by path or method.

    Args:
        files: requests for files below this path are left unchanged. It ends with a slash.
    """

    def __init__(self, app: ASGIApp, files: str | None = None) -> None:
        self._app = app
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = scope
        if self._files is None or not scope["path"].startswith(self._files):
            path = SERVER if scope["path"] == "*" else scope["path"].rstrip("/") or SERVER
            asked = {**scope, "path": path, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}
        await self._app(asked, receive, _Told(send, scope, is_about_the_server=is_about_the_server(asked)))


class _Told:
    """The application's answer, changed as HTTP requires for the requested method."""

    def __init__(self, send: Send, scope: Scope, *, is_about_the_server: bool) -> None:
        self._send = send
        self._method = scope["method"]
        self._is_about_the_server = is_about_the_server
        self._is_about_all = scope["path"] == "*"
        self._is_empty = self._method == "HEAD"

    async def __call__(self, message: Message) -> None:
        """Send one ASGI message."""
        if message["type"] == "http.response.start":
            message = self._start(message)
        elif message["type"] == "http.response.body" and self._is_empty:
            message = {**message, "body": b""}
        await self._send(message)

    def _start(self, message: Message) -> Message:
        status = message["status"]
        if status != NOT_ALLOWED and not (status == NOT_FOUND and self._is_about_the_server):
            return message
        headers = MutableHeaders(raw=list(message.get("headers", [])))
        headers["allow"] = self._allowed(headers.get("allow", ""))
        if self._method == "OPTIONS":
            status = NO_CONTENT
            self._is_empty = True
            for name in ("content-length", "content-type"):
                del headers[name]
        return {**message, "status": status, "headers": headers.raw}

    def _allowed(self, told: str) -> str:
        methods = {"GET", "POST"} if self._is_about_all else {method.strip() for method in told.split(",")} - {""}
        if "GET" in methods:
            methods.add("HEAD")
        return ", ".join(sorted({*methods, "OPTIONS"}))
