"""What `sarvis[edge]` needs on another machine: its markers are judged for that machine, not for this one."""

import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

OLDEST_GLIBC = 17
"""2.17 is that of manylinux2014."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A Linux on which wheels shall run; `glibc` is the minor version, 35 for 2.35."""

    python: str
    glibc: int
    arch: str = "aarch64"

    def markers(self, extra: str = "") -> dict[str, str]:
        """Its values of the variables of PEP 508."""
        return {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "platform_python_implementation": "CPython",
            "os_name": "posix",
            "sys_platform": "linux",
            "platform_system": "Linux",
            "platform_machine": self.arch,
            "platform_release": "",
            "platform_version": "",
            "extra": extra,
        }

    def platforms(self) -> list[str]:
        """Its tags, the best first."""
        newest_first = range(self.glibc, OLDEST_GLIBC - 1, -1)
        return [*(f"manylinux_2_{minor}_{self.arch}" for minor in newest_first), f"manylinux2014_{self.arch}"]


@dataclass
class Closure:
    """All that is needed, found wave by wave.

    Attributes:
        pins: the versions that are tested together, by canonical name.
        wheels: file names, by canonical name; None where there is no wheel.
    """

    machine: Machine
    pins: dict[str, str]
    wheels: dict[str, str | None] = field(default_factory=dict)
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def follow(self, roots: Iterable[Requirement], fetch: "Fetch") -> None:
        """Fetch the roots, then what they need, until there is nothing new; KeyError names what has no version."""
        wave = list(roots)
        needs: dict[str, list[Requirement]] = {}
        while wave:
            asked = {canonicalize_name(one.name): one for one in wave}
            new: dict[str, str] = {name: self.pins[name] for name in asked if name not in self.wheels}
            for name, (wheel, required) in fetch(new).items():
                self.wheels[name], needs[name] = wheel, required
            wave = [need for one in wave for need in self._needed(one, needs[canonicalize_name(one.name)])]

    def _needed(self, by: Requirement, requirements: Iterable[Requirement]) -> list[Requirement]:
        name = canonicalize_name(by.name)
        fresh = {extra for extra in {"", *by.extras} if (name, extra) not in self._seen}
        self._seen |= {(name, extra) for extra in fresh}
        return [one for one in requirements if any(applies(one, self.machine, extra) for extra in fresh)]


Fetch = Callable[[dict[str, str]], dict[str, tuple[str | None, list[Requirement]]]]
"""Of names with versions: each one's wheel, None if there is none, and what that says it needs."""


def applies(requirement: Requirement, machine: Machine, extra: str = "") -> bool:
    """Whether it is meant for this machine, with this extra of the package that requires it."""
    return requirement.marker is None or requirement.marker.evaluate(machine.markers(extra))


def pins(constraints: str, machine: Machine) -> dict[str, str]:
    """The versions of a file of constraints that hold on a machine."""
    lines = [line for line in constraints.splitlines() if line and not line.startswith("#")]
    found = [one for one in map(Requirement, lines) if applies(one, machine)]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in found}


def roots(pyproject: Path, machine: Machine, extra: str) -> list[Requirement]:
    """What the project itself asks for, with one of its extras."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"][extra]]
    return [one for one in map(Requirement, lines) if applies(one, machine)]


def oldest_glibc(wheel: str) -> str:
    """From which glibc on a wheel runs: `2.28`, or `any` if it is pure Python."""
    platforms = {tag.platform for tag in parse_wheel_filename(wheel)[3]}
    if "any" in platforms:
        return "any"
    minors = {OLDEST_GLIBC for one in platforms if one.startswith("manylinux2014_")}
    minors |= {int(one.split("_")[2]) for one in platforms if one.startswith("manylinux_2_")}
    return f"2.{min(minors)}" if minors else "?"
