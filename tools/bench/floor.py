"""The least that the kernel asks: floor.c, compiled and run."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from tools.bench.npm import NotHereError
from tools.bench.processes import Cores

SOURCE = Path(__file__).with_name("floor.c")


def floor(apps: int, events: int, size: int, cores: Cores) -> tuple[float, float]:
    """CPU microseconds of one send(2) of that many bytes, and sends per second; raises NotHereError."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise NotHereError("cc is not installed")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        program = Path(folder) / "floor"
        subprocess.run([compiler, "-O2", "-o", str(program), str(SOURCE)], check=True)
        numbers = [apps, events, size, *(-1 if core is None else core for core in (cores.system, cores.load))]
        done = subprocess.run(
            [str(program), *map(str, numbers)], capture_output=True, encoding="utf-8", check=True, timeout=120
        )
    cpu_us, per_s = map(float, done.stdout.split())
    return cpu_us, per_s
