"""What `scripts/wheels` asks for, without an index."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools.wheels.__main__ import versions
from tools.wheels.closure import Closure, Machine, oldest_glibc, pins, roots

ROOT = Path(__file__).parents[3]
JETSON = Machine("3.11", 35)


class Shelf:
    """An index of few packages; what was asked of it is kept."""

    def __init__(self, **packages: list[str]) -> None:
        self._packages = packages
        self.asked: list[str] = []

    def fetch(self, versions: dict[str, str]) -> dict[str, tuple[str | None, list[Requirement]]]:
        self.asked += versions
        return {
            name: (f"{name}-{version}-py3-none-any.whl", [Requirement(line) for line in self._packages[name]])
            if name in self._packages
            else (None, [])
            for name, version in versions.items()
        }


def closure(shelf: Shelf, *wanted: str, machine: Machine = JETSON) -> dict[str, str | None]:
    it = Closure(machine, dict.fromkeys("abcdef", "1"))
    it.follow(map(Requirement, wanted), shelf.fetch)
    return it.wheels


def test_needs_of_needs_are_found_each_once_also_in_a_circle() -> None:
    shelf = Shelf(a=["b", "c"], b=["c"], c=["a"])
    assert set(closure(shelf, "a")) == {"a", "b", "c"}
    assert sorted(shelf.asked) == ["a", "b", "c"]


def test_markers_are_judged_for_the_other_machine() -> None:
    lines = ["b; platform_machine == 'aarch64'", "c; platform_machine == 'x86_64'", "d; python_version >= '3.12'"]
    shelf = Shelf(a=lines, b=[], d=[])
    assert set(closure(shelf, "a")) == {"a", "b"}
    assert set(closure(shelf, "a", machine=Machine("3.12", 39, "x86_64"))) == {"a", "c", "d"}


def test_an_extra_counts_only_where_it_is_asked_for_also_later() -> None:
    shelf = Shelf(a=["b; extra == 'more'"], b=[], c=["a[more]"])
    assert set(closure(shelf, "a")) == {"a"}
    assert set(closure(shelf, "a", "c")) == {"a", "b", "c"}


def test_what_has_no_wheel_is_named_and_the_rest_is_found_all_the_same() -> None:
    assert closure(Shelf(a=["e", "b"], b=[]), "a")["e"] is None


def test_wheels_are_looked_for_on_each_declared_python_and_the_next() -> None:
    assert versions() == ["3.11", "3.12", "3.13", "3.14"]


def test_every_dependency_of_the_edge_has_a_version_on_each_python() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for python in versions():
        machine = Machine(python, 35)
        found = roots(ROOT / "pyproject.toml", machine, "edge")
        assert {"onnxruntime", "fastapi"} <= {one.name for one in found}
        assert {one.name for one in found} <= set(pins(text, machine))
    assert pins(text, Machine("3.11", 35))["numpy"] != pins(text, Machine("3.12", 35))["numpy"]


@pytest.mark.parametrize(
    ("wheel", "glibc"),
    [
        ("a-1-py3-none-any.whl", "any"),
        ("a-1-cp311-cp311-manylinux2014_aarch64.manylinux_2_28_aarch64.whl", "2.17"),
        ("a-1-cp39-abi3-manylinux_2_34_aarch64.whl", "2.34"),
    ],
)
def test_the_glibc_of_a_wheel_is_the_oldest_that_it_names(wheel: str, glibc: str) -> None:
    assert oldest_glibc(wheel) == glibc


def test_no_wheel_for_a_newer_glibc_is_asked_for() -> None:
    assert Machine("3.11", 28).platforms()[0] == "manylinux_2_28_aarch64"
    assert "manylinux_2_34_aarch64" not in Machine("3.11", 28).platforms()
