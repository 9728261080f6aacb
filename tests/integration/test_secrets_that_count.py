"""A secret counts only when somebody could read it; on real streams, real files and a disk that is full."""

import json
import signal
from pathlib import Path

import pytest

from broker import files
from broker.provisioning.configure import ConfigRequest, configure
from broker.provisioning.folder import BrokerFolder
from contract.errors import SettingsError
from tests.integration.test_signals_and_streams import shell, signalled

P = "sarvis/v1"
HUB = "$SARVIS broker config embedded --out hub --host localhost"
ADD = "SARVIS_AUTH__MODE=required SARVIS_BROKER__DIR=hub $SARVIS device add jetson-1 --store-url sqlite:///ledger.db"


def keys(folder: Path) -> list[str]:
    told = json.loads(shell(folder, "$SARVIS token list --json").stdout)
    return [key["name"] for key in told["api_keys"]]


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path) -> None:
    """As set-up leaves it: the first command that adds something makes the ledger in it."""
    (tmp_path / "ledger.db").touch()


@pytest.fixture
def broker(tmp_path: Path) -> BrokerFolder:
    configure(ConfigRequest(kind="embedded", out=tmp_path / "hub", hosts=("localhost",), prefix=P))
    return BrokerFolder(tmp_path / "hub", P)


@pytest.mark.parametrize("streams", [">/dev/full", ">&-", "--out /dev/full", "--out no/such/folder", "--out ."])
def test_an_api_key_whose_output_was_lost_is_not_in_the_ledger(tmp_path: Path, streams: str) -> None:
    shell(tmp_path, "$SARVIS token api first")
    done = shell(tmp_path, f"$SARVIS token api second {streams}")
    assert done.returncode in {1, 2}
    assert done.stderr.startswith("error: ")
    assert keys(tmp_path) == ["first"]


def test_a_key_whose_reader_is_gone_does_not_count(tmp_path: Path) -> None:
    shell(tmp_path, "$SARVIS token api first")
    # The reader closes its end before the key is made.
    waits = "until [ -e gone ]; do sleep 0.05; done"
    done = shell(tmp_path, f"({waits}; exec $SARVIS token api second) | (exec 0<&-; touch gone)")
    assert done.returncode == 1
    assert "so it is not valid" in done.stderr
    assert keys(tmp_path) == ["first"]


@pytest.mark.parametrize("out", [(), ("--out", "operator.key")])
def test_a_signal_when_the_key_is_out_leaves_no_doubt(tmp_path: Path, out: tuple[str, ...]) -> None:
    """What is begun is done: it was handed over, and it counts."""
    shell(tmp_path, "$SARVIS token api first")
    (tmp_path / "operator.key").write_text("the old one")
    done = signalled(tmp_path, "bridge.cli:load", signal.SIGTERM, "token", "api", "second", *out)
    assert done.returncode == 0, done
    done = signalled(
        tmp_path, "bridge.storage.sqlite.store:SqlStore.add_api_key", signal.SIGTERM, "token", "api", "third", *out
    )
    assert done.returncode == 128 + signal.SIGTERM
    assert keys(tmp_path) == ["first", "second", "third"]
    secret = (tmp_path / "operator.key").read_text() if out else done.stdout
    assert secret.startswith("sarvis_")


@pytest.mark.parametrize("out", [(), ("--out", "operator.key")])
def test_a_key_that_the_ledger_does_not_take_is_said_to_be_worth_nothing(tmp_path: Path, out: tuple[str, ...]) -> None:
    shell(tmp_path, "$SARVIS token api first")
    (tmp_path / "operator.key").write_text("the old one")
    done = signalled(
        tmp_path, "bridge.storage.sqlite.store:SqlStore.add_api_key", "FAULT", "token", "api", "second", *out
    )
    assert done.returncode == 1
    assert (tmp_path / "operator.key").read_text() == "the old one"
    assert ("the printed secret is not valid" in done.stderr, "sarvis_" in done.stdout) == (not out, not out)
    assert keys(tmp_path) == ["first"]
    assert not list(tmp_path.glob(".operator.key.*"))


@pytest.mark.parametrize("streams", [">/dev/full", ">&-"])
@pytest.mark.parametrize("again", ["", "--new-secret"])
def test_a_password_whose_output_was_lost_is_invalid_and_the_old_one_valid(
    tmp_path: Path, broker: BrokerFolder, streams: str, again: str
) -> None:
    old = shell(tmp_path, ADD).stdout.partition("shown only now: ")[2].split()[0] if again else ""
    users = (tmp_path / "hub" / "users.json").read_bytes()
    done = shell(tmp_path, f"{ADD} {again} {streams}")
    assert done.returncode == 1
    assert "so it is not valid" in done.stderr
    assert (tmp_path / "hub" / "users.json").read_bytes() == users
    assert ("jetson-1" in broker.users()) == bool(again)
    assert not again or broker.verify("jetson-1", old)


@pytest.mark.parametrize("command", ["device", "config"])
def test_a_kit_that_cannot_be_written_whole_is_as_it_was_and_lets_in(
    tmp_path: Path, broker: BrokerFolder, command: str
) -> None:
    kit = tmp_path / ("kit" if command == "device" else "hub/operator")
    user = "jetson-1" if command == "device" else "operator.admin"
    again = f"{ADD} --new-secret --kit kit" if command == "device" else HUB
    if command == "device":
        assert shell(tmp_path, again).returncode == 0
    old = (kit / "password").read_text().strip()
    assert broker.verify(user, old)
    if command == "config":
        (kit / "password").unlink()
    (kit / "sarvis.toml").unlink()
    (kit / "sarvis.toml").mkdir()
    before = {path.name for path in kit.iterdir()}
    done = shell(tmp_path, again)
    assert done.returncode == 2
    assert "sarvis.toml" in done.stderr
    assert {path.name for path in kit.iterdir()} == before
    assert broker.verify(user, old)
    assert command == "config" or (kit / "password").read_text().strip() == old


def test_a_new_kit_that_cannot_be_written_is_invalid(tmp_path: Path, broker: BrokerFolder) -> None:
    (tmp_path / "file").touch()
    done = shell(tmp_path, f"{ADD} --kit file")
    assert done.returncode == 2
    assert "jetson-1" not in broker.users()


def test_a_key_file_without_room_is_not_half_there(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").unlink()
    done = shell(tmp_path, "ulimit -f 0; PYTHONDONTWRITEBYTECODE=1 $SARVIS token app alice")
    assert (done.returncode, done.stdout) == (3, "")
    assert "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []
    done = shell(tmp_path, "$SARVIS token app alice >/dev/null && ulimit -f 0; $SARVIS token app alice --out app.token")
    assert (done.returncode, done.stdout) == (2, "")
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_files_are_all_replaced_or_none(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").unlink()
    (tmp_path / "one").write_text("old")
    (tmp_path / "two").mkdir()

    def write() -> None:
        files.write(tmp_path / "one", "new")
        files.make_folder(tmp_path / "three")
        files.write(tmp_path / "three" / "four", "new")
        files.write(tmp_path / "two", "new")

    with pytest.raises(SettingsError, match="two"), files.prepared(write):
        pytest.fail("it was not written")
    assert (tmp_path / "one").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_device_in_the_place_of_a_file_is_written_and_not_replaced(tmp_path: Path) -> None:
    done = shell(tmp_path, "$SARVIS token api one --out /dev/stdout")
    assert done.returncode == 0
    assert done.stdout.startswith("sarvis_")
    assert Path("/dev/stdout").is_symlink()
