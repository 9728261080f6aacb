"""`sarvis device add --from`: a fleet in one command."""

from pathlib import Path

import pytest

from broker.provisioning.folder import BrokerFolder
from tests.support.processes import run_sarvis
from tests.support.world import PREFIX

MANY = 30


@pytest.mark.parametrize("certificates", [False, True], ids=["passwords", "certificates"])
def test_devices_from_a_file_are_in_ledger_and_broker_each_with_its_kit(tmp_path: Path, certificates: bool) -> None:
    settings = {"SARVIS_BROKER__DIR": "hub"}
    made = run_sarvis(
        "broker", "config", "embedded", "--out", "hub", "--host", "localhost", "--listen", "127.0.0.1",
        *(["--client-certificates"] if certificates else []), cwd=tmp_path,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    config = "hub/bridge/sarvis.toml"
    names = [f"jetson-{number}" for number in range(MANY)]
    (tmp_path / "list.csv").write_text("id,uid\n" + "".join(f"{name},user-of-{name}\n" for name in names))
    add = ("device", "add", "--config", config, "--from", "list.csv")
    done = run_sarvis(*add, "--kit", "kits", cwd=tmp_path, settings=settings)
    assert done.returncode == 0, done.stderr
    assert f"{MANY} devices are in the ledger" in done.stdout
    listed = run_sarvis("device", "list", "--config", config, cwd=tmp_path, settings=settings).stdout
    broker = BrokerFolder(tmp_path / "hub", PREFIX)
    for name in names:
        assert f"user-of-{name}" in listed
        kit = tmp_path / "kits" / name
        assert f'uid = "user-of-{name}"' in (kit / "sarvis.toml").read_text()
        if certificates:
            assert (kit / "client.key").stat().st_mode & 0o777 == 0o600
        else:
            assert broker.verify(name, (kit / "password").read_text().strip())
    again = run_sarvis(*add, cwd=tmp_path, settings=settings)
    assert f"{MANY} secrets stay as they are" in again.stdout


def test_without_kits_the_passwords_are_told_once_and_a_wrong_line_adds_nobody(tmp_path: Path) -> None:
    settings = {"SARVIS_BROKER__DIR": "hub"}
    run_sarvis("broker", "config", "embedded", "--out", "hub", "--host", "localhost", cwd=tmp_path)
    add = ("device", "add", "--config", "hub/bridge/sarvis.toml", "--from", "list.csv")
    (tmp_path / "list.csv").write_text("id\njetson-1\njetson 2\n")
    done = run_sarvis(*add, cwd=tmp_path, settings=settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert "list.csv, line 3" in done.stderr
    broker = BrokerFolder(tmp_path / "hub", PREFIX)
    assert "jetson-1" not in broker.users()
    (tmp_path / "list.csv").write_text("id\njetson-1\njetson-2\n")
    done = run_sarvis(*add, cwd=tmp_path, settings=settings)
    said = dict(line.split(",") for line in done.stdout.splitlines() if line.startswith("jetson-"))
    assert broker.verify("jetson-1", said["jetson-1"])
    assert broker.verify("jetson-2", said["jetson-2"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name one device, or a file"),
        (("jetson-1", "--from", "list.csv"), "name one device, or a file"),
        (("--from", "list.csv", "--uid", "alice"), "the file says uid"),
    ],
)
def test_what_does_not_fit_together_is_said(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = run_sarvis("device", "add", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
