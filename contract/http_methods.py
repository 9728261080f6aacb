"""What HTTP says of every resource, for an application that knows only the GET and POST of its paths.

HEAD is answered where GET is, OPTIONS says what may be asked, and a slash at the end of a path changes nothing: callers
and health checkers do not all write what the documentation has.
"""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NO_CONTENT, NOT_FOUND, NOT_ALLOWED = 204, 404, 405
SERVER = "/"
"""The path that stands for the whole server, also as `*`: OPTIONS is answered, nothing else is there."""


def is_about_the_server(scope: Scope) -> bool:
    """Does somebody ask whether the server is there at all, as HAProxy does by itself?"""
    return (scope["method"], scope["path"]) == ("OPTIONS", SERVER)


class Resources:
    """Stands before whatever judges by path or method.

    Args:
        files: below this path there are files: what is asked for them stays as it is. It ends with a slash.
    """

    def __init__(self, app: ASGIApp, files: str | None = None) -> None:
        self._app = app
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = scope
        if self._files is None or not scope["path"].startswith(self._files):
            path = SERVER if scope["path"] == "*" else scope["path"].rstrip("/") or SERVER
            asked = {**scope, "path": path, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}
        await self._app(asked, receive, _Told(send, scope, is_about_the_server=is_about_the_server(asked)))


class _Told:
    """What the application sends, as HTTP has it for the method that was asked."""

    def __init__(self, send: Send, scope: Scope, *, is_about_the_server: bool) -> None:
        self._send = send
        self._method = scope["method"]
        self._is_about_the_server = is_about_the_server
        self._is_about_all = scope["path"] == "*"
        self._is_empty = self._method == "HEAD"

    async def __call__(self, message: Message) -> None:
        """ASGI's send."""
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
