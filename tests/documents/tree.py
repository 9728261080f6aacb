"""The tree of docs/architecture.md, made from the files and the first sentence of each."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("contract", "infra", "bridge", "broker", "edge_node", "app_sim", "sarvis")
CLOSED = {"bridge/migrations", "edge_node/training"}
"""Folders of which the tree shows one line."""

_PART = re.compile(r"(<!-- made from the code: tree -->\n).*?(<!-- end -->)", re.DOTALL)
_SENTENCE = re.compile(r"(.+?[.!?])(?:\s|$)", re.DOTALL)


def filled(text: str) -> str:
    """The page with its tree made anew."""
    return _PART.sub(lambda part: f"{part[1]}```text\n{tree()}\n```\n{part[2]}", text)


def tree() -> str:
    """A line for each room and each file: what it is for."""
    return "\n\n".join("\n".join([*_lines(ROOT / package, 0), *_page(ROOT / package)]) for package in PACKAGES)


def _page(package: Path) -> list[str]:
    """The JavaScript of a package's `web/`, by the first line of each file."""
    web = package / "web"
    if not (web / "index.html").exists():
        return []
    lines = [_line("web/", 1, "The page that the bridge serves.")]
    for depth, folder in ((2, web), (3, web / "core")):
        if depth > 2:
            lines.append(_line(f"{folder.name}/", depth - 1, "The page's decisions: no DOM, no network, no storage."))
        for path in sorted(folder.glob("*.js")):
            first = path.read_text(encoding="utf-8").partition("\n")[0]
            lines.append(_line(path.name, depth, first.removeprefix("// ")))
    return lines


def _lines(folder: Path, depth: int) -> list[str]:
    name = folder.relative_to(ROOT).as_posix()
    lines = [_line(f"{folder.name}/", depth, _told(folder / "__init__.py"))]
    if name in CLOSED:
        return lines
    files = [path for path in sorted(folder.glob("*.py")) if not path.name.startswith("__")]
    lines += [_line(path.name, depth + 1, _told(path)) for path in files]
    for below in sorted(path for path in folder.iterdir() if (path / "__init__.py").exists()):
        lines += _lines(below, depth + 1)
    return lines


def _line(name: str, depth: int, told: str) -> str:
    return f"{'  ' * depth}{name}".ljust(30) + f"  {told}"


def _told(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = _SENTENCE.match(text)
    return " ".join((first[1] if first else text).split())
