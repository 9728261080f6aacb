"""What broker, bridge, edge and apps say to each other in a whole life of a session, judged by docs/asyncapi.json."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Self

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from contract.app_socket import MODES, Mode
from tests.support.described import DOCUMENT, frame_faults, kinds_of_mqtt, mqtt_faults
from tests.support.processes import Sarvis
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, App, Bridge, Edge, EmbeddedBroker, Mqtt, unique


class Recorder:
    """Stands between apps and a bridge and keeps each frame of both sides."""

    def __init__(self, bridge: Bridge) -> None:
        self.app: list[tuple[Mode, str]] = []
        self.server: list[tuple[Mode, str]] = []
        self._bridge = bridge
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._loop, self._ends, self.port = self._started.result(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ends.set)
        self._thread.join()

    async def _run(self) -> None:
        ends = asyncio.Event()
        async with serve(self._pass_on, HOST, 0, select_subprotocol=lambda _, offered: next(iter(offered), None)) as it:
            self._started.set_result((asyncio.get_running_loop(), ends, next(iter(it.sockets)).getsockname()[1]))
            await ends.wait()

    async def _pass_on(self, app: ServerConnection) -> None:
        assert app.request is not None
        mode: Mode = "legacy" if app.subprotocol is None else "v2"
        offered = None if app.subprotocol is None else [app.subprotocol]
        url = f"ws://{HOST}:{self._bridge.port}{app.request.path}"
        async with connect(url, subprotocols=offered, compression=None, proxy=None) as bridge:
            up = asyncio.create_task(self._copy(app, bridge, mode, self.app))
            await self._copy(bridge, app, mode, self.server)
            up.cancel()
            await app.close(bridge.close_code or 1000)

    @staticmethod
    async def _copy(
        source: ServerConnection | ClientConnection,
        target: ServerConnection | ClientConnection,
        mode: Mode,
        kept: list[tuple[Mode, str]],
    ) -> None:
        try:
            async for frame in source:
                kept.append((mode, str(frame)))
                await target.send(frame)
        except ConnectionClosed:
            pass
        await target.close()

    def types(self, mode: Mode, frames: list[tuple[Mode, str]]) -> set[str]:
        return {json.loads(frame)["type"] for told, frame in list(frames) if told == mode}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Recorder, Mqtt]]:
    """A user logs in, is rung at a page-like app, a terminal and an old app, does what one can, and logs out."""
    folder = tmp_path_factory.mktemp("recorded")
    uid = unique("alice")
    with (
        EmbeddedBroker(folder) as broker,
        Mqtt(broker.port) as mqtt,
        Bridge(folder, broker.url) as bridge,
        Recorder(bridge) as recorder,
        Edge(folder, broker.url, uid=uid) as edge,
    ):
        _live(recorder, mqtt, edge, bridge, folder)
        yield recorder, mqtt


def _live(recorder: Recorder, mqtt: Mqtt, edge: Edge, bridge: Bridge, folder: Path) -> None:
    uid = edge.uid
    assert uid is not None
    url = f"ws://{HOST}:{recorder.port}"
    with (
        Sarvis("app", "--json", "--uid", uid, "--url", url, "--heartbeat-interval-s", "0.2", cwd=folder) as terminal,
        App(recorder.port, uid, legacy=False, client=None, acks=False) as app,
        App(recorder.port, uid, legacy=True, client="old", acks=False) as old,
    ):
        wait_for("the terminal is connected", lambda: any("connection_established" in line for line in terminal.out))
        edge.event("logged_in")
        edge.hear_word()
        called = app.message("voice_command")
        old.message("voice_command")
        how = {"permission": "granted", "sound": "running", "visible": True}
        for said in ({"type": "ack", "id": called["id"], "how": how}, {"type": "seen", "id": called["id"]}):
            app.say(said)
        mqtt.outcome(edge.device_id, called["id"], nth=2)
        app.say({"type": "heartbeat", "seq": 7})
        app.message("heartbeat_ack")
        old.say({"type": "heartbeat"})
        old.message("heartbeat_ack")
        other = unique("kitchen")
        app.say({"type": "login", "device_id": other})
        app.message("login_ack")
        app.say({"type": "login", "device_id": "legacy-http"})
        app.message("error")
        bridge.post("/api/auth/login", {"uid": unique("bob"), "device_id": other})
        app.message("session_ended")
        wait_for("the terminal was told", lambda: "wake_seen" in recorder.types("v2", recorder.server))
        app.say({"type": "logout"})
        app.message("logout_ack")
        mqtt.message(f"devices/{edge.device_id}/ack")
    with App(recorder.port, unique("carol"), legacy=True, client=None, acks=False) as other_user:
        other_user.say({"type": "logout"})
        other_user.message("logout_ack")


def test_each_message_over_mqtt_is_as_the_document_says(recorded: tuple[Recorder, Mqtt]) -> None:
    heard = [(topic, payload) for topic, payload, _ in recorded[1].got]
    assert mqtt_faults(heard) == []
    alone = {"Wake", "Outcome", "Hello", "Login", "Logout", "Ack", "DeviceStatus", "BridgeStatus"}
    assert kinds_of_mqtt(heard) == alone, "those of several bridges: test_wakes_of_two_bridges.py"


@pytest.mark.parametrize("mode", MODES)
def test_each_frame_is_as_the_document_says(recorded: tuple[Recorder, Mqtt], mode: Mode) -> None:
    recorder, _ = recorded
    assert frame_faults(mode, "server", [frame for told, frame in recorder.server if told == mode]) == []
    assert frame_faults(mode, "app", [frame for told, frame in recorder.app if told == mode]) == []
    channel = DOCUMENT["channels"]["app" if mode == "legacy" else "appV2"]
    known = {DOCUMENT["components"]["schemas"][name]["properties"]["type"]["const"] for name in channel["messages"]}
    seen = recorder.types(mode, recorder.server) | recorder.types(mode, recorder.app)
    assert known - seen == set()


def test_a_message_that_the_document_does_not_know_is_found() -> None:
    told = mqtt_faults([("sarvis/v1/devices/x/outcome", b'{"id":"1","status":"rung","ms":1}'), ("sarvis/v1/x", b"{}")])
    assert len(told) == 3
    assert frame_faults("legacy", "server", ['{"type":"logout_ack","timestamp":"","reason":"app"}']) != []
    assert frame_faults("v2", "app", ['{"type":"voice_command"}']) != []
