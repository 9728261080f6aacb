"""`sarvis forget` on a real bridge that runs: afterwards its files do not name the user."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.support.postgres import PASSWORD, Postgres
from tests.support.processes import run_sarvis
from tests.support.programs import needs
from tests.support.waiting import wait_for
from tests.support.world import Bridge, Edge, EmbeddedBroker, Mqtt, unique


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


def test_without_a_running_bridge_it_does_the_same_and_the_next_one_tells_the_device(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    uid, other, device = unique("forgetme"), unique("waits"), unique("jetson")
    with Bridge(tmp_path, broker.url) as bridge, Mqtt(broker.port) as mqtt:
        settings = {"SARVIS_BRIDGE__PORT": str(bridge.port)}
        with bridge.app(uid):
            assert mqtt.outcome("x", mqtt.wake("x", uid), nth=2) == "acked"
        bridge.post("/api/auth/login", {"uid": other, "device_id": device})
    assert named(tmp_path, uid) != []
    done = run_sarvis("forget", uid, "--json", cwd=tmp_path, settings=settings)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["waiting"], told["claims"], told["stories"] > 0, told["audit"] > 0) == ([], [], True, True)
    assert named(tmp_path, uid) == []
    lines = run_sarvis("audit", "export", "--about", told["name"], cwd=tmp_path).stdout
    assert "cli" in [json.loads(line)["via"] for line in lines.splitlines()]
    waits = run_sarvis("forget", other, cwd=tmp_path, settings=settings)
    assert waits.returncode == 1
    assert f"still named at {device}: it has not confirmed the log-out" in waits.stdout
    with Mqtt(broker.port) as mqtt, Bridge(tmp_path, broker.url):
        mqtt.publish(f"devices/{device}/hello", {"nonce": "n1", "install_id": device, "boot": 1, "seq": 1})
        assert mqtt.message(f"devices/{device}/logout")["uid"] == other


def listed(folder: Path) -> str:
    return run_sarvis("sessions", "list", cwd=folder).stdout


def test_beside_a_bridge_at_another_address_it_changes_nothing(broker: EmbeddedBroker, tmp_path: Path) -> None:
    uid = unique("forgetme")
    with Bridge(tmp_path, broker.url) as bridge:
        bridge.post("/api/auth/login", {"uid": uid, "device_id": "x"})
        done = run_sarvis("forget", uid, cwd=tmp_path, settings={"SARVIS_BRIDGE__PORT": "9"})
        assert (done.returncode, "start `sarvis bridge`" in done.stderr) == (3, True)
        assert uid in listed(tmp_path)


def test_a_device_that_was_away_then_confirms_and_names_the_user_no_more(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    uid = unique("forgetme")
    edge = Edge(tmp_path, broker.url)
    bridge = Bridge(tmp_path, broker.url)
    with bridge:
        settings = {"SARVIS_BRIDGE__PORT": str(bridge.port)}
        bridge.post("/api/auth/login", {"uid": uid, "device_id": edge.device_id})
        edge.start()
        edge.event("logged_in")
        edge.kill()
    done = run_sarvis("forget", uid, cwd=tmp_path, settings=settings)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"still named at {edge.device_id}: it has not confirmed" in done.stdout
    bridge = Bridge(tmp_path, broker.url)
    with bridge, edge:
        edge.event("logged_out")

        def confirmed() -> bool:
            shown = run_sarvis("sessions", "list", "--json", cwd=tmp_path, settings=settings)
            return bool(json.loads(shown.stdout)["waiting"] == [])

        wait_for("its log-out is confirmed", confirmed)
        settings = {"SARVIS_BRIDGE__PORT": str(bridge.port)}
        done = run_sarvis("forget", uid, cwd=tmp_path, settings=settings)
        assert (done.returncode, "still named" in done.stdout) == (0, False), done.stdout + done.stderr


@needs("postgres")
@pytest.mark.parametrize("runs", [True, False])
def test_a_ledger_in_postgresql_forgets_with_and_without_a_bridge(
    broker: EmbeddedBroker, tmp_path: Path, *, runs: bool
) -> None:
    uid, server = unique("forgetme"), Postgres()
    password = tmp_path / "password"
    password.write_text(f"{PASSWORD}\n")
    password.chmod(0o600)
    try:
        server.start()
        server.make("ledger")
        settings = {"SARVIS_STORE__URL": server.url("ledger"), "SARVIS_STORE__PASSWORD_FILE": str(password)}
        with ExitStack() as running:
            bridge = running.enter_context(Bridge(tmp_path, broker.url, settings))
            bridge.post("/api/auth/logout", {"uid": uid})
            settings["SARVIS_BRIDGE__PORT"] = str(bridge.port)
            if not runs:
                running.close()
            done = run_sarvis("forget", uid, "--json", cwd=tmp_path, settings=settings)
            assert (done.returncode, done.stderr) == (0, ""), done.stdout
            assert json.loads(done.stdout)["audit"] > 0
            kept = run_sarvis("audit", "export", cwd=tmp_path, settings=settings)
            assert uid not in kept.stdout
            assert json.loads(done.stdout)["name"] in kept.stdout
    finally:
        server.remove()


def test_without_a_bridge_and_a_ledger_it_says_what_is_missing(tmp_path: Path) -> None:
    done = run_sarvis("forget", "alice", cwd=tmp_path, settings={"SARVIS_BRIDGE__PORT": "9"})
    assert done.returncode == 3
    assert "start `sarvis bridge`" in done.stderr
    assert "ledger.db" in done.stderr
    assert list(tmp_path.iterdir()) == [], "nothing is made"


def test_of_a_bridge_elsewhere_it_needs_that_bridge(tmp_path: Path) -> None:
    done = run_sarvis("forget", "alice", cwd=tmp_path, settings={"SARVIS_OPERATOR__URL": "http://127.0.0.1:9"})
    assert done.returncode == 3
    assert "start `sarvis bridge`" in done.stderr
    assert "ledger.db" not in done.stderr


def test_a_bad_name_is_named(tmp_path: Path) -> None:
    done = run_sarvis("forget", "a/b", cwd=tmp_path)
    assert done.returncode == 2
    assert "UID" in done.stderr
