"""Unit tests do not sleep: they move a clock, or wait for what happens."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {"time", "asyncio"}
SLEEPS = {"sleep", "pause"}
A_MOMENT_S = 0.05


def slept(source: str) -> list[int]:
    """The lines that sleep for longer than a moment, or for a time that is not written there."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [call.lineno for call in calls if _sleeps(call) and not _is_short(call.args)]


def _sleeps(call: ast.Call) -> bool:
    called = call.func
    if isinstance(called, ast.Attribute):
        return called.attr in SLEEPS and isinstance(called.value, ast.Name) and called.value.id in MODULES
    # A function of the test's own may have that name, and takes more than a time.
    return isinstance(called, ast.Name) and called.id in SLEEPS and len(call.args) == 1


def _is_short(times: list[ast.expr]) -> bool:
    first = times[0] if times else None
    return isinstance(first, ast.Constant) and isinstance(first.value, int | float) and first.value <= A_MOMENT_S


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("time.sleep(1)\nawait_it = asyncio.sleep(0.2)", [1, 2]),
        ("sleep(seconds)\npause(3)", [1, 2]),
        (
            "sleep('first', 3)\nasyncio.sleep(0)\ntime.sleep(0.05)\nclock.sleep(3)\n'time.sleep(60)'",
            [],
        ),
    ],
)
def test_a_sleep_is_found(source: str, lines: list[int]) -> None:
    assert slept(source) == lines


def test_no_unit_test_sleeps() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in ("unit", "model", "documents")
        for path in sorted((ROOT / "tests" / folder).rglob("*.py"))
        for line in slept(path.read_text(encoding="utf-8"))
    ]
    assert found == [], (
        "move the clock (ManualClock, loop_time_passes), or wait for what happens (wait_for, wait_until)"
    )
