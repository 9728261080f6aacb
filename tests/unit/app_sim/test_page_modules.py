"""How the files of the page depend on each other: no circle, and nothing is exported that no other file imports."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

WEB = Path(__file__).parents[3] / "app_sim" / "web"
PAGE = Path(__file__).parent / "page"
NAMES = re.compile(r'(?:import|export) (?P<what>\{[^}]*\}|\* as \w+) from "(?P<file>\.{1,2}/[^"]+)";')
EXPORTS = re.compile(r"^export (?:async )?(?:const|let|function|class) (\w+)", re.MULTILINE)


def modules() -> dict[Path, str]:
    return {file: file.read_text(encoding="utf-8") for file in WEB.rglob("*.js")}


def imports(file: Path, text: str) -> dict[Path, set[str]]:
    """The names that a file takes from each other file, or those it uses of a whole one."""
    taken: dict[Path, set[str]] = {}
    for match in NAMES.finditer(text):
        names = re.findall(r"\w+", match["what"].removeprefix("* as "))
        if match["what"].startswith("*"):
            names = re.findall(rf"\b{names[0]}\.(\w+)", text)
        taken.setdefault((file.parent / match["file"]).resolve(), set()).update(names)
    return taken


def test_no_file_of_the_page_imports_itself_over_others() -> None:
    graph = {file: imports(file, text) for file, text in modules().items()}
    assert list(graph[WEB / "app.js"]), "app.js imports the others"
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)


def test_each_name_that_a_file_exports_is_imported_by_another() -> None:
    files = modules() | {file: file.read_text(encoding="utf-8") for file in PAGE.glob("*.mjs")}
    used = {
        (there, name) for file, text in files.items() for there, names in imports(file, text).items() for name in names
    }
    exported = {(file, name) for file, text in modules().items() for name in EXPORTS.findall(text)}
    assert sorted(f"{file.name}: {name}" for file, name in exported - used) == []
