"""Rewrites the absolute paths in a broker's folder after it was moved."""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

from broker.provisioning import description, kit, mosquitto, nats, written
from broker.provisioning.plan import CERTS, PID_FILE, check_lines
from contract.errors import SettingsError


def named_by(folder: Path) -> Path | None:
    """The folder that the configuration in a folder names; None without one."""
    for path, find in _configs(folder):
        if path.is_file():
            found = find(path.read_bytes().decode(errors="replace"))
            if path.name == kit.SETTINGS and not _has_own_certificates(folder):
                continue
            if found is not None and found != found.parent:
                return found
    return None


def is_elsewhere(folder: Path) -> bool:
    """Whether the configuration names another folder than its own."""
    named = named_by(folder)
    return named is not None and named.resolve() != folder.resolve()


def problem(folder: Path) -> str | None:
    """What is wrong with a moved or copied folder, and what to do; None if nothing is."""
    if not is_elsewhere(folder):
        return None
    return (
        f"the broker's configuration in {folder} names files in {named_by(folder)}; if the folder was moved or copied, "
        f"type: sarvis broker relocate {folder}"
    )


def relocate(folder: Path) -> list[Path]:
    """Change the configuration to name its own folder; returns the changed files. Raises SettingsError."""
    folder = folder.absolute()
    old = named_by(folder)
    if old is None or old.resolve() == folder.resolve():
        return []
    check_lines(str(folder))
    changed = []
    for path, find in _configs(folder):
        pair = (_inside_quotes(old), _inside_quotes(folder)) if find is _of_nats else (old, folder)
        if path.is_file() and written.moved(path, *pair):
            changed.append(path)
    return changed


def check(folder: Path) -> None:
    """Raises SettingsError if this is not the folder of a broker."""
    if description.load(folder) is None:
        raise SettingsError(f"{folder} is not the folder of a broker; create one with `sarvis broker config`")


def _configs(folder: Path) -> list[tuple[Path, Callable[[str], Path | None]]]:
    """The configurations that a folder may have, and how to find the folder that each names."""
    nodes = sorted(folder.glob(nats.CONFIG.replace(".", "-*.")))
    return [*((folder / name, find) for name, find in _FIND.items()), *((path, _of_nats) for path in nodes)]


def _has_own_certificates(folder: Path) -> bool:
    told = description.load(folder)
    return told is not None and told.certs == folder / CERTS


def _inside_quotes(path: Path) -> Path:
    return Path(json.dumps(str(path), ensure_ascii=False)[1:-1])


def _of_mosquitto(text: str) -> Path | None:
    found = re.search(rf"^pid_file (/.*)/{re.escape(PID_FILE)}$", text, re.MULTILINE)
    return Path(found[1]) if found else None


def _of_nats(text: str) -> Path | None:
    found = re.search(r'^pid_file: ("/.*/broker(-[0-9]+)?\.pid")$', text, re.MULTILINE)
    return Path(json.loads(found[1])).parent if found else None


def _of_embedded(text: str) -> Path | None:
    """Folders of an older version name their certificates by absolute paths."""
    if written.HEAD not in text.partition("\n")[0]:
        return None
    try:
        cert = tomllib.loads(text).get("broker", {}).get("tls_cert", "")
    except (tomllib.TOMLDecodeError, AttributeError):
        return None
    path = Path(str(cert))
    return path.parent.parent if path.is_absolute() and path.parent.name == CERTS else None


_FIND: dict[str, Callable[[str], Path | None]] = {
    mosquitto.CONFIG: _of_mosquitto,
    nats.CONFIG: _of_nats,
    kit.SETTINGS: _of_embedded,
}
