"""`sarvis sessions` and `sarvis device` in this process; tests/e2e/test_operator_commands.py runs them for real."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bridge.operator import client as asking
from bridge.operator import sessions_cli as operator_cli
from bridge.storage.records import Audit, Change, Device, DurableDeadline, PendingLogout, ServiceSeconds, Session
from sarvis import device_cli
from sarvis.cli import main
from tests.support.jetson import Jetson
from tests.support.ledgers import keep
from tests.support.ports import free_port

LONG = "u" * 128
LONG_DEVICE = "d" * 64
URL = "http://192.168.1.50:5000/api/auth/logout"
ONE = Session("a" * 32, "jetson", "alice", 4)
TWO = Session("b" * 32, LONG_DEVICE, LONG, 1)
ROW = PendingLogout("c1", "c" * 32, "jetson", "싸비스", 5, "http", "2026-01-01T00:00:00+00:00")
POST = PendingLogout("c2", "d" * 32, "old-1", "bob", 2, "heartbeat_timeout", "2026-01-02T00:00:00+00:00", 13.25, URL)
LINES = [
    Audit("2026-01-01T00:00:00+00:00", "opened", ONE.session_id, "jetson", "alice", "app"),
    Audit("2026-01-01T00:00:09+00:00", "left", "", "", "alice", "http"),
]
LEDGER: list[Change] = [
    Device("old-1", claim_uid="bob", logout_url=URL),
    Device("jetson", "install", 3, 7, 4, "alice"),
    ONE,
    TWO,
    ROW,
    POST,
    DurableDeadline("alice", 1060.0),
    ServiceSeconds(1000.0),
    *LINES,
]


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    def cells(self) -> list[list[str]]:
        return [line.split() for line in self.out.splitlines()]


Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `sarvis` with these arguments; its ledger is ledger.db in tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SARVIS_STORE__URL", "sqlite:///ledger.db")
    monkeypatch.setenv("SARVIS_BROKER__DIR", "broker")
    for module in (operator_cli, device_cli):
        monkeypatch.setattr(module, "configure_logging", lambda _settings: None)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["sarvis", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return Said(int(ended.value.code or 0), told.out, told.err)

    return run


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    keep(tmp_path / "ledger.db", LEDGER)
    return tmp_path / "ledger.db"


# --- sessions list, sessions show ---


@pytest.mark.usefixtures("ledger")
def test_the_list_as_json_says_what_runs_and_what_waits(run: Run) -> None:
    assert run("sessions", "list", "--json").json() == {
        "sessions": [
            {"device_id": LONG_DEVICE, "uid": LONG, "session_id": TWO.session_id, "promised_s": None},
            {"device_id": "jetson", "uid": "alice", "session_id": ONE.session_id, "promised_s": 60.0},
        ],
        "waiting": [
            {
                "device_id": "jetson",
                "uid": "싸비스",
                "session_id": ROW.session_id,
                "reason": "http",
                "since": "2026-01-01T00:00:00+00:00",
                "url": None,
            },
            {
                "device_id": "old-1",
                "uid": "bob",
                "session_id": POST.session_id,
                "reason": "heartbeat_timeout",
                "since": "2026-01-02T00:00:00+00:00",
                "url": URL,
            },
        ],
    }


@pytest.mark.usefixtures("ledger")
def test_the_list_as_text_cuts_nothing_off(run: Run) -> None:
    said = run("sessions", "list")
    assert said.code == 0
    cells = said.cells()
    assert [LONG_DEVICE, LONG, TWO.session_id, "-"] in cells
    assert ["jetson", "alice", ONE.session_id, "60", "s"] in cells
    assert ["jetson", "싸비스", "http", ROW.issued_at, "mqtt"] in cells
    assert ["old-1", "bob", "heartbeat_timeout", POST.issued_at, URL] in cells


@pytest.mark.usefixtures("ledger")
def test_columns_stand_below_one_another_as_a_terminal_shows_them(run: Run) -> None:
    lines = run("sessions", "list").out.splitlines()
    head, hangul, latin = next(lines[at : at + 3] for at, line in enumerate(lines) if "REASON" in line)
    assert head.index("REASON") == latin.index("heartbeat_timeout") == hangul.index("http") + len("싸비스")


def test_an_empty_ledger_is_told_in_words(run: Run, tmp_path: Path) -> None:
    keep(tmp_path / "ledger.db", [])
    assert run("sessions", "list").out.splitlines() == ["no session runs", "", "no log-out waits for its device"]
    assert run("sessions", "list", "--json").json() == {"sessions": [], "waiting": []}
    assert run("device", "list").out == "no device was added or seen\n"


@pytest.mark.usefixtures("ledger")
def test_there_being_more_than_was_asked_for_is_said_beside_the_list(run: Run) -> None:
    said = run("sessions", "list", "--most", "1", "--json")
    assert [session["uid"] for session in said.json()["sessions"]] == [LONG]
    assert [row["device_id"] for row in said.json()["waiting"]] == ["jetson"]
    assert said.err.count("--most") == 2
    assert run("sessions", "list", "--most", "2").err == ""


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("name", ["alice", ONE.session_id])
def test_a_user_or_a_session_is_shown_with_who_did_what_when(run: Run, name: str) -> None:
    shown = run("sessions", "show", name, "--json").json()
    assert [session["session_id"] for session in shown["sessions"]] == [ONE.session_id]
    assert shown["waiting"] == []
    whole = [
        {
            "at": line.at,
            "event": line.event,
            "session_id": line.session_id,
            "device_id": line.device_id,
            "uid": line.uid,
            "reason": line.reason,
            "actor": line.actor,
            "address": line.address,
            "via": line.via,
            "note": line.note,
        }
        for line in LINES
    ]
    assert shown["audit"] == (whole if name == "alice" else whole[:1])


@pytest.mark.usefixtures("ledger")
def test_a_device_is_shown_with_its_session_and_its_log_outs(run: Run) -> None:
    said = run("sessions", "show", "jetson")
    cells = said.cells()
    assert ["jetson", "alice", ONE.session_id, "60", "s"] in cells
    assert ["jetson", "싸비스", "http", ROW.issued_at, "mqtt"] in cells
    assert [LINES[0].at, "opened", "jetson", "alice", ONE.session_id, "app", "-"] in cells
    assert LONG not in said.out
    assert "bob" not in said.out


@pytest.mark.usefixtures("ledger")
def test_of_many_audit_lines_the_newest_are_shown_oldest_first(run: Run, ledger: Path) -> None:
    keep(ledger, [replace(LINES[0], at=f"t{number}") for number in range(5)])
    said = run("sessions", "show", "alice", "--most", "3", "--json")
    assert [line["at"] for line in said.json()["audit"]] == ["t2", "t3", "t4"]
    assert "audit lines" in said.err


@pytest.mark.usefixtures("ledger")
def test_an_unknown_name_is_reported(run: Run) -> None:
    said = run("sessions", "show", "nobody", "--json")
    assert (said.code, said.out) == (1, "")
    assert "'nobody'" in said.err


# --- device add, device list ---


def test_a_device_is_added_and_listed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").touch()  # as `sarvis broker config` leaves it
    added = run("device", "add", "old-1", "--uid", "alice", "--logout-url", URL)
    assert added.code == 0
    for word in ("old-1", "alice", URL):
        assert word in added.out
    assert run("device", "list", "--json").json() == {
        "devices": [
            {
                "device_id": "old-1",
                "state": "added",
                "assigned_uid": "alice",
                "claim_uid": "alice",
                "logout_url": URL,
                "install_id": None,
                "generation": 0,
                "broker_user": False,
                "tags": [],
                "version": None,
                "model": None,
                "seen_at": None,
            }
        ]
    }
    assert ["old-1", "added", "alice", URL, "-", "-", "-", "-", "-"] in run("device", "list").cells()


@pytest.mark.usefixtures("ledger")
def test_a_known_device_keeps_what_is_not_named(run: Run) -> None:
    assert run("device", "add", "jetson", "--logout-url", URL).code == 0
    devices = {device["device_id"]: device for device in run("device", "list", "--json").json()["devices"]}
    assert devices["jetson"] == {
        "device_id": "jetson", "state": "added", "assigned_uid": None, "claim_uid": "alice", "logout_url": URL,
        "install_id": "install", "generation": 4, "broker_user": False, "tags": [], "version": None, "model": None,
        "seen_at": None,
    }  # fmt: skip


@pytest.mark.usefixtures("ledger")
def test_empty_values_make_a_device_one_on_mqtt_that_claims_no_user(run: Run) -> None:
    assert "MQTT" in run("device", "add", "old-1", "--logout-url", "").out
    assert ["old-1", "added", "bob", "mqtt", "-", "-", "-", "-", "-"] in run("device", "list").cells()
    assert run("device", "add", "old-1", "--uid", "").code == 0
    assert ["old-1", "added", "-", "mqtt", "-", "-", "-", "-", "-"] in run("device", "list").cells()


# --- device tag, and lists of some ---

FLEET = [
    Device("a", tags="floor-2 old", version="0.2.0", model="ssabiseu", seen_at="2026-01-01T00:00:00.000000+00:00"),
    Device("b", tags="floor-20", version="0.2.0", model="ssabiseu", seen_at="2999-01-01T00:00:00.000000+00:00"),
    Device("c", version="0.1.0", state="removed"),
    Device("d", tags="Old"),
]


def names(run: Run, *options: str) -> list[str]:
    return [one["device_id"] for one in run("device", "list", *options, "--json").json()["devices"]]


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ([], "abcd"),
        (["--tag", "floor-2"], "a"),
        (["--tag", "old"], "a"),
        (["--tag", "Old"], "d"),
        (["--tag", "floor"], ""),
        (["--version", "0.2.0"], "ab"),
        (["--version", "-"], "d"),
        (["--model", "ssabiseu", "--tag", "floor-20"], "b"),
        (["--model", "-"], "cd"),
        (["--away-h", "1"], "acd"),
        (["--version", "0.2.0", "--away-h", "1"], "a"),
    ],
)
def test_only_the_devices_that_are_meant_are_listed(run: Run, ledger: Path, options: list[str], meant: str) -> None:
    keep(ledger, FLEET)
    assert [name for name in names(run, *options) if name in "abcd"] == list(meant)


def test_a_list_of_none_says_so(run: Run, tmp_path: Path) -> None:
    keep(tmp_path / "ledger.db", FLEET)
    assert run("device", "list", "--tag", "none").out == "no device is as these options say\n"


def test_devices_get_tags_and_lose_them_and_keep_the_rest(run: Run, tmp_path: Path) -> None:
    keep(tmp_path / "ledger.db", FLEET)
    assert run("device", "tag", "a", "d", "--add", "2층", "--remove", "old").cells()[1:] == [
        ["a", "2층", "floor-2"],
        ["d", "2층", "Old"],
    ]
    assert names(run, "--tag", "2층") == ["a", "d"]
    assert names(run, "--version", "0.2.0", "--tag", "2층") == ["a"]
    assert run("device", "tag", "c").cells()[1:] == [["c", "-"]]


def test_tags_of_an_unknown_device_change_none(run: Run, tmp_path: Path) -> None:
    keep(tmp_path / "ledger.db", FLEET)
    said = run("device", "tag", "a", "nowhere", "--add", "new")
    assert (said.code, said.out) == (1, "")
    assert "there is no device nowhere" in said.err
    assert names(run, "--tag", "new") == []


def test_a_device_has_a_bounded_number_of_tags(run: Run, tmp_path: Path) -> None:
    keep(tmp_path / "ledger.db", FLEET)
    many = [option for number in range(33) for option in ("--add", f"t{number}")]
    assert "32 is the most" in run("device", "tag", "c", *many).err


def test_devices_are_counted_by_what_they_run(run: Run, tmp_path: Path) -> None:
    keep(tmp_path / "ledger.db", [*FLEET, Device("http", logout_url=URL, tags="old")])
    assert run("device", "versions", "--json").json() == {
        "runs": [
            {"version": "0.2.0", "model": "ssabiseu", "devices": 2},
            {"version": None, "model": None, "devices": 1},
        ],
        "tags": {"Old": 1, "floor-2": 1, "floor-20": 1, "old": 2},
    }
    assert ["0.2.0", "ssabiseu", "2"] in run("device", "versions").cells()


# --- what is wrong is named ---

MISTAKES: dict[str, tuple[list[str], str]] = {
    "an id with a space": (["device", "add", "a b"], "ID"),
    "a tag with a space": (["device", "tag", "old-1", "--add", "a b"], "--add"),
    "a tag that is too long": (["device", "tag", "old-1", "--remove", "t" * 33], "--remove"),
    "a tag with a comma in a list": (["device", "list", "--tag", "a,b"], "--tag"),
    "an id with a line break": (["device", "add", "a\n"], "ID"),
    "an id that is too long": (["device", "add", "d" * 65], "ID"),
    "the reserved id": (["device", "add", "legacy-http", "--logout-url", URL], "legacy.logout_url"),
    "a user with a slash": (["device", "add", "old-1", "--uid", "a/b"], "--uid"),
    "an address of another kind": (["device", "add", "old-1", "--logout-url", "ftp://jetson/"], "--logout-url"),
    "an address without a kind": (["device", "add", "old-1", "--logout-url", "jetson:5000/logout"], "--logout-url"),
    "an address without a host": (["device", "add", "old-1", "--logout-url", "http:///logout"], "--logout-url"),
    "an address with a bad port": (["device", "add", "old-1", "--logout-url", "http://jetson:99999/"], "--logout-url"),
    "an address with a bad host": (["device", "add", "old-1", "--logout-url", "http://[::1/"], "--logout-url"),
    "an address with a space": (["device", "add", "old-1", "--logout-url", "http://jetson/a b"], "--logout-url"),
    "a log-out of nobody": (["sessions", "logout", ""], "UID"),
    "a log-out of a user with a slash": (["sessions", "logout", "a/b"], "UID"),
    "a store that is none": (["sessions", "list", "--store-url", "postgres://x"], "store.url"),
    "a file of settings that is not there": (["device", "list", "--config", "absent.toml"], "absent.toml"),
    "none at all": (["sessions", "list", "--most", "0"], "--most"),
    "an unknown verb": (["device", "destroy", "old-1"], "destroy"),
}


@pytest.mark.parametrize("name", list(MISTAKES))
def test_a_mistake_is_named_and_writes_nothing(run: Run, tmp_path: Path, name: str) -> None:
    arguments, word = MISTAKES[name]
    said = run(*arguments)
    assert (said.code, said.out) == (2, "")
    assert word in said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["sessions", "list"], ["sessions", "show", "alice"], ["device", "list"]])
def test_without_a_ledger_its_place_is_named(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    said = run(*arguments)
    assert said.code == 3
    assert "ledger.db" in said.err
    assert "store.url" in said.err
    assert list(tmp_path.iterdir()) == []


# --- sessions logout without a bridge ---


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")]
)
def test_a_bridge_that_is_not_reached_is_named_with_its_settings(run: Run, host: str, shown: str) -> None:
    port = str(free_port())
    said = run("sessions", "logout", "alice", "--host", host, "--port", port)
    assert (said.code, said.out) == (3, "")
    for word in (f"http://{shown}:{port}", "bridge.host", "bridge.port"):
        assert word in said.err


def test_what_is_no_bridge_is_not_taken_for_one(run: Run) -> None:
    for status in (200, 404, 500, 503):
        with Jetson(status) as other:
            said = run("sessions", "logout", "alice", "--port", str(other.port))
        assert (said.code, said.out) == (1, "")
        assert f"answered {status}" in said.err


def test_a_bridge_that_does_not_answer_in_time_may_have_done_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ANSWER_WITHIN_S", 0.2)
    with Jetson() as slow:
        slow.hold()
        said = run("sessions", "logout", "alice", "--port", str(slow.port))
    assert (said.code, said.out) == (1, "")
    assert "sarvis sessions show" in said.err
