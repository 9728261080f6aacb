"""Serves the app's page, with headers that forbid it to load anything from elsewhere."""

from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.api.web_app_files import NAME, PageFiles
from contract.errors import StartError
from infra.places import at_home
from infra.readable import is_absent, read_bytes

PATH = "/app"
SHIPPED = Path(__file__).parents[2] / "app_sim" / "web"
"""A path and not an import: the files are data of the package app_sim."""

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # Browsers revalidate at each request; unchanged files are not sent again.
    "cache-control": "no-cache",
}


def page(folder: Path | None) -> ASGIApp:
    """Serves the configured folder, or the page of SARVIS; raises StartError if it has no page."""
    folder = at_home(folder or SHIPPED, "bridge.app_dir")
    try:
        if is_absent(folder / "index.html"):
            raise StartError(f"setting bridge.app_dir: there is no index.html in {folder}")
        read_bytes(folder / "index.html", 0)
    except OSError as error:
        raise StartError(f"setting bridge.app_dir: {folder}/index.html cannot be read: {error.strerror}") from None
    files: ASGIApp = StaticFiles(directory=folder, html=True)
    if not (folder / NAME).exists():
        files = _with_list(files, PageFiles(folder))

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await files(scope, receive, guarded)

    return serve


def _with_list(files: ASGIApp, listed: PageFiles) -> ASGIApp:
    """Also answers the list of files; another page may have a file of that name itself."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or path != f"/{NAME}" or scope["method"] not in {"GET", "HEAD"}:
            await files(scope, receive, send)
            return
        try:
            told = await run_in_threadpool(listed.listed)
        except OSError:
            told = None  # a file was deleted while it was read
        await Response(told or b"", 200 if told else 404, media_type="application/json")(scope, receive, send)

    return serve
