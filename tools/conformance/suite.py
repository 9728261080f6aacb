"""Mosquitto's source package, from Debian by apt, and its test scripts: how they are had, and how one is run."""

import os
import re
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_node.training.archives import unpack

CACHE = Path("~/.cache/sarvis/conformance").expanduser()
PATIENCE_S = 60.0


class NotHereError(Exception):
    """The suite cannot be had on this machine."""


def archive() -> Path:
    """The source archive that belongs to this Debian's Mosquitto, fetched once; raises NotHereError."""
    apt = shutil.which("apt-get")
    if apt is None:
        raise NotHereError("there is no apt-get, which names the folder of Mosquitto's source package")
    line = [apt, "download", "--print-uris", "mosquitto"]
    asked = subprocess.run(line, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    found = re.search(r"'([^']+)/mosquitto_([\d.]+)-[^']*'", asked.stdout)
    if found is None:
        raise NotHereError(f"apt-get names no package mosquitto (try apt-get update): {asked.stderr.strip()[-300:]}")
    name = f"mosquitto_{found[2]}.orig.tar.gz"
    kept = CACHE / name
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        beside = kept.with_suffix(f".{os.getpid()}")
        try:
            with urllib.request.urlopen(f"{found[1]}/{name}", timeout=PATIENCE_S) as source, beside.open("wb") as copy:  # noqa: S310  # as apt says
                shutil.copyfileobj(source, copy)
        except (OSError, ValueError) as error:
            beside.unlink(missing_ok=True)
            raise NotHereError(f"{name} could not be fetched from where apt has its packages: {error}") from error
        beside.replace(kept)
    return kept


@contextmanager
def scripts_folder() -> Iterator[Path]:
    """The folder of the broker's test scripts, unpacked anew, with Debian's Mosquitto where they start theirs."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as unpacked:
        unpack(archive(), Path(unpacked))
        (root,) = Path(unpacked).iterdir()
        built = root / "src" / "mosquitto"
        if (real := shutil.which("mosquitto")) is not None:
            built.symlink_to(real)
        scripts = root / "test" / "broker"
        # Mosquitto, when root starts it, is another user by the time it writes its file of sessions.
        Path(unpacked).chmod(0o755)
        scripts.chmod(0o777)
        yield scripts
