"""Puts a back-up in its place: all of it, or nothing, and what lay there is kept."""

import json
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from bridge import ledger_run, sqlite_file
from broker import files
from contract.errors import SettingsError, StartError
from contract.files import SECRET
from sarvis.backup import manifest
from sarvis.backup.manifest import Entry, Manifest, checksum

MAX_MANIFEST_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Restored:
    """What was put back.

    Attributes:
        put: where the files are now.
        aside: what lay there before, by its new name.
        ledger: where the ledger is, if there was one.
    """

    put: list[Path] = field(default_factory=list)
    aside: list[Path] = field(default_factory=list)
    ledger: Path | None = None


def restore(archive: Path, *, to: Path | None = None, replace: bool = False) -> Restored:
    """Put everything back where it was, or below another folder; raises SettingsError, StartError before it changes.

    `replace`: what lies there is kept beside, under another name.
    """
    done = Restored()
    with tempfile.TemporaryDirectory(prefix="sarvis-") as read_into:
        copies = list(_read(archive, Path(read_into)))
        targets = [(entry, copy, _target(entry, to)) for entry, copy in copies]
        for entry, copy, target in targets:
            if entry.kind == "ledger":
                _refuse_if_kept(target)
                _refuse_empty(copy, archive)
            elif entry.kind == "messages":
                _refuse_if_locked(target)
            if not replace:
                _refuse_if_there(entry, target)
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        for entry, copy, target in targets:
            for one in _with_beside(entry, target):
                if one.exists():
                    done.aside.append(one.rename(one.with_name(f"{one.name}.before-{stamp}")))
            _put(copy, target, entry.mode)
            done.put.append(target)
            if entry.kind == "ledger":
                done.ledger = target
    return done


def restore_ledger(source: Path, target: Path, *, replace: bool, incomplete: bool) -> Restored:
    """Put a copy of a ledger in the place of the bridge's; raises SettingsError, StartError before it changes.

    `incomplete`: also one that lacks what was written last, or stands beside another's log.
    """
    done = Restored(ledger=target)
    if not sqlite_file.check(source):
        raise StartError(f"there is no ledger in {source}")
    if not incomplete:
        ledger_run.check(source, restored=True)
    _refuse_if_kept(target)
    with tempfile.TemporaryDirectory(prefix="sarvis-") as read_into:
        copy = Path(read_into) / "ledger"
        if incomplete:
            alone = Path(read_into) / "alone"
            alone.write_bytes(source.read_bytes())
            source = alone
        ledger_run.write_back_up(source, copy)
        _refuse_empty(copy, source)
        entry = Entry(path=str(target.absolute()), kind="ledger", mode=SECRET, sha256="")
        if not replace:
            _refuse_if_there(entry, target)
        found = [one for one in _with_beside(entry, target) if one.exists()]
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        done.aside = [one.rename(one.with_name(f"{one.name}.before-{stamp}")) for one in found]
        _put(copy, target, SECRET)
        done.put.append(target)
    return done


def is_archive(path: Path) -> bool:
    """Has a file the form of what `write` makes?"""
    try:
        return tarfile.is_tarfile(path)
    except OSError as error:
        raise StartError(f"the back-up {path} cannot be read: {error.strerror}") from None


def _read(archive: Path, into: Path) -> Iterator[tuple[Entry, Path]]:
    """All files, checked; raises StartError before it gives the first when one is not whole."""
    try:
        with tarfile.open(archive) as tar:
            found = []
            for number, entry in enumerate(_manifest(archive, tar).entries):
                copy = into / str(number)
                copy.touch(mode=SECRET)
                data = tar.extractfile(entry.member)
                copy.write_bytes(b"" if data is None else data.read())
                if checksum(copy) != entry.sha256:
                    raise StartError(f"the back-up {archive} is damaged: {entry.path} in it is not as it was written")
                found.append((entry, copy))
    except (OSError, EOFError, KeyError, tarfile.TarError) as error:
        raise StartError(f"the back-up {archive} cannot be read, or is damaged: {error}") from None
    yield from found


def _manifest(archive: Path, tar: tarfile.TarFile) -> Manifest:
    first = tar.next()
    data = tar.extractfile(first) if first is not None and first.name == manifest.NAME else None
    if data is None or first is None or first.size > MAX_MANIFEST_BYTES:
        raise StartError(f"{archive} is no back-up of SARVIS; sarvis backup makes one")
    try:
        told = Manifest.model_validate(json.loads(data.read()))
    except (ValidationError, ValueError):
        raise StartError(f"{archive} is no back-up of this version of SARVIS, or is damaged") from None
    if any(".." in Path(entry.path).parts for entry in told.entries):
        raise StartError(f"{archive} names files outside of their folders; nothing was put back")
    return told


def _target(entry: Entry, to: Path | None) -> Path:
    return Path(entry.path) if to is None else to.absolute() / entry.path.lstrip("/")


def _with_beside(entry: Entry, target: Path) -> list[Path]:
    """A database is replaced with its log: another's log would undo it."""
    ends = ("", "-wal", "-shm", "-journal") if entry.kind != "file" else ("",)
    return [target.with_name(target.name + end) for end in ends]


def _refuse_if_there(entry: Entry, target: Path) -> None:
    """Whoever only reads leaves an empty log, and its index, behind: they hold nothing."""
    for one in _with_beside(entry, target):
        if one.exists() and (one == target or (one.stat().st_size and not one.name.endswith("-shm"))):
            raise SettingsError(f"{one} exists; --replace keeps it beside under another name")


def _refuse_if_kept(ledger: Path) -> None:
    if sqlite_file.is_held(ledger):
        raise StartError(f"a bridge keeps the ledger {ledger}; stop it first")


def _refuse_if_locked(messages: Path) -> None:
    if not messages.exists():
        return
    try:
        with closing(sqlite3.connect(f"{messages.as_uri()}?mode=ro", uri=True, timeout=0)) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise StartError(f"a broker keeps {messages}; stop it first") from None
    except sqlite3.Error:
        return  # damaged: to be replaced


def _refuse_empty(ledger: Path, archive: Path) -> None:
    sqlite_file.check(ledger)
    if not ledger_run.find(ledger).has_tables:
        raise StartError(f"the ledger in the back-up {archive} is empty: it was made of one that was never used")


def _put(copy: Path, target: Path, mode: int) -> None:
    files.make_folder(target.parent)
    files.write(target, copy.read_bytes(), mode)
