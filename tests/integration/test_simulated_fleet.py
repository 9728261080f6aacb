"""`sarvis fleet` as a process against real brokers and bridges: it accounts for everything, or says what is missing."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.wakes.delivery import AGAIN_S
from tests.support.fleet import Fleet
from tests.support.ports import free_port
from tests.support.processes import Sarvis, run_sarvis
from tests.support.secure import HOST as NAME
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, QUICK, Bridge, Broker, Json, unique

GIVE_UP_S = 8
"""For what is not there; what is there must be found earlier, also on a busy machine."""
GIVE_UP = ("--give-up-s", str(GIVE_UP_S))
LONG_LIVED = {"SARVIS_EDGE__WAKE_TTL_MS": "60000"}


def way(broker: Broker, bridge: Bridge) -> list[str]:
    return ["--mqtt-url", broker.url, "--url", f"ws://{HOST}:{bridge.port}"]


def lines(text: str) -> list[Json]:
    return [json.loads(line) for line in text.splitlines()]


@contextmanager
def running(folder: Path, *arguments: str, **settings: str) -> Iterator[Sarvis]:
    """A fleet that goes on until a signal."""
    with Sarvis("fleet", "--json", *arguments, cwd=folder, settings={**QUICK, **settings}) as it:
        yield it


def second(fleet: Sarvis, what: str, wanted: Any) -> Json:
    """Wait for a second of its life."""
    return fleet.event(what, lambda line: line.get("event") == "second" and wanted(line))


def end(fleet: Sarvis, code: int = 0) -> Json:
    """SIGINT, as Ctrl-C sends it; its summary."""
    fleet.process.send_signal(signal.SIGINT)
    assert fleet.process.wait(PATIENCE_S) == code, "\n".join(fleet.err)
    wait_for("its last line", lambda: fleet.out and '"summary"' in fleet.out[-1])
    told: Json = json.loads(fleet.out[-1])
    return told


def test_every_wake_of_a_fleet_is_accounted_for(broker: Broker, bridge: Bridge, tmp_path: Path) -> None:
    done = run_sarvis(
        "fleet", "--devices", "20", "--rate", "20", "--for", "5", "--apps-per-user", "2", "--json",
        "--prefix", unique("full"), *way(broker, bridge), cwd=tmp_path,
        settings={"TMPDIR": str(tmp_path), **LONG_LIVED},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *seconds, summary = lines(done.stdout)
    assert {line["event"] for line in seconds} == {"second"}
    assert summary["event"] == "summary"
    assert (summary["devices_connected"], summary["devices_active"], summary["apps_connected"]) == (20, 20, 40)
    wakes = summary["wakes"]
    assert wakes["made"] > 50
    assert (wakes["fates"]["acked"], wakes["received"]) == (wakes["made"], wakes["made"])
    assert (wakes["ignored"], wakes["foreign"], summary["log_outs"]) == (0, 0, 0)
    # What is not confirmed within two seconds comes again.
    assert wakes["duplicates"] == 0 or summary["outcome_ms"]["max"] > 1000 * AGAIN_S
    assert not any(summary["missing"].values())
    for measured in ("app_ms", "outcome_ms"):
        assert 0 < summary[measured]["p50"] <= summary[measured]["p99"] <= summary[measured]["max"]
    assert summary["cpu"] > 0
    assert list(tmp_path.iterdir()) == [], "the devices' state is removed"


def test_a_fleet_that_is_interrupted_sums_up(broker: Broker, bridge: Bridge, tmp_path: Path) -> None:
    options = ["--devices", "5", "--rate", "40", "--prefix", unique("stopped"), "--state-dir", str(tmp_path / "state")]
    with running(tmp_path, *options, *way(broker, bridge)) as fleet:
        second(fleet, "wakes", lambda line: line["wakes"]["received"] > 10)
        summary = end(fleet)
    assert summary["wakes"]["made"] > 10
    assert summary["wakes"]["fates"]["acked"] == summary["wakes"]["made"] == summary["wakes"]["received"]
    assert len(list((tmp_path / "state").glob("*.json"))) == 5, "with --state-dir it stays"


def test_people_read_a_table_of_what_was_measured(broker: Broker, bridge: Bridge, tmp_path: Path) -> None:
    options = ["--devices", "2", "--rate", "20", "--for", "1", "--prefix", unique("read")]
    done = run_sarvis("fleet", *options, *way(broker, bridge), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = dict(line.split("  ", 1) for line in done.stdout.splitlines() if "  " in line)
    assert told["devices"].strip() == "2 of 2 connected, 2 with a session"
    assert "acked" in told["fates"]
    assert "p99" in told["word to app"]


def test_a_log_out_is_seen_and_its_device_makes_no_more_wakes(broker: Broker, bridge: Bridge, tmp_path: Path) -> None:
    prefix = unique("out")
    with running(tmp_path, "--devices", "2", "--rate", "40", "--prefix", prefix, *way(broker, bridge)) as fleet:
        second(fleet, "wakes", lambda line: line["wakes"]["received"] > 5)
        bridge.post("/api/auth/logout", {"uid": f"{prefix}-1"})
        seen = second(fleet, "the log-out", lambda line: line["apps_stopped"] == 1 and line["wakes"]["ignored"] > 5)
        assert (seen["devices_active"], seen["apps_connected"], seen["log_outs"]) == (1, 1, 1)
        assert seen["devices_connected"] == 2
        end(fleet)


def test_two_devices_of_one_user_have_one_app(broker: Broker, bridge: Bridge, tmp_path: Path) -> None:
    prefix, uid = unique("shared"), unique("user")
    for number in (1, 2):
        kit = tmp_path / f"{prefix}-{number}"
        kit.mkdir()
        (kit / "sarvis.toml").write_text(f'[mqtt]\nurl = "{broker.url}"\n[edge]\nuid = "{uid}"\n')
    options = ["--devices", "2", "--rate", "20", "--for", "2", "--json", "--prefix", prefix, "--kits", str(tmp_path)]
    done = run_sarvis("fleet", *options, "--url", f"ws://{HOST}:{bridge.port}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = lines(done.stdout)[-1]
    assert (summary["devices_active"], summary["apps"], summary["apps_connected"]) == (2, 1, 1)
    assert summary["wakes"]["received"] == summary["wakes"]["made"] > 5


def test_a_broker_that_comes_back_is_counted_as_reconnects(broker: Broker, bridge: Bridge, tmp_path: Path) -> None:
    options = ["--devices", "3", "--rate", "10", "--prefix", unique("back")]
    with running(tmp_path, *options, *way(broker, bridge)) as fleet:
        second(fleet, "all are there", lambda line: line["devices_active"] == 3 and line["wakes"]["received"])
        broker.kill()
        second(fleet, "nobody is there", lambda line: line["devices_connected"] == 0)
        broker.start()
        bridge.wait_ready()
        back = second(
            fleet, "all are back", lambda line: line["device_reconnects"] >= 3 and line["devices_connected"] == 3
        )
        before = back["wakes"]["received"]
        second(fleet, "wakes come through", lambda line: line["wakes"]["received"] > before)
        end(fleet)
        bridge.wait_ready()


@pytest.fixture
def own_bridge(broker: Broker, tmp_path: Path) -> Iterator[Bridge]:
    """A bridge that a test may kill, in a world of its own on the same broker."""
    (tmp_path / "bridge").mkdir()
    settings = {"SARVIS_MQTT__PREFIX": "sarvis/mortal", "SARVIS_BRIDGE__INSTANCE": "mortal"}
    with Bridge(tmp_path / "bridge", broker.url, settings) as it:
        yield it


def test_wakes_that_no_bridge_takes_are_missing_and_it_says_how_many(
    broker: Broker, own_bridge: Bridge, tmp_path: Path
) -> None:
    settings = {"SARVIS_MQTT__PREFIX": "sarvis/mortal", "SARVIS_EDGE__WAKE_TTL_MS": "500"}
    arguments = ["fleet", "--json", "--devices", "2", "--rate", "20", *way(broker, own_bridge)]
    fleet = Sarvis(*arguments, cwd=tmp_path, settings={**QUICK, **settings})
    try:
        second(fleet, "wakes", lambda line: line["wakes"]["received"] > 5)
        own_bridge.kill()
        second(fleet, "wakes without a fate", lambda line: line["wakes"]["fates"]["none"] > 10)
        summary = end(fleet, 1)
    finally:
        fleet.stop()
    missing = summary["missing"]["without_fate"]
    assert missing > 0, "some of those ten may have been late"
    assert f"{missing} have no outcome" in fleet.err[-1]
    assert summary["wakes"]["made"] == sum(summary["wakes"]["fates"].values())


def test_a_fleet_that_is_told_to_stop_waits_for_the_fates_that_are_on_their_way(
    broker: Broker, own_bridge: Bridge, tmp_path: Path
) -> None:
    settings = {
        "SARVIS_MQTT__PREFIX": "sarvis/mortal",
        "SARVIS_EDGE__WAKE_TTL_MS": "15000",
        "SARVIS_APP__RECONNECT_MAX_S": "0.5",
    }
    with running(tmp_path, "--devices", "2", "--rate", "5", *way(broker, own_bridge), **settings) as fleet:
        second(fleet, "wakes", lambda line: line["wakes"]["received"] > 2)
        own_bridge.kill()
        second(fleet, "a wake without a fate", lambda line: line["wakes"]["fates"]["none"])
        fleet.process.send_signal(signal.SIGINT)
        second(fleet, "it waits", lambda line: line["phase"] == "settling")
        own_bridge.start()
        assert fleet.process.wait(PATIENCE_S) == 0, "\n".join(fleet.err)


# --- what is not there ---


def test_a_broker_that_is_not_there_is_said_with_what_to_do(tmp_path: Path) -> None:
    url = f"mqtt://{HOST}:{free_port()}"
    done = run_sarvis("fleet", *GIVE_UP, "--mqtt-url", url, cwd=tmp_path)
    assert done.returncode == 3
    assert f"no device reached the broker {url} within {GIVE_UP_S} s" in done.stderr
    assert "refused" in done.stderr
    assert "--mqtt-url" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bridge_that_is_not_there_is_said_with_what_to_do(broker: Broker, tmp_path: Path) -> None:
    url = f"ws://{HOST}:{free_port()}"
    done = run_sarvis("fleet", *GIVE_UP, "--mqtt-url", broker.url, "--url", url, cwd=tmp_path)
    assert done.returncode == 3
    assert f"no app reached the bridge {url} within {GIVE_UP_S} s" in done.stderr
    assert "set --url" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bridge_of_another_world_is_said_with_what_to_look_at(broker: Broker, bridge: Bridge, tmp_path: Path) -> None:
    settings = {"SARVIS_MQTT__PREFIX": "sarvis/nobody"}
    done = run_sarvis("fleet", *GIVE_UP, *way(broker, bridge), cwd=tmp_path, settings=settings)
    assert done.returncode == 3
    assert f"no device got a session within {GIVE_UP_S} s" in done.stderr
    assert "mqtt.prefix sarvis/nobody" in done.stderr


# --- with credentials ---


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """TLS and credentials everywhere, and three devices that an operator has added."""
    with Fleet(tmp_path_factory.mktemp("closed"), "mosquitto", certificates=False) as it:
        for number in (1, 2, 3):
            name = f"fleet-{number}"
            it.sarvis("device", "add", name, "--uid", name, "--kit", str(it.folder / "kits" / name))
            it.sarvis("token", "app", name, "--out", str(it.folder / f"{name}.token"))
        yield it


def simulate(closed: Fleet, *arguments: str, **settings: str) -> tuple[int, Json, str]:
    """Exit code, last line, errors."""
    done = run_sarvis(
        "fleet", "--devices", "3", "--rate", "20", "--for", "2", "--json",
        "--kits", str(closed.folder / "kits"), "--url", f"wss://{NAME}:{closed.bridge.port}",
        "--ca-file", str(closed.broker.ca_file), *arguments, cwd=closed.folder,
        settings={**LONG_LIVED, **settings},
    )  # fmt: skip
    out = lines(done.stdout)
    return done.returncode, out[-1] if out else {}, done.stderr


def test_devices_come_in_by_their_kits_and_apps_by_tokens_signed_here(closed: Fleet) -> None:
    code, summary, errors = simulate(closed, "--config", str(closed.config))
    assert code == 0, errors
    assert summary["devices_active"] == 3
    assert summary["wakes"]["fates"]["acked"] == summary["wakes"]["made"] > 10


def test_apps_come_in_by_tokens_from_files(closed: Fleet) -> None:
    code, summary, errors = simulate(closed, "--token-dir", str(closed.folder))
    assert code == 0, errors
    assert summary["wakes"]["fates"]["acked"] == summary["wakes"]["made"] > 10


def test_apps_without_a_token_are_sent_away_and_it_says_so(closed: Fleet) -> None:
    code, _, errors = simulate(closed, *GIVE_UP)
    assert code == 3
    assert "the bridge refused every app" in errors
    assert "Traceback" not in errors


def test_devices_without_kits_are_not_let_in_and_it_says_so(closed: Fleet) -> None:
    done = run_sarvis(
        "fleet", "--devices", "2", *GIVE_UP, "--mqtt-url", closed.broker.url, "--token-dir", str(closed.folder),
        "--url", f"wss://{NAME}:{closed.bridge.port}", "--ca-file", str(closed.broker.ca_file), cwd=closed.folder,
        settings={"SARVIS_MQTT__CA_FILE": str(closed.broker.ca_file)},
    )  # fmt: skip
    assert done.returncode == 3
    assert "set --kits" in done.stderr
