"""What docs/operations.md tells an owner to type who goes from one server to three; then a bridge is killed."""

import asyncio
import os
import re
import shlex
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from bridge.auth import tokens
from bridge.storage.records import Session
from bridge.storage.sqlite.store import SqliteStore
from infra.settings.bridge import StoreSettings
from tests.support.clock import ManualClock
from tests.support.clusters import three_free
from tests.support.ports import free_port
from tests.support.postgres import PASSWORD, Postgres
from tests.support.programs import needs
from tests.support.terminals import Terminals, commands_of
from tests.support.waiting import wait_for
from tests.support.world import HOST, App, accepts

pytestmark = [needs("postgres", "nats-server", "haproxy"), pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
SECTION = "From one server to three"
BACKGROUND = ("nats-server", "sarvis bridge --config", "haproxy")
BRIDGES = ("bridge-1", "bridge-2", "bridge-3")
STORE = re.compile(r"\[store\].*?\n\n", re.DOTALL)


class ThreeServers(Terminals):
    """All on this machine: names become localhost, and each program has ports of its own."""

    def __init__(self, folder: Path, server: Postgres) -> None:
        self.server = server
        self.mqtt, self.route, self.proxy = three_free(), three_free(), free_port()
        self.http = {f"n{number}.home": free_port() for number in (1, 2, 3)}
        clean = {key: value for key, value in os.environ.items() if not key.startswith("SARVIS_")}
        super().__init__(folder, clean | {"HOME": str(folder), "PYTHONUTF8": "1"})
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def words(self, command: str) -> list[str]:
        for name, port in self.http.items():
            command = command.replace(f"{name}:8000", f"localhost:{port}").replace(name, "localhost")
        # All nodes are on this machine, on ports one after the other.
        command = command.replace(" --host localhost" * 3, " --host localhost")
        words = shlex.split(command)
        if words[:3] == ["sarvis", "broker", "config"]:
            words += ["--port", str(self.mqtt), "--route-port", str(self.route), "--listen", HOST]
        if words[:3] == ["sarvis", "bridge", "config"]:
            words += ["--listen", HOST, "--port", str(self.proxy)]
        return [sys.executable, "-m", *words] if words[0] == "sarvis" else words

    def type_in(self, command: str) -> str:
        """Type a command, and wait for its end if it has one; what it says."""
        if command.startswith(BACKGROUND):
            place = re.search(r"\bb(\d)/", command)
            port = {} if place is None else {"SARVIS_BRIDGE__PORT": str(self.http[f"n{place[1]}.home"])}
            self.running[command] = self.start(command, self.words(command), port)
            return ""
        done = subprocess.run(
            self.words(command), cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def names_the_database(self) -> None:
        """What the page says of `[store]` and `[bridge]` in each kit."""
        block = re.search(
            r"```toml\n(\[store\]\nurl = [^`]*?postgres-password\"\n)```", PAGE.read_text(encoding="utf-8")
        )
        assert block is not None
        store = re.sub(r"postgresql://.*/sarvis", self.server.url("sarvis"), block[1])
        for kit in ("b1", "b2", "b3"):
            password = self.folder / kit / "postgres-password"
            password.write_text(f"{PASSWORD}\n")
            password.chmod(0o600)
            settings = self.folder / kit / "sarvis.toml"
            text = STORE.sub(f"{store}\n", settings.read_text())
            settings.write_text(text.replace("[bridge]\n", '[bridge]\ntrusted_proxies = ["127.0.0.1"]\n'))

    def readiness(self, name: str) -> int:
        try:
            return httpx2.get(
                f"https://localhost:{self.http[name]}/readyz", verify=self.tls, trust_env=False
            ).status_code
        except httpx2.TransportError:
            return 0

    def peers(self, name: str) -> float:
        key = (self.folder / "b1" / "operator.key").read_text().strip()
        told = httpx2.get(
            f"https://localhost:{self.http[name]}/metrics", verify=self.tls, trust_env=False,
            headers={"authorization": f"Bearer {key}"},
        ).text  # fmt: skip
        return next(float(line.split()[1]) for line in told.splitlines() if line.startswith("sarvis_peers "))

    @property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.folder / "hub" / "certs" / "ca.crt")

    def app(self, uid: str) -> App:
        """A user's socket, through the proxy."""
        key = tokens.read(self.folder / "b1" / "signing.keys")[0]
        token = tokens.issue(key, uid, now=ManualClock().utc_now().timestamp(), valid_s=1e10)
        by_address = self.tls
        by_address.check_hostname = False  # the certificate has the name of the page's --host alone
        return App(self.proxy, uid, legacy=False, client="phone", acks=True, token=token, tls=by_address)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[ThreeServers]:
    server = Postgres()
    it = ThreeServers(tmp_path, server)
    try:
        server.start()
        server.make("sarvis")
        yield it
    finally:
        it.close()
        server.remove()


@pytest.mark.timeout(420)
def test_from_one_server_to_three_and_one_of_them_is_killed(servers: ThreeServers) -> None:
    typed: list[str] = []
    commands = commands_of(PAGE, SECTION)

    def until(words: str) -> str:
        """Type all commands up to the one that begins with these words, too."""
        while True:
            command = commands[len(typed)]
            typed.append(command)
            told = servers.type_in(command)
            if command.startswith("sarvis bridge --config"):
                servers.sees(command, "mqtt_connected")
            if command.startswith(words):
                return told

    (servers.folder / "old").mkdir()
    asyncio.run(an_old_ledger(servers.folder / "old" / "ledger.db"))
    until("nats-server -c hub/nats-3")
    wait_for("the nodes listen", lambda: all(accepts(servers.mqtt + number) for number in range(3)))
    servers.names_the_database()
    until("sarvis bridge --config b3")
    for name in servers.http:
        wait_for(f"{name} is ready", lambda name=name: servers.readiness(name) == 200)  # type: ignore[misc]
    until("haproxy")
    wait_for("the proxy serves", lambda: accepts(servers.proxy))
    until("sarvis token api")
    assert "jetson-1" in until("sarvis sessions list"), "the old ledger has moved in"
    for name in servers.http:
        wait_for(f"{name} sees the others", lambda name=name: servers.peers(name) == 2)  # type: ignore[misc]

    with servers.app("alice") as app:
        app.all_before()
    servers.running["sarvis bridge --config b1/sarvis.toml"].kill()
    wait_for("the proxy lets an app in", lambda: heard(servers, "bob"))
    told = until("sarvis drain")
    assert "leaves" in told
    assert servers.running["sarvis bridge --config b2/sarvis.toml"].wait(60) == 0
    wait_for("the last one serves", lambda: heard(servers, "carol"))
    assert typed == commands, "all of the page was typed"


async def an_old_ledger(path: Path) -> None:
    """Of one bridge on one server; alice is logged in on jetson-1."""
    store = await SqliteStore.open(StoreSettings(url=f"sqlite:///{path}"))
    async with store.transaction() as transaction:
        await transaction.save([Session("s1", "jetson-1", "alice", 1)])
    await store.close()


def heard(servers: ThreeServers, uid: str) -> bool:
    """Whether an app gets in by the proxy, and its heartbeat is answered."""
    try:
        with servers.app(uid) as app:
            app.all_before()
    except Exception:  # noqa: BLE001 - the proxy may still ask the one that is gone
        return False
    return True
