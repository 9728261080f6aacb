"""Bridge and devices on three NATS servers: a node is killed, and they go on at the others."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clusters import Cluster, NatsNode, open_cluster, secure_cluster
from tests.support.processes import Sarvis, run_sarvis
from tests.support.waiting import wait_for
from tests.support.world import HOST, QUICK, Bridge, Json, unique

pytestmark = pytest.mark.slow

LEADS = "new stream leader for '$G > $MQTT_msgs'"
WITHIN_S = 60.0


def second(fleet: Sarvis, what: str, wanted: Any) -> Json:
    return fleet.event(what, lambda line: line.get("event") == "second" and wanted(line), within_s=WITHIN_S)


def received(fleet: Sarvis) -> int:
    count: int = [line["wakes"]["received"] for line in fleet.events() if line.get("event") == "second"][-1]
    return count


def wakes_go_on(fleet: Sarvis, devices: int) -> None:
    """Of all devices: more than those that were on their way."""
    before = received(fleet)
    second(
        fleet,
        "wakes go on",
        lambda line: line["wakes"]["received"] > before + 10 and line["devices_connected"] == devices,
    )


def port_of(process: Sarvis, nth: int) -> int:
    """Of the node that a bridge connected to, the nth time."""
    told = process.event("it is connected", lambda line: line.get("event") == "mqtt_connected", nth=nth)
    port: int = told["port"]
    return port


def test_bridge_and_devices_go_on_when_the_bridges_node_is_killed(tmp_path: Path) -> None:
    with open_cluster(tmp_path) as cluster, Bridge(tmp_path, cluster.url) as bridge:
        way = ("--mqtt-url", cluster.url, "--url", f"ws://{HOST}:{bridge.port}")
        options = ("--devices", "6", "--rate", "4", "--prefix", unique("nodes"), "--give-up-s", "60")
        with Sarvis("fleet", "--json", *options, *way, cwd=tmp_path, settings=QUICK) as fleet:
            second(
                fleet, "all devices wake", lambda line: line["devices_active"] == 6 and line["wakes"]["received"] > 3
            )
            port = port_of(bridge.sarvis, 1)
            (node,) = (one for one in cluster.nodes if one.port == port)
            node.kill()
            assert port_of(bridge.sarvis, 2) != port
            bridge.wait_ready()
            wakes_go_on(fleet, 6)
            fleet.kill()  # wakes of the seconds without a leader may have been lost


class Hub:
    """What `sarvis broker config nats --cluster 3` has written into a folder, in use."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder = folder
        self.cluster = cluster
        self.config = folder / "hub" / "bridge" / "sarvis.toml"
        self.settings = {"SARVIS_BROKER__DIR": str(folder / "hub")}
        self.ca_file = folder / "hub" / "certs" / "ca.crt"

    def sarvis(self, *words: str) -> list[Json]:
        """Run a command to its good end; its JSON lines."""
        done = run_sarvis(*words, "--config", str(self.config), cwd=self.folder, settings=self.settings, within_s=180.0)
        assert done.returncode == 0, done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def add(self, device_id: str) -> None:
        kit = str(self.folder / "kits" / device_id)
        self.sarvis("device", "add", device_id, "--uid", device_id, "--kit", kit)

    def bridge(self) -> Bridge:
        tls = ssl.create_default_context(cafile=self.ca_file)
        tls.check_hostname = False  # a test calls it by its address
        return Bridge(self.folder, None, self.settings, tls=tls, config=self.config)

    def leader(self) -> NatsNode:
        """The node that keeps the order of all messages of QoS 1: the last of which a log says so."""
        led = {
            " ".join(line.split()[1:3]): node
            for node in self.cluster.nodes
            for line in node.log().splitlines()
            if LEADS in line
        }
        return led[max(led)]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("cluster")
    with secure_cluster(folder) as cluster:
        yield Hub(folder, cluster)


def test_a_configured_cluster_holds_what_sarvis_needs(hub: Hub) -> None:
    found = {one["key"]: one["holds"] for one in hub.sarvis("broker", "check", "--json")}
    assert found["delivery"]
    assert found["stranger"]
    assert found["foreign_publish"]


def test_wakes_go_on_when_the_leader_is_killed_and_then_another(hub: Hub) -> None:
    hub.add("room-1")
    hub.add("room-2")
    with hub.bridge() as bridge:
        line = (
            "fleet", "--json", "--devices", "2", "--prefix", "room", "--kits", str(hub.folder / "kits"), "--rate", "4",
            "--give-up-s", "60", "--url", f"wss://localhost:{bridge.port}", "--ca-file", str(hub.ca_file),
            "--config", str(hub.config),
        )  # fmt: skip
        with Sarvis(*line, cwd=hub.folder, settings={**QUICK, **hub.settings}) as fleet:
            second(
                fleet, "all devices wake", lambda told: told["devices_active"] == 2 and told["wakes"]["received"] > 3
            )
            leader = hub.leader()
            leader.kill()
            wait_for("another leads", lambda: hub.leader() is not leader, WITHIN_S)
            wakes_go_on(fleet, 2)
            leader.start()
            hub.cluster.wait_for_all()
            follower = next(node for node in hub.cluster.nodes if node is not hub.leader())
            follower.kill()
            wakes_go_on(fleet, 2)
            assert not any(told.get("log_outs") for told in fleet.events())
            fleet.kill()
            follower.start()
            hub.cluster.wait_for_all()


def test_the_check_names_a_node_that_is_gone(hub: Hub) -> None:
    gone = hub.cluster.nodes[1]
    gone.kill()
    done = run_sarvis(
        "broker", "check", hub.cluster.url, "--ca-file", str(hub.ca_file), cwd=hub.folder, settings=hub.settings
    )
    assert done.returncode == 3
    assert f"localhost:{gone.port}" in done.stderr
