import json
from pathlib import Path
from typing import Any

import pytest

from tools.bench import plots
from tools.bench.plots import Bar, bars, lines


def row(system: str, qos: int | None, **numbers: Any) -> dict[str, Any]:
    return {"system": system, "qos": qos, "spread": {}, **numbers}


ROWS = [
    row("sarvis", 0, cpu=2.0, spread={"cpu": {"min": 1.0, "max": 3.0}}),
    row("sarvis", 1, cpu=4.0),
    row("guide", 1, cpu=None),
    row("floor", None, cpu=1.0),
]


def test_a_bar_reaches_as_far_as_its_rounds() -> None:
    assert bars(ROWS, "cpu", 0) == [Bar("sarvis", 2.0, 1.0, 3.0)]


def test_who_has_no_number_has_no_bar_and_the_floor_has_one() -> None:
    assert bars(ROWS, "cpu", 1) == [Bar("sarvis", 4.0, 4.0, 4.0), Bar("floor", 1.0, 1.0, 1.0)]
    assert bars(ROWS, "storm_per_s") == []


def test_a_line_goes_from_few_apps_to_many_and_leaves_out_what_was_not_measured() -> None:
    growth = [
        {"system": "sarvis", "apps": 1000, "cpu": 3.0},
        {"system": "sarvis", "apps": 100, "cpu": 2.0},
        {"system": "guide", "apps": 300, "cpu": None},
        {"system": "guide", "apps": 100, "cpu": 9.0},
    ]

    assert lines(growth, "cpu") == {"sarvis": [(100, 2.0), (1000, 3.0)], "guide": [(100, 9.0)]}


def test_reports_become_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"cpu_us_per_event": 5.0, "kib_per_connection": 6.0, "connects_per_s": 7.0, "storm_per_s": 8.0}
    rows = [row("sarvis", 0, **numbers), row("sarvis", 1, **numbers), row("floor", None, cpu_us_per_event=1.0)]
    (tmp_path / "report.json").write_text(json.dumps({"rows": rows}))
    (tmp_path / "growth.json").write_text(json.dumps({"growth": [{"system": "sarvis", "apps": 100, **numbers}]}))
    reports = [str(tmp_path / "report.json"), str(tmp_path / "growth.json")]
    monkeypatch.setattr("sys.argv", ["plots", *reports, "--folder", str(tmp_path)])
    plots.main()

    for name in ("performance-systems.png", "performance-growth.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_a_file_of_something_else_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.json").write_text("{}")
    monkeypatch.setattr("sys.argv", ["plots", str(tmp_path / "other.json")])
    with pytest.raises(SystemExit):
        plots.main()

    assert "other.json was not written by scripts/bench --json" in capsys.readouterr().err
