"""The app as a web page: files of a folder, the same for everybody, with headers that let them load nothing else."""

from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.errors import StartError

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
    folder = (folder or SHIPPED).expanduser()
    if not (folder / "index.html").is_file():
        raise StartError(f"setting bridge.app_dir: there is no index.html in {folder}")
    files = StaticFiles(directory=folder, html=True)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await files(scope, receive, guarded)

    return serve
