"""What `sarvis bridge` makes of the file that it is told to keep its ledger in."""

import json
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from bridge.sessions.rules.deadlines import LONGEST_STEP_S
from bridge.storage.records import DurableDeadline, ServiceSeconds
from tests.support.ledgers import ALICE, BAD, keep, look, sums
from tests.support.processes import Sarvis, run_sarvis
from tests.support.waiting import wait_for
from tests.support.world import NO_BROKER, Bridge, EmbeddedBroker, Mqtt, unique

ENOUGH = 20


def start_and_end(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    arguments = ("bridge", "--port", "0", "--mqtt-url", NO_BROKER, "--store-url", f"sqlite:///{path}")
    return run_sarvis(*arguments, cwd=folder)


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[Path, str]]]:
    """Starts a bridge on each bad ledger, two at a time; tells the path and what was said, once it is left alone."""
    paths: dict[str, Path] = {}
    for kind, bad in BAD.items():
        paths[kind] = tmp_path_factory.mktemp("bad") / "state" / "ledger.db"
        paths[kind].parent.mkdir()
        bad.make(paths[kind])

    def refuse(path: Path) -> tuple[Path, str]:
        before = sums(path)
        ended = start_and_end(path, path.parents[1])
        assert ended.returncode == 3, ended.stderr
        assert ended.stdout == ""
        assert sums(path) == before
        return path, ended.stderr

    with ThreadPoolExecutor(2) as pool:
        made = {kind: pool.submit(refuse, path) for kind, path in paths.items()}
        yield lambda kind: made[kind].result()


@pytest.mark.parametrize("kind", list(BAD))
def test_a_bridge_does_not_start_on_what_is_no_ledger_of_ours(
    refusals: Callable[[str], tuple[Path, str]], kind: str
) -> None:
    path, said = refusals(kind)
    for word in (str(path), *BAD[kind].words):
        assert word in said
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if line.startswith("error: ")]) == 1


def test_a_second_bridge_on_the_same_ledger_does_not_start_and_the_first_goes_on(tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER) as first:
        second = start_and_end(tmp_path / "ledger.db", tmp_path)
        assert second.returncode == 3
        assert f"another bridge uses the ledger {tmp_path / 'ledger.db'}" in second.stderr
        first.post("/api/auth/login", {"uid": "alice", "device_id": "jetson"})


def test_a_killed_bridge_leaves_a_ledger_with_everything_that_it_answered(tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER) as bridge:
        answered: list[str] = []

        def log_in(number: int) -> None:
            device_id = f"jetson-{number}"
            try:
                bridge.post("/api/auth/login", {"uid": f"user-{number}", "device_id": device_id})
            except httpx2.TransportError:
                return
            answered.append(device_id)

        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(log_in, number) for number in range(5000)]
            wait_for("it is in the middle", lambda: len(answered) > ENOUGH)
            bridge.kill()
            for one in asked:
                one.cancel()
        bridge.start()
        for device_id in answered:
            assert len(look(tmp_path / "ledger.db", device_id).sessions) == 1
        bridge.post("/api/auth/login", {"uid": unique("user"), "device_id": "one-more"})


@pytest.mark.parametrize("restored", [False, True])
def test_a_user_nearly_due_gets_some_time_after_a_restart_and_all_after_a_restore(
    tmp_path: Path, restored: bool
) -> None:
    path = tmp_path / "ledger.db"
    keep(path, [*ALICE, ServiceSeconds(1000.0), DurableDeadline("alice", 1001.0)])
    arguments = ("--port", "0", "--mqtt-url", NO_BROKER, *(["--restored"] if restored else []))
    with Sarvis("bridge", *arguments, cwd=tmp_path) as bridge:
        bridge.line_after("bridge listening on")
        told = run_sarvis("sessions", "list", "--json", cwd=tmp_path)
        (session,) = json.loads(told.stdout)["sessions"]
    low, high = (3000.0, 3660.0) if restored else (60.0, 180.0)
    # The service time on disk is at most one step behind that of the promise.
    assert low <= session["promised_s"] <= high + LONGEST_STEP_S + 0.1


def test_a_missed_wake_is_reported_at_the_next_connection_after_a_kill(
    tmp_path: Path,
) -> None:
    uid = unique("user")
    with EmbeddedBroker(tmp_path) as broker, Bridge(tmp_path, broker.url) as bridge:
        with Mqtt(broker.port) as mqtt:
            wake_id = mqtt.wake("jetson", uid, ttl_ms=200)
            assert mqtt.outcome("jetson", wake_id) == "user_not_connected"
        wait_for("it is in the ledger", lambda: missed(tmp_path / "ledger.db") == [wake_id])
        bridge.kill()
        bridge.start()
        with bridge.app(uid) as app:
            assert [wake["id"] for wake in app.message("connection_established")["missed"]] == [wake_id]
        wait_for("it is told once", lambda: missed(tmp_path / "ledger.db") == [])


def missed(path: Path) -> list[str]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return [wake_id for (wake_id,) in connection.execute("SELECT id FROM missed")]
