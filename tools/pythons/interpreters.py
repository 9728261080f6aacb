"""Which Pythons the project declares, and where this machine has them."""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

_CLASSIFIER = re.compile(r"Programming Language :: Python :: (3\.\d+)")


def declared(pyproject: Path) -> list[str]:
    """The versions of the classifiers, oldest first: `3.11`."""
    lines = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["classifiers"]
    found = [match[1] for match in map(_CLASSIFIER.fullmatch, lines) if match]
    return sorted(found, key=_numbers)


def find(version: str, environ: dict[str, str]) -> Path | None:
    """An interpreter of that version that runs: from PATH, else the newest of pyenv or uv; None if there is none."""
    return next((path for path in _candidates(version, environ) if version_of(path) == version), None)


def version_of(interpreter: Path) -> str | None:
    """`3.11`; None if it does not run, as a shim of pyenv for a version that is not chosen."""
    command = [str(interpreter), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _candidates(version: str, environ: dict[str, str]) -> Iterator[Path]:
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        for name in (f"python{version}", "python3"):
            if found := shutil.which(name, path=folder):
                yield Path(found)
    home = Path(environ.get("HOME", "/nonexistent"))
    pyenv = Path(environ.get("PYENV_ROOT") or home / ".pyenv")
    uv = Path(environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python")
    installed = [*pyenv.glob(f"versions/{version}.*"), *uv.glob(f"cpython-{version}.*")]
    for one in sorted(installed, key=lambda folder: _numbers(folder.name), reverse=True):
        yield one / "bin" / f"python{version}"


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]
