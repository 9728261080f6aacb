"""What the embedded broker counts, at the moment when it happens."""

from pathlib import Path

import httpx2

from broker.server.limits import Limits
from infra.telemetry import REGISTRY
from tests.support.embedded import Client, eventually, started
from tests.support.ports import free_port
from tests.support.processes import Sarvis, run_sarvis
from tests.support.world import HOST


def value(name: str, **labels: str) -> float:
    found = REGISTRY.get_sample_value(f"sarvis_broker_{name}", labels)
    assert found is not None, name
    return found


def dropped(reason: str) -> float:
    return value("dropped_total", reason=reason)


def test_clients_and_what_waits_for_absent_ones_are_counted() -> None:
    with started(limits=Limits(max_offline=2)) as running, Client(running.port) as publisher:
        with Client(running.port, "away", clean=False) as away:
            away.subscribe(("m", 1))
            assert (value("clients"), value("absent_sessions"), value("queued")) == (2, 0, 0)
        assert eventually(lambda: (value("clients"), value("absent_sessions")) == (1, 1))
        before = dropped("queue_full")
        for _ in range(5):
            publisher.publish("m", b"12345")
        assert eventually(lambda: (value("queued"), dropped("queue_full") - before) == (2, 3))
        assert value("queued_bytes") > 2 * len("12345")


def test_messages_are_counted_once_for_each_that_sends_and_gets_them() -> None:
    with (
        started() as running,
        Client(running.port) as publisher,
        Client(running.port) as one,
        Client(running.port) as other,
    ):
        for client in (one, other):
            client.subscribe(("m", 1))
        received, sent = (value("messages_total", direction=name) for name in ("received", "sent"))
        for _ in range(3):
            publisher.publish("m")
        assert eventually(lambda: value("messages_total", direction="sent") - sent == 6)
        assert value("messages_total", direction="received") - received == 3


def test_what_is_refused_and_what_finds_no_place_is_counted() -> None:
    with started(limits=Limits(max_retained=1)) as running, Client(running.port) as client:
        refused, homeless = dropped("not_allowed"), dropped("not_retained")
        received = value("messages_total", direction="received")
        client.publish("$SYS/mine")
        assert eventually(lambda: dropped("not_allowed") - refused == 1)
        assert value("messages_total", direction="received") == received
        for topic in ("r/1", "r/2"):
            client.publish(topic, retain=True)
        assert eventually(lambda: dropped("not_retained") - homeless == 1)
        assert value("retained") == 1


def test_metrics_are_served_only_if_there_is_a_port_for_them(tmp_path: Path) -> None:
    with Sarvis("broker", "--port", "0", cwd=tmp_path) as plain:
        plain.line_after("broker listening on ")
        assert not any("metrics" in line for line in plain.out)
    with Sarvis("broker", "--port", "0", cwd=tmp_path, settings={"SARVIS_BROKER__HTTP_PORT": "0"}) as broker:
        url = broker.line_after("broker metrics at ")
        with httpx2.Client(trust_env=False, timeout=10) as http:
            answer = http.get(url)
            assert answer.headers["content-type"].startswith("text/plain")
            assert "sarvis_broker_clients 0.0\n" in answer.text
            assert "sarvis_mqtt_connected" not in answer.text, "the broker is no client"
            assert http.get(url.removesuffix("/metrics")).status_code == 404
            assert http.post(url).status_code == 405
        taken = {
            "SARVIS_BROKER__DIR": "other",
            "SARVIS_BROKER__HTTP_PORT": url.rsplit(":", 1)[1].removesuffix("/metrics"),
        }
        done = run_sarvis("broker", "--port", str(free_port()), cwd=tmp_path, settings=taken)
        assert done.returncode == 3
        assert f"the broker's metrics cannot listen on {HOST}" in done.stderr
        assert "broker.http_port" in done.stderr
        assert "Traceback" not in done.stderr
