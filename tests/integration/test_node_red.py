"""The flow of docs/examples, run by a real Node-RED."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.javascript import NODE, install
from tests.support.ports import free_port
from tests.support.waiting import wait_for
from tests.support.world import HOST, Bridge, EmbeddedBroker, Mqtt, accepts, unique

FLOW = Path(__file__).parents[2] / "docs" / "examples" / "node-red.json"
NODE_RED = "node-red@4.1.1"


@contextmanager
def node_red(folder: Path, mqtt_port: int) -> Iterator[None]:
    """Node-RED with the flow, whose broker is on this port, until the block ends."""
    install(folder / "npm", NODE_RED)
    (folder / "flow.json").write_text(FLOW.read_text().replace('"port": "1883"', f'"port": "{mqtt_port}"'))
    port = free_port()
    (folder / "settings.js").write_text(
        f"module.exports = {{ uiPort: {port}, uiHost: '{HOST}', disableEditor: true, httpAdminRoot: false }};\n"
    )
    program = folder / "npm" / "node_modules" / "node-red" / "red.js"
    told = folder / "told"
    with told.open("wb") as out:
        process = subprocess.Popen(
            [str(NODE), str(program), "--userDir", str(folder), "--settings", str(folder / "settings.js"), "flow.json"],
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for("it reaches the broker", lambda: "Connected to broker" in told.read_text(), 120)
            wait_for("it listens", lambda: accepts(port))
            yield
        finally:
            process.terminate()
            process.wait()


def test_a_lamp_goes_on_when_a_jetson_hears_and_a_missed_call_is_told(tmp_path: Path) -> None:
    settings = {"SARVIS_HOME_ASSISTANT__ENABLED": "true"}
    with (
        EmbeddedBroker(tmp_path) as broker,
        Bridge(tmp_path, broker.url, settings) as bridge,
        Mqtt(broker.port) as devices,
        Mqtt(broker.port, "house") as house,
        node_red(tmp_path, broker.port),
    ):
        device_id, alice, bob = unique("jetson"), unique("alice"), unique("bob")
        with bridge.app(alice):
            devices.wake(device_id, alice)
            wait_for("the lamp", lambda: house.got)
        devices.wake(device_id, bob, ttl_ms=2000)
        wait_for("the lamp again, and the missed call", lambda: len(house.got) == 3)
        lamp, missed = f"house/{device_id}/lamp/set", f"house/{device_id}/missed"
        assert [(name, payload) for name, payload, _ in house.got] == [
            (lamp, b"ON"), (lamp, b"ON"), (missed, bob.encode())
        ]  # fmt: skip
        assert json.loads(FLOW.read_text())[2]["topic"] == f"{devices.prefix}/devices/+/event"
