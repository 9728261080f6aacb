"""Refuses phrases that readers stumble over: `python -m tests.documents.idioms`, a part of scripts/check."""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_suffix(".toml")
PAGES = ("README.md", "CONTRIBUTING.md", "docs/*.md")
CODE = {".py", ".js", ".mjs", ".html"}
_BLOCK = re.compile(r"^```.*?^```|(?<=\n\n) {4}\S.*?(?=\n\n|\Z)", re.DOTALL | re.MULTILINE)
"""Commands and their output: they say what programs say."""


@dataclass(frozen=True)
class Idiom:
    """A phrase, what to write instead, and how many the code may still have."""

    phrase: str
    instead: str
    ceiling: int

    def lines(self, text: str) -> list[int]:
        """The line of each occurrence, also of one that is broken between two lines."""
        words = r"\s+(?:(?:#|//|\*)\s*)?".join(re.escape(word) for word in self.phrase.split())
        return [text.count("\n", 0, found.start()) + 1 for found in re.finditer(rf"(?i)\b{words}\b", text)]


def read_table(path: Path) -> list[Idiom]:
    """The idioms of a table such as idioms.toml."""
    rows = tomllib.loads(path.read_text(encoding="utf-8"))
    return [Idiom(phrase, row["instead"], row["ceiling"]) for phrase, row in rows.items()]


def prose(page: str) -> str:
    """A page without its blocks of code; each line keeps its number."""
    return _BLOCK.sub(lambda block: "\n" * block[0].count("\n"), page)


def pages(root: Path) -> Iterator[Path]:
    """What people read."""
    return (path for pattern in PAGES for path in sorted(root.glob(pattern)))


def code(root: Path) -> Iterator[Path]:
    """Python, JavaScript and HTML below the folders of the root, hidden folders left out."""
    for folder in root.iterdir():
        if folder.is_dir() and not folder.name.startswith("."):
            yield from (path for path in folder.rglob("*") if path.suffix in CODE)


def counts(root: Path, idioms: Iterable[Idiom]) -> dict[Idiom, int]:
    """How many of each the code has."""
    text = "\n\f\n".join(path.read_text(encoding="utf-8") for path in code(root))
    return {idiom: len(idiom.lines(text)) for idiom in idioms}


def problems(root: Path, idioms: Iterable[Idiom], found: Mapping[Idiom, int]) -> Iterator[str]:
    """A line for each occurrence in a page, and for each ceiling that the code exceeds."""
    for path in pages(root):
        text = prose(path.read_text(encoding="utf-8"))
        for idiom in idioms:
            for line in idiom.lines(text):
                yield f'{path.relative_to(root)}:{line}: "{idiom.phrase}"; write instead: {idiom.instead}'
    for idiom, count in found.items():
        if count > idiom.ceiling:
            allowed = f"{idiom.ceiling} are allowed; write instead: {idiom.instead}"
            yield f'the code has "{idiom.phrase}" {count} times, {allowed}'


def lowered(table: str, found: Mapping[Idiom, int]) -> str:
    """The table with the ceilings of today; none is raised."""
    lines = table.splitlines(keepends=True)
    phrase = ""
    by_phrase = {idiom.phrase: min(count, idiom.ceiling) for idiom, count in found.items()}
    for at, line in enumerate(lines):
        if line.startswith("["):
            phrase = line.strip().strip("[]").strip('"')
        elif line.startswith("ceiling"):
            lines[at] = f"ceiling = {by_phrase[phrase]}\n"
    return "".join(lines)


def main(arguments: list[str]) -> int:
    """0: fine; 1: there are problems. `--fix` lowers ceilings."""
    idioms = read_table(TABLE)
    found = counts(ROOT, idioms)
    if "--fix" in arguments:
        TABLE.write_text(lowered(TABLE.read_text(encoding="utf-8"), found), encoding="utf-8")
    seen = list(problems(ROOT, idioms, found))
    for problem in seen:
        print(problem, file=sys.stderr)
    return 1 if seen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
