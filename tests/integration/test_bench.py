import json
import subprocess
import sys
from pathlib import Path

from tests.support.secure import find_program

ROOT = Path(__file__).parents[2]
NUMBERS = (
    "cpu_us_per_event", "events_per_s", "p50_us", "p99_us", "kib_per_connection", "connects_per_s",
    "cpu_us_per_heartbeat", "cpu_us_per_http",
)  # fmt: skip


def test_the_benchmark_accounts_for_every_message_of_bridge_and_guide(tmp_path: Path) -> None:
    find_program("mosquitto")
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.bench.throughput", "--quick", "--rounds", "1", "--systems", "sarvis,guide",
            "--apps", "20", "--events", "200", "--json", str(report),
        ],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=110,
        check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    rows = {(row["system"], row["qos"]): row for row in json.loads(report.read_text())["rows"]}
    assert set(rows) == {("sarvis", 0), ("sarvis", 1), ("guide", 0), ("guide", 1)}
    # Warming up, at full rate, paced, heartbeats and triggers.
    assert {(row["sent"], row["received"]) for row in rows.values()} == {(40 + 200 + 200 + 100 + 50,) * 2}
    assert all(row[name] is not None for row in rows.values() for name in NUMBERS)
    assert "sent 2,360, received 2,360" in done.stdout


def test_outcomes_that_do_not_come_make_the_benchmark_fail(tmp_path: Path) -> None:
    # The documented server tells devices nothing.
    find_program("mosquitto")
    script = (
        "import dataclasses, sys\n"
        "from tests.bench import load, systems, throughput\n"
        "load.STALLED_S = 1.0\n"
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
        timeout=110,
        check=False,
    )  # fmt: skip

    assert done.returncode == 1, done.stdout + done.stderr
    assert "guide QoS 0: at full rate: 0 outcomes sent, not 20" in done.stdout
