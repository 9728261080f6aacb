"""Bridges whose database fails over to a standby: PostgreSQL's own, fed by streaming replication, and promoted."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.app_socket import CloseCode
from tests.support.postgres import PASSWORD, USER, Postgres
from tests.support.programs import needs
from tests.support.waiting import wait_for
from tests.support.world import HOST, Bridge, Edge, EmbeddedBroker, unique

pytestmark = needs("postgres")

SETTINGS = {"SARVIS_BRIDGE__HEARTBEAT_TIMEOUT_S": "600", "SARVIS_BRIDGE__RESTART_GRACE_S": "300"}


class Pair:
    """A server, and its standby, which has each commit before it is answered."""

    def __init__(self) -> None:
        self.first = Postgres()
        self.first.start()
        self.first.make("ledger")
        self.second = self.follow(self.first)

    def follow(self, server: Postgres) -> Postgres:
        """A new standby of this server."""
        standby = Postgres(standby_of=server)
        standby.start()
        server.waits_for_standby()
        wait_for("the standby takes part in commits", lambda: self._is_synchronous(server))
        return standby

    @property
    def url(self) -> str:
        """The server that was first, then the other."""
        return f"postgresql://{USER}@{HOST}:{self.first.port},{HOST}:{self.second.port}/ledger"

    def fail_over(self) -> None:
        """The first is gone at once, and the standby takes its place."""
        self.first.stop(by=signal.SIGQUIT)
        self.second.promote()

    @staticmethod
    def _is_synchronous(server: Postgres) -> bool:
        rows = asyncio.run(server.ask("postgres", "SELECT sync_state FROM pg_stat_replication"))
        return [row[0] for row in rows] == ["sync"]


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    try:
        yield pair
    finally:
        pair.second.remove()
        pair.first.remove()


def bridge(folder: Path, name: str, pair: Pair, broker: EmbeddedBroker) -> Bridge:
    password = folder / "password"
    password.write_text(f"{PASSWORD}\n")
    password.chmod(0o600)
    (folder / name).mkdir(exist_ok=True)
    place = {"SARVIS_STORE__URL": pair.url, "SARVIS_STORE__PASSWORD_FILE": str(password)}
    return Bridge(folder / name, broker.url, place | SETTINGS | {"SARVIS_BRIDGE__INSTANCE": name})


@pytest.mark.timeout(300)
def test_bridges_go_on_with_a_standby_that_is_promoted(pair: Pair, tmp_path: Path) -> None:
    """No log-out is lost, no user logged out, no socket closed; also when the old server has become a standby."""
    alice, bob, carol = unique("alice"), unique("bob"), unique("carol")
    with (
        EmbeddedBroker(tmp_path) as broker,
        bridge(tmp_path, "a", pair, broker) as a,
        bridge(tmp_path, "b", pair, broker) as b,
        Edge(tmp_path, broker.url, uid=alice) as edge,
    ):
        edge.event("connected")
        with a.app(alice) as hers, b.app(bob) as his, b.app(carol) as gone:
            edge.event("logged_in")
            a.post("/api/auth/logout", {"uid": carol})
            assert gone.closed_with() == CloseCode.LOGGED_OUT
            pair.fail_over()
            for one in (a, b):
                one.wait_ready()
                one.post("/api/app/heartbeat", {"uid": bob})
            for app in (hers, his):
                app.all_before()
                assert app.code is None
            assert not edge.said("logged_out", 0)
            left = asyncio.run(
                pair.second.ask("ledger", "SELECT left_s IS NOT NULL FROM sarvis.promises WHERE uid = $1", carol)
            )
            assert [row[0] for row in left] == [True], "what was answered before is there"
            b.post("/api/auth/logout", {"uid": alice})
            edge.event("logged_out")
            assert hers.closed_with() == CloseCode.LOGGED_OUT
            # The old server comes back as a standby, on its port: a new connection finds the one that writes.
            pair.first.become_standby_of(pair.second)
            with bridge(tmp_path, "c", pair, broker) as c:
                c.post("/api/auth/logout", {"uid": bob})
                assert his.closed_with() == CloseCode.LOGGED_OUT


@pytest.mark.timeout(300)
def test_a_server_that_takes_no_writes_any_more_is_left_for_the_one_that_does(pair: Pair, tmp_path: Path) -> None:
    """A controlled change-over: the old server still answers, as a standby, and the bridge does not stay with it."""
    uid = unique("alice")
    with EmbeddedBroker(tmp_path) as broker, bridge(tmp_path, "a", pair, broker) as a, a.app(uid) as app:
        pair.first.stop()
        pair.second.promote()
        pair.first.become_standby_of(pair.second)
        a.wait_ready()
        a.post("/api/auth/logout", {"uid": uid})
        assert app.closed_with() == CloseCode.LOGGED_OUT
