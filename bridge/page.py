"""The app as a web page: files of a folder, the same for everybody, with headers that let them load nothing else."""

from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.page_files import NAME, PageFiles
from contract.errors import StartError
from contract.places import at_home

PATH = "/app"
SHIPPED = Path(__file__).parents[1] / "app_sim" / "web"
"""Files, no module of another room: what the package app_sim brings."""

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # A browser asks each time; what has not changed is not sent again.
    "cache-control": "no-cache",
}


def page(folder: Path | None) -> ASGIApp:
    """Serves that folder, or the page that comes with SARVIS; StartError if there is none."""
    folder = at_home(folder or SHIPPED, "bridge.app_dir")
    if not (folder / "index.html").is_file():
        raise StartError(f"setting bridge.app_dir: there is no index.html in {folder}")
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
    """Answers also which files there are; a page of somebody else may have a file of that name itself."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or path != f"/{NAME}" or scope["method"] not in {"GET", "HEAD"}:
            await files(scope, receive, send)
            return
        try:
            told = await run_in_threadpool(listed.listed)
        except OSError:
            told = None  # a file went while it was read
        await Response(told or b"", 200 if told else 404, media_type="application/json")(scope, receive, send)

    return serve
