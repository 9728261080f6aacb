"""A real Prometheus scrapes bridge, embedded broker and edge under `sarvis fleet`, and each panel's query answers."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.dashboards import CONFIG, expressions
from tests.support.ports import free_port
from tests.support.processes import Sarvis
from tests.support.programs import program
from tests.support.waiting import wait_for
from tests.support.world import HOST, Bridge, Edge, unique

NAME = re.compile(r"\b(?:sarvis|process|python)_[a-z0-9_]+")
PARTS = re.compile(r"_(bucket|sum|count)$")
FLEET = "crowd"
DEVICES = 5
MOST_VALUES = 60
"""Of one metric: buckets times label values; more would grow with the fleet."""


class House:
    """Broker, bridge, a node and a fleet, each a process."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self.uid, self.device = unique("owner"), unique("jetson")
        settings = {"SARVIS_BROKER__HTTP_PORT": "0"}
        self.broker = running.enter_context(Sarvis("broker", "--port", "0", cwd=folder, settings=settings))
        self.broker_metrics = self.broker.line_after("broker metrics at ").removesuffix("/metrics")
        url = self.broker.line_after("broker listening on ")
        self.bridge = running.enter_context(Bridge(folder, url))
        self.edge = running.enter_context(Edge(folder, url, device_id=self.device, uid=self.uid))
        running.enter_context(self.bridge.app(self.uid))
        self.edge.event("logged_in")
        self.edge.hear_word()
        self.edge.event("outcome", lambda line: line["status"] == "acked")
        self.fleet = running.enter_context(
            Sarvis(
                "fleet",
                "--devices",
                str(DEVICES),
                "--rate",
                "10",
                "--prefix",
                FLEET,
                "--json",
                "--mqtt-url",
                url,
                "--url",
                self.bridge.url.replace("http", "ws", 1),
                cwd=folder,
            )
        )
        self.fleet.event("wakes are made", lambda line: line.get("wakes", {}).get("made", 0) > DEVICES)

    def scrape(self) -> dict[str, str]:
        addresses = {"bridge": self.bridge.url, "broker": self.broker_metrics, "edge": self.edge.url}
        return {name: self.bridge.http.get(f"{url}/metrics").text for name, url in addresses.items()}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with ExitStack() as running:
        yield House(tmp_path_factory.mktemp("house"), running)


def test_no_user_and_no_device_is_among_the_label_values(house: House) -> None:
    names = [house.uid, house.device, *(f"{FLEET}-{number}" for number in range(1, DEVICES + 1))]
    for component, text in house.scrape().items():
        assert f'sarvis_build_info{{component="{component}",' in text
        for family in text_string_to_metric_families(text):
            assert len(family.samples) <= MOST_VALUES, (component, family.name, "has values that grow with something")
            for sample in family.samples:
                for label, value in sample.labels.items():
                    assert all(name not in value for name in names), (component, sample.name, label, value)
                    assert label not in {"uid", "device", "device_id", "client_id", "session_id", "wake_id", "topic"}


def test_dashboards_and_alerts_ask_for_what_one_of_the_three_tells(house: House) -> None:
    told = {
        name
        for text in house.scrape().values()
        for family in text_string_to_metric_families(text)
        for name in (family.name, f"{family.name}_total")
    }
    asked = NAME.findall(
        (CONFIG / "prometheus" / "alerts.yml").read_text() + "".join(f"{text}\n" for _, text in expressions())
    )
    assert {name for name in asked if name not in told and PARTS.sub("", name) not in told} == set(), sorted(told)


def test_the_brokers_numbers_are_those_of_its_fleet(house: House) -> None:
    def value(line: str) -> float:
        text = house.scrape()["broker"]
        return next(float(row.rsplit(" ", 1)[1]) for row in text.splitlines() if row.startswith(f"{line} "))

    wait_for("the fleet, the node and the bridge", lambda: value("sarvis_broker_clients") == DEVICES + 2)
    wait_for("their status is retained", lambda: value("sarvis_broker_retained") >= DEVICES + 2)
    before = value('sarvis_broker_messages_total{direction="received"}')
    wait_for("wakes pass", lambda: value('sarvis_broker_messages_total{direction="received"}') > before + 10)
    wait_for("to others", lambda: value('sarvis_broker_messages_total{direction="sent"}') > 10)
    assert value('sarvis_broker_dropped_total{reason="slow"}') == 0


class Prometheus:
    """Debian's, with the scrape configuration and the alerts of config/, on the addresses of this test."""

    def __init__(self, house: House, folder: Path, running: ExitStack) -> None:
        found, port = program("prometheus"), free_port()
        text = (CONFIG / "prometheus" / "scrape.yml").read_text()
        for given, ours in (
            ("127.0.0.1:8000", house.bridge.url),
            ("127.0.0.1:9401", house.broker_metrics),
            ("jetson-1:5000", house.edge.url),
        ):
            assert given in text
            text = text.replace(given, ours.removeprefix("http://"))
        text = text.replace("scrape_interval: 15s", "scrape_interval: 1s\n  evaluation_interval: 1s")
        (folder / "scrape.yml").write_text(text)
        (folder / "alerts.yml").write_text((CONFIG / "prometheus" / "alerts.yml").read_text())
        log = running.enter_context((folder / "log").open("wb"))
        self.process = subprocess.Popen(
            [
                found, "--config.file=scrape.yml", f"--web.listen-address={HOST}:{port}",
                f"--storage.tsdb.path={folder / 'data'}",
            ],
            cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
        running.callback(self._stop)
        self.url = f"http://{HOST}:{port}/api/v1"
        self.http = running.enter_context(httpx2.Client(trust_env=False, timeout=10))

    def _stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)

    def ask(self, path: str, **params: str) -> Any:
        assert self.process.poll() is None
        try:
            response = self.http.get(f"{self.url}/{path}", params=params)
        except httpx2.TransportError:
            return None
        answer = response.json() if response.status_code == 200 else {"status": response.text}
        if path != "query" and answer["status"] != "success":
            return None  # it starts
        assert answer["status"] == "success", (params, answer)
        return answer["data"]

    def values(self, expression: str) -> list[float]:
        data = self.ask("query", query=expression)
        return [] if data is None else [float(row["value"][1]) for row in data["result"]]


@pytest.fixture(scope="module")
def prometheus(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with ExitStack() as running:
        it = Prometheus(house, tmp_path_factory.mktemp("prometheus"), running)
        wait_for("it answers", lambda: it.ask("targets"))
        yield it


def test_a_real_prometheus_scrapes_all_three_and_no_alert_is_broken(prometheus: Prometheus) -> None:
    def all_up() -> bool:
        targets = (prometheus.ask("targets") or {"activeTargets": []})["activeTargets"]
        return len(targets) == 3 and all(one["health"] == "up" for one in targets)

    wait_for("all three are up", all_up)

    def evaluated() -> list[Any]:
        rules = [rule for group in (prometheus.ask("rules") or {"groups": []})["groups"] for rule in group["rules"]]
        return rules if rules and all(rule["health"] != "unknown" for rule in rules) else []

    rules = wait_for("all alerts were evaluated", evaluated)
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}
    firing = {rule["name"] for rule in rules for alert in rule["alerts"] if alert["state"] == "firing"}
    assert firing & {"BridgeDown", "BrokerDown", "BrokerLost", "LedgerNotWritable"} == set()


def test_each_panel_answers(prometheus: Prometheus) -> None:
    has_zones = any(Path("/sys/class/thermal").glob("thermal_zone*/temp"))
    for title, expression in expressions("1m"):
        if "temperature" in expression and not has_zones:
            continue  # a virtual machine
        wait_for(f"{title} answers: {expression}", partial(prometheus.values, expression))
    wakes = 'sum(rate(sarvis_wakes_settled_total{fate="acked"}[1m]))'
    wait_for("wakes are counted", lambda: any(value > 0 for value in prometheus.values(wakes)))
    messages = 'sum(rate(sarvis_broker_messages_total{direction="received"}[1m]))'
    wait_for("messages are counted", lambda: any(value > 0 for value in prometheus.values(messages)))
    frames = "sum(rate(sarvis_edge_frames_total[1m]))"
    assert prometheus.values(frames)
