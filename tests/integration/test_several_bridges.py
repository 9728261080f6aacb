"""Two bridges, as processes, on one ledger in PostgreSQL and one broker."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PASSWORD, Postgres
from tests.support.processes import Sarvis
from tests.support.programs import needs
from tests.support.waiting import wait_for
from tests.support.world import Bridge, Edge, EmbeddedBroker, unique

pytestmark = needs("postgres")

EXIT_START_ERROR = 3
LOGGED_OUT = 4501
SETTINGS = {
    "SARVIS_BRIDGE__HEARTBEAT_TIMEOUT_S": "600",
    "SARVIS_BRIDGE__HEARTBEAT_COALESCE_S": "2",
    "SARVIS_BRIDGE__RESTART_GRACE_S": "1",
    "SARVIS_BRIDGE__EXPIRY_SPREAD_S": "0",
}
SOON = {"SARVIS_BRIDGE__HEARTBEAT_TIMEOUT_S": "12"}
"""For tests of deadlines; longer than a busy machine stands still."""


class House:
    """A database, a broker, and bridges a and b, each in a folder of its own."""

    def __init__(self, server: Postgres, broker: EmbeddedBroker, folder: Path) -> None:
        self.server = server
        self.broker = broker
        self.folder = folder
        password = folder / "password"
        password.write_text(f"{PASSWORD}\n")
        password.chmod(0o600)
        self.place = {"SARVIS_STORE__URL": server.url("ledger"), "SARVIS_STORE__PASSWORD_FILE": str(password)}

    def bridge(self, name: str, **more: str) -> Bridge:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return Bridge(folder, self.broker.url, self.place | SETTINGS | {"SARVIS_BRIDGE__INSTANCE": name} | more)

    def ask(self, question: str) -> list[tuple[object, ...]]:
        return [tuple(row) for row in asyncio.run(self.server.ask("ledger", question))]

    def promise(self, uid: str) -> float:
        """The durable deadline; wait until there is one."""

        def look() -> float | None:
            rows = self.ask(f"SELECT until_s FROM sarvis.promises WHERE uid = '{uid}' AND left_s IS NULL")  # noqa: S608
            return float(str(rows[0][0])) if rows else None

        return wait_for(f"{uid} is there", look)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    server = Postgres()
    try:
        server.start()
        server.make("ledger")
        with EmbeddedBroker(tmp_path) as broker:
            yield House(server, broker, tmp_path)
    finally:
        server.remove()


def test_a_log_out_by_one_bridge_reaches_the_device_and_the_apps_of_the_other(house: House) -> None:
    uid = unique("alice")
    with house.bridge("a") as a, house.bridge("b") as b, Edge(house.folder, house.broker.url, uid=uid) as edge:
        edge.event("connected")
        with a.app(uid) as app:
            edge.event("logged_in")
            b.post("/api/auth/logout", {"uid": uid})
            edge.event("logged_out")
            assert app.closed_with() == LOGGED_OUT
        wait_for("the log-out is confirmed", lambda: house.ask("SELECT count(*) FROM sarvis.outbox") == [(0,)])
        # And the other way round: who logs in again by one is logged in for both.
        mark = edge.mark()
        with b.app(uid) as again:
            edge.event("logged_in", since=mark)
            a.post("/api/auth/logout", {"uid": uid})
            assert again.closed_with() == LOGGED_OUT


def test_a_second_bridge_of_the_same_name_ends_and_says_whose_it_is(house: House) -> None:
    with house.bridge("a"):
        second = Sarvis(
            "bridge", "--port", "0", "--mqtt-url", house.broker.url, cwd=house.folder,
            settings=house.place | SETTINGS | {"SARVIS_BRIDGE__INSTANCE": "a"},
        )  # fmt: skip
        assert second.process.wait(60) == EXIT_START_ERROR
        second.stop()
        assert any("with this name, bridge.instance = 'a'" in line for line in second.err), second.err
        assert any("at 127.0.0.1:" in line for line in second.err)


def test_a_name_is_free_again_after_a_kill_and_after_a_stop(house: House) -> None:
    with house.bridge("b"):
        first = house.bridge("a")
        first.start()
        first.kill()
        first.http.close()
        with house.bridge("a"):
            pass
        with house.bridge("a"):
            pass


def test_a_bridge_whose_name_was_taken_while_it_stood_still_ends(house: House) -> None:
    with house.bridge("b"):
        first = Sarvis(
            "bridge", "--port", "0", "--mqtt-url", house.broker.url, cwd=house.folder,
            settings=house.place | SETTINGS | {"SARVIS_BRIDGE__INSTANCE": "a"},
        )  # fmt: skip
        first.line_after("bridge listening on ")
        first.process.send_signal(signal.SIGSTOP)
        with house.bridge("a"):
            first.process.send_signal(signal.SIGCONT)
            assert first.process.wait(60) == EXIT_START_ERROR
        first.stop()
        assert any("another bridge has taken the name a" in line for line in first.err), first.err


def test_the_heartbeats_of_one_bridge_count_at_all_of_them(house: House) -> None:
    """The other one, which never heard of her, ends a silent user at the deadline in the row, and not alice."""
    uid, silent = unique("alice"), unique("bob")
    with house.bridge("a", **SOON) as a, house.bridge("b", **SOON), a.app(silent) as bob:
        until_s = house.promise(silent)
        with a.app(uid) as app:
            while bob.code is None:
                app.all_before()  # a heartbeat that is answered
            (seconds,) = house.ask("SELECT seconds FROM sarvis.service")
            assert float(str(seconds[0])) >= until_s
            app.all_before()
            assert app.code is None
    left = {str(uid): is_there for uid, is_there in house.ask("SELECT uid, left_s IS NULL FROM sarvis.promises")}
    assert left == {uid: True, silent: False}


def test_users_of_a_bridge_that_is_killed_leave_at_their_deadline_and_not_before(house: House) -> None:
    uid = unique("alice")
    with house.bridge("b", **SOON) as b, Edge(house.folder, house.broker.url, uid=uid) as edge:
        edge.event("connected")
        a = house.bridge("a", **SOON)
        a.start()
        with a.app(uid):
            edge.event("logged_in")
            until_s = house.promise(uid)
            a.kill()
            a.http.close()
        edge.event("logged_out")
        ((left_s,),) = house.ask("SELECT left_s FROM sarvis.promises")
        assert float(str(left_s)) >= until_s
        with b.app(uid):
            assert house.promise(uid) > until_s


def test_a_restart_of_the_database_logs_no_user_out_and_closes_no_socket(house: House) -> None:
    uid = unique("alice")
    patient = {"SARVIS_BRIDGE__RESTART_GRACE_S": "300"}
    with (
        house.bridge("a", **patient) as a,
        house.bridge("b", **patient) as b,
        Edge(house.folder, house.broker.url, uid=uid) as edge,
    ):
        edge.event("connected")
        with a.app(uid) as app, b.app(unique("carol")) as other:
            edge.event("logged_in")
            house.server.stop(by=signal.SIGQUIT)
            for bridge in (a, b):
                wait_for("it is not ready", lambda bridge=bridge: bridge.readiness()[0] == 503)  # type: ignore[misc]
            house.server.start()
            for bridge in (a, b):
                bridge.wait_ready()
            for one in (app, other):
                one.all_before()
                assert one.code is None
            assert not edge.said("logged_out", 0)
            b.post("/api/auth/logout", {"uid": uid})
            edge.event("logged_out")
            assert app.closed_with() == LOGGED_OUT


def test_a_bridge_without_the_key_files_of_the_others_does_not_start(house: House, tmp_path: Path) -> None:
    required = {"SARVIS_AUTH__MODE": "required", "SARVIS_AUTH__KEY_FILE": str(tmp_path / "signing.keys")}
    with house.bridge("a", **required):
        pass
    elsewhere = required | {"SARVIS_AUTH__KEY_FILE": str(tmp_path / "elsewhere.keys")}
    second = Sarvis(
        "bridge", "--port", "0", "--mqtt-url", house.broker.url, cwd=house.folder,
        settings=house.place | SETTINGS | elsewhere | {"SARVIS_BRIDGE__INSTANCE": "b"},
    )  # fmt: skip
    assert second.process.wait(60) == EXIT_START_ERROR
    second.stop()
    assert any("auth.key_file: " in line and "other bridges use this ledger (a)" in line for line in second.err)
    assert not (tmp_path / "elsewhere.keys").exists()
    with house.bridge("b", **required):
        pass


def test_a_bridge_with_a_short_coalescing_time_does_not_start_on_a_shared_ledger(house: House) -> None:
    bridge = Sarvis(
        "bridge", "--port", "0", "--mqtt-url", house.broker.url, cwd=house.folder,
        settings=house.place | SETTINGS | {"SARVIS_BRIDGE__HEARTBEAT_COALESCE_S": "1.5"},
    )  # fmt: skip
    assert bridge.process.wait(60) == EXIT_START_ERROR
    bridge.stop()
    assert any("bridge.heartbeat_coalesce_s = 1.5" in line for line in bridge.err), bridge.err
