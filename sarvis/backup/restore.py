"""Restores a back-up: all of it, or nothing; existing files are kept under other names."""

import asyncio
import json
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from bridge.storage import copying
from bridge.storage.sqlite import file as sqlite_file
from bridge.storage.sqlite import run as ledger_run
from broker import files
from contract.errors import SettingsError, StartError
from infra.files import SECRET
from infra.settings.bridge import StoreSettings
from sarvis.backup import manifest
from sarvis.backup.manifest import Entry, Manifest, checksum

MAX_MANIFEST_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Restored:
    """The result.

    Attributes:
        put: the places of the files, and of a ledger in a database.
        aside: the new names of what existed before.
    """

    put: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)


def restore(
    archive: Path, database: Callable[[], StoreSettings], *, to: Path | None = None, replace: bool = False
) -> Restored:
    """Restore everything to its original place, or below another folder.

    Raises SettingsError, StartError before any change.

    `database`: returns the settings of the database for a ledger that was in one. `replace`: existing files are kept
    under other names.
    """
    done = Restored()
    with tempfile.TemporaryDirectory(prefix="sarvis-") as read_into:
        copies = list(_read(archive, Path(read_into)))
        targets = [(entry, copy, _target(entry, to)) for entry, copy in copies]
        for entry, copy, target in targets:
            _refuse(entry, copy, target, archive)
            if not replace and (entry.kind != "database" or to is not None):
                _refuse_if_there(entry, target)
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        if to is None:
            in_database = [copy for entry, copy, _ in targets if entry.kind == "database"]
            targets = [one for one in targets if one[0].kind != "database"]
            # First: it alone can still be refused, by the database.
            for copy in in_database:
                _put_into_database(copy, database(), done, replace=replace)
        for entry, copy, target in targets:
            for one in _with_beside(entry, target):
                if one.exists():
                    done.aside.append(str(one.rename(one.with_name(f"{one.name}.before-{stamp}"))))
            _put(copy, target, entry.mode)
            done.put.append(str(target))
    return done


def restore_ledger(source: Path, store: StoreSettings, *, replace: bool, incomplete: bool) -> Restored:
    """Restore a copy of a ledger to the bridge's place; raises SettingsError, StartError before any change.

    `incomplete`: also one that lacks the newest changes, or has another ledger's log beside it.
    """
    done = Restored()
    if not sqlite_file.check(source):
        raise StartError(f"there is no ledger in {source}")
    if not incomplete:
        ledger_run.check(source, restored=True)
    if store.is_file:
        _refuse_if_kept(store.path)
    with tempfile.TemporaryDirectory(prefix="sarvis-") as read_into:
        copy = Path(read_into) / "ledger"
        if incomplete:
            alone = Path(read_into) / "alone"
            alone.write_bytes(source.read_bytes())
            source = alone
        ledger_run.write_back_up(source, copy)
        _refuse_empty(copy, source)
        if store.is_file:
            _put_into_file(copy, store.path, done, replace=replace)
        else:
            _put_into_database(copy, store, done, replace=replace)
    return done


def _put_into_file(copy: Path, target: Path, done: Restored, *, replace: bool) -> None:
    entry = Entry(path=str(target.absolute()), kind="ledger", mode=SECRET, sha256="")
    if not replace:
        _refuse_if_there(entry, target)
    found = [one for one in _with_beside(entry, target) if one.exists()]
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    done.aside = [str(one.rename(one.with_name(f"{one.name}.before-{stamp}"))) for one in found]
    _put(copy, target, SECRET)
    done.put.append(str(target))


def _put_into_database(copy: Path, store: StoreSettings, done: Restored, *, replace: bool) -> None:
    aside = f"sarvis_before_{datetime.now(UTC):%Y%m%d_%H%M%S_%f}" if replace else None
    if asyncio.run(copying.copy_from_file(copy, store, aside=aside)):
        done.aside.append(f"schema {aside} in {store.place}")
    done.put.append(store.place)


def is_archive(path: Path) -> bool:
    """Whether a file has the form of a back-up of `write`."""
    try:
        return tarfile.is_tarfile(path)
    except OSError as error:
        raise StartError(f"the back-up {path} cannot be read: {error.strerror}") from None


def _read(archive: Path, into: Path) -> Iterator[tuple[Entry, Path]]:
    """All files, checked; raises StartError before the first is returned if one is damaged."""
    try:
        with tarfile.open(archive) as tar:
            found = []
            for number, entry in enumerate(_manifest(archive, tar).entries):
                copy = into / str(number)
                copy.touch(mode=SECRET)
                data = tar.extractfile(entry.member)
                copy.write_bytes(b"" if data is None else data.read())
                if checksum(copy) != entry.sha256:
                    raise StartError(
                        f"the back-up {archive} is damaged: the checksum of {entry.path} in it is wrong; use another "
                        f"one"
                    )
                found.append((entry, copy))
    except (OSError, EOFError, KeyError, tarfile.TarError) as error:
        raise StartError(f"the back-up {archive} cannot be read, or is damaged: {error}") from None
    yield from found


def _manifest(archive: Path, tar: tarfile.TarFile) -> Manifest:
    first = tar.next()
    data = tar.extractfile(first) if first is not None and first.name == manifest.NAME else None
    if data is None or first is None or first.size > MAX_MANIFEST_BYTES:
        raise StartError(f"{archive} is not a back-up of SARVIS; create one with `sarvis backup`")
    try:
        told = Manifest.model_validate(json.loads(data.read()))
    except (ValidationError, ValueError):
        raise StartError(
            f"{archive} is not a back-up of this version of SARVIS, or is damaged; use another one"
        ) from None
    if any(".." in Path(entry.path).parts for entry in told.entries):
        raise StartError(f"{archive} has files outside of their folders; nothing was restored")
    return told


def _target(entry: Entry, to: Path | None) -> Path:
    return Path(entry.path) if to is None else to.absolute() / entry.path.lstrip("/")


def _with_beside(entry: Entry, target: Path) -> list[Path]:
    """A database is replaced together with its log: another database's log would undo the restore."""
    ends = ("", "-wal", "-shm", "-journal") if entry.kind != "file" else ("",)
    return [target.with_name(target.name + end) for end in ends]


def _refuse(entry: Entry, copy: Path, target: Path, archive: Path) -> None:
    if entry.kind == "ledger":
        _refuse_if_kept(target)
    if entry.kind in {"ledger", "database"}:
        _refuse_empty(copy, archive)
    if entry.kind == "messages":
        _refuse_if_locked(target)


def _refuse_if_there(entry: Entry, target: Path) -> None:
    """A reader leaves an empty log and its index: they hold no data."""
    for one in _with_beside(entry, target):
        if one.exists() and (one == target or (one.stat().st_size and not one.name.endswith("-shm"))):
            raise SettingsError(f"{one} exists; keep it under another name with --replace")


def _refuse_if_kept(ledger: Path) -> None:
    if sqlite_file.is_locked(ledger):
        raise StartError(f"a bridge uses the ledger {ledger}; stop it first")


def _refuse_if_locked(messages: Path) -> None:
    if not messages.exists():
        return
    try:
        with closing(sqlite3.connect(f"{messages.as_uri()}?mode=ro", uri=True, timeout=0)) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise StartError(f"a broker uses {messages}; stop it first") from None
    except sqlite3.Error:
        return  # damaged: to be replaced


def _refuse_empty(ledger: Path, archive: Path) -> None:
    sqlite_file.check(ledger)
    if not ledger_run.find(ledger).has_tables:
        raise StartError(
            f"the ledger in the back-up {archive} is empty: it is a copy of one that was never used; use another "
            f"back-up"
        )


def _put(copy: Path, target: Path, mode: int) -> None:
    files.make_folder(target.parent)
    files.write(target, copy.read_bytes(), mode)
