from typing import Any, Self

import pytest

from tools.bench import measuring
from tools.bench.accounts import Row
from tools.bench.apps import Lost
from tools.bench.measuring import Plan

PLAN = Plan(apps=1, events=4, outstanding=1, rounds=1, storm=7, stall_apps=0, stall_s=0.0)


class Load:
    """Apps that only leave."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._told.append("closed")

    def leave(self) -> None:
        self._told.append("left")


class Watch:
    """A system whose rates are known; the app that comes after all of them is refused."""

    pid = 1

    def __init__(self, *per_s: float) -> None:
        self.told: list[str] = []
        self._per_s = list(per_s)

    def load(self, apps: int) -> Load:
        self.told.append(f"{apps} apps")
        return Load(self.told)

    def coming(self, load: Load) -> Row:
        del load
        self.told.append("came")
        if not self._per_s:
            raise Lost("app 5: HTTP/1.1 503")
        return dict.fromkeys(
            ("connects_per_s", "cpu_us_per_connect", "generator_share", "syn_dropped"), self._per_s.pop(0)
        )


@pytest.fixture(autouse=True)
def nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "settle", lambda _pid: None)


def storm(watch: Watch, plan: Plan = PLAN) -> tuple[Row, list[str]]:
    known: Any = watch
    return measuring._storm(known, plan)


def test_a_storm_is_of_apps_that_were_there_before() -> None:
    watch = Watch(100.0, 200.0)
    row, faults = storm(watch)

    assert watch.told == ["7 apps", "came", "left", "came", "closed"]
    assert (row["storm_first_per_s"], row["storm_per_s"], row["storm_cpu_us_per_connect"]) == (100.0, 200.0, 200.0)
    assert faults == []


@pytest.mark.parametrize("before", [(), (100.0,)])
def test_a_refusal_in_a_storm_is_a_fault(before: tuple[float, ...]) -> None:
    assert storm(Watch(*before)) == ({}, ["storm: app 5: HTTP/1.1 503"])


def test_there_need_not_be_a_storm() -> None:
    watch = Watch()

    assert storm(watch, Plan(1, 4, 1, 1, storm=0, stall_apps=0, stall_s=0.0)) == ({}, [])
    assert watch.told == []
