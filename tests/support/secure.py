"""Brokers with TLS and users, as `sarvis broker config` writes them, and clients that come with what a test wants."""

import shutil
import signal
import ssl
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from broker.access.acl import client_id_of
from broker.provisioning import certs, kit
from broker.provisioning.certs import Pair
from broker.provisioning.configure import BRIDGE_KIT, OPERATOR_KIT, add_user, remove_user
from broker.provisioning.folder import BrokerFolder
from broker.provisioning.kit import BrokerAccess
from broker.provisioning.plan import CERTS
from infra.settings.loader import load
from tests.support.paho_clients import end
from tests.support.ports import free_port
from tests.support.processes import STOP_WITHIN_S, Sarvis, run_sarvis
from tests.support.programs import program
from tests.support.services import Service
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import PREFIX, accepts, unique

KINDS = ("embedded", "mosquitto", "nats")
HOST = "localhost"
CONFIGS = {"embedded": "sarvis.toml", "mosquitto": "mosquitto.conf", "nats": "nats.conf"}
TOLD_TO_RELOAD = {"embedded": "live", "mosquitto": "reloaded", "nats": "reloaded"}

Message = tuple[str, bytes]


class SecureBroker(Service):
    """A real broker with TLS on a port of its own, configured by the commands that people type.

    Attributes:
        folder: its users.
        port: with TLS.
        local_port: Mosquitto's without TLS on loopback; 0 when it has none.
        operator_port: Mosquitto's for operators, with TLS; 0 when it has none.
    """

    def __init__(
        self, kind: str, folder: Path, *, certificates: bool, instance: str = "bridge-1", local_port: int = 0
    ) -> None:
        self.kind = kind
        self.certificates = certificates
        self.path = folder / "broker"
        self.port = free_port()
        self.instance = instance
        self.local_port = local_port
        self.operator_port = free_port() if kind == "mosquitto" else 0
        self.folder = BrokerFolder(self.path, PREFIX)
        self._cwd = folder
        self.settings: dict[str, str] = {}
        self._program = {"mosquitto": "mosquitto", "nats": "nats-server"}.get(kind)
        self._found = program(self._program) if self._program else ""
        self._process: subprocess.Popen[bytes] | None = None
        self._sarvis: Sarvis | None = None
        self.configure()

    def configure(self) -> str:
        """Run `sarvis broker config`, the first time or again; what it says."""
        options = ["--client-certificates"] if self.certificates else []
        if self.operator_port:
            options += ["--operator-port", str(self.operator_port)]
        if self.kind == "mosquitto" and not self.certificates:
            options += ["--local-port", str(self.local_port)]
        done = run_sarvis(
            "broker", "config", self.kind, "--out", str(self.path), "--host", HOST, "--host", "127.0.0.1",
            "--port", str(self.port), "--listen", "127.0.0.1", "--instance", self.instance, *options,
            cwd=self._cwd,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def renew(self) -> None:
        """Run `sarvis certs server`: a new certificate, wherever it is served from this folder."""
        done = run_sarvis("certs", "server", "--out", str(self.path), cwd=self._cwd)
        assert done.returncode == 0, done.stderr

    @property
    def url(self) -> str:
        return f"mqtts://{HOST}:{self.port}"

    @property
    def ca_file(self) -> Path:
        return self.path / CERTS / certs.CA_CERT

    @property
    def bridge_kit(self) -> Path:
        """The folder with a bridge's sarvis.toml."""
        return self.path / BRIDGE_KIT

    @property
    def operator_kit(self) -> Path:
        return self.path / OPERATOR_KIT

    def start(self) -> None:
        config = str(self.path / CONFIGS[self.kind])
        if self.kind == "embedded":
            self._sarvis = Sarvis("broker", "--config", config, cwd=self._cwd, settings=self.settings)
            with self._sarvis.starting():
                self._sarvis.line_after("broker listening on mqtts://")
            return
        with (self._cwd / "broker.log").open("ab") as log:
            self._process = subprocess.Popen([self._found, "-c", config], stdout=log, stderr=log, cwd=self._cwd)
        try:
            # Mosquitto opens its doors one after the other.
            for port in filter(None, (self.port, self.operator_port, self.local_port)):
                wait_for(f"{self.kind}'s port {port}", partial(self._serves, port))
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        if self._sarvis is not None:
            self._sarvis.__exit__(None, None, None)
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            # NATS goes into "lame duck" only on SIGUSR2; on SIGTERM it ends with 0 or 1. Mosquitto listens before it
            # handles signals: told so early, it just ends.
            code = self._process.wait(STOP_WITHIN_S)
            assert code in {0, 1, -signal.SIGTERM}, f"{code}: {self.log()[-2000:]}"

    def kill(self) -> None:
        if self._sarvis is not None:
            self._sarvis.kill()
            self._sarvis.__exit__(None, None, None)
        elif self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def log(self) -> str:
        if self._sarvis is not None:
            return "\n".join(self._sarvis.err)
        return (self._cwd / "broker.log").read_text()

    def add(self, username: str) -> BrokerAccess:
        """Let a user in by the broker's way; a broker that runs knows it when this returns."""
        told = self.folder.describe()
        assert told is not None
        door = add_user(self.folder, told, username)
        if self.running:
            self.reload()
            wait_for(f"{username} is let in; {self.log()[-2000:]}", lambda: self.lets_in(door))
        return door

    def lets_in(self, door: BrokerAccess) -> bool:
        """Whether a client gets in by this door now."""
        with Client(self, door, wait=False) as probe:
            return probe.let_in()

    def remove(self, username: str) -> None:
        """Let a user in no more. The caller waits for the effect: no broker says when it has read."""
        assert remove_user(self.folder, username) == TOLD_TO_RELOAD[self.kind]

    def reload(self) -> None:
        """Tell the broker, which runs, that users have changed."""
        assert self.folder.reload() == TOLD_TO_RELOAD[self.kind]

    @property
    def running(self) -> bool:
        process = self._sarvis.process if self._sarvis is not None else self._process
        return process is not None and process.poll() is None

    def kept(self, kit_folder: Path, username: str) -> BrokerAccess:
        """The way in that a kit holds."""
        pair = Pair(kit_folder / kit.CERT, kit_folder / kit.KEY) if self.certificates else None
        file = kit_folder / kit.PASSWORD
        password = file.read_text().strip() if file.exists() else None
        url = load(kit_folder / kit.SETTINGS).mqtt.url
        return BrokerAccess(url, username, PREFIX, kit_folder / kit.CA, password=password, certificate=pair)

    def bridge_door(self) -> BrokerAccess:
        return self.kept(self.bridge_kit, f"bridge.{self.instance}")

    def operator_door(self) -> BrokerAccess:
        return self.kept(self.operator_kit, "operator.admin")

    def _serves(self, port: int) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        return accepts(port)


def stolen_from(door: BrokerAccess, folder: Path) -> BrokerAccess:
    """The same way in, from copies of the files."""
    if door.certificate is None:
        return door
    pair = Pair(folder / "stolen.crt", folder / "stolen.key")
    shutil.copy(door.certificate.cert, pair.cert)
    shutil.copy(door.certificate.key, pair.key)
    return replace(door, certificate=pair)


@dataclass(frozen=True)
class Will:
    topic: str
    payload: bytes
    retain: bool = False


class Client:
    """A paho client in its thread, and what became of it. Without `door.password` and certificate it is anonymous."""

    def __init__(
        self,
        broker: SecureBroker,
        door: BrokerAccess,
        *,
        client_id: str | None = None,
        will: Will | None = None,
        wait: bool = True,
    ) -> None:
        self.got: list[Message] = []
        self.retained: list[Message] = []
        self.codes: list[int] = []
        self.connack: int | None = None
        self.ended = threading.Event()
        self._answers = 0
        chosen = client_id or client_id_of(door.username) or unique("operator")
        self.paho = paho.Client(CallbackAPIVersion.VERSION2, chosen, reconnect_on_failure=False)
        self.paho.on_connect = self._on_connect
        self.paho.on_message = self._on_message
        self.paho.on_subscribe = self._on_subscribe
        self.paho.on_disconnect = self._on_disconnect
        context = ssl.create_default_context(cafile=door.ca_file)
        if door.certificate is not None:
            context.load_cert_chain(door.certificate.cert, door.certificate.key)
        self.paho.tls_set_context(context)
        if door.password is not None or door.certificate is not None:
            self.paho.username_pw_set(door.username, door.password)
        if will is not None:
            self.paho.will_set(will.topic, will.payload, 1, will.retain)
        self.fault: Exception | None = None
        self.paho.connect_timeout = PATIENCE_S  # of connection and handshake together
        try:
            self.paho.connect(HOST, urlsplit(door.url).port or 0)
        except OSError as error:  # the handshake was refused
            self.fault = error
            self.ended.set()
            return
        self.paho.loop_start()
        if wait:
            wait_for(f"{door.username} is let in; {broker.log()[-2000:]}", lambda: self.connack == 0)

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        self.connack = code.value

    def _on_message(self, _client: Any, _data: Any, raw: paho.MQTTMessage) -> None:
        (self.retained if raw.retain else self.got).append((raw.topic, bytes(raw.payload)))

    def _on_subscribe(self, _client: Any, _data: Any, _id: int, codes: Sequence[Any], _properties: Any) -> None:
        self.codes = [code.value for code in codes]
        self._answers += 1

    def _on_disconnect(self, *_: Any) -> None:
        self.ended.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self.paho)

    def die(self) -> None:
        """Vanish without DISCONNECT, so that the broker publishes the last will."""
        sock: Any = self.paho.socket()
        sock.shutdown(2)
        assert self.ended.wait(PATIENCE_S)

    def let_in(self) -> bool:
        """Whether the broker's answer to CONNECT, or to the handshake before it, was a yes."""
        wait_for("an answer to CONNECT", lambda: self.connack is not None or self.ended.is_set())
        return self.connack == 0

    def refused(self) -> bool:
        """Whether it ended without having been let in."""
        assert self.ended.wait(PATIENCE_S)
        return self.connack != 0

    def subscribe(self, *filters: str) -> list[int]:
        """The codes of SUBACK."""
        before = self._answers
        self.paho.subscribe([(name, 1) for name in filters])
        wait_for(f"SUBACK for {filters}", lambda: self._answers > before)
        return self.codes

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1 and wait for PUBACK, which every one of these brokers also gives to what it drops."""
        info = self.paho.publish(topic, payload, 1, retain)
        info.wait_for_publish(PATIENCE_S)
        assert info.is_published()

    def heard(self, topic: str, payload: bytes) -> None:
        wait_for(f"{payload!r} on {topic}; heard {self.got}", lambda: (topic, payload) in self.got)
