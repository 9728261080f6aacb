"""Writes a back-up of everything that a hub must not lose: ledger, broker's store and folder, keys, settings."""

import asyncio
import io
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO

from bridge.storage.copying import copy_to_file
from bridge.storage.sqlite import file as sqlite_file
from bridge.storage.sqlite import run as ledger_run
from broker.provisioning.plan import DATA
from broker.server.store import NAME as MESSAGES
from contract.errors import SettingsError, StartError
from infra.files import SECRET
from infra.places import where_at_home
from infra.settings.base import Section
from infra.settings.loader import Settings
from sarvis.backup import manifest
from sarvis.backup.manifest import OF_DATABASE, Entry, Kind, Manifest, checksum

TRIES = 20
_LEFT_OUT = (".pid", ".lock")
_BESIDE = ("-wal", "-shm", "-journal", ".lock")


@dataclass(frozen=True, slots=True)
class Written:
    """The content of a back-up, and what was left out on purpose."""

    path: Path
    entries: Sequence[Entry]
    left_out: Sequence[Path]


def write(settings: Settings, config: Path | None, out: Path) -> Written:
    """Write a back-up, also while bridge and broker run; raises StartError that names an unreadable file."""
    out = _place(out)
    if out.exists():
        raise SettingsError(f"{out} exists and is not replaced; name another file with --out")
    left_out: list[Path] = []
    entries: list[Entry] = []
    with tempfile.TemporaryDirectory(prefix="sarvis-", dir=_folder(out)) as made_in:
        staging = Path(made_in)
        sources: list[tuple[Entry, Path]] = []
        if not settings.store.is_file:
            copy = staging / "database"
            asyncio.run(copy_to_file(settings.store, copy))
            entry = Entry(path=OF_DATABASE, kind="database", mode=SECRET, sha256=checksum(copy))
            sources.append((entry, copy))
            entries.append(entry)
        for number, (kind, path) in enumerate(_wanted(settings, config, out, left_out)):
            copy = staging / str(number)
            _COPY[kind](path, copy)
            entry = Entry(path=str(path), kind=kind, mode=path.stat().st_mode & 0o777, sha256=checksum(copy))
            sources.append((entry, copy))
            entries.append(entry)
        if not any(entry.kind in {"ledger", "database"} for entry in entries):
            raise sqlite_file.none_there(settings.store)
        told = Manifest(version=version("sarvis"), made_at=datetime.now(UTC).isoformat(), entries=entries)
        archive = staging / "archive"
        archive.touch(mode=SECRET)
        with tarfile.open(archive, "w:gz") as tar:
            _add(tar, manifest.NAME, io.BytesIO(told.model_dump_json(indent=1).encode()))
            for entry, copy in sources:
                with copy.open("rb") as data:
                    _add(tar, entry.member, data, entry.mode)
        _sync(archive)
        archive.rename(out)
        _sync(out.parent)
    return Written(out, entries, left_out)


def _wanted(settings: Settings, config: Path | None, out: Path, left_out: list[Path]) -> Iterator[tuple[Kind, Path]]:
    seen = {out}
    if settings.store.is_file:
        ledger = _place(settings.store.path)
        seen |= {ledger, *(ledger.with_name(ledger.name + end) for end in _BESIDE)}
        if ledger.exists() and ledger.stat().st_size:
            yield "ledger", ledger
    hub = _place(settings.broker.dir)
    for kind, path in (*_of_hub(hub, left_out), *(("file", path) for path in _named(settings, config))):
        if path.resolve() not in seen:
            seen.add(path.resolve())
            yield kind, path


def _of_hub(hub: Path, left_out: list[Path]) -> Iterator[tuple[Kind, Path]]:
    messages = hub / MESSAGES
    if messages.is_file():
        yield "messages", messages
    if (hub / DATA).is_dir():
        left_out.append(hub / DATA)
    for folder, folders, names in os.walk(hub):
        if Path(folder) == hub and DATA in folders:
            folders.remove(DATA)
        for name in sorted(names):
            path = Path(folder) / name
            if (
                path.is_file()
                and not name.endswith(_LEFT_OUT)
                and not name.startswith(MESSAGES)
                and not _is_database(path)
            ):
                yield "file", path


def _place(path: Path) -> Path:
    """Absolute, without `..`; links stay links."""
    return Path(os.path.normpath(path.expanduser().absolute()))


def _is_database(path: Path) -> bool:
    """A ledger in the folder is copied as a database, not also as a plain file."""
    return path.name.endswith(("-wal", "-shm", "-journal", ".db"))


def _named(settings: Settings, config: Path | None) -> Iterator[Path]:
    """The files that settings of bridge, broker and operator name, and the settings file."""
    if config is not None:
        yield _place(config)
    for section in ("store", "auth", "push", "operator", "mqtt", "broker", "bridge"):
        table = getattr(settings, section)
        assert isinstance(table, Section)  # noqa: S101 - every one is
        for name in type(table).model_fields:
            value = getattr(table, name)
            place = where_at_home(value) if isinstance(value, Path) else None
            if place is not None and place.is_file():
                yield _place(place)


def _copy_ledger(path: Path, copy: Path) -> None:
    sqlite_file.check(path)
    if not sqlite_file.is_locked(path):
        ledger_run.check(path)
    try:
        ledger_run.write_back_up(path, copy)
    except (sqlite3.Error, OSError) as error:
        raise StartError(f"the ledger {path} cannot be copied: {error}") from None


def _copy_messages(path: Path, copy: Path) -> None:
    """The embedded broker locks its file: copied from outside, until it stays unchanged during a copy."""
    log, log_copy = (one.with_name(one.name + "-wal") for one in (path, copy))
    for _ in range(TRIES):
        before = _moved(path, log)
        _copy_file(path, copy)
        if log.exists():
            _copy_file(log, log_copy)
        if _moved(path, log) != before:
            continue
        with suppress(sqlite3.Error), closing(sqlite3.connect(copy)) as database:
            database.execute("PRAGMA journal_mode=DELETE")
            if database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
                return
    raise StartError(f"{path} cannot be copied: it changes too fast, or it is damaged; try again, or stop the broker")


def _moved(path: Path, log: Path) -> tuple[int, int, bytes]:
    """Changes when pages move from the log into the file, or the log restarts; not when it grows."""
    found = path.stat()
    head = b""
    if log.exists():
        with log.open("rb") as file:
            head = file.read(32)
    return found.st_mtime_ns, found.st_size, head


def _copy_file(path: Path, copy: Path) -> None:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StartError(f"{path} cannot be read: {error.strerror}; run this as its owner") from None
    copy.touch(mode=SECRET)
    copy.write_bytes(data)


_COPY: dict[str, Callable[[Path, Path], None]] = {
    "ledger": _copy_ledger,
    "messages": _copy_messages,
    "file": _copy_file,
}


def _add(tar: tarfile.TarFile, name: str, data: IO[bytes], mode: int = SECRET) -> None:
    member = tarfile.TarInfo(name)
    member.size = data.seek(0, os.SEEK_END)
    member.mode = mode
    member.mtime = int(datetime.now(UTC).timestamp())
    data.seek(0)
    tar.addfile(member, data)


def _folder(out: Path) -> Path:
    if not out.parent.is_dir():
        raise SettingsError(f"{out.parent} is not a folder; create it first, or name another file with --out")
    return out.parent


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
