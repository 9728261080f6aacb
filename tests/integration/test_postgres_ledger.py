"""A bridge whose ledger is in PostgreSQL, as processes: it lives through what happens to the database."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PASSWORD, Postgres
from tests.support.processes import Sarvis, run_sarvis
from tests.support.programs import needs
from tests.support.waiting import wait_for
from tests.support.world import Bridge, Edge, EmbeddedBroker, unique

pytestmark = needs("postgres")

EXIT_SETTINGS_ERROR = 2
EXIT_START_ERROR = 3
UNAVAILABLE = 503


@pytest.fixture
def server() -> Iterator[Postgres]:
    running = Postgres()
    try:
        running.start()
        yield running
    finally:
        running.remove()


@pytest.fixture
def place(server: Postgres, tmp_path: Path) -> dict[str, str]:
    """Settings that name an empty database, and the file with its password."""
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    file.chmod(0o600)
    server.make("ledger")
    return {"SARVIS_STORE__URL": server.url("ledger"), "SARVIS_STORE__PASSWORD_FILE": str(file)}


def test_a_log_out_survives_the_death_of_bridge_and_database(
    server: Postgres, place: dict[str, str], tmp_path: Path
) -> None:
    uid = unique("alice")
    with EmbeddedBroker(tmp_path) as broker:
        bridge = Bridge(tmp_path, broker.url, place)
        bridge.start()
        with Edge(tmp_path, broker.url, uid=uid) as edge:
            edge.event("connected")
            with bridge.app(uid):
                edge.event("logged_in")
            broker.kill()  # the device hears nothing
            bridge.post("/api/auth/logout", {"uid": uid})
            bridge.kill()
            server.stop(by=signal.SIGQUIT)
            server.start()
            broker.start()
            bridge.start()
            edge.event("logged_out")
        found = run_sarvis("sessions", "show", uid, cwd=tmp_path, settings=place)
        assert found.returncode == 0, found.stderr
        bridge.stop()


def test_while_the_database_is_away_nothing_is_acknowledged_and_nobody_leaves(
    server: Postgres, place: dict[str, str], tmp_path: Path
) -> None:
    uid = unique("alice")
    with (
        EmbeddedBroker(tmp_path) as broker,
        Bridge(tmp_path, broker.url, place) as bridge,
        Edge(tmp_path, broker.url, uid=uid) as edge,
    ):
        edge.event("connected")
        with bridge.app(uid) as app:
            edge.event("logged_in")
            server.stop(by=signal.SIGQUIT)
            wait_for("the bridge is not ready", lambda: bridge.readiness()[0] == UNAVAILABLE)
            for path, body in (("logout", {"uid": uid}), ("login", {"uid": "bob", "device_id": edge.device_id})):
                answer = bridge.http.post(f"{bridge.url}/api/auth/{path}", json=body)
                assert answer.status_code == UNAVAILABLE, answer.text
            assert bridge.trigger(uid)["success"] is True
            app.message("voice_command")
            server.start()
            bridge.wait_ready()
            assert not edge.said("logged_out", 0)
            bridge.post("/api/auth/logout", {"uid": uid})
            edge.event("logged_out")


def test_a_second_bridge_and_operators_beside_the_first(place: dict[str, str], tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as broker, Bridge(tmp_path, broker.url, place):
        for arguments in (
            ["token", "api", "ci"], ["sessions", "list"], ["device", "list"], ["device", "versions"],
            ["device", "list", "--tag", "none", "--model", "-", "--away-h", "1"],
        ):  # fmt: skip
            done = run_sarvis(*arguments, cwd=tmp_path, settings=place)
            assert done.returncode == 0, done.stderr
        second = Sarvis("bridge", "--port", "0", "--mqtt-url", broker.url, cwd=tmp_path, settings=place)
        assert second.process.wait(60) == EXIT_START_ERROR
        second.stop()
        assert any("another bridge uses the ledger postgresql://" in line for line in second.err)
        looked = run_sarvis("doctor", cwd=tmp_path, settings=place)
        assert "a bridge uses it" in looked.stdout


def test_a_bridge_that_was_replaced_ends(server: Postgres, place: dict[str, str], tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as broker:
        first = Sarvis("bridge", "--port", "0", "--mqtt-url", broker.url, cwd=tmp_path, settings=place)
        first.line_after("bridge listening on ")
        first.process.send_signal(signal.SIGSTOP)
        server.end_connections("ledger")
        with Bridge(tmp_path, broker.url, place | {"SARVIS_BRIDGE__INSTANCE": "bridge-2"}):
            pass
        first.process.send_signal(signal.SIGCONT)
        assert first.process.wait(60) == EXIT_START_ERROR
        first.stop()
        assert any("taken over by others while this bridge was cut off" in line for line in first.err)


def test_a_ledger_moves_between_file_and_database_and_through_a_back_up(place: dict[str, str], tmp_path: Path) -> None:
    """An older ledger in SQLite moves in; a back-up of the database, made beside a bridge, is put into another one."""
    uid = unique("alice")
    with EmbeddedBroker(tmp_path) as broker, Edge(tmp_path, broker.url, uid=uid) as edge:
        edge.event("connected")
        with Bridge(tmp_path, broker.url) as first, first.app(uid):
            edge.event("logged_in")
        moved = run_sarvis("restore", "ledger.db", cwd=tmp_path, settings=place)
        assert moved.returncode == 0, moved.stderr
        assert f"restored  {place['SARVIS_STORE__URL']}" in moved.stdout
        again = run_sarvis("restore", "ledger.db", cwd=tmp_path, settings=place)
        assert again.returncode == EXIT_SETTINGS_ERROR
        assert "--replace keeps it beside" in again.stderr

        with Bridge(tmp_path, broker.url, place) as second:
            second.sarvis.told("ledger_is_a_back_up")
            written = run_sarvis("backup", "--out", "hub.tar.gz", cwd=tmp_path, settings=place)
            assert written.returncode == 0, written.stderr
            refused = run_sarvis("restore", "ledger.db", "--replace", cwd=tmp_path, settings=place)
            assert refused.returncode == EXIT_START_ERROR
            assert "a bridge uses the ledger postgresql://" in refused.stderr
            second.post("/api/auth/logout", {"uid": uid})
            edge.event("logged_out")

        broker.stop()
        restored = run_sarvis("restore", "hub.tar.gz", "--replace", cwd=tmp_path, settings=place)
        broker.start()
        assert restored.returncode == 0, restored.stderr
        assert "kept      schema sarvis_before_" in restored.stdout
        listed = run_sarvis("sessions", "list", "--json", cwd=tmp_path, settings=place)
        assert [one["uid"] for one in json.loads(listed.stdout)["sessions"]] == [uid]
        # A bridge goes on counting where the back-up ended: numbers do not meet.
        with Bridge(tmp_path, broker.url, place) as third, third.app(uid):
            third.post("/api/auth/login", {"uid": uid, "device_id": edge.device_id})
            wait_for("the user is logged in again", lambda: edge.said("logged_in", 0)[1:])

    apart = run_sarvis("restore", "hub.tar.gz", "--to", "apart", cwd=tmp_path)
    assert apart.returncode == 0, apart.stderr
    assert (tmp_path / "apart" / "ledger.db").is_file()
    unnamed = run_sarvis("restore", "hub.tar.gz", "--replace", cwd=tmp_path)
    assert unnamed.returncode == EXIT_SETTINGS_ERROR
    assert "--store-url" in unnamed.stderr
