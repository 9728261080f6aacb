"""`sarvis broker check` against real brokers, which differ; and as a command."""

import asyncio
import getpass
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from amqtt.broker import Broker

from broker.check import delivery, presence, window
from broker.check.findings import GUARANTEES, Finding, verdict
from broker.check.peer import Peer
from broker.check.run import check
from broker.check.target import Credential, Device, Target
from broker.provisioning import kit
from broker.server.limits import Limits
from tests.support.embedded import started
from tests.support.foreign import FOREIGN
from tests.support.ports import free_port
from tests.support.processes import run_sarvis
from tests.support.secure import Client, SecureBroker
from tests.support.world import HOST, NO_BROKER, Bridge, EmbeddedBroker, Mosquitto
from tests.support.world import Broker as AnyBroker

ENDS_WITHIN_S = 110.0
"""A check takes some 15 s; this is for a machine that does a dozen at once, and other things."""

Seen = Mapping[str, Finding]
Restart = Callable[[], None]

KEPT: dict[str, bool | None] = {"restart_retained": True, "restart_queue": True}
LOST: dict[str, bool | None] = {"restart_retained": False, "restart_queue": False}
SOUND: dict[str, bool | None] = {
    "stranger": False, "delivery": True, "commands": True, "payload": True, "unsubscribe": True, "retained_exact": True,
    "retained_wildcard": True, "retained_private": True, "will_socket": True, "will_keepalive": True,
    "take_over": True, "take_over_persistent": True, "offline_queue": True, "latency": None, "shared": None,
    "mqtt_5": None, "prefix": True, "retained_cleared": True, "will_retained": True, "will_newest": True,
    "take_over_older_will": None, "take_over_status": True, "take_over_will": True, "take_over_twice": True,
    "clean_session": True, "take_over_silent": True,
}  # fmt: skip
STOCK: dict[str, bool | None] = {
    "retained_private": False, "will_keepalive": False, "take_over": False, "take_over_persistent": False,
    "offline_queue": False, "take_over_silent": False,
}  # fmt: skip
RIGHTS = {
    "mosquitto": {
        "stranger": "refused", "wrong_password": "refused", "foreign_publish": "acknowledged and dropped",
        "foreign_subscribe": "granted, nothing delivered", "forged_command": "acknowledged and dropped",
        "payload": "8 KiB passed, 64 KiB did not",
    },
    "nats": {
        "stranger": "refused", "wrong_password": "refused", "foreign_publish": "acknowledged and dropped",
        "foreign_subscribe": "refused in SUBACK", "forged_command": "acknowledged and dropped",
        "payload": "8 KiB passed, 64 KiB did not",
    },
    # With certificates: nobody has a password that could be wrong.
    "embedded": {
        "stranger": "refused", "foreign_publish": "acknowledged and dropped", "foreign_subscribe": "refused in SUBACK",
        "forged_command": "acknowledged and dropped", "payload": "the largest tried, 1000 KiB, passed",
    },
}  # fmt: skip
REFUSED, GRANTED, WORK = ({"shared": seen} for seen in ("refused in SUBACK", "granted, but nothing comes", "work"))
OLD, PUBLISHED = {"mqtt_5": "refused"}, {"take_over_older_will": "published"}
EXPECTED: dict[str, tuple[dict[str, bool | None], dict[str, str]]] = {
    "stock": (SOUND | STOCK, GRANTED | OLD | {"take_over_older_will": "not published"}),
    "ours": (SOUND | LOST, REFUSED | OLD | PUBLISHED),
    "ours, on disk": (SOUND | KEPT, REFUSED | OLD | PUBLISHED),
    "mosquitto": (SOUND | LOST, WORK | {"mqtt_5": "spoken"} | PUBLISHED),
    "mosquitto, on disk": (SOUND | KEPT, WORK | {"mqtt_5": "spoken"} | PUBLISHED),
    "nats": (SOUND | KEPT, GRANTED | OLD | {"take_over_older_will": "not published"}),
    "aedes": (SOUND | LOST, GRANTED | OLD | PUBLISHED),
    "iotcore": (
        SOUND | LOST | {"take_over_will": False, "take_over_twice": False, "take_over_silent": False},
        WORK | OLD | {"take_over_older_will": "not published"},
    ),
}


@contextmanager
def restartable(broker: AnyBroker) -> Iterator[tuple[int, Restart | None]]:
    def again() -> None:
        broker.stop()
        broker.start()

    with broker:
        yield broker.port, again


@contextmanager
def a_broker(name: str, folder: Path) -> Iterator[tuple[int, Restart | None]]:
    # As root it would become another user, who may not write there.
    saving = f"persistence true\npersistence_location {folder}/\nuser {getpass.getuser()}\n"
    match name:
        case "stock":
            with started("stock") as running:
                yield running.port, None
        case "ours" | "ours, on disk":
            if name == "ours":
                (folder / "sarvis.toml").write_text("[broker]\npersistence = false\n")
            with restartable(EmbeddedBroker(folder)) as broker:
                yield broker
        case "nats" | "aedes" | "iotcore":
            with restartable(FOREIGN[name](folder)) as broker:
                yield broker
        case _:
            with restartable(Mosquitto(folder, saving if name == "mosquitto, on disk" else "")) as broker:
                yield broker


def probed(name: str, folder: Path) -> Seen:
    with a_broker(name, folder) as (port, restart):
        target = Target(
            HOST, port, "check", bridge=Credential(), device=Device("one"), mute=Device("two"), rights=False,
            late=Device("three"),
        )  # fmt: skip
        return {finding.guarantee.key: finding for finding in check(target, restart=restart)}


def thorough(folder: Path) -> Seen:
    """With one device only, which has to do everything."""
    with a_broker("ours", folder) as (port, _):
        target = Target(HOST, port, "check", bridge=Credential(), device=Device("one"), mute=None, rights=False)
        return {finding.guarantee.key: finding for finding in check(target, thorough=True)}


def told_in_words(folder: Path) -> Any:
    with FOREIGN["iotcore"](folder) as broker:
        return run_sarvis("broker", "check", broker.url, cwd=folder, within_s=ENDS_WITHIN_S)


def asked(kind: str, folder: Path) -> Any:
    with SecureBroker(kind, folder, certificates=kind == "embedded") as broker:
        before = broker.folder.users()
        config = str(broker.bridge_kit / "sarvis.toml")
        done = run_sarvis("broker", "check", "--config", config, "--json", cwd=folder, within_s=ENDS_WITHIN_S)
        return done, before == broker.folder.users()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, "Future[Any]"]]:
    """All at the same time: a probe mostly waits."""
    folder = tmp_path_factory.mktemp
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(12) as pool:
        patch.setattr(presence, "KEEPALIVE_S", 2)
        patch.setattr(presence, "SILENT_AT_MOST_S", 10.0)
        patch.setattr(window, "MESSAGES", 500)
        patch.setattr(delivery, "FILTERS_TRIED", 300)
        yield {
            "words": pool.submit(told_in_words, folder("words")),
            **{f"configured {kind}": pool.submit(asked, kind, folder("secure")) for kind in RIGHTS},
            **{name: pool.submit(probed, name, folder("open")) for name in EXPECTED},
            "thorough": pool.submit(thorough, folder("thorough")),
        }


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("name", EXPECTED)
def test_brokers_differ_in_what_they_guarantee(found: dict[str, "Future[Any]"], name: str) -> None:
    holds, seen = EXPECTED[name]
    findings = found[name].result()
    assert {key: finding.holds for key, finding in findings.items()} == holds
    assert {key: findings[key].seen for key in seen} == seen
    assert verdict(findings.values()) == (1 if name in {"stock", "iotcore"} else 0)


def test_thorough_probes_and_a_single_device(found: dict[str, "Future[Seen]"]) -> None:
    findings = found["thorough"].result()
    assert all(finding.holds for finding in findings.values() if finding.guarantee.needed)
    assert findings["window"].seen == "500 messages, none waited"
    assert findings["filters"].seen.startswith("300 in ")
    # Nobody falls silent twice: not what an earlier probe left behind is taken for the will.
    assert float(findings["will_keepalive"].seen.split()[1]) >= 2.0


def test_a_message_that_waits_for_the_next_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "STALLED_S", 0.3)
    with started("ours", Limits(max_publish_per_s=0.5)) as running:
        target = Target(HOST, running.port, "check", Credential(), Device("one"), None, rights=False)
        (finding,) = window.window(target)
    assert not finding.holds
    assert finding.seen.endswith(" messages one waited")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("late_s", [0.003, 0.1])
def test_a_newer_connection_that_falls_deaf_a_moment_later_is_seen(
    monkeypatch: pytest.MonkeyPatch, late_s: float
) -> None:
    clean_up = Broker._handle_disconnect

    async def late(self: Broker, *session: Any) -> None:
        await asyncio.sleep(late_s)
        await clean_up(self, *session)

    monkeypatch.setattr(Broker, "_handle_disconnect", late)
    with started("stock") as running:
        target = Target(HOST, running.port, "check", Credential(), Device("one"), None, rights=False)
        with Peer(target, target.bridge, "bridge") as bridge:
            holds = {finding.guarantee.key: finding.holds for finding in presence.take_overs(target, bridge)}
    assert holds == {"take_over": False, "take_over_persistent": False}


def test_a_will_that_comes_while_the_bridge_asks_for_something_else_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    unsubscribe = Peer.unsubscribe

    def slowly(self: Peer, topic_filter: str) -> None:
        unsubscribe(self, topic_filter)
        time.sleep(2.0)

    monkeypatch.setattr(presence, "KEEPALIVE_S", 1)
    with started("ours") as running:
        target = Target(HOST, running.port, "check", Credential(), Device("one"), Device("two"), rights=False)
        with Peer(target, target.bridge, "bridge") as bridge, Peer(target, Credential(), "device") as device:
            bridge.subscribe(target.statuses)
            silent = presence.Silent.begin(target, bridge, Device("two"), "mute")
            monkeypatch.setattr(Peer, "unsubscribe", slowly)
            assert all(finding.holds for finding in presence.retained(target, bridge, device))
            (finding,) = silent.finish(target, bridge)
            silent.peer.leave()
    assert finding.holds, finding.seen


@pytest.mark.parametrize("kind", RIGHTS)
def test_a_configured_broker_is_checked_by_users_that_are_gone_afterwards(
    found: dict[str, "Future[Any]"], kind: str
) -> None:
    done, as_before = found[f"configured {kind}"].result()
    assert done.returncode == 0, done.stdout + done.stderr
    assert as_before
    rows = {row["key"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert {key: rows[key]["seen"] for key in RIGHTS[kind]} == RIGHTS[kind]
    assert all(row["holds"] for row in rows.values() if row["needed"])


def test_what_is_needed_and_missing_is_told_in_words(found: dict[str, "Future[Any]"]) -> None:
    done = found["words"].result()
    assert done.returncode == 1, done.stderr
    assert "Needed, and missing: the newer connection of a take-over keeps its will until it ends; " in done.stdout
    assert "Traceback" not in done.stderr


def table_of(first_column: str) -> dict[str, list[str]]:
    """A table of the page by the sentence of each guarantee."""
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    lines = page[page.index(f"| | {first_column} |") :].splitlines()[2:]
    rows = [line.strip("| ").split(" | ") for line in itertools.takewhile(lambda line: line.startswith("|"), lines)]
    return {row[0]: row[1:] for row in rows}


def test_the_page_says_how_brokers_differ() -> None:
    words: dict[bool | None, str] = {True: "holds", False: "no"}
    wanted: dict[str, list[str]] = {}
    for guarantee in GUARANTEES:
        cells = [
            seen.get(guarantee.key) or (words.get(holds[guarantee.key]) if guarantee.key in holds else "not asked")
            for holds, seen in EXPECTED.values()
        ]
        if len(set(cells)) > 1:
            wanted[guarantee.text] = [str(cell) for cell in cells]
    assert table_of("aMQTT as it is") == wanted


def test_the_page_says_how_configured_brokers_refuse() -> None:
    texts = {guarantee.text: guarantee.key for guarantee in GUARANTEES}
    table = table_of("mosquitto")
    assert len(table) == 3
    for text, cells in table.items():
        assert cells == [seen[texts[text]] for seen in RIGHTS.values()]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((f"mqtt://{HOST}:{free_port()}",), 3, "no broker answers at"),
        (("http://somewhere",), 2, "mqtt://HOST:PORT"),
        ((f"mqtt://{HOST}", "--device-user", "x"), 2, "--device-password-file"),
        ((f"mqtt://{HOST}", "--user", "x", "--password-file", "absent"), 2, "absent"),
        ((f"mqtt://{HOST}", "--user", "bridge.bridge-1"), 2, "--stopped"),
        ((f"mqtt://{HOST}", "--user", "jetson-1"), 2, "as the user jetson-1, and would end the connection"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = run_sarvis("broker", "check", *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_no_broker_is_told_before_anything_is_probed(tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER) as bridge:
        done = run_sarvis("broker", "check", f"mqtt://{HOST}:{bridge.port}", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "is not an MQTT broker: a web server (HTTP)" in done.stderr


@pytest.mark.parametrize("certificates", [False, True])
def test_a_check_that_would_end_a_running_client_is_not_begun(tmp_path: Path, certificates: bool) -> None:
    with SecureBroker("mosquitto", tmp_path, certificates=certificates) as broker:
        door = broker.add("jetson-1")
        config = str(kit.write_device_kit(tmp_path / "kit", door))
        with Client(broker, door) as jetson:
            done = run_sarvis("broker", "check", broker.url, "--config", config, cwd=tmp_path)
            assert (done.returncode, "--stopped" in done.stderr) == (2, True), done.stderr
            jetson.publish("fence", b"")
            assert not jetson.ended.is_set()
