"""README.ko.md is README.md in Korean: the same commands, answers, links and sections, in the same order."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.terminals import BLOCK, commands_of

ROOT = Path(__file__).parents[2]
ENGLISH = ROOT / "README.md"
KOREAN = ROOT / "README.ko.md"
LANGUAGES = {ENGLISH.name, KOREAN.name}


def commands(page: Path) -> list[list[str]]:
    """The arguments of each command; comments are translated and do not count."""
    return [shlex.split(line, comments=True) for line in commands_of(page)]


def answers(page: Path) -> list[str]:
    """The lines of the blocks that start with no prompt, and the transcripts."""
    text = page.read_text(encoding="utf-8")
    shown = [line for block in BLOCK.findall(text) for line in block.splitlines() if line.startswith("{")]
    return shown + re.findall(r"```text\n(.*?)```", text, re.DOTALL)


def links(page: Path) -> list[str]:
    targets = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    return [target for target in targets if target not in LANGUAGES]


def inline_code(page: Path) -> list[str]:
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return sorted(re.findall(r"`([^`]+)`", prose))


def heading_levels(page: Path) -> list[int]:
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [len(marks) for marks in re.findall(r"^(#+) ", prose, re.MULTILINE)]


def test_the_commands_are_those_of_the_english_page_in_its_order() -> None:
    assert len(commands(ENGLISH)) > 10
    assert commands(KOREAN) == commands(ENGLISH)


def test_the_output_that_it_shows_is_that_of_the_english_page() -> None:
    assert len(answers(ENGLISH)) == 3
    assert answers(KOREAN) == answers(ENGLISH)


@pytest.mark.parametrize("part", [links, inline_code, heading_levels])
def test_it_has_each_part_of_the_english_page(part: Callable[[Path], list[object]]) -> None:
    assert part(ENGLISH)
    assert part(KOREAN) == part(ENGLISH)


def test_each_page_links_to_the_other_at_its_top() -> None:
    for page, other in ((ENGLISH, KOREAN), (KOREAN, ENGLISH)):
        assert f"]({other.name})" in "".join(page.read_text(encoding="utf-8").splitlines()[:5])


@pytest.mark.parametrize("target", links(ENGLISH))
def test_what_it_links_to_exists(target: str) -> None:
    assert (ROOT / target.partition("#")[0]).exists()
