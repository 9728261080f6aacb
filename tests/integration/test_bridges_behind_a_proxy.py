"""HAProxy and nginx in front of two bridges with TLS, by the lines that `sarvis bridge config` writes."""

import json
import shlex
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from bridge.auth import tokens
from tests.support.certificates import Authority
from tests.support.clock import ManualClock
from tests.support.ports import free_port
from tests.support.processes import run_sarvis
from tests.support.programs import program
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, App, Bridge, EmbeddedBroker, unique

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
NAME = "localhost"
SOCKETS = "sarvis_app_connections"


def typed(words: str) -> str:
    """The command of docs/operations.md that begins so."""
    lines = PAGE.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return next(line for line in lines if line.startswith(words))


class Pair:
    """Two bridges, each with its own broker and ledger, and a proxy in front of them."""

    def __init__(self, folder: Path, product: str, running: ExitStack, *, without: str = "\0") -> None:
        """`without`: lines of the proxy's file with these words are left out."""
        self.authority = Authority(folder)
        self.tls = ssl.create_default_context(cafile=self.authority.ca_file)
        pair = self.authority.issue("bridge", NAME, HOST)
        self.brokers = [self._made(running, EmbeddedBroker(self._folder(folder, f"broker-{n}"))) for n in (1, 2)]
        settings = {
            "SARVIS_AUTH__MODE": "required",
            "SARVIS_AUTH__KEY_FILE": str(folder / "keys"),
            "SARVIS_BRIDGE__TRUSTED_PROXIES": '["127.0.0.1"]',
            "SARVIS_BRIDGE__TLS_CERT": str(pair.cert),
            "SARVIS_BRIDGE__TLS_KEY": str(pair.key),
            "SARVIS_BRIDGE__DRAIN_S": "600",
            "SARVIS_LEGACY__ALLOW_NETWORKS": '["127.0.0.0/8"]',
        }
        self.bridges = []
        for number, broker in enumerate(self.brokers, start=1):
            own = {"SARVIS_BRIDGE__INSTANCE": f"bridge-{number}"}
            place = self._folder(folder, f"bridge-{number}")
            bridge = self._made(running, Bridge(place, broker.url, {**settings, **own}, tls=self.tls))
            done = run_sarvis("token", "api", "me", "--role", "operator", "--out", "operator.key", cwd=place)
            assert done.returncode == 0, done.stderr
            bridge.http.headers["authorization"] = f"Bearer {(place / 'operator.key').read_text().strip()}"
            self.bridges.append(bridge)
        self.port = free_port()
        self._folder_of_all = folder
        self._proxy = running.enter_context(self._started(folder, product, without))

    @staticmethod
    def _folder(folder: Path, name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    @staticmethod
    def _made(running: ExitStack, service: Any) -> Any:
        return running.enter_context(service)

    @contextmanager
    def _started(self, folder: Path, product: str, without: str) -> Iterator[Path]:
        """The proxy, by the file that the command writes; what it says on its standard error."""
        found = program(product)
        shown = self.authority.issue("proxy", NAME, HOST)
        command = typed(f"sarvis bridge config {product}")
        for number, bridge in enumerate(self.bridges, start=1):
            command = command.replace(f"b{number}.home:8000", f"{HOST}:{bridge.port}")
        for name, path in (("hub/certs/ca.crt", self.authority.ca_file), ("proxy.crt", shown.cert), ("hub.home", NAME)):
            command = command.replace(name, str(path))
        words = shlex.split(command)[1:]
        out = folder / words[-1]
        done = run_sarvis(*words, "--listen", HOST, "--port", str(self.port), cwd=folder)
        assert done.returncode == 0, done.stderr
        out.write_text("".join(one for one in out.read_text().splitlines(keepends=True) if without not in one))
        line = [found, "-f", str(out)]
        if product == "haproxy":
            subprocess.run(shlex.split(typed("haproxy -c")), cwd=folder, check=True, executable=found)
        if product == "nginx":
            kept = [
                f"{what}_temp_path {folder}/{what};" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            ]
            (folder / "nginx.conf").write_text(
                f"daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;\nevents {{ }}\n"
                f"http {{ access_log off; {' '.join(kept)}\ninclude {out};\n}}\n"
            )
            line = [found, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
        said = folder / "proxy.log"
        with said.open("wb") as log:
            process = subprocess.Popen(line, stdout=log, stderr=log)
        try:
            wait_for(f"{product} listens; {said.read_text()}", lambda: self._serves(process, said))
            yield said
        finally:
            process.terminate()
            process.wait(PATIENCE_S)

    def _serves(self, process: subprocess.Popen[bytes], said: Path) -> bool:
        assert process.poll() is None, said.read_text()
        with socket.socket() as probe:
            if probe.connect_ex((HOST, self.port)) != 0:
                return False
        url = f"https://{NAME}:{self.port}/readyz"
        return httpx2.get(url, verify=self.tls, trust_env=False, timeout=PATIENCE_S).status_code == 200

    def says(self, words: str) -> bool:
        return words in self._proxy.read_text()

    def token(self, uid: str) -> str:
        key = tokens.read(self._folder_of_all / "keys")[0]
        return tokens.issue(key, uid, now=ManualClock().utc_now().timestamp(), valid_s=1e10)

    def app(self, uid: str) -> App:
        """A user's socket, through the proxy."""
        return App(self.port, uid, legacy=False, client=None, acks=True, token=self.token(uid), tls=self.tls)


@pytest.fixture(params=["haproxy", "nginx"])
def product(request: pytest.FixtureRequest) -> str:
    """Which proxy."""
    name: str = request.param
    return name


@pytest.fixture
def pair(product: str, tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as running:
        yield Pair(tmp_path, product, running)


def test_apps_come_through_and_the_bridges_see_who_calls(pair: Pair) -> None:
    uid = unique("user")
    with pair.app(uid) as app:
        app.all_before()
        ours = f"https://{NAME}:{pair.port}"
        with httpx2.Client(verify=pair.tls, trust_env=False, timeout=PATIENCE_S) as http:
            trigger = {"uid": uid, "command": "wake_up", "timestamp": "now"}
            for told in ({}, {"x-forwarded-for": "192.0.2.7"}, {"forwarded": "for=192.0.2.7;host=evil.example"}):
                answer = http.post(f"{ours}/api/voice-command/trigger", json=trigger, headers=told)
                assert answer.status_code == 200, "this machine needs no credential, whatever a client writes there"
            # 409: the other bridge, which has a ledger of its own, does not know this user.
            for origin, own in ((ours, True), (f"https://{NAME}", False), ("https://evil.example", False)):
                answer = http.post(f"{ours}/api/app/heartbeat", json={"uid": uid}, headers={"origin": origin})
                assert answer.status_code in ({200, 409} if own else {403}), origin


def test_a_bridge_that_closes_refuses_and_the_other_takes_all(pair: Pair, tmp_path: Path) -> None:
    leaving, staying = pair.bridges
    token = pair.token("bob")
    with leaving.app("bob", acks=False, token=token) as rings:
        # Until the app confirms, or for 10 s, the bridge waits for it.
        trigger = {"uid": "bob", "command": "wake_up", "timestamp": "now"}
        url = f"{leaving.url}/api/voice-command/trigger"
        assert httpx2.post(url, json=trigger, verify=pair.tls, trust_env=False, timeout=PATIENCE_S).json()["success"]
        wake_id = rings.message("voice_command")["id"]
        key = leaving.http.headers["authorization"].removeprefix("Bearer ")
        settings = {"SARVIS_OPERATOR__API_KEY": key, "SARVIS_OPERATOR__CA_FILE": str(pair.authority.ca_file)}
        done = run_sarvis("drain", "--bridge", leaving.url, "--json", cwd=tmp_path, settings=settings)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["sockets"] == 1
        leaving.sarvis.event("it leaves", lambda line: line.get("event") == "leaves")
        with ExitStack() as apps:
            for _ in range(6):
                apps.enter_context(pair.app(unique("user"))).all_before()
            assert staying.metric(SOCKETS) == 6
        with suppress(ConnectionClosed):
            rings.say({"type": "ack", "id": wake_id})
        assert rings.closed_with() == 4000
    assert leaving.sarvis.process.wait(PATIENCE_S) == 0
    with pair.app(unique("user")) as app:
        app.all_before()


@pytest.mark.parametrize("product", ["haproxy"], indirect=True)
def test_no_socket_is_lost_when_a_bridge_is_not_ready_for_a_while(pair: Pair) -> None:
    first, second = pair.bridges
    with ExitStack() as apps:
        early = [apps.enter_context(pair.app(unique("user"))) for _ in range(12)]
        wait_for("both have some", lambda: first.metric(SOCKETS) and second.metric(SOCKETS))
        on_second = second.metric(SOCKETS)
        pair.brokers[0].stop()
        wait_for("the proxy has seen it", lambda: pair.says("sockets/bridge-1 is DOWN"))
        late = [apps.enter_context(pair.app(unique("user"))) for _ in range(4)]
        assert second.metric(SOCKETS) == on_second + 4
        pair.brokers[0].start()
        wait_for("the proxy has seen it", lambda: pair.says("sockets/bridge-1 is UP"))
        for app in (*early, *late):
            app.all_before()
            assert app.code is None
        assert first.metric(SOCKETS) == 12 - on_second


def test_the_sockets_of_a_user_come_to_one_bridge_while_it_has_not_too_many(tmp_path: Path) -> None:
    """The factor that bounds a bridge's share would send some of the first few to the other."""
    uid = unique("user")
    with ExitStack() as running:
        pair = Pair(tmp_path, "haproxy", running, without="hash-balance-factor")
        for _ in range(4):
            running.enter_context(pair.app(uid))
        assert sorted(bridge.metric(SOCKETS) for bridge in pair.bridges) == [0, 4]
