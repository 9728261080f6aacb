import json
import subprocess
import sys
from pathlib import Path

from tests.support.programs import needs

ROOT = Path(__file__).parents[2]
NUMBERS = (
    "cpu_us_per_event", "events_per_s", "p50_us", "p99_us", "kib_per_connection", "connects_per_s",
    "cpu_us_per_heartbeat", "generator_us_per_event", "storm_per_s", "storm_cpu_us_per_connect",
)  # fmt: skip
GROWTH_NUMBERS = (
    "cpu_us_per_event", "p50_us", "kib_per_connection", "connects_per_s", "cpu_us_per_heartbeat", "living_cpu_share",
    "living_resident_mib", "living_beats_per_s", "living_wakes_per_s",
)  # fmt: skip
BROKER_NUMBERS = (
    "empty_mib", "kib_per_device", "cpu_us_per_arrival", "arrivals_per_s", "cpu_us_per_wake_0", "cpu_us_per_command",
    "wakes_per_s", "p50_us", "living_cpu_share", "load_share",
)  # fmt: skip


@needs("mosquitto")
def test_the_benchmark_accounts_for_every_message_of_bridge_guide_and_broker(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "tools.bench.throughput", "--quick", "--rounds", "1", "--apps", "20",
            "--systems", "sarvis,guide,mosquitto_ws", "--events", "200", "--storm", "30", "--stall", "--stall-apps",
            "10", "--json", str(report),
        ],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=220,
        check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    rows = {(row["system"], row["qos"]): row for row in json.loads(report.read_text())["rows"]}
    assert set(rows) == {(system, qos) for system in ("sarvis", "guide", "mosquitto_ws") for qos in (0, 1)}
    assert all(row[name] is not None for row in rows.values() for name in NUMBERS)
    # Warming up, at full rate, paced, heartbeats, and triggers where there are any.
    for (system, _), row in rows.items():
        bridged = system != "mosquitto_ws"
        assert row["sent"] == row["received"] == 40 + 200 + 200 + 100 + 50 * bridged
        assert (row["cpu_us_per_http"] is not None) == bridged
        assert (row.get("stall_us") is not None) == bridged
    assert "sent 3,440, received 3,440" in done.stdout
    assert "sarvis: longest stall" in done.stdout


@needs("mosquitto")
def test_growth_is_measured_as_far_as_there_are_open_files(tmp_path: Path) -> None:
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from tools.bench import growth\n"
        "from tools.bench.processes import Cores\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))\n"
        "plan = growth.Plan((20, 900), events=100, outstanding=8, living_from=20, living_s=1.0, users=1000)\n"
        "growth.BEAT_EVERY_S = 0.5\n"
        "sys.exit(growth.run(plan, Cores(None, None), Path(sys.argv[1])))\n"
    )
    file = tmp_path / "growth.json"
    done = subprocess.run(
        [sys.executable, "-c", script, str(file)],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=220,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(file.read_text())
    assert [(row["system"], row["apps"]) for row in report["growth"]] == [("sarvis", 20), ("guide", 20)]
    assert all(row[name] > 0 for row in report["growth"] for name in GROWTH_NUMBERS)
    assert set(report["left_out"]) == {"sarvis with 900 apps", "guide with 900 apps"}
    assert "900 apps need 1,220 open files" in done.stdout
    assert report["sweep"]["users"] == 1000


@needs("mosquitto")
def test_outcomes_that_do_not_come_make_the_benchmark_fail(tmp_path: Path) -> None:
    # The documented server tells devices nothing.
    script = (
        "import dataclasses, sys\n"
        "from tools.bench import load, systems, throughput\n"
        "load.STALLED_S = 3.0\n"
        "systems.SYSTEMS['guide'] = dataclasses.replace(systems.SYSTEMS['guide'], outcomes=('sent',))\n"
        "throughput.main()\n"
    )
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            sys.executable, "-c", script, "--quick", "--rounds", "1", "--systems", "guide", "--apps", "5",
            "--events", "20", "--json", str(report),
        ],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=220,
        check=False,
    )  # fmt: skip

    assert done.returncode == 1, done.stdout + done.stderr
    assert "guide QoS 0: at full rate: 0 outcomes sent, not 20" in done.stdout


@needs("mosquitto")
def test_the_brokers_benchmark_accounts_for_every_message(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "tools.bench.brokers", "--devices", "20", "--messages", "400", "--living", "0.5",
            "--json", str(report),
        ],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=220,
        check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["broker"]: row for row in json.loads(report.read_text())["rows"]}
    assert set(rows) == {"embedded", "mosquitto"}
    for row in rows.values():
        # Commands, wakes with QoS 0 and 1, and those of ordinary life.
        assert row["sent"] == row["received"] == 100 + 400 + 400 + 10
        assert all(row[name] is not None for name in BROKER_NUMBERS)
    assert rows["embedded"]["cpu_us_per_wake"] > rows["mosquitto"]["cpu_us_per_wake"]
    assert "sent 1,820, received 1,820" in done.stdout


def test_open_pages_of_the_console_are_measured_while_wakes_reach_apps() -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "tools.bench.console", "--devices", "70", "--seconds", "2", "--rounds", "1",
            "--viewers", "3", "--json",
        ],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert (told["devices"], told["viewers"], told["wakes_per_s"]) == (70, 3, 50.0)
    for name in ("cpu_share_without", "cpu_share_with"):
        assert len(told[name]) == 1
        assert 0 < told[name][0] < 1
    assert all(ms > 0 for ms in told["first_page_ms"].values())
