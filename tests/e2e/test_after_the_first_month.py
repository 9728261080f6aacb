"""The section "After the first month" of docs/operations.md is typed here, word for word but for host and ports."""

import ssl
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx2
import pytest

from tests.e2e.test_operations import ELSEWHERE, LATER, PAGE, Fleet
from tests.support.ports import HOST
from tests.support.programs import need, program
from tests.support.terminals import commands_of
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import accepts

LET_IN, REFUSED = 27, 5
"""What mosquitto_sub ends with when it waited in vain for a message, and when it was not let in."""


class Hub(Fleet):
    """The fleet of the page's first section, months later."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.hub = folder / "hub"
        self.typed: list[str] = []
        self.commands = commands_of(PAGE, LATER)
        for command in commands_of(PAGE, without=ELSEWHERE):
            self.begin(command)
            if command.startswith("sarvis device add jetson-2"):
                break

    def begin(self, command: str) -> str:
        told = self.type_in(command)
        if command.startswith("mosquitto"):
            wait_for("mosquitto's port", lambda: accepts(self.mqtt))
        if command.startswith("sarvis bridge"):
            wait_for("the bridge", lambda: self.ask("/livez", "") == 200)
        return told

    def until(self, words: str) -> str:
        """Type all commands of the section up to the one that begins with these words, too; what that says."""
        while True:
            command = self.commands[len(self.typed)]
            self.typed.append(command)
            told = self.begin(command.replace(" KEY ", f" {self.key} ") if " KEY " in command else command)
            if command.startswith(words):
                return told

    @property
    def key(self) -> str:
        """The name of the first operator's key, as the list tells it."""
        listed = self.type_in("sarvis token list --config hub/bridge/sarvis.toml").splitlines()
        return next(line.split()[0] for line in listed if " me " in f"{line} ")

    def stop(self) -> None:
        for name in ("sarvis bridge", "mosquitto"):
            self.running[name].terminate()
            self.running[name].wait(PATIENCE_S)

    def served(self, port: int) -> str:
        return ssl.get_server_certificate((HOST, port))

    def serves(self, port: int, certificate: str) -> None:
        """Wait until it does."""
        wait_for("the new certificate", lambda: self.served(port).strip() == certificate)

    def takes(self, token: str) -> None:
        """Wait until an app's token is valid: the bridge reads its keys once a second."""
        wait_for("the token", lambda: self.ask("/api/push/key", token) not in {0, 401, 403})

    def ask(self, path: str, token: str) -> int:
        context = ssl.create_default_context(cafile=self.hub / "certs" / "ca.crt")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            return httpx2.get(
                f"https://localhost:{self.http}{path}", headers=headers, verify=context, timeout=PATIENCE_S
            ).status_code
        except httpx2.TransportError:
            return 0

    def enters(self, device: str, password: str | None = None) -> int:
        """How mosquitto_sub ends that comes with the kit of this device, or with another password."""
        kit = self.folder / device
        done = subprocess.run(
            [
                program("mosquitto_sub"), "-h", "localhost", "-p", str(self.mqtt), "--cafile", str(kit / "ca.crt"),
                "-i", f"sarvis-{device}", "-u", device, "-P", password or self.password(device),
                "-t", f"sarvis/v1/devices/{device}/login", "-W", "1",
            ],
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode

    def ends(self, device: str, how: int) -> bool:
        """Whether it ends so now; on a busy machine its second is over before it was refused."""
        return self.enters(device) == how

    def password(self, device: str) -> str:
        return (self.folder / device / "password").read_text().strip()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    need("mosquitto")
    need("mosquitto_sub")
    it = Hub(tmp_path)
    yield it
    it.close()


def test_after_the_first_month(hub: Hub) -> None:
    config = hub.hub / "bridge" / "sarvis.toml"
    before = hub.served(hub.http)
    hub.until("sarvis certs server")
    renewed = (hub.hub / "certs" / "server.crt").read_text().strip()
    assert before.strip() != renewed
    for port in (hub.http, hub.mqtt):
        hub.serves(port, renewed)

    hub.type_in("sarvis token app alice --out older.token --config hub/bridge/sarvis.toml")
    older = (hub.folder / "older.token").read_text().strip()
    first_key = (hub.hub / "bridge" / "operator.key").read_text().strip()
    hub.until("sarvis token app alice")
    newer = (hub.folder / "alice.token").read_text().strip()
    assert older.split(".")[0] != newer.split(".")[0], "another key has signed it"
    for token in (older, newer):
        hub.takes(token)
    hub.until("sarvis token revoke")
    wait_for("it is revoked", lambda: hub.ask("/metrics", first_key) == 401)
    assert hub.ask("/metrics", (hub.hub / "bridge" / "operator.key").read_text().strip()) == 200

    leaked = hub.password("jetson-2")
    wait_for("it is in", lambda: hub.enters("jetson-2") == LET_IN)
    hub.until("sarvis device add jetson-2 --kit")
    wait_for("its new password", lambda: hub.enters("jetson-2") == LET_IN)
    wait_for("the old one is refused", lambda: hub.enters("jetson-2", leaked) == REFUSED)

    hub.until("sarvis device remove jetson-1")
    wait_for("it is out", lambda: hub.enters("jetson-1") == REFUSED)
    hub.until("sarvis device add jetson-3")
    wait_for("it is in", lambda: hub.enters("jetson-3") == LET_IN)
    leaked = hub.password("jetson-2")
    hub.until("sarvis device add jetson-2 --new-secret")
    wait_for("its new secret", lambda: hub.enters("jetson-2") == LET_IN)
    wait_for("the old one is refused", lambda: hub.enters("jetson-2", leaked) == REFUSED)

    hub.until("sarvis backup")
    hub.type_in("sarvis device add later-1 --kit later-1 --config hub/bridge/sarvis.toml")
    hub.stop()
    hub.until("sarvis restore")
    hub.until("sarvis bridge")
    listed = hub.type_in(f"sarvis device list --config {config}")
    assert "jetson-3" in listed
    assert "later-1" not in listed
    for device, how in (("jetson-3", LET_IN), ("later-1", REFUSED), ("jetson-1", REFUSED)):
        wait_for(f"{device} ends with {how}", partial(hub.ends, device, how))

    hub.stop()
    (hub.folder / "srv").mkdir()
    hub.until("mv hub")
    hub.hub = hub.folder / "srv" / "hub"
    hub.until("sarvis bridge")
    for device, how in (("jetson-3", LET_IN), ("jetson-1", REFUSED)):
        wait_for(f"{device} ends with {how}", partial(hub.ends, device, how))

    other = hub.folder / "root"
    other.mkdir()
    hub.env["HOME"] = str(other)
    assert "jetson-3" in hub.until("sudo sarvis device list")
    hub.until("sudo sarvis sessions list")
    assert hub.typed == hub.commands, "every command of the section was typed"
    assert not [path for path in other.rglob("*") if path.is_file()], "no second ledger"
