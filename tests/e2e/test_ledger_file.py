"""What `sarvis bridge` makes of the file that it is told to keep its ledger in."""

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.support.ledgers import BAD, look, sums
from tests.support.processes import run_sarvis
from tests.support.waiting import wait_for
from tests.support.world import HOST, Bridge, unique

ENOUGH = 20


def start_and_end(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    arguments = ("bridge", "--port", "0", "--mqtt-url", f"mqtt://{HOST}:9", "--store-url", f"sqlite:///{path}")
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
    first = Bridge(tmp_path, f"mqtt://{HOST}:9")
    first.start(ready=False)
    try:
        second = start_and_end(tmp_path / "ledger.db", tmp_path)
        assert second.returncode == 3
        assert f"another bridge keeps the ledger {tmp_path / 'ledger.db'}" in second.stderr
        first.post("/api/auth/login", {"uid": "alice", "device_id": "jetson"})
    finally:
        first.stop()


def test_a_bridge_that_is_killed_in_the_middle_leaves_a_ledger_with_all_that_it_answered(tmp_path: Path) -> None:
    bridge = Bridge(tmp_path, f"mqtt://{HOST}:9")
    bridge.start(ready=False)
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
    bridge.start(ready=False)
    for device_id in answered:
        assert len(look(tmp_path / "ledger.db", device_id).sessions) == 1
    bridge.post("/api/auth/login", {"uid": unique("user"), "device_id": "one-more"})
    bridge.stop()
