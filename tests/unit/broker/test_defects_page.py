"""docs/embedded-broker.md names a test for each defect of aMQTT, and each of these runs on both brokers."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
INTEGRATION = ROOT / "tests" / "integration"
DEFECTS, BOUNDS = "test_broker_defects.py", "test_broker_bounds.py"


def on_both(file: str) -> set[str]:
    """The tests in a file that run on the stock broker and on ours."""
    tree = ast.parse((INTEGRATION / file).read_text())
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and {"both", "both_kinds"} & {each.id for each in node.decorator_list if isinstance(each, ast.Name)}
    }


def named() -> list[tuple[str, str]]:
    """File and name of the test in each row; empty where there is none."""
    page = (ROOT / "docs" / "embedded-broker.md").read_text()
    rows = re.findall(r"^\| (?!defect|---)(.*) \|$", page, re.MULTILINE)
    cells = [row.split(" | ")[-1] for row in rows]
    found = [re.fullmatch(r"`(?:(test_\w+\.py)::)?(test_\w+)`", cell) for cell in cells]
    return [(match[1] or DEFECTS, match[2]) if match else ("", "") for match in found]


def test_every_row_names_a_test_that_runs_on_both_brokers() -> None:
    rows = named()
    assert len(rows) > 20
    assert [row for row in rows if row[0] == "" or row[1] not in on_both(row[0])] == []


def test_every_defect_that_is_tested_has_its_row() -> None:
    assert (on_both(DEFECTS) | on_both(BOUNDS)) - {name for _, name in named()} == set()
