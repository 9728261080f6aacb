"""Runs `scripts/test --quick` on each declared Python that this machine has: `scripts/pythons`."""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from tools.pythons.interpreters import declared, find

ROOT = Path(__file__).parents[2]
NOT_FOUND = "not found on this machine"


def run(version: str, interpreter: Path, arguments: list[str]) -> str:
    """The verdict on one Python, which starts with `passed` or `FAILED`; its packages stay in .venv-VERSION."""
    print(f"Python {version}: {interpreter}", flush=True)
    began = time.monotonic()
    environ = os.environ | {"PYTHON": str(interpreter), "VENV": f".venv-{version}"}
    done = subprocess.run([ROOT / "scripts" / "test", "--quick", *arguments], env=environ, check=False)
    verdict = "FAILED" if done.returncode else "passed"
    return f"{verdict} in {time.monotonic() - began:.0f} s ({interpreter})"


def main() -> int:
    """0 if no Python failed."""
    parser = argparse.ArgumentParser(
        prog="scripts/pythons",
        description="Runs scripts/test --quick on each Python of the classifiers in pyproject.toml that this machine "
        "has (on PATH, of pyenv or of uv), each in a .venv-VERSION of its own. The last lines name those that were "
        "run and those that were not found. Exit 1 if one failed.",
    )
    parser.add_argument("--only", action="append", metavar="VERSION", help="of the declared versions; repeatable")
    parser.add_argument("--except", action="append", metavar="VERSION", default=[], dest="left_out", help="repeatable")
    parser.add_argument("arguments", nargs="*", help="for pytest, after --")
    wish = parser.parse_args()
    known = declared(ROOT / "pyproject.toml")
    if unknown := {*(wish.only or []), *wish.left_out} - {*known}:
        parser.error(f"{', '.join(sorted(unknown))}: declared are {', '.join(known)}")
    verdicts = dict.fromkeys(known, "left out")
    for version in known:
        if version in (wish.only or known) and version not in wish.left_out:
            interpreter = find(version, dict(os.environ))
            verdicts[version] = run(version, interpreter, wish.arguments) if interpreter else NOT_FOUND
    for version, verdict in verdicts.items():
        print(f"Python {version}: {verdict}")
    return 1 if any(verdict.startswith("FAILED") for verdict in verdicts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
