"""What belongs together: a ledger's file, its log and its lock, after kills, copies and back-ups."""

import asyncio
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bridge.storage.reading import open_reader
from bridge.storage.records import Change, Device
from bridge.storage.sqlite import run as ledger_run
from bridge.storage.sqlite.store import SqliteStore
from contract.errors import StartError
from tests.support.ledgers import keep, place, set_back
from tests.support.programs import needs

LATER: list[Change] = [Device("later", state="added")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder / "ledger.db"


def copies(path: Path, target: Path, ends: tuple[str, ...]) -> None:
    target.mkdir()
    for end in ends:
        if Path(f"{path}{end}").exists():
            shutil.copy(f"{path}{end}", target / f"{path.name}{end}")


def killed(path: Path, changes: list[Change], *, meanwhile: Callable[[], object] = lambda: None) -> None:
    """As a kill leaves it: file, log and lock, changes in the log alone."""

    async def live() -> None:
        store = await SqliteStore.open(place(path))
        meanwhile()
        async with store.transaction() as transaction:
            await transaction.save(changes)
        copies(path, path.parent / "killed", ("", "-wal", ".lock"))
        await store.close()

    asyncio.run(live())
    for end in ("", "-wal", ".lock"):
        shutil.move(path.parent / "killed" / f"{path.name}{end}", f"{path}{end}")
    (path.parent / "killed").rmdir()


def devices(path: Path, *, restored: bool = False, writes: bool = True) -> list[str]:
    """Those that a bridge finds, or (without `writes`) an operator who looks."""

    async def start() -> list[str]:
        opening = (
            SqliteStore.open(place(path), restored=restored) if writes else SqliteStore.open_read_only(place(path))
        )
        store = await opening
        found = await store.devices(100)
        await store.close()
        return [device.device_id for device in found]

    return asyncio.run(start())


def refused(path: Path, words: str, *, restored: bool = False) -> None:
    with pytest.raises(StartError, match=words):
        devices(path, restored=restored)


@pytest.mark.parametrize("kills", [1, 3])
def test_after_kills_everything_is_found(path: Path, kills: int) -> None:
    for number in range(kills):
        killed(path, [Device(f"device-{number}", state="added")])
    assert devices(path) == [f"device-{number}" for number in range(kills)]
    assert not ledger_run.log_of(path).exists()


def test_after_a_kill_an_operator_who_wrote_keeps_no_bridge_from_starting(path: Path) -> None:
    killed(path, LATER)
    keep(path, [Device("more", state="added")], alone=False)
    assert devices(path) == ["later", "more"]


def test_after_a_kill_a_copy_is_whole_once_an_operator_has_written(path: Path, tmp_path: Path) -> None:
    killed(path, LATER)
    keep(path, [Device("more", state="added")], alone=False)
    copies(path, tmp_path / "copy", ("",))
    assert devices(tmp_path / "copy" / "ledger.db", writes=False) == ["later", "more"]


def test_after_a_kill_another_program_may_have_moved_the_log_into_the_file(path: Path) -> None:
    killed(path, LATER)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("SELECT count(*) FROM devices").fetchone()
    assert not ledger_run.log_of(path).exists()
    assert devices(path) == ["later"]


@pytest.mark.parametrize("restored", [False, True])
def test_a_back_up_beside_the_log_of_a_later_run_is_not_undone_in_silence(path: Path, restored: bool) -> None:
    keep(path)
    before = path.read_bytes()
    killed(path, LATER)
    path.write_bytes(before)
    refused(path, r"ledger\.db-wal is the log of another ledger", restored=restored)
    ledger_run.log_of(path).unlink()
    assert devices(path, restored=restored) == ["jetson"]


def test_nor_one_that_was_copied_in_the_same_run(path: Path) -> None:
    keep(path)
    nightly = path.with_name("nightly.db")
    killed(path, LATER, meanwhile=lambda: shutil.copy(path, nightly))
    shutil.copy(nightly, path)
    os.utime(path, (time.time() + 5, time.time() + 5))
    refused(path, r"ledger\.db-wal is the log of another ledger", restored=True)


def test_another_house_s_ledger_beside_this_one_s_log_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    keep(tmp_path / "other" / "ledger.db")
    killed(path, LATER)
    shutil.copy(tmp_path / "other" / "ledger.db", path)
    refused(path, r"ledger\.db-wal is the log of another ledger")


@pytest.mark.parametrize("restored", [False, True])
@pytest.mark.parametrize("name", ["nightly.db", "ledger.db"])
def test_a_copy_of_a_file_in_use_without_its_log_is_refused(path: Path, name: str, restored: bool) -> None:
    keep(path)
    nightly = path.parent / "copies" / name
    nightly.parent.mkdir()
    killed(path, LATER, meanwhile=lambda: shutil.copy(path, nightly))
    refused(nightly, r"without .*-wal: what was written last is missing.*sarvis backup", restored=restored)
    with pytest.raises(StartError, match="without"):
        devices(nightly, writes=False)


def test_a_copy_of_file_and_log_is_whole(path: Path, tmp_path: Path) -> None:
    killed(path, LATER)
    copies(path, tmp_path / "copy", ("", "-wal"))
    assert devices(tmp_path / "copy" / "ledger.db", writes=False) == ["later"]
    assert devices(tmp_path / "copy" / "ledger.db", restored=True) == ["later"]


def test_an_empty_file_of_ours_is_no_back_up_and_no_answer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id={0x53525653}")
    refused(path, "is empty", restored=True)
    with pytest.raises(StartError, match="is empty"):
        devices(path, writes=False)
    assert devices(path) == [], "a kill before the tables were made: a bridge goes on"


def test_a_kill_while_a_run_begins_or_ends_is_no_strange_log(path: Path) -> None:
    for state in ("begins", "ends"):
        killed(path, [Device(state, state="added")])
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA wal_autocheckpoint=0")
            connection.execute("UPDATE service SET opened = 'another'")
            copies(path, path.parent / "now", ("", "-wal"))
        for end in ("", "-wal"):
            shutil.move(path.parent / "now" / f"{path.name}{end}", f"{path}{end}")
        (path.parent / "now").rmdir()
        refused(path, "another ledger")
        ledger_run.lock_of(path).write_text(f"{state} another\n")
        assert state in devices(path)


def test_a_back_up_is_known_as_one_until_a_bridge_starts_on_it(path: Path, tmp_path: Path) -> None:
    keep(path)
    copy = tmp_path / "copy.db"
    ledger_run.write_back_up(path, copy)
    keep(copy, LATER, alone=False)

    async def start() -> list[bool]:
        found = []
        for _ in range(2):
            store = await SqliteStore.open(place(copy))
            found.append(store.restored)
            await store.close()
        return found

    assert asyncio.run(start()) == [True, False]
    assert devices(copy) == ["jetson", "later"]


def test_a_ledger_of_an_earlier_version_is_taken(path: Path) -> None:
    keep(path)
    set_back(path, "0004")
    assert devices(path, writes=False) == ["jetson"]
    with open_reader(place(path)) as reader:
        assert reader.devices(10) == [Device("jetson", generation=1)]
    assert devices(path, restored=True) == ["jetson"]


@needs("root")  # only root can become somebody who may not write
@pytest.mark.filterwarnings("ignore:.*fork")  # another test of this process may have run JAX; the child runs none
@pytest.mark.parametrize("after", ["a good end", "a kill"])
def test_it_is_read_where_nothing_may_be_written(path: Path, after: str) -> None:
    if after == "a kill":
        killed(path, LATER)
    else:
        keep(path, LATER)
    for folder in (path.parent, *path.parent.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(0o755 if folder != path.parent else 0o555)
        if folder.name.startswith("pytest-of"):
            break
    for file in path.parent.iterdir():
        file.chmod(0o444)
    child = os.fork()
    if child == 0:  # somebody else, who may only read
        os.setgid(65534)
        os.setuid(65534)
        code = 1
        try:
            code = 0 if devices(path, writes=False) == ["later"] else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
