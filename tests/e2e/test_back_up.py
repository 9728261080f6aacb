"""`sarvis backup` and `sarvis restore` with a real bridge and broker, under load and after kill -9."""

import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.ledgers import look
from tests.support.processes import run_sarvis
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import NO_BROKER, PREFIX, Bridge, EmbeddedBroker, Mqtt

ENOUGH = 20


def backup(folder: Path, name: str = "back-up.tar.gz") -> Path:
    done = run_sarvis("backup", "--out", str(folder / name), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / name


def restore(file: Path, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return run_sarvis("restore", str(file), *more, cwd=folder)


@contextmanager
def log_ins(bridge: Bridge) -> Iterator[list[str]]:
    """One user after the other logs in, until the block ends; the devices of those who were answered."""
    answered: list[str] = []
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            device = f"jetson-{len(answered)}"
            bridge.post("/api/auth/login", {"uid": f"user-{len(answered)}", "device_id": device})
            answered.append(device)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield answered
    finally:
        over.set()
        thread.join()


def test_a_back_up_under_load_holds_all_that_was_answered_before_it(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as broker, Bridge(tmp_path, broker.url) as bridge:
        with Mqtt(broker.port) as mqtt:
            for number in range(50):
                mqtt.paho.publish(f"{PREFIX}/devices/kept-{number}/status", b"{}", 1, retain=True).wait_for_publish(
                    PATIENCE_S
                )
            with log_ins(bridge) as answered:
                wait_for("the load", lambda: len(answered) > ENOUGH)
                before = len(answered)
                back_up = backup(tmp_path)
                wait_for("more", lambda: len(answered) > before + ENOUGH)
        running = restore(back_up, tmp_path, "--replace")
        assert running.returncode == 3
        assert "a bridge uses the ledger" in running.stderr
        bridge.kill()
        broker.kill()
        done = restore(back_up, tmp_path)
        assert done.returncode == 2
        assert "--replace" in done.stderr
        done = restore(back_up, tmp_path, "--replace")
        assert done.returncode == 0, done.stderr
        broker.start()
        bridge.mqtt_url = broker.url
        bridge.start()
        assert len(bridge.sarvis.told("ledger_is_a_back_up")) == 1
        for device in answered[:before]:
            assert len(look(tmp_path / "ledger.db", device).sessions) == 1
        assert look(tmp_path / "ledger.db", answered[-1]).sessions == []
        with Mqtt(broker.port) as mqtt:
            mqtt.paho.subscribe(f"{PREFIX}/devices/+/status", 1)
            wait_for("what was retained", lambda: len({said[0] for said in mqtt.got if "/kept-" in said[0]}) == 50)


def test_after_a_kill_a_back_up_holds_what_stood_in_the_log_alone(tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER) as bridge:
        bridge.post("/api/auth/login", {"uid": "alice", "device_id": "jetson"})
        bridge.kill()
        back_up = backup(tmp_path)
        done = restore(back_up, tmp_path, "--to", "elsewhere")
        assert done.returncode == 0, done.stderr
        (ledger,) = (tmp_path / "elsewhere").rglob("ledger.db")
        assert [session.uid for session in look(ledger, "jetson").sessions] == ["alice"]
        bridge.start()


def test_a_hub_comes_back_with_its_keys_users_and_certificates_when_the_disk_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    made = run_sarvis(
        "broker", "config", "embedded", "--out", str(folder), "--host", "localhost", "--listen", "127.0.0.1",
        cwd=tmp_path,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    config = folder / "bridge" / "sarvis.toml"
    settings = {"SARVIS_BROKER__DIR": str(folder)}
    added = run_sarvis("device", "add", "jetson-1", "--config", str(config), cwd=tmp_path, settings=settings)
    assert added.returncode == 0, added.stderr
    run_sarvis("token", "app", "alice", "--config", str(config), cwd=tmp_path, settings=settings)
    arguments = ("backup", "--out", "b.tar.gz", "--config", str(config))
    done = run_sarvis(*arguments, cwd=tmp_path, settings=settings)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.tar.gz").stat().st_mode & 0o777 == 0o600
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    assert {"ca.key", "users.json", "signing.keys", "password"} <= {path.name for path in before}
    folder.rename(tmp_path / "lost")
    (tmp_path / "ledger.db").rename(tmp_path / "lost.db")
    done = restore(tmp_path / "b.tar.gz", tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in before} == before
    assert (folder / "certs" / "ca.key").stat().st_mode & 0o777 == 0o600
    listed = run_sarvis("device", "list", "--config", str(config), cwd=tmp_path, settings=settings)
    assert "jetson-1" in listed.stdout


def test_a_damaged_back_up_changes_nothing(tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER) as bridge:
        bridge.post("/api/auth/login", {"uid": "alice", "device_id": "jetson"})
    back_up = backup(tmp_path)
    data = bytearray(back_up.read_bytes())
    before = (tmp_path / "ledger.db").read_bytes()
    for name, damaged in (
        ("cut", data[: len(data) // 2]),
        ("flipped", data[:400] + bytes([data[400] ^ 0xFF]) + data[401:]),
        ("empty", b""),
    ):
        (tmp_path / name).write_bytes(damaged)
        done = restore(tmp_path / name, tmp_path, "--replace")
        assert done.returncode == 3, name
        assert name in done.stderr
        assert "Traceback" not in done.stderr
    with tarfile.open(tmp_path / "foreign.tar", "w") as tar:
        tar.add(tmp_path / "cut", "cut")
    assert restore(tmp_path / "foreign.tar", tmp_path, "--replace").returncode == 3
    assert (tmp_path / "ledger.db").read_bytes() == before


def test_a_nightly_copy_of_the_file_alone_is_used_only_when_that_is_asked_for(tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER) as bridge:
        bridge.post("/api/auth/login", {"uid": "alice", "device_id": "jetson"})
        wait_for("it is in the log", lambda: (tmp_path / "ledger.db-wal").stat().st_size > 0)
        nightly = tmp_path / "nightly.db"
        nightly.write_bytes((tmp_path / "ledger.db").read_bytes())
    done = restore(nightly, tmp_path, "--replace")
    assert done.returncode == 3
    assert "nightly.db was copied while a bridge used it" in done.stderr
    done = restore(nightly, tmp_path, "--replace", "--incomplete")
    assert done.returncode == 0, done.stderr
    assert look(tmp_path / "ledger.db", "jetson").sessions == []


@pytest.mark.parametrize("out", ["back-up.tar.gz", "no-folder/back-up.tar.gz"])
def test_a_back_up_replaces_nothing_and_needs_a_folder(tmp_path: Path, out: str) -> None:
    (tmp_path / "back-up.tar.gz").write_text("kept")
    done = run_sarvis("backup", "--out", out, cwd=tmp_path)
    assert done.returncode == 2
    assert (tmp_path / "back-up.tar.gz").read_text() == "kept"


def test_without_a_ledger_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    done = run_sarvis("backup", "--out", "b.tar.gz", cwd=tmp_path)
    assert done.returncode == 3
    assert "there is no ledger at" in done.stderr
    assert not (tmp_path / "b.tar.gz").exists()
