"""`sarvis forget` on a real bridge that runs: afterwards its files do not name the user."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.processes import run_sarvis
from tests.support.waiting import wait_for
from tests.support.world import Bridge, EmbeddedBroker, Mqtt, unique


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as it:
        yield it


def named(folder: Path, uid: str) -> list[str]:
    """The bridge's files in which this name stands, also in free space."""
    return sorted(path.name for path in folder.iterdir() if path.is_file() and uid.encode() in path.read_bytes())


def has_stories(folder: Path, uid: str) -> bool:
    return bool({*named(folder, uid)} & {"stories.db", "stories.db-wal"})


def test_after_it_no_file_of_the_bridge_names_the_user(broker: EmbeddedBroker, tmp_path: Path) -> None:
    uid, other = unique("forgetme"), unique("kept")
    with Bridge(tmp_path, broker.url) as bridge, Mqtt(broker.port) as mqtt:
        settings = {"SARVIS_BRIDGE__PORT": str(bridge.port)}
        with bridge.app(uid), bridge.app(other):
            assert mqtt.outcome("x", mqtt.wake("x", uid), nth=2) == "acked"
            assert mqtt.outcome("x", mqtt.wake("x", other), nth=2) == "acked"
            for one in (uid, other):
                wait_for("its story is in the file", partial(has_stories, tmp_path, one))
        mqtt.wake("x", uid, ttl_ms=1000)
        wait_for("it is missed", lambda: bridge.metric('sarvis_wakes_settled_total{fate="missed"}') == 1)
        assert any(name.startswith("ledger.db") for name in named(tmp_path, uid))
        done = run_sarvis("forget", uid, cwd=tmp_path, settings=settings)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert "stories and events" in done.stdout
        assert named(tmp_path, uid) == [], "while the bridge runs"
        shown = run_sarvis("trace", "--user", other, cwd=tmp_path, settings=settings)
        assert shown.returncode == 0, "the stories of others are there"
        unknown = run_sarvis("trace", "--user", uid, cwd=tmp_path, settings=settings)
        assert unknown.returncode == 1
    assert named(tmp_path, uid) == [], "after its end"
    assert named(tmp_path, other) != []


def test_a_log_out_that_no_device_confirmed_stays_and_is_told(broker: EmbeddedBroker, tmp_path: Path) -> None:
    uid = unique("forgetme")
    with Bridge(tmp_path, broker.url) as bridge:
        settings = {"SARVIS_BRIDGE__PORT": str(bridge.port)}
        bridge.post("/api/auth/login", {"uid": uid, "device_id": "away"})
        done = run_sarvis("forget", uid, cwd=tmp_path, settings=settings)
        assert done.returncode == 1
        assert "still named at away: it has not confirmed the log-out; type this again when it has" in done.stdout
        waiting = run_sarvis("sessions", "list", cwd=tmp_path, settings=settings)
        assert uid in waiting.stdout, "the log-out is not lost"


def test_it_needs_the_bridge_and_says_so(tmp_path: Path) -> None:
    done = run_sarvis("forget", "alice", cwd=tmp_path, settings={"SARVIS_OPERATOR__URL": "http://127.0.0.1:9"})
    assert done.returncode == 3
    assert "start `sarvis bridge`" in done.stderr


def test_a_bad_name_is_named(tmp_path: Path) -> None:
    done = run_sarvis("forget", "a/b", cwd=tmp_path)
    assert done.returncode == 2
    assert "UID" in done.stderr
