"""Modules that say of themselves that they do no input and output keep their word."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("contract", "infra", "bridge", "broker", "edge_node", "app_sim", "sarvis")
FORBIDDEN = {
    "asyncio",
    "fastapi",
    "starlette",
    "sqlalchemy",
    "httpx2",
    "paho",
    "socket",
    "threading",
    "subprocess",
    "uvicorn",
}
SAYS_SO = re.compile(
    r"no i/o|without i/o|sans i/o|(sends|reads|looks \w+|waits|arms)[\w ]* (nothing|nowhere|no timer)|no input",
    re.IGNORECASE,
)


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def docstring_of(path: Path) -> str:
    return " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split())


def imported(path: Path) -> set[str]:
    """The top-level packages that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


PURE = [path for path in modules() if SAYS_SO.search(docstring_of(path))]


def test_the_rules_are_among_them() -> None:
    named = {path.relative_to(ROOT).as_posix() for path in PURE}
    assert {
        "bridge/sessions/rules/device_session.py",
        "bridge/sessions/rules/liveness.py",
        "bridge/sessions/rules/outbox.py",
        "bridge/wakes/delivery.py",
        "bridge/apps/protocol.py",
        "broker/topic_filters.py",
        "edge_node/session/rules.py",
        "edge_node/wakeword/gate.py",
    } <= named


@pytest.mark.parametrize("path", PURE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_without_io_imports_nothing_that_does_io(path: Path) -> None:
    assert not imported(path) & FORBIDDEN
