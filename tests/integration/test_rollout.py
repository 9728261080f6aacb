"""Rollouts of a model: real bridges and brokers, some real nodes, and clients that answer as nodes for the rest."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
import pytest
import soundfile
from websockets.sync.client import connect

from bridge.auth.tickets import VALID_S, ticket
from bridge.auth.tokens import read
from bridge.rollout.rules import in_order
from edge_node.wakeword.native import shipped_model_path
from tests.integration.test_console import Visitor
from tests.support.processes import run_sarvis
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import NO_BROKER, Bridge, Edge, EmbeddedBroker, Mqtt

FEW = "ssabiseu-2"
CANARIES = 20
FLEET = 40
STRANGERS_KEY = "A" * 43 + "="

Json = dict[str, Any]


class Nodes:
    """Nodes without sound: each says hello, and answers each request as it is told to."""

    def __init__(self, port: int, names: list[str], answer: Callable[[str, Json], Json | None]) -> None:
        self.mqtt = Mqtt(port)
        self.names = names
        self.asked: list[tuple[str, Json]] = []
        self._answer = answer
        self._take = self.mqtt.paho.on_message
        self.mqtt.paho.on_message = self._heard
        self.come(names)

    def come(self, names: list[str], seq: int = 1) -> None:
        """These say hello."""
        told = {"install_id": "i", "boot": 1, "nonce": "n", "version": "0.1.0", "model": "ssabiseu"}
        for name in names:
            self.mqtt.publish(f"devices/{name}/hello", {"seq": seq, **told})

    def _heard(self, client: Any, user: Any, raw: Any) -> None:
        kind, name = raw.topic.rsplit("/", 1)[1], raw.topic.rsplit("/", 2)[1]
        if kind == "model" and name in self.names:
            order = json.loads(raw.payload)
            self.asked.append((name, order))
            answer = self._answer(name, order)
            if answer is not None:
                report = json.dumps({"id": order["id"], **answer}).encode()
                client.publish(f"{self.mqtt.prefix}/devices/{name}/model_report", report, 1)
        elif self._take is not None:
            self._take(client, user, raw)


class Room:
    """A quiet room for a node whose ear is a pipe: sound goes on, so that another model can take over."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        stdin = self._edge.sarvis.process.stdin
        assert stdin is not None
        quiet = b"\x02\x00\xfe\xff" * 640
        try:
            while not self._ended.wait(0.08):
                stdin.write(quiet)
                stdin.flush()
        except (BrokenPipeError, ValueError):
            return


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path) as it:
        yield it


class House:
    """A bridge that carries rollouts on, the key that signs models, and a second model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = {
            "SARVIS_ROLLOUT__BRIDGE_URL": "http://127.0.0.1:9",
            "SARVIS_ROLLOUT__KEY_FILE": str(folder / "model.key"),
        }

    def sarvis(self, *arguments: str) -> str:
        done = run_sarvis(*arguments, cwd=self.folder, settings=self.settings)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def add_model(self) -> str:
        """The public key of who signed it."""
        told = self.sarvis("model", "key")
        made = onnx.load(shipped_model_path())
        made.metadata_props.add(key="note", value="the same head, and another file")
        onnx.save(made, self.folder / f"{FEW}.onnx")
        assert f"model {FEW}: it scores its golden sound" in self.sarvis("model", "add", f"{FEW}.onnx")
        return told.partition('"')[2].partition('"')[0]

    def listed(self, *options: str) -> list[str]:
        found = json.loads(self.sarvis("device", "list", "--json", *options))["devices"]
        return [one["device_id"] for one in found]

    def rollout(self) -> Json:
        told: Json = json.loads(self.sarvis("rollout", "show", "--json", "--most", "1000"))
        return told


def devices(told: Json, *states: str) -> set[str]:
    return {one["device_id"] for one in told["devices"] if one["state"] in states}


class Canaries:
    """A fleet of 40, of which the first stage asks 20; three of these are real nodes, of which one knows another
    key and refuses the model. Two of the others fail as soon as they are told to.
    """

    def __init__(self, house: House, broker: EmbeddedBroker, bridge: Bridge) -> None:
        self.names = [f"d{number:02}" for number in range(FLEET)]
        self.canaries = in_order(1, self.names)[:CANARIES]
        self.real = self.canaries[:3]
        self.bad = self.canaries[10:12]
        self.may_fail = threading.Event()
        key = house.add_model()
        self.edges = [
            Edge(
                house.folder, broker.url, device_id=name, uid="alice",
                settings={"SARVIS_EDGE__MODEL_KEY": its_key, "SARVIS_EDGE__BRIDGE_URL": bridge.url},
            )
            for name, its_key in zip(self.real, (key, key, STRANGERS_KEY), strict=True)
        ]  # fmt: skip
        self._port = broker.port

    def start(self, running: ExitStack) -> None:
        for edge in self.edges:
            running.enter_context(edge)
            running.enter_context(Room(edge))
        self.nodes = Nodes(self._port, [name for name in self.names if name not in self.real], self._answer)
        running.enter_context(self.nodes.mqtt)

    def _answer(self, name: str, order: Json) -> Json | None:
        if order["id"].endswith("-back"):
            return {"status": "returned"}
        if name in self.bad:
            return {"status": "failed", "reason": "self-test: it is deaf"} if self.may_fail.is_set() else None
        return {"status": "running"}


def test_a_model_that_fails_on_3_of_20_canaries_stops_there_and_none_is_deaf(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    house = House(tmp_path)
    with ExitStack() as running:
        bridge = running.enter_context(Bridge(tmp_path, broker.url, house.settings))
        fleet = Canaries(house, broker, bridge)
        sounding = running.enter_context(ExitStack())
        fleet.start(sounding)
        wait_for("all are in the ledger", lambda: len(house.listed("--most", "100")) == FLEET)
        house.sarvis("device", "tag", *fleet.names, "--add", "all")
        house.sarvis("rollout", "start", FEW, "--tag", "all", "--stages", "50,100", "--pause-h", "0")
        for edge in fleet.edges[:2]:
            edge.event("model", lambda event: event["model"] == FEW)
        fleet.may_fail.set()
        fleet.nodes.come(fleet.bad, seq=2)
        wait_for("it stops by itself", lambda: house.rollout()["state"] == "stopped")
        wait_for("all are back", lambda: devices(house.rollout(), "returned") == set(fleet.canaries))
        told = house.rollout()
        assert "3 of 20 devices failed" in told["reason"]
        asked = {name for name, _ in fleet.nodes.asked}
        assert asked == set(fleet.canaries) - set(fleet.real), "no other device was asked"
        failed = {one["device_id"]: one["reason"] for one in told["devices"] if one["reason"]}
        assert set(failed) == {*fleet.bad, fleet.real[2]}
        assert "signature" in failed[fleet.real[2]]
        changes = [[event["model"] for event in edge.said("model")] for edge in fleet.edges]
        assert changes == [[FEW, "ssabiseu"], [FEW, "ssabiseu"], []]
        with bridge.app("alice"):
            for edge in fleet.edges:
                edge.event("logged_in")
                edge.hear_word()
                assert edge.event("wake")["uid"] == "alice", f"{edge.device_id} is deaf"
        audit = house.sarvis("audit", "export")
        assert "stopped by itself: 3 of 20 devices failed" in audit
        assert "user:" in next(line for line in audit.splitlines() if "1: began" in line), "who began it"


def test_a_node_keeps_its_new_model_over_a_restart_and_gives_a_damaged_one_up(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    house = House(tmp_path)
    with Bridge(tmp_path, broker.url, house.settings) as bridge:
        settings = {"SARVIS_EDGE__MODEL_KEY": house.add_model(), "SARVIS_EDGE__BRIDGE_URL": bridge.url}
        edge = Edge(tmp_path, broker.url, device_id="jetson-1", uid="alice", settings=settings)
        with edge, Room(edge):
            wait_for("it is in the ledger", house.listed)
            house.sarvis("rollout", "start", FEW, "--stages", "100", "--pause-h", "0")
            edge.event("model", lambda event: event["model"] == FEW)
            wait_for("it is done", lambda: house.rollout()["state"] == "done")
            wait_for("it is told", lambda: house.listed("--model", FEW))
        with edge, Room(edge):
            assert edge.said("listening")[0]["model"] == FEW
        (model,) = (tmp_path / "state" / "jetson-1.models").glob("*/*.onnx")
        model.write_bytes(model.read_bytes()[:-1])
        with edge, Room(edge):
            assert edge.said("listening")[0]["model"] == "ssabiseu"
            failed = wait_for("the bridge sees it", lambda: devices(house.rollout(), "failed"))
            assert failed == {"jetson-1"}


def test_a_file_is_for_devices_with_a_ticket_and_the_ticket_for_nothing_else(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.settings |= {"SARVIS_AUTH__MODE": "required", "SARVIS_AUTH__KEY_FILE": str(tmp_path / "keys")}
    with Bridge(tmp_path, NO_BROKER, house.settings) as bridge:
        house.add_model()
        (model,) = json.loads(house.sarvis("model", "list", "--json"))["models"]
        path = f"/api/models/{model['sha256']}"
        now = time.time()
        good = ticket(read(tmp_path / "keys")[0], "jetson-1", now=now)
        old = ticket(read(tmp_path / "keys")[0], "jetson-1", now=now - 2 * VALID_S)

        def asked(path: str, credential: str) -> int:
            headers = {"authorization": f"Bearer {credential}"} if credential else {}
            return bridge.http.get(f"{bridge.url}{path}", headers=headers).status_code

        assert asked(path, good) == 200
        got = bridge.http.get(f"{bridge.url}{path}", headers={"authorization": f"Bearer {good}"}).content
        assert got == (tmp_path / f"{FEW}.onnx").read_bytes()
        assert asked(f"/api/models/{'0' * 64}", good) == 404
        app, operator = house.sarvis("token", "app", "alice"), house.sarvis("token", "api", "me", "--role", "operator")
        refused = {asked(path, one.strip()) for one in ("", old, good[:-2], app, operator)}
        assert refused == {401, 403}
        for elsewhere in ("/api/ops/devices", "/metrics", "/api/push/key", "/nothing-here"):
            assert asked(elsewhere, good) in {401, 403}, elsewhere
        address = f"ws://127.0.0.1:{bridge.port}/ws/app/alice/?token={good}"
        with connect(address, proxy=None, open_timeout=PATIENCE_S) as socket, pytest.raises(Exception, match="4503"):
            socket.recv(PATIENCE_S)


def test_an_operator_pauses_and_stops_a_rollout_from_the_console(broker: EmbeddedBroker, tmp_path: Path) -> None:
    house = House(tmp_path)
    with Bridge(tmp_path, broker.url, house.settings) as bridge, ExitStack() as running:
        house.add_model()
        nodes = Nodes(broker.port, ["a", "b"], lambda _, order: back(order) or {"status": "running"})
        running.enter_context(nodes.mqtt)
        wait_for("they are in the ledger", lambda: len(house.listed()) == 2)
        house.sarvis("rollout", "start", FEW, "--stages", "50,100", "--pause-h", "1")
        wait_for("one has it", lambda: devices(house.rollout(), "running"))
        visitor = running.enter_context(Visitor(bridge.url))
        assert FEW in visitor.get("/rollouts").text
        assert 'action="/console/rollouts/1/pause"' in visitor.get("/rollouts/1").text
        for what, state in (("pause", "paused"), ("resume", "running"), ("stop", "stopped"), ("stop", "stopped")):
            assert visitor.post(f"/rollouts/1/{what}").status_code == 303
            assert house.rollout()["state"] == state
        assert visitor.get("/rollouts/2").status_code == visitor.post("/rollouts/1/nothing").status_code == 404
        wait_for("it goes back", lambda: devices(house.rollout(), "returned"))
        assert len({name for name, _ in nodes.asked}) == 1, "the other one was never asked"
        assert "1: stop: now stopped" in visitor.get("/audit").text


def back(order: Json) -> Json | None:
    return {"status": "returned"} if order["id"].endswith("-back") else None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rollout", "start", "none"], "there is no model none"),
        (["rollout", "start", FEW, "--stages", "10,5"], "--stages"),
        (["rollout", "start", FEW, "--stages", "x"], "--stages"),
        (["rollout", "start", FEW, "--tag", "a b"], "--tag"),
        (["rollout", "show"], "there is no rollout"),
        (["rollout", "stop", "7"], "there is no rollout 7"),
        (["model", "add", "nowhere.onnx"], "nowhere.onnx cannot be read"),
        (["model", "add", "text.onnx"], "text.onnx"),
        (["model", "add", f"{FEW}.onnx", "--name", "a b"], "--name"),
        (["model", "add", f"{FEW}.onnx"], "is there"),
        (["model", "add", "hasty.onnx"], "it takes noise for the wake word"),
        (["model", "add", f"{FEW}.onnx", "--name", "x", "--golden", "quiet.wav"], "does not recognise"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(made: House, arguments: list[str], words: str) -> None:
    done = run_sarvis(*arguments, cwd=made.folder, settings=made.settings)
    assert done.returncode in {1, 2, 3}
    assert words in done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> House:
    house = House(tmp_path_factory.mktemp("made"))
    (house.folder / "ledger.db").touch()
    house.add_model()
    (house.folder / "text.onnx").write_text("no model")
    hasty = onnx.load(shipped_model_path())
    for tensor in hasty.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.raw_data = bytes(len(tensor.raw_data))
    del hasty.metadata_props[:]
    onnx.save(hasty, house.folder / "hasty.onnx")
    soundfile.write(house.folder / "quiet.wav", np.zeros(16_000, np.int16), 16_000)
    return house
