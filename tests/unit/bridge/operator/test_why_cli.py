"""`sarvis why` and `sarvis trace` in this process; tests/integration/system/test_why.py runs them for real."""

import json
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.operator import why_cli
from bridge.operator.why_cli import moment_of
from bridge.stories.file import StoriesFile, encoded
from bridge.stories.records import Run, Step, Story
from bridge.stories.why import time_of
from contract.errors import SettingsError
from sarvis.cli import main
from tests.support.ports import free_port

NOW = time.time()
ACKED: tuple[Step, ...] = ((5.0, "queued", "phone", "v2"), (5.5, "acked", "phone", None))
Run_ = Callable[..., tuple[int, str, str]]


def story(wake_id: str, uid: str, ago: float, state: str, steps: tuple[Step, ...] = ()) -> Story:
    on = datetime.fromtimestamp(NOW - ago, UTC).isoformat()
    return Story(wake_id, uid, "jetson", on, 5.0, 3, 10_000, 0.8, "m", state, "sent", 0.5, steps)


@pytest.fixture
def sarvis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run_:
    """A folder with the stories of two users; no ledger, and no bridge that runs."""
    file = StoriesFile.open(tmp_path / "stories.db", Run("bridge-1", NOW - 900, NOW, None, "0", pushes=False))
    stories = [
        story("w1", "alice", 300, "acked", ACKED),
        story("w2", "alice", 200, "missed"),
        story("w3", "bob", 100, "acked", ACKED),
    ]
    file.write(NOW, [(time_of(one) + 0.5, 1, encoded([one])) for one in stories], [], [])
    file.close()
    monkeypatch.chdir(tmp_path)
    # A worker may load this file long before it runs these tests.
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setattr(why_cli, "configure_logging", lambda _settings: None)
    monkeypatch.setenv("SARVIS_STORE__URL", "sqlite:///ledger.db")
    monkeypatch.setenv("SARVIS_BRIDGE__PORT", str(free_port()))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sarvis", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


FILE = ("--stories", "stories.db")


def test_a_trace_shows_one_wake_or_those_of_a_user_oldest_first(sarvis: Run_) -> None:
    code, out, _ = sarvis("trace", "w1", *FILE)
    assert code == 0
    assert "jetson heard the word (score 0.80) for alice: an app confirmed it\n" in out
    assert "    0 ms  phone got it\n  500 ms  phone confirmed it: it does not say how it rang\nIt rang.\n" in out
    code, out, _ = sarvis("trace", "--user", "alice", "--json", *FILE)
    wakes = json.loads(out)["wakes"]
    assert code == 1, "one of them did not ring"
    assert [(wake["wake"]["id"], wake["rang"]) for wake in wakes] == [("w1", True), ("w2", False)]
    assert wakes[0]["wake"]["steps"][1] == {"ms": 500.0, "step": "acked", "told": ["phone", None]}
    assert [cause["code"] for cause in wakes[1]["causes"]] == ["phone_asleep"]
    code, out, _ = sarvis("trace", "--user", "alice", "--most", "1", "--json", *FILE)
    assert [wake["wake"]["id"] for wake in json.loads(out)["wakes"]] == ["w2"]


def test_a_trace_of_nothing_is_an_error_that_says_so(sarvis: Run_) -> None:
    assert sarvis("trace", *FILE)[::2] == (2, "error: name what to show: the ID of a wake, --user UID, or --follow\n")
    code, _, err = sarvis("trace", "unknown", *FILE)
    assert code == 1
    assert "there is no story of a wake unknown" in err
    code, _, err = sarvis("trace", "w1")
    assert code == 1
    assert "there are no stories at" in err


def test_why_names_what_is_known_and_refuses_a_name_that_is_not(sarvis: Run_) -> None:
    code, out, _ = sarvis("why", "alice", "--json", *FILE)
    told = json.loads(out)
    assert (code, told["about"], told["rang"], told["wake"]["id"]) == (1, "alice", False, "w2")
    assert {"phone_asleep", "bridge_down"} == {cause["code"] for cause in told["causes"]}
    then = datetime.fromtimestamp(NOW - 300).astimezone().isoformat()
    code, out, _ = sarvis("why", "alice", "--at", then, "--json", *FILE)
    assert (code, json.loads(out)["wake"]["id"]) == (0, "w1")
    code, _, err = sarvis("why", "carol", *FILE)
    assert code == 1
    assert "neither the stories nor the ledger name 'carol'; check the name" in err


def test_followed_wakes_are_shown_once_until_there_is_news(sarvis: Run_, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([None, None])

    def sleep(_seconds: float) -> None:
        if next(looks, "over") == "over":
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "time", lambda: NOW - 110)
    code, out, _ = sarvis("trace", "--follow", "--user", "bob", "--json", *FILE)
    assert code == 130
    assert out == ""
    monkeypatch.setattr(time, "time", lambda: NOW - 100)
    looks = iter([None, None])
    _, out, _ = sarvis("trace", "--follow", "--user", "bob", "--json", *FILE)
    assert [json.loads(line)["wake"]["id"] for line in out.splitlines()] == ["w3"]


def test_a_time_of_day_is_the_last_one_that_has_been() -> None:
    now = datetime.fromisoformat("2026-03-01T12:00").astimezone()
    for text, wanted in (
        ("10:32", "2026-03-01T10:32"),
        ("10:32:07", "2026-03-01T10:32:07"),
        ("12:01", "2026-02-28T12:01"),
        ("2026-02-27T08:00", "2026-02-27T08:00"),
    ):
        assert moment_of(text, now.timestamp()) == datetime.fromisoformat(wanted).astimezone().timestamp()
    with pytest.raises(SettingsError, match="--at: 'noon' is no time; write it as 10:32"):
        moment_of("noon", now.timestamp())


def test_the_sentences_are_in_the_language_that_is_asked_for(sarvis: Run_) -> None:
    code, out, _ = sarvis("why", "alice", "--lang", "ko", *FILE)
    assert code == 1
    assert "기기 jetson 에서 alice 호출(점수 0.80): " in out
    assert "\n할 일: " in out
    _, out, _ = sarvis("why", "alice", "--lang", "ko", "--json", *FILE)
    told = json.loads(out)
    assert re.search("[가-힣]", told["causes"][0]["text"])
    assert re.search("[가-힣]", told["to_do"][0])
    _, out, _ = sarvis("trace", "w1", "--lang", "ko", *FILE)
    assert "phone: 확인했습니다. 어떻게 울렸는지 알리지 않았습니다\n울렸습니다.\n" in out
    code, _, err = sarvis("why", "alice", "--lang", "fr", *FILE)
    assert code == 2
    assert "fr" in err
