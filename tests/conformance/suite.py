"""Mosquitto's own tests of a broker, from Debian's source package: fetched when asked for, never copied in here."""

import re
import shutil
import subprocess
import tarfile
import urllib.request
from pathlib import Path

FOLDER = Path("test/broker")


class NotHereError(Exception):
    """The suite cannot be had; says why."""


def fetched(cache: Path) -> tuple[str, Path]:
    """Version and folder of the tests that belong to the mosquitto package that apt would install."""
    address, version = _source()
    place = cache / f"mosquitto-{version}"
    if not place.exists():
        cache.mkdir(parents=True, exist_ok=True)
        archive = cache / f"mosquitto-{version}.tar.gz"
        try:
            with urllib.request.urlopen(address, timeout=60) as answer, archive.open("wb") as file:  # noqa: S310
                shutil.copyfileobj(answer, file)
        except OSError as error:
            raise NotHereError(f"the source package cannot be fetched: {error}") from error
        with tarfile.open(archive) as tar:
            tar.extractall(cache, filter="data")
    return version, place / FOLDER


def scripts(folder: Path) -> list[Path]:
    """The tests, in their order."""
    return sorted(folder.glob("[0-9][0-9]-*.py"))


def _source() -> tuple[str, str]:
    try:
        told = subprocess.run(
            ["apt-get", "download", "--print-uris", "mosquitto"], capture_output=True, encoding="utf-8", check=False
        )
    except FileNotFoundError:
        raise NotHereError("the suite comes from Debian's source package, and there is no apt-get") from None
    found = re.search(r"'(\S+)/mosquitto_(?:\d+%3a)?([^_'-]+)[^/']*'", told.stdout)
    if found is None:
        raise NotHereError(f"apt-get knows no mosquitto; try apt-get update: {told.stderr.strip()}")
    return f"{found[1]}/mosquitto_{found[2]}.orig.tar.gz", found[2]
