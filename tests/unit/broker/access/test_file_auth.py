import logging
from pathlib import Path

import pytest

from broker.access import users
from broker.access.file_auth import FileAccess
from broker.provisioning.folder import BrokerFolder
from contract.errors import SettingsError, StartError

P = "sarvis/v1"
WAKE = f"{P}/devices/jetson-1/wake"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> BrokerFolder:
    return BrokerFolder(tmp_path, P)


async def test_a_user_with_the_password_connects_with_its_own_client_id(folder: BrokerFolder) -> None:
    password = folder.add("jetson-1")
    access = FileAccess(folder.folder, P)
    assert await access.may_connect("sarvis-jetson-1", "jetson-1", password)
    assert not await access.may_connect("sarvis-jetson-2", "jetson-1", password)
    assert not await access.may_connect("sarvis-jetson-1", "jetson-1", "wrong")
    assert not await access.may_connect("sarvis-jetson-1", "jetson-1", None)
    assert not await access.may_connect("sarvis-jetson-1", None, None)


async def test_a_user_with_a_certificate_connects_with_it_and_no_password(folder: BrokerFolder) -> None:
    folder.admit({}, {"jetson-1": None})
    access = FileAccess(folder.folder, P)
    assert access.may_connect_certified("sarvis-jetson-1", "jetson-1")
    assert not access.may_connect_certified("sarvis-jetson-2", "jetson-1")
    assert not access.may_connect_certified("sarvis-jetson-2", "jetson-2")
    for password in ("", "None", None):
        assert not await access.may_connect("sarvis-jetson-1", "jetson-1", password)


def test_a_user_has_the_rights_of_its_role_while_it_exists(folder: BrokerFolder) -> None:
    folder.add("jetson-1")
    clock = Clock()
    access = FileAccess(folder.folder, P, now=clock)
    assert access.may_publish("any", "jetson-1", WAKE)
    assert access.may_subscribe("any", "jetson-1", f"{P}/bridges/+/status")
    assert not access.may_publish("any", "jetson-2", f"{P}/devices/jetson-2/wake")
    folder.remove("jetson-1")
    clock.now += 1
    assert access.credential("jetson-1") is None
    assert not access.may_publish("any", "jetson-1", WAKE)
    assert not access.may_subscribe("any", "jetson-1", f"{P}/bridges/+/status")


def test_the_credential_changes_with_the_password_and_is_looked_up_once_a_second(folder: BrokerFolder) -> None:
    folder.add("jetson-1")
    clock = Clock()
    access = FileAccess(folder.folder, P, now=clock)
    first = access.credential("jetson-1")
    assert first is not None
    folder.add("jetson-1")
    clock.now += 0.9
    assert access.credential("jetson-1") == first
    clock.now += 0.1
    assert access.credential("jetson-1") not in {first, None}


async def test_a_user_who_was_added_just_now_comes_in_at_once(folder: BrokerFolder) -> None:
    folder.add("jetson-1")
    access = FileAccess(folder.folder, P, now=Clock())
    password = folder.add("jetson-2")
    assert await access.may_connect("sarvis-jetson-2", "jetson-2", password)


async def test_a_damaged_file_leaves_the_last_good_one_and_is_told_once(
    folder: BrokerFolder, caplog: pytest.LogCaptureFixture
) -> None:
    password = folder.add("jetson-1")
    access = FileAccess(folder.folder, P, now=Clock())
    for damage in ('{"users": ', None):
        if damage is None:
            (folder.folder / "users.json").unlink()
        else:
            (folder.folder / "users.json").write_text(damage)
        caplog.clear()
        for _ in range(3):
            assert await access.may_connect("sarvis-jetson-1", "jetson-1", password)
        assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1
    new = folder.add("jetson-1")
    assert await access.may_connect("sarvis-jetson-1", "jetson-1", new)


async def test_a_file_that_could_not_be_read_for_a_moment_is_read_a_second_later(
    folder: BrokerFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.add("jetson-1")
    clock = Clock()
    access = FileAccess(folder.folder, P, now=clock)
    password = folder.add("jetson-2")
    tries: list[Path] = []

    def full(path: Path) -> users.Users:
        tries.append(path)
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(users, "load", full)
        for _ in range(3):
            assert not await access.may_connect("sarvis-jetson-2", "jetson-2", password)
    assert len(tries) == 1  # not at each connection
    clock.now += 1
    assert await access.may_connect("sarvis-jetson-2", "jetson-2", password)


def test_without_users_it_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="sarvis broker config embedded"):
        FileAccess(tmp_path, P)
    (tmp_path / "users.json").write_text("{")
    with pytest.raises(SettingsError, match="damaged"):
        FileAccess(tmp_path, P)
