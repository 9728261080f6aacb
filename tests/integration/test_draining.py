"""A bridge that is asked to leave: by a signal, by an operator, and once more."""

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from websockets.exceptions import InvalidStatus

from tests.support.processes import run_sarvis
from tests.support.waiting import PATIENCE_S
from tests.support.world import NO_BROKER, Bridge, EmbeddedBroker, Mqtt, unique

FOR_LONG = {"SARVIS_BRIDGE__DRAIN_S": "600"}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path) as running:
        yield running


def test_apps_are_sent_away_newcomers_refused_and_who_rings_may_answer(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with (
        Bridge(tmp_path, broker.url, FOR_LONG) as bridge,
        Mqtt(broker.port) as mqtt,
        bridge.app("alice") as quiet,
        bridge.app("alice", legacy=True) as old,
        bridge.app("bob", acks=False) as rings,
    ):
        wake_id = mqtt.wake(unique("jetson"), "bob", ttl_ms=60_000)
        rings.message("voice_command")
        done = run_sarvis("drain", "--bridge", bridge.url, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"bridge": bridge.url, "sockets": 3, "within_s": 600.0}
        for app in (quiet, old):
            assert app.closed_with() == 4000
            told = json.loads(app.socket.close_reason or "")
            assert (told["code"], type(told["retry_ms"])) == ("drain", int)
        assert bridge.readiness()[0] == 503
        with pytest.raises(InvalidStatus) as refused:
            bridge.app("carol")
        assert (refused.value.response.status_code, refused.value.response.headers["Retry-After"]) == (503, "1")
        answer = httpx2.post(
            f"{bridge.url}/api/app/heartbeat", json={"uid": "bob"}, trust_env=False, timeout=PATIENCE_S
        )
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        rings.say({"type": "ack", "id": wake_id})
        assert rings.closed_with() == 4000
        assert bridge.sarvis.process.wait(PATIENCE_S) == 0


def test_a_bridge_that_leaves_still_accepts_and_a_second_signal_ends_it(tmp_path: Path) -> None:
    settings = FOR_LONG | {"SARVIS_BRIDGE__DRAIN_LEAD_S": "600"}
    with Bridge(tmp_path, NO_BROKER, settings) as bridge, bridge.app("alice") as early:
        bridge.sarvis.process.send_signal(signal.SIGTERM)
        bridge.sarvis.event("it leaves", lambda line: line.get("event") == "leaves")
        assert bridge.readiness()[0] == 503
        with bridge.app("bob") as late:
            late.all_before()
            early.all_before()
            bridge.sarvis.process.send_signal(signal.SIGTERM)
            assert bridge.sarvis.process.wait(PATIENCE_S) == 0


def supervised(bridge: Bridge) -> threading.Thread:
    """Starts it again when it has left, as systemd does."""

    def start_again() -> None:
        assert bridge.sarvis.process.wait(PATIENCE_S) == 0
        bridge.sarvis.__exit__(None, None, None)
        bridge.start()

    thread = threading.Thread(target=start_again)
    thread.start()
    return thread


def test_all_leave_one_after_the_other_and_each_only_when_the_last_is_back(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    names = [{"SARVIS_BRIDGE__INSTANCE": folder.name} for folder in folders]
    with (
        Bridge(folders[0], broker.url, names[0]) as one,
        Bridge(folders[1], broker.url, names[1]) as two,
    ):
        before = [one.sarvis.process.pid, two.sarvis.process.pid]
        threads = [supervised(one), supervised(two)]
        done = run_sarvis("drain", "--all", "--bridge", one.url, "--bridge", two.url, cwd=tmp_path)
        for thread in threads:
            thread.join()
        assert done.returncode == 0, done.stderr
        assert [line.split(",")[0] for line in done.stdout.splitlines()] == [
            f"{one.url} leaves", f"{one.url} is back", f"{two.url} leaves", f"{two.url} is back",
        ]  # fmt: skip
        assert one.sarvis.process.pid != before[0]
        assert two.sarvis.process.pid != before[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--all", "--bridge", "http://127.0.0.1:9"], "give --bridge URL for each of two or more"),
        (["--bridge", "http://127.0.0.1:9", "--bridge", "http://127.0.0.1:10"], "add --all"),
    ],
)
def test_bridges_that_would_leave_together_are_refused(arguments: list[str], told: str, tmp_path: Path) -> None:
    done = run_sarvis("drain", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr


def test_a_bridge_that_cannot_be_asked_is_named(tmp_path: Path) -> None:
    done = run_sarvis("drain", "--bridge", "http://127.0.0.1:9", cwd=tmp_path)
    assert done.returncode == 3
    assert "the bridge cannot be reached at http://127.0.0.1:9" in done.stderr
