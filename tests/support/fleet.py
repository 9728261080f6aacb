"""A fleet with every door closed: TLS from microphone to phone, least rights, a credential for everybody."""

import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bridge.auth import tokens
from broker.provisioning.kit import BrokerAccess
from infra.settings.bridge import StoreSettings
from sarvis import devices
from sarvis.device_list import Wanted
from tests.support.processes import run_sarvis
from tests.support.secure import HOST, Client, SecureBroker
from tests.support.services import Household
from tests.support.waiting import wait_for
from tests.support.world import PREFIX, App, Bridge, Edge, unique


class Fleet(Household):
    """A broker, a bridge over HTTPS, an operator, and whatever devices and apps a test wants."""

    def __init__(self, folder: Path, kind: str, *, certificates: bool) -> None:
        self.folder = folder
        self.broker = SecureBroker(kind, folder, certificates=certificates)
        self.config = self.broker.bridge_kit / "sarvis.toml"
        # What tests set elsewhere, and what a kit has: the environment would win.
        self.settings = {"SARVIS_BROKER__DIR": str(self.broker.path)}
        self.tls = ssl.create_default_context(cafile=self.broker.ca_file)

    def _open(self, running: ExitStack) -> None:
        running.enter_context(self.broker)
        operator_key = self.broker.bridge_kit / "operator.key"
        self.sarvis("token", "api", "me", "--role", "operator", "--out", str(operator_key))
        key = operator_key.read_text().strip()
        self.bridge = Bridge(self.folder, None, self.settings, key=key, tls=self.tls, config=self.config)
        running.enter_context(self.bridge)
        self.settings["SARVIS_OPERATOR__URL"] = f"https://{HOST}:{self.bridge.port}"

    def sarvis(self, *arguments: str) -> str:
        done = run_sarvis(*arguments, "--config", str(self.config), cwd=self.folder, settings=self.settings)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def add(self, uid: str | None = None, *, to_ledger: bool = True) -> tuple[str, Path]:
        """A device with its kit, and its user if it may claim one; only the broker knows it without `to_ledger`."""
        device_id = unique("jetson")
        kit = self.folder / device_id
        # What `sarvis device add` does, which test_operations.py types.
        ledger = StoreSettings(url=f"sqlite:///{self.folder / 'ledger.db'}")
        with ThreadPoolExecutor(1) as aside:  # it runs a loop; a browser's test may have one
            aside.submit(devices.put, ledger, [Wanted(device_id, uid)] if to_ledger else []).result()
        told = self.broker.folder.describe()
        assert told is not None
        devices.write_kit(kit, devices.let_in(self.broker.folder, told, [device_id])[device_id], uid)
        self.broker.reload()
        wait_for("the broker lets it in", lambda: self.broker.lets_in(self.door(device_id)))
        return device_id, kit

    def door(self, device_id: str) -> BrokerAccess:
        return self.broker.kept(self.folder / device_id, device_id)

    @contextmanager
    def edge(self, uid: str | None = None, *, device: tuple[str, Path] | None = None) -> Iterator[Edge]:
        """A running edge, of a device that is added now or was before."""
        device_id, kit = device or self.add(uid)
        with Edge(self.folder / device_id, None, device_id=device_id, config=kit / "sarvis.toml") as edge:
            edge.event("connected")
            yield edge

    @contextmanager
    def thief(self) -> Iterator[Client]:
        """Somebody who has taken a device apart and speaks with its credential."""
        device_id, _ = self.add()
        with Client(self.broker, self.door(device_id)) as client:
            client.subscribe(*(f"{PREFIX}/devices/{device_id}/{kind}" for kind in ("outcome", "login", "logout")))
            yield client

    @contextmanager
    def operator(self) -> Iterator[Client]:
        """Somebody who watches. Not while devices are added: NATS may close a connection in the moment of a reload."""
        with Client(self.broker, self.broker.operator_door()) as client:
            client.subscribe(f"{PREFIX}/#")
            yield client

    def app(self, uid: str, **more: Any) -> App:
        newest = tokens.read(self.broker.bridge_kit / "signing.keys")[0]
        return self.bridge.app(uid, token=tokens.issue(newest, uid, now=time.time(), valid_s=600), **more)
