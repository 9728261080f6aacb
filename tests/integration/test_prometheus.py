"""The alerts and the dashboards, checked by Prometheus's own tool, and what a bridge tells after some wakes."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.dashboards import CONFIG, expressions
from tests.support.programs import needs, program
from tests.support.waiting import wait_for
from tests.support.world import Bridge, EmbeddedBroker, Mqtt, unique


def promtool(*arguments: str, folder: Path = CONFIG / "prometheus", said: str | None = None) -> None:
    done = subprocess.run(
        [program("promtool"), *arguments], cwd=folder, input=said, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def scrape(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What a bridge tells after a wake that rang and one that did not."""
    with (
        EmbeddedBroker(tmp_path_factory.mktemp("broker")) as broker,
        Bridge(tmp_path_factory.mktemp("bridge"), broker.url) as bridge,
        Mqtt(broker.port) as mqtt,
    ):
        uid = unique("user")
        with bridge.app(uid):
            assert mqtt.outcome("x", mqtt.wake("x", uid, age_ms=7), nth=2) == "acked"
            mqtt.publish("devices/x/status", {"state": "online", "muted": True, "alarms": ["microphone_lost"]})
            mqtt.wake("x", uid, age_ms=20_000)
            wait_for("all is counted", lambda: bridge.metric("sarvis_wake_age_seconds_count") == 2)
            wait_for("the device is known", lambda: bridge.metric('sarvis_devices{state="muted"}') == 1)
        wait_for("its end is counted", lambda: bridge.metric('sarvis_app_closes_total{code="1000"}') == 1)
        yield bridge.http.get(f"{bridge.url}/metrics").text


@needs("promtool")
def test_each_alert_fires_in_one_case_and_keeps_silent_in_another() -> None:
    promtool("check", "config", "scrape.yml")
    promtool("check", "rules", "alerts.yml")
    promtool("test", "rules", "alerts_test.yml")
    alerts = re.findall(r"- alert: (\w+)", (CONFIG / "prometheus" / "alerts.yml").read_text())
    cases = re.findall(r"- name: (.+)", (CONFIG / "prometheus" / "alerts_test.yml").read_text())
    assert sorted(cases) == sorted(f"{alert} {how}" for alert in alerts for how in ("fires", "keeps silent"))


@needs("promtool")
def test_each_expression_of_the_dashboard_is_one(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": text} for number, (_, text) in enumerate(expressions())]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "rules.yml", folder=tmp_path)


@needs("promtool")
def test_what_a_bridge_tells_is_what_prometheus_reads(scrape: str) -> None:
    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=scrape, capture_output=True, text=True, check=False
    )
    # 3: only advice about names, which stay as they are.
    assert done.returncode in {0, 3}, done.stdout + done.stderr


def test_the_numbers_of_wakes_sockets_and_devices(scrape: str) -> None:
    for line in (
        'sarvis_wakes_settled_total{fate="acked"} 1.0',
        'sarvis_wakes_settled_total{fate="expired"} 1.0',
        'sarvis_wakes_refused_total{why="stale"} 1.0',
        "sarvis_wake_age_seconds_count 2.0",
        'sarvis_wake_age_seconds_bucket{le="0.01"} 1.0',
        "sarvis_wake_to_socket_seconds_count 1.0",
        "sarvis_wake_to_ack_seconds_count 1.0",
        'sarvis_app_connects_total{mode="v2"} 1.0',
        'sarvis_app_closes_total{code="1000"} 1.0',
        'sarvis_devices{state="online"} 1.0',
        'sarvis_devices{state="deaf"} 1.0',
        'sarvis_devices{state="muted"} 1.0',
        'sarvis_logouts_oldest_seconds{presence="online"} 0.0',
        "sarvis_ledger_writable 1.0",
        'sarvis_refused_total{status="401"} 0.0',
        'sarvis_logouts_total{reason="app"} 0.0',
        'sarvis_device_versions{version="other"} 1.0',
        'sarvis_device_models{model="other"} 1.0',
    ):
        assert f"\n{line}\n" in scrape, line
    counts = dict(line.rsplit(" ", 1) for line in scrape.splitlines() if not line.startswith("#"))
    assert float(counts["sarvis_ledger_commit_seconds_count"]) >= 1, "the app that connected is in the ledger"
    assert 0 <= float(counts["sarvis_loop_lag_seconds"]) < float("inf")
    assert 'sarvis_build_info{component="bridge",' in scrape
    assert "process_resident_memory_bytes " in scrape
    assert "user-" not in scrape, "no user is among the label values"
