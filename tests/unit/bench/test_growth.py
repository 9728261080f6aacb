import json
from pathlib import Path
from typing import Any

import pytest

from tools.bench import growth
from tools.bench.apps import Lost
from tools.bench.growth import Plan, run
from tools.bench.npm import NotHereError
from tools.bench.processes import Cores

PLAN = Plan((10, 2_000), events=4, outstanding=1, living_from=10_000, living_s=1.0, users=5)
ROW = {
    "cpu_us_per_event": 20.0, "load_share": 0.9, "connects_generator_share": 0.95, "connects_syn_dropped": 3.0,
    "sent": 5, "received": 5, "faults": [],
}  # fmt: skip


@pytest.fixture(autouse=True)
def sweep_that_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "sweep_us", lambda users: users / 10)
    monkeypatch.setattr(growth, "too_many", lambda _: None)


def grown(file: Path) -> tuple[int, dict[str, Any]]:
    return run(PLAN, Cores(None, None), file), json.loads(file.read_text())


def test_what_a_reader_must_know_of_a_step_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(growth, "_step", lambda *_: dict(ROW))
    code, report = grown(tmp_path / "growth.json")

    # The documented server is not asked for so many.
    assert [(row["system"], row["apps"]) for row in report["growth"]] == [
        ("sarvis", 10),
        ("sarvis", 2000),
        ("guide", 10),
    ]
    assert (code, report["sweep"]) == (0, {"users": 5, "us": 0.5})
    said = capsys.readouterr().out
    for line in (
        "a look for due deadlines with 5 users: 0.50 µs",
        "sarvis with 2,000 apps: generator bound, the load was busy 90%: it may serve more per second",
        "sarvis with 10 apps: the load was busy 95%: more may come in per second",
        "guide with 10 apps: 3 SYNs found no place and came again a second later",
        "sent 15, received 15",
    ):
        assert f"\n{line}\n" in said


@pytest.mark.parametrize("error", [Lost("app 1: the server has hung up"), AssertionError("waited in vain")])
def test_a_step_that_breaks_off_is_a_fault_of_that_step(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(*_: object) -> None:
        raise error

    monkeypatch.setattr(growth, "watching", breaking)
    code, report = grown(tmp_path / "growth.json")

    assert code == 1
    assert [row["faults"] for row in report["growth"]] == [[f"ended early: {error}"]] * 3


def test_what_is_not_there_is_left_out_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> dict[str, Any]:
        raise NotHereError("mosquitto is not installed")

    monkeypatch.setattr(growth, "_step", missing)
    _, report = grown(tmp_path / "growth.json")

    assert report["growth"] == []
    assert report["left_out"]["sarvis with 2,000 apps"] == "mosquitto is not installed"
