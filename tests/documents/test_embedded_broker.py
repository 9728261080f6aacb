"""The page of the embedded broker names its tests: each is there, and runs on aMQTT as it is and on ours."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.conformance.known import DEVIATIONS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "embedded-broker.md"
FOLDER = "tests/integration"


def table(heading: str) -> list[list[str]]:
    """The rows below a table's first line."""
    _, _, below = PAGE.read_text(encoding="utf-8").partition(f"| {heading} |")
    rows = []
    for line in below.splitlines()[2:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_each_defect_names_a_test_that_runs_on_aMQTT_and_on_ours() -> None:  # noqa: N802  # its name
    rows = table("defect")
    named = [re.fullmatch(r"`(test_\w+\.py)::(test_\w+)`", row[3]) for row in rows]
    assert len(rows) >= 26
    assert [row[0] for row, test in zip(rows, named, strict=True) if test is None] == []
    files = sorted({f"{FOLDER}/{test[1]}" for test in named if test is not None})
    line = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
    kinds: dict[str, set[str]] = {}
    for name, arguments in re.findall(r"(\w+\.py::\w+)\[(.*)\]", done.stdout):
        kinds.setdefault(name, set()).update(arguments.split("-"))
    assert {test[0].strip("`") for test in named if test is not None} - kinds.keys() == set()
    for test in named:
        assert test is not None
        assert {"stock", "ours"} <= kinds[test[0].strip("`")], test[0]


def test_the_deviations_are_those_that_are_known() -> None:
    assert {row[0].strip("`") for row in table("script")} == set(DEVIATIONS)
