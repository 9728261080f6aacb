"""Asks the package index of this machine for the wheels of another: `scripts/wheels`."""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from tools.pythons.interpreters import declared
from tools.wheels.closure import Closure, Machine, oldest_glibc, pins, roots

ROOT = Path(__file__).parents[2]


class Index:
    """pip with this machine's settings, which downloads for another machine; no marker is left to it."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self._machine = machine
        self._folder = folder

    def fetch(self, versions: dict[str, str]) -> dict[str, tuple[str | None, list[Requirement]]]:
        """See `Fetch`. All at once; one by one if that fails, to learn which has none."""
        if not self._download(versions):
            for name, version in versions.items():
                self._download({name: version}, told=True)
        return {name: self._found(name) for name in versions}

    def _download(self, versions: dict[str, str], *, told: bool = False) -> bool:
        tag = "cp" + self._machine.python.replace(".", "")
        options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check"]
        options += ["--python-version", self._machine.python, "--implementation", "cp"]
        options += [word for abi in (tag, "abi3", "none") for word in ("--abi", abi)]
        options += [word for platform in self._machine.platforms() for word in ("--platform", platform)]
        wanted = [f"{name}=={version}" for name, version in versions.items()]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(self._folder), *wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if told and done.returncode:
            print("\n".join(done.stderr.strip().splitlines()[-1:]), file=sys.stderr)
        return done.returncode == 0

    def _found(self, name: str) -> tuple[str | None, list[Requirement]]:
        for path in self._folder.glob("*.whl"):
            if parse_wheel_filename(path.name)[0] == canonicalize_name(name):
                return path.name, _requires(path)
        return None, []


def _requires(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    return [Requirement(line) for line in metadata.get_all("Requires-Dist") or []]


def look(machine: Machine, extra: str) -> list[str]:
    """Print which package comes as which wheel; those that come as none."""
    closure = Closure(machine, pins((ROOT / "constraints.txt").read_text(encoding="utf-8"), machine))
    with tempfile.TemporaryDirectory() as folder:
        closure.follow(roots(ROOT / "pyproject.toml", machine, extra), Index(machine, Path(folder)).fetch)
    print(f"\nsarvis[{extra}] on {machine.arch}, Python {machine.python}, glibc 2.{machine.glibc}\n")
    for name, wheel in sorted(closure.wheels.items()):
        print(f"{name:24}{oldest_glibc(wheel) if wheel else '-':6}{wheel or 'NO WHEEL'}")
    return sorted(name for name, wheel in closure.wheels.items() if wheel is None)


def versions() -> list[str]:
    """Those that pyproject.toml declares, and the one after them, for which wheels may come later."""
    known = declared(ROOT / "pyproject.toml")
    major, minor = known[-1].split(".")
    return [*known, f"{major}.{int(minor) + 1}"]


def main() -> int:
    """0 if all have one."""
    parser = argparse.ArgumentParser(
        prog="scripts/wheels",
        description="Downloads, by pip with its settings on this machine, the wheels that sarvis[edge] needs on "
        "another, at the versions of constraints.txt, and lists them with the glibc that each needs. Exit 1 if a "
        "package has none.",
    )
    parser.add_argument(
        "python",
        nargs="*",
        default=versions(),
        help="versions of Python (those that pyproject.toml declares, and the next)",
    )
    parser.add_argument("--glibc", default="2.35", help="of the other machine (2.35, which Ubuntu 22.04 has)")
    parser.add_argument("--arch", default="aarch64", help="of the other machine (aarch64)")
    parser.add_argument("--extra", default="edge", help="of sarvis (edge)")
    wish = parser.parse_args()
    minor = int(wish.glibc.removeprefix("2."))
    missing = {one: look(Machine(one, minor, wish.arch), wish.extra) for one in wish.python}
    print()
    for python, names in missing.items():
        print(f"Python {python}: {'no wheel of ' + ', '.join(names) if names else 'all have a wheel'}")
    return 1 if any(missing.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
