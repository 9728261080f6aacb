"""Apps made with libraries that reconnect whatever a close code says: a log-out is not undone by them."""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
import websocket

from bridge.storage.records import Device
from tests.support.javascript import NODE, install
from tests.support.jetson import Jetson
from tests.support.ledgers import keep, look
from tests.support.services import Household
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, NO_BROKER, Bridge, Json, pause, unique


class Returning(Protocol):
    """An app of the documented protocol that comes back by itself and beats; what it was told, oldest first."""

    heard: list[Json]


@contextmanager
def websocket_client(address: str, _home: Path) -> Iterator[Returning]:
    """`run_forever(reconnect=1)` of websocket-client."""

    class It:
        heard: list[Json] = []  # noqa: RUF012 - one class for each

    def opened(app: websocket.WebSocketApp) -> None:
        It.heard.append({"type": "open"})
        app.send('{"type":"heartbeat"}')

    app = websocket.WebSocketApp(
        address, on_open=opened, on_message=lambda _app, text: It.heard.append(json.loads(text))
    )
    thread = threading.Thread(target=lambda: app.run_forever(reconnect=1), daemon=True)
    thread.start()
    try:
        yield It()
    finally:
        app.close()
        thread.join(PATIENCE_S)


@contextmanager
def reconnecting_websocket(address: str, home: Path) -> Iterator[Returning]:
    """npm's reconnecting-websocket."""
    program = [str(NODE), str(Path(__file__).with_name("reconnecting.mjs")), str(home), address]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)

    class It:
        heard: list[Json] = []  # noqa: RUF012 - one class for each

    def read() -> None:
        assert process.stdout is not None
        with process.stdout:
            It.heard.extend(json.loads(line) for line in process.stdout)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield It()
    finally:
        process.kill()
        process.wait()
        reader.join()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("npm")
    install(folder, "reconnecting-websocket@4.4.0")
    return folder


@pytest.fixture
def jetson() -> Iterator[Jetson]:
    with Jetson() as running:
        yield running


class House(Household):
    """A bridge, and one device that claims the user: whoever connects for that user is logged in there."""

    def __init__(self, folder: Path, jetson: Jetson, **settings: str) -> None:
        self.uid = unique("user")
        self.bridge = Bridge(folder, NO_BROKER, settings)
        self._ledger = folder / "ledger.db"
        self._device = Device(unique("old"), claim_uid=self.uid, logout_url=jetson.url)

    def _open(self, running: ExitStack) -> None:
        running.enter_context(self.bridge)
        keep(self._ledger, [self._device], alone=False)

    @property
    def address(self) -> str:
        return f"ws://{HOST}:{self.bridge.port}/ws/app/{self.uid}/"

    def events(self) -> list[str]:
        return look(self._ledger, self.uid).events

    def log_out(self) -> None:
        assert self.bridge.http.post(f"{self.bridge.url}/api/auth/logout", json={"uid": self.uid}).status_code == 200


def opens(app: Returning, times: int) -> None:
    """Wait until it has connected so often, and its heartbeat was answered each time."""

    def answered() -> bool:
        found = 0
        wanted = "open"
        for message in list(app.heard):
            if message["type"] == wanted:
                found += wanted == "heartbeat_ack"
                wanted = "heartbeat_ack" if wanted == "open" else "open"
        return found >= times

    wait_for(f"the app is connected and beats for the {times}. time", answered)


Library = Callable[[str, Path], Any]


@pytest.mark.parametrize(("library", "way"), [(websocket_client, "fast"), (reconnecting_websocket, "plain")])
def test_a_library_that_reconnects_does_not_undo_a_log_out_and_a_person_may_log_in(
    tmp_path: Path, jetson: Jetson, home: Path, library: Library, way: str
) -> None:
    with House(tmp_path, jetson, SARVIS_BRIDGE__WEBSOCKET=way) as house, library(house.address, home) as app:
        opens(app, 1)
        assert house.events() == ["opened"]
        house.log_out()
        opens(app, 2)
        wait_for("the device has taken it", lambda: house.events() == ["opened", "ended", "settled"])
        assert "logout_ack" not in {message["type"] for message in app.heard}
        # Somebody opens the app again, whatever the library holds.
        with house.bridge.app(house.uid, legacy=True):
            wait_for("logged in", lambda: house.events()[-1] == "opened")


def test_nor_does_one_that_reconnects_to_a_bridge_that_was_killed(tmp_path: Path, jetson: Jetson) -> None:
    with House(tmp_path, jetson) as house, websocket_client(house.address, tmp_path) as app:
        opens(app, 1)
        house.log_out()
        opens(app, 2)
        house.bridge.kill()
        house.bridge.start()
        opens(app, 3)
        assert house.events() == ["opened", "ended", "settled"]
        with house.bridge.app(house.uid) as person:
            assert person.message("connection_established")["sessions"]


def test_nor_does_one_that_was_silent_for_too_long(tmp_path: Path, jetson: Jetson) -> None:
    quick = {
        "SARVIS_BRIDGE__HEARTBEAT_TIMEOUT_S": "2",
        "SARVIS_BRIDGE__HEARTBEAT_COALESCE_S": "0",
        "SARVIS_BRIDGE__RESTART_GRACE_S": "0",
        "SARVIS_BRIDGE__EXPIRY_SPREAD_S": "0",
    }
    with House(tmp_path, jetson, **quick) as house, websocket_client(house.address, tmp_path) as app:
        opens(app, 2)
        wait_for("the device has taken it", lambda: house.events() == ["opened", "ended", "settled"])
        pause(3)
        assert house.events() == ["opened", "ended", "settled"]
        assert sum(message["type"] == "open" for message in app.heard) == 2, "it is served, and needs not come again"
