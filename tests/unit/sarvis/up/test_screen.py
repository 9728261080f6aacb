"""What `sarvis up` prints."""

from io import StringIO
from types import SimpleNamespace
from typing import Any, cast

import pytest
import segno
from rich.console import Console

from sarvis.up.house import House, Wanted
from sarvis.up.screen import Screen, qr_code, sentence

LINK = "http://192.168.10.20:8000/app/#token=" + "x" * 180
CONSOLE = "http://127.0.0.1:8000/console/log-in?once=" + "x" * 43
BORDER = 2


def modules(text: str) -> list[list[bool]]:
    """Dark modules of a code that is printed with half blocks, without its border."""
    rows = []
    for line in text.rstrip("\n").split("\n"):
        rows.append([letter not in "█▀" for letter in line])
        rows.append([letter not in "█▄" for letter in line])
    return [row[BORDER:-BORDER] for row in rows[BORDER:]]


def test_the_code_has_the_modules_of_the_link() -> None:
    expected = [[bool(module) for module in row] for row in segno.make(LINK, error="l", micro=False).matrix]
    assert modules(qr_code(LINK))[: len(expected)] == expected


def printed(source: str | None, *, lan: bool) -> str:
    out = StringIO()
    wanted = Wanted("[bold]alice", "jetson-1", source, 8000, lan)
    house = SimpleNamespace(
        wanted=wanted, link=LINK, console=CONSOLE, mqtt_url="mqtt://127.0.0.1:1883", config="up/sarvis.toml"
    )
    Screen(Console(file=out, width=60)).ready(cast(House, house))
    return out.getvalue()


@pytest.mark.parametrize("lan", [False, True])
def test_the_link_is_whole_in_one_line_and_a_name_is_no_markup(lan: bool) -> None:
    text = printed(None, lan=lan)
    lines = text.replace("  http", "http").split("\n")
    assert LINK in lines
    assert CONSOLE in lines
    assert "[bold]alice" in text.replace("\n", " ")
    assert ("▄" in text, "Without TLS" in text) == (lan, lan)


def test_a_microphone_is_spoken_to_and_a_recorded_voice_has_a_key() -> None:
    assert "say «싸비스»" in printed("mic", lan=False)
    assert "press w" in printed(None, lan=False)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"event": "logged_in", "uid": "alice"}, "alice is logged in: it listens"),
        ({"event": "logged_out", "reason": "done"}, "logged out (done): it does not listen"),
        ({"event": "wake", "score": 0.617}, "heard «싸비스», score 0.62"),
        ({"event": "outcome", "status": "acked"}, "acked: the app rang"),
        ({"event": "outcome", "status": "new"}, "new: see docs/contract.md"),
        ({"event": "led", "state": "active"}, None),
        ({"event": "alarm", "name": "microphone_lost", "raised": True}, "alarm microphone_lost"),
        ({"event": "alarm", "name": "microphone_lost", "raised": False}, "alarm microphone_lost is over"),
    ],
)
def test_events_are_sentences(line: dict[str, Any], said: str | None) -> None:
    assert sentence(line) == said
