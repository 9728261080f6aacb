"""Files that are made from the code as a whole."""

from collections.abc import Callable, Mapping
from pathlib import Path

from contract import app_socket
from tests.documents import asyncapi, new_ledger, openapi, tree

ROOT = Path(__file__).parents[2]

WRITTEN: Mapping[Path, Callable[[], str]] = {
    ROOT / "app_sim" / "web" / "core" / "codes.js": app_socket.javascript,
    asyncapi.PATH: asyncapi.written,
    new_ledger.PATH: new_ledger.written,
    openapi.PATH: openapi.written,
    tree.PAGE: lambda: tree.filled(tree.PAGE.read_text(encoding="utf-8")),
}
