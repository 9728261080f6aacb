import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.access import passwords
from broker.provisioning import description
from broker.provisioning.description import Description, Kind
from broker.provisioning.folder import BrokerFolder, Reload
from broker.provisioning.messages import say_reload
from contract.errors import SarvisError, SettingsError
from tests.support.ports import HOST, free_port
from tests.support.waiting import wait_for

P = "sarvis/v1"


@pytest.fixture
def folder(tmp_path: Path) -> BrokerFolder:
    return BrokerFolder(tmp_path / "broker", P)


def describe(
    folder: BrokerFolder,
    *,
    kind: Kind = "mosquitto",
    prefix: str = P,
    certificates: bool = False,
    port: int = 8883,
    hosts: tuple[str, ...] = ("box",),
) -> None:
    folder.folder.mkdir(exist_ok=True)
    description.save(
        folder.folder,
        Description(
            kind=kind,
            hosts=hosts,
            port=port,
            prefix=prefix,
            client_certificates=certificates,
            certs=folder.folder / "certs",
            ca_file=folder.folder / "certs" / "ca.crt",
        ),
    )


def text(folder: BrokerFolder, name: str) -> str:
    return (folder.folder / name).read_text()


def test_a_user_is_written_for_every_broker_at_once(folder: BrokerFolder) -> None:
    password = folder.add("jetson-1")
    assert folder.users() == ["jetson-1"]
    assert folder.verify("jetson-1", password)
    name, stored = text(folder, "mosquitto.passwords").strip().split(":")
    assert name == "jetson-1"
    assert passwords.matches(password, stored)
    assert "user jetson-1" in text(folder, "mosquitto.acl")
    assert '"jetson-1"' in text(folder, "nats.users.conf")
    for path in folder.folder.iterdir():
        assert password not in path.read_text()
        assert path.name == ".lock" or path.stat().st_mode & 0o777 == 0o600


def test_adding_again_makes_a_new_password(folder: BrokerFolder) -> None:
    old, new = folder.add("jetson-1"), folder.add("jetson-1")
    assert old != new
    assert not folder.verify("jetson-1", old)
    assert folder.verify("jetson-1", new)


def test_a_user_with_a_certificate_loses_its_password(folder: BrokerFolder) -> None:
    old = folder.add("jetson-1")
    folder.admit({}, {"jetson-1": None})
    assert not folder.verify("jetson-1", old)
    assert text(folder, "mosquitto.passwords") == ""
    assert "user jetson-1" in text(folder, "mosquitto.acl")


def test_a_removed_user_is_nowhere(folder: BrokerFolder) -> None:
    folder.add("jetson-1")
    folder.add("jetson-2")
    assert folder.remove("jetson-1")
    assert not folder.remove("jetson-1")
    assert folder.users() == ["jetson-2"]
    assert not [path.name for path in folder.folder.iterdir() if "jetson-1" in path.read_text()]


def test_rendering_restores_deleted_files(folder: BrokerFolder) -> None:
    folder.add("jetson-1")
    before = text(folder, "mosquitto.acl")
    (folder.folder / "mosquitto.acl").unlink()
    folder.render()
    assert text(folder, "mosquitto.acl") == before


def test_two_concurrent_changes_lose_no_user(folder: BrokerFolder) -> None:
    def add(start: int) -> None:
        for index in range(start, start + 10):
            folder.add(f"jetson-{index}")

    threads = [threading.Thread(target=add, args=(start,)) for start in (0, 10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folder.users()) == 30


def test_an_edit_that_cannot_be_rendered_changes_nothing(folder: BrokerFolder) -> None:
    folder.add("jetson-1")
    with pytest.raises(SettingsError):
        folder.add("legacy-http")
    dotted = BrokerFolder(folder.folder, "a.b")
    (folder.folder / "broker.json").unlink(missing_ok=True)
    describe(dotted, kind="nats", prefix="a.b")
    with pytest.raises(SettingsError, match="NATS"):
        dotted.add("jetson-2")
    assert folder.users() == ["jetson-1"]


def test_a_prefix_that_only_nats_cannot_carry_is_fine_for_others(tmp_path: Path) -> None:
    folder = BrokerFolder(tmp_path, "house.1")
    folder.add("jetson-1")
    assert "house.1/devices/jetson-1/wake" in text(folder, "mosquitto.acl")
    assert not (tmp_path / "nats.users.conf").exists()


def test_another_prefix_than_the_brokers_is_refused_before_it_cuts_everybody_off(folder: BrokerFolder) -> None:
    describe(folder, prefix="house/1")
    with pytest.raises(SettingsError, match="house/1"):
        folder.add("jetson-1")


def test_the_description_moves_with_the_folder(folder: BrokerFolder, tmp_path: Path) -> None:
    assert folder.describe() is None
    describe(folder, certificates=True)
    folder.folder.rename(tmp_path / "moved")
    told = BrokerFolder(tmp_path / "moved", P).describe()
    assert told is not None
    assert told.ca_file == tmp_path / "moved" / "certs" / "ca.crt"
    assert (told.url, told.client_certificates) == ("mqtts://box:8883", True)
    (tmp_path / "moved" / "broker.json").write_text("{")
    with pytest.raises(SettingsError, match="broker config again"):
        BrokerFolder(tmp_path / "moved", P).describe()


def test_an_address_is_bracketed_in_the_url() -> None:
    told = Description(
        kind="nats", hosts=("::1",), port=1, prefix=P, client_certificates=False, certs=Path(), ca_file=Path()
    )
    assert told.url == "mqtts://[::1]:1"


# --- telling a broker that runs ---

NOTES_SIGHUP = """
import ctypes, pathlib, signal, sys
ctypes.CDLL(None).prctl(15, sys.argv[2].encode(), 0, 0, 0)  # PR_SET_NAME
signal.signal(signal.SIGHUP, lambda *_: pathlib.Path(sys.argv[1], "told").touch())
pathlib.Path(sys.argv[1], "ready").touch()
while True:
    signal.pause()
"""


@pytest.mark.parametrize(("name", "told"), [("mosquitto", True), ("nats-server", True), ("editor", False)])
def test_only_a_broker_gets_the_signal(folder: BrokerFolder, tmp_path: Path, name: str, *, told: bool) -> None:
    folder.add("jetson-1")
    with subprocess.Popen([sys.executable, "-c", NOTES_SIGHUP, str(tmp_path), name]) as process:
        try:
            wait_for("the process is ready", (tmp_path / "ready").exists)
            (folder.folder / "broker.pid").write_text(f"{process.pid}\n")
            assert folder.reload() == ("reloaded" if told else "no_broker")
            if told:
                wait_for("the signal", (tmp_path / "told").exists)
            else:
                os.kill(process.pid, signal.SIGUSR1)  # had SIGHUP been sent, it would have come before
                process.wait()
                assert not (tmp_path / "told").exists()
        finally:
            process.kill()


@pytest.mark.parametrize("written", [None, "", "nonsense", "0", "-1", "999999999999", "4194303"])
def test_a_stale_pid_file_signals_no_process(folder: BrokerFolder, written: str | None) -> None:
    folder.add("jetson-1")
    if written is not None:
        (folder.folder / "broker.pid").write_text(written)
    assert folder.reload() == "no_broker"


def test_the_embedded_broker_needs_not_be_told(folder: BrokerFolder) -> None:
    describe(folder, kind="embedded")
    assert folder.reload() == "live"


def test_a_broker_of_another_user_is_left_to_that_user(folder: BrokerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.add("jetson-1")
    (folder.folder / "broker.pid").write_text(str(os.getpid()))
    monkeypatch.setattr("broker.provisioning.folder.PROGRAMS", {Path("/proc/self/comm").read_text().strip()})

    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("broker.provisioning.folder.signal.pidfd_send_signal", forbidden)
    assert folder.reload() == "not_permitted"


# --- a broker whose process is not to be found here ---


@contextmanager
def answering(host: str = HOST) -> Iterator[int]:
    with socket.create_server((host, 0)) as door:
        yield door.getsockname()[1]


@pytest.mark.parametrize("written", [None, "1", "999999999999"])
def test_a_broker_that_answers_without_a_process_here_was_not_told(folder: BrokerFolder, written: str | None) -> None:
    folder.add("jetson-1")
    with answering() as port:
        describe(folder, port=port, hosts=("localhost",))
        if written is not None:
            (folder.folder / "broker.pid").write_text(written)
        assert folder.reload() == "not_told"
    assert folder.reload() == "no_broker"


def test_another_broker_that_got_the_process_id_of_ours_is_not_told_instead(
    folder: BrokerFolder, tmp_path: Path
) -> None:
    folder.add("jetson-1")
    with answering() as port, subprocess.Popen([sys.executable, "-c", NOTES_SIGHUP, str(tmp_path), "mosquitto"]) as one:
        try:
            wait_for("the process is ready", (tmp_path / "ready").exists)
            (folder.folder / "broker.pid").write_text(f"{one.pid}\n")
            describe(folder, port=port, hosts=("localhost",))
            assert folder.reload() == "not_told"
        finally:
            one.kill()
    assert not (tmp_path / "told").exists()


def test_a_name_that_does_not_resolve_yet_is_not_a_broker(folder: BrokerFolder) -> None:
    describe(folder, port=free_port(), hosts=("hub.invalid",))
    assert folder.reload() == "no_broker"


@pytest.mark.parametrize("reload", ["not_told", "not_permitted"])
def test_a_command_fails_that_could_not_tell_the_broker(reload: Reload) -> None:
    with pytest.raises(SarvisError, match=r"was not (told|informed).*only then it is let in no more"):
        say_reload(reload, "it is let in no more")
