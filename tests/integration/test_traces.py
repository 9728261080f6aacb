"""A wake as one trace in a collector: with real processes, and while the collector is away."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.collector import Collector, Got
from tests.support.ports import free_port
from tests.support.processes import run_sarvis
from tests.support.waiting import wait_for
from tests.support.world import NO_BROKER, Bridge, Edge, EmbeddedBroker, Mqtt, unique


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as it:
        yield it


def bridge_of(folder: Path, broker: EmbeddedBroker, port: int) -> Bridge:
    settings = {
        "SARVIS_TRACES__ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-key=of-the-house",
    }
    return Bridge(folder, broker.url, settings)


def one(spans: list[Got], name: str) -> Got:
    (found,) = (span for span in spans if span.name == name)
    return found


def test_one_trace_leads_from_the_word_to_the_phones_confirmation(broker: EmbeddedBroker, tmp_path: Path) -> None:
    uid = unique("alice")
    began = time.time_ns()
    with (
        Collector() as collector,
        bridge_of(tmp_path, broker, collector.port) as bridge,
        bridge.app(uid, client="phone"),
        Edge(tmp_path, broker.url, uid=uid) as edge,
    ):
        edge.event("logged_in")
        edge.hear_word()
        wake_id = edge.event("wake")["id"]
        spans = wait_for("the trace has the wake's id", lambda: collector.of(wake_id))
        assert bridge.metric("sarvis_traces_sent_total") == 1
        assert (bridge.metric("sarvis_traces_lost_total"), bridge.metric("sarvis_traces_waiting")) == (0, 0)
    hear, wake, deliver, ack = (one(spans, name) for name in ("edge.hear", "bridge.wake", "bridge.deliver", "app.ack"))
    assert len(spans) == 4
    assert [span.service for span in (hear, wake, deliver, ack)] == [
        "sarvis-edge", "sarvis-bridge", "sarvis-bridge", "sarvis-app",
    ]  # fmt: skip
    assert [span.parent for span in (hear, wake, deliver, ack)] == ["", hear.id, wake.id, deliver.id]
    assert hear.told["sarvis.device_id"] == edge.device_id
    assert hear.told["sarvis.model"] == "ssabiseu"
    assert (deliver.told["sarvis.label"], wake.told["sarvis.state"], wake.failed) == ("phone", "acked", None)
    assert began <= hear.start <= hear.end == wake.start <= deliver.end == ack.start <= ack.end <= time.time_ns()
    assert collector.headers[0]["x-key"] == "of-the-house"
    assert uid not in repr(collector.spans)


def test_wakes_ring_and_the_bridge_ends_while_the_collector_is_away(broker: EmbeddedBroker, tmp_path: Path) -> None:
    uid = unique("alice")
    with bridge_of(tmp_path, broker, free_port()) as bridge, bridge.app(uid), Mqtt(broker.port) as mqtt:
        assert mqtt.outcome("x", mqtt.wake("x", uid), nth=2) == "acked"
        wait_for("it waits", lambda: bridge.metric("sarvis_traces_waiting") == 1)
        wait_for("the log says so", lambda: any("traces_not_sent" in line for line in bridge.sarvis.err))
    assert bridge.sarvis.process.returncode == 0
    assert sum("traces_not_sent" in line for line in bridge.sarvis.err) == 1
    assert not any("opentelemetry" in line for line in bridge.sarvis.err), "the library's own lines"


def test_a_collector_that_comes_gets_what_waited(broker: EmbeddedBroker, tmp_path: Path) -> None:
    uid, port = unique("alice"), free_port()
    with bridge_of(tmp_path, broker, port) as bridge, bridge.app(uid), Mqtt(broker.port) as mqtt:
        mqtt.wake("x", uid)
        wait_for("the log says so", lambda: any("traces_not_sent" in line for line in bridge.sarvis.err))
        with Collector(port) as collector:
            wait_for("it has the trace", lambda: [span.name for span in collector.spans if span.name == "app.ack"])


def test_a_missed_wake_and_a_trigger_are_sent_at_the_end_at_the_latest(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with Collector() as collector:
        with bridge_of(tmp_path, broker, collector.port) as bridge:
            bridge.trigger(unique("absent"))
        (wake,) = collector.spans
    assert (wake.name, wake.parent, wake.failed) == ("bridge.wake", "", "user_not_connected")


def test_without_the_library_the_bridge_names_the_extra(tmp_path: Path) -> None:
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['opentelemetry.exporter'] = None\n")
    done = run_sarvis(
        "bridge", "--port", "0", "--mqtt-url", NO_BROKER, cwd=tmp_path,
        settings={"SARVIS_TRACES__ENDPOINT": "http://127.0.0.1:1", "PYTHONPATH": str(folder)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    assert "pip install 'sarvis[otel]'" in done.stderr


def test_traces_without_stories_are_refused(tmp_path: Path) -> None:
    settings = {"SARVIS_TRACES__ENDPOINT": "http://127.0.0.1:1", "SARVIS_BRIDGE__STORIES_DAYS": "0"}
    done = run_sarvis("bridge", "--port", "0", "--mqtt-url", NO_BROKER, cwd=tmp_path, settings=settings)
    assert done.returncode == 2
    assert "traces.endpoint needs bridge.stories_days above 0" in done.stderr
