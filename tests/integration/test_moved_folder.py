"""A hub's folder that was moved or copied: broker, bridge and a device start there; renewal and removal act there."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.provisioning import certs
from tests.support.ports import free_port
from tests.support.processes import Sarvis, run_sarvis
from tests.support.secure import CONFIGS, KINDS, SecureBroker
from tests.support.waiting import wait_for

LEDGER = {"SARVIS_STORE__URL": "", "SARVIS_BROKER__DIR": ""}
"""The kits say where both are."""


class Hub:
    """A folder that is moved, and what runs in it."""

    def __init__(self, kind: str, folder: Path, *, certificates: bool) -> None:
        self.broker = SecureBroker(kind, folder, certificates=certificates)
        self.broker.settings = LEDGER
        self.folder = folder
        self.http = free_port()
        self.settings = {
            **LEDGER,
            "SARVIS_BRIDGE__PORT": str(self.http),
            "SARVIS_OPERATOR__URL": f"https://localhost:{self.http}",
        }
        self.config = ["--config", str(self.broker.bridge_kit / "sarvis.toml")]
        self.running: list[Sarvis] = []

    def type_in(self, *arguments: str, code: int = 0) -> str:
        done = run_sarvis(*arguments, cwd=self.folder, settings=self.settings)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def move(self, *, copy: bool) -> Path:
        """The folder where it was, or what is there when it was copied."""
        old, new = self.broker.path, self.folder / "elsewhere" / "my hub"
        new.parent.mkdir()
        if copy:
            shutil.copytree(old, new)
        else:
            old.rename(new)
        self.broker.path = new
        self.config = ["--config", str(new / "bridge" / "sarvis.toml")]
        return old

    def start(self) -> tuple[Sarvis, Sarvis]:
        """Broker, bridge and the device jetson-1, connected and logged in."""
        self.broker.start()
        bridge = Sarvis("bridge", *self.config, cwd=self.folder, settings=self.settings)
        self.running.append(bridge)
        bridge.line_after("bridge listening on https://")
        bridge.event("the bridge is connected", lambda event: event.get("event") == "mqtt_connected")
        more = {**self.settings, "SARVIS_EDGE__SOURCE": "silence", "SARVIS_EDGE__HTTP_PORT": "0"}
        more["SARVIS_EDGE__STATE_DIR"] = str(self.folder / "state")
        kit = self.folder / "jetson-1" / "sarvis.toml"
        edge = Sarvis("edge", "--config", str(kit), cwd=self.folder, settings=more)
        self.running.append(edge)
        edge.event("the device is connected", lambda event: event.get("event") == "mqtt_connected")
        return bridge, edge

    def stop(self) -> None:
        while self.running:
            self.running.pop().stop()
        self.broker.stop()


@pytest.fixture(params=[(kind, way) for kind in KINDS for way in ("passwords", "certificates")], ids="-".join)
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hub]:
    kind, way = request.param
    it = Hub(kind, tmp_path, certificates=way == "certificates")
    yield it
    it.stop()


@pytest.mark.parametrize("copy", [False, True], ids=["moved", "copied"])
def test_a_folder_that_was_moved_works_where_it_is(hub: Hub, *, copy: bool) -> None:
    key = str(hub.broker.bridge_kit / "operator.key")
    hub.type_in("device", "add", "jetson-1", "--uid", "alice", "--kit", "jetson-1", *hub.config)
    hub.type_in("token", "api", "me", "--role", "operator", "--out", key, *hub.config)
    old = hub.move(copy=copy)
    users = (old / "users.json").read_bytes() if copy else b""
    new = hub.broker.path
    if hub.broker.kind != "embedded":
        told = hub.type_in("device", "add", "jetson-2", "--kit", "jetson-2", *hub.config, code=1)
        assert "sarvis broker relocate" in told
        doctor = hub.type_in("doctor", "--json", *hub.config, code=1)
        assert f"sarvis broker relocate {new / 'bridge' / '..'}" in doctor
    said = hub.type_in("broker", "relocate", str(new))
    assert (CONFIGS[hub.broker.kind] in said) == (hub.broker.kind != "embedded")
    assert str(old) + "/" not in (new / CONFIGS[hub.broker.kind]).read_text()
    assert "nothing" in hub.type_in("broker", "relocate", str(new))
    hub.start()
    assert "jetson-1" in hub.type_in("device", "list", *hub.config)
    before = certs.load_certificate(new / "certs" / "server.crt").serial_number
    renewed = hub.type_in("certs", "server", "--out", str(new))
    assert "the broker was informed" in renewed
    now = certs.load_certificate(new / "certs" / "server.crt").serial_number
    assert now != before
    assert certs.load_certificate(new / "bridge" / "bridge.crt").serial_number == now
    edge = hub.running[-1]
    assert "the broker was informed" in hub.type_in("device", "remove", "jetson-1", "--wait-s", "1", *hub.config)
    edge.event("it is cut off", lambda event: event.get("event") == "mqtt_disconnected")
    wait_for("it is a user no more", lambda: "jetson-1" not in (new / "users.json").read_text())
    if copy:
        assert (old / "users.json").read_bytes() == users


@pytest.mark.parametrize("kind", ["mosquitto", "nats"])
def test_set_up_run_again_in_a_moved_folder_does_the_same_and_keeps_what_was_added(kind: str, tmp_path: Path) -> None:
    hub = Hub(kind, tmp_path, certificates=False)
    config = hub.broker.path / CONFIGS[kind]
    config.write_text(config.read_text() + "# mine\n")
    old = hub.move(copy=False)
    hub.broker.configure()
    text = (hub.broker.path / CONFIGS[kind]).read_text()
    assert str(old) + "/" not in text
    assert text.endswith("# mine\n")
    hub.broker.start()
    hub.broker.stop()
