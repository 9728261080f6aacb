"""Which words the check of idioms sees, and that its ceilings only go down."""

from pathlib import Path

import pytest

from tests.documents.idioms import TABLE, Idiom, counts, lowered, problems, prose, read_table

MURKY = Idiom("by and by", "later", 1)


def house(root: Path, page: str = "", code: str = "") -> Path:
    """A project of one page and one module."""
    for folder in ("docs", "room", ".venv"):
        (root / folder).mkdir()
    (root / "docs" / "page.md").write_text(page)
    (root / "room" / "module.py").write_text(code)
    (root / ".venv" / "library.py").write_text("# by and by\n" * 9)
    return root


def found(root: Path) -> list[str]:
    return list(problems(root, [MURKY], counts(root, [MURKY])))


@pytest.mark.parametrize("page", ["It comes by and by.", "By and by it comes.", "It comes by\nand by."])
def test_a_page_may_not_have_an_idiom(tmp_path: Path, page: str) -> None:
    [line] = found(house(tmp_path, page=f"# Title\n\n{page}\n"))
    assert line.startswith("docs/page.md:3: ")
    assert MURKY.instead in line


@pytest.mark.parametrize(
    "page", ["```console\n$ wait  # by and by\n```", "\n\n    wait  # by and by\n\n", "standby and by"]
)
def test_commands_and_other_words_may_have_it(tmp_path: Path, page: str) -> None:
    assert found(house(tmp_path, page=f"# Title\n\n{page}\n")) == []


def test_a_line_after_a_block_keeps_its_number() -> None:
    assert MURKY.lines(prose("```text\nby and by\n```\nby and by\n")) == [4]


def test_code_may_have_as_many_as_its_ceiling(tmp_path: Path) -> None:
    assert found(house(tmp_path, code="# by and by\n")) == []


@pytest.mark.parametrize("second", ["# by and by", "# by\n# and by", "# by and\n    # by"])
def test_code_may_not_have_more(tmp_path: Path, second: str) -> None:
    [line] = found(house(tmp_path, code=f"# by and by\n{second}\n"))
    assert "2 times, 1 are allowed" in line


@pytest.mark.parametrize(("count", "ceiling"), [(0, 0), (1, 1), (5, 1)])
def test_a_ceiling_goes_down_and_never_up(count: int, ceiling: int) -> None:
    table = '# Why.\n["by and by"]\ninstead = "later"\nceiling = 1\n'
    assert lowered(table, {MURKY: count}) == table.replace("ceiling = 1", f"ceiling = {ceiling}")


def test_the_table_can_be_lowered_as_it_stands() -> None:
    text = TABLE.read_text(encoding="utf-8")
    idioms = read_table(TABLE)
    assert lowered(text, {idiom: idiom.ceiling for idiom in idioms}) == text
    assert "ceiling = 0" in lowered(text, dict.fromkeys(idioms, 0))
