"""The console's pages as text: names are text, whatever they look like, and times are people's."""

from datetime import UTC, datetime

import pytest
from starlette.requests import Request

from bridge.console.render import Asked, clock_of, facts, language_of, link, stamp, text_of

MARKUP = "<img src=x onerror=alert(1)>"


def test_a_name_that_looks_like_markup_is_text() -> None:
    asked = Asked("en", MARKUP, who=MARKUP, path=f"/console/person?uid={MARKUP}", is_in=True, section="people")
    text = text_of("missing.html", asked, name=MARKUP)
    assert MARKUP not in text
    assert text.count("&lt;img src=x onerror=alert(1)&gt;") == 6


@pytest.mark.parametrize(
    ("header", "cookie", "language"),
    [
        ("ko-KR,ko;q=0.9,en;q=0.8", "", "ko"),
        ("de-DE,ko;q=0.5", "", "ko"),
        ("en", "", "en"),
        ("", "", "en"),
        ("fr", "", "en"),
        ("en", "sarvis_console_language=ko", "ko"),
        ("ko", "sarvis_console_language=fr", "ko"),
    ],
)
def test_the_language_is_the_persons_choice_or_the_browsers(header: str, cookie: str, language: str) -> None:
    headers = [(b"accept-language", header.encode()), (b"cookie", cookie.encode())]
    assert language_of(Request({"type": "http", "headers": headers})) == language


def test_an_address_has_only_what_is_asked_for() -> None:
    assert link("/devices", q="", after=None, state="deaf") == "/console/devices?state=deaf"
    assert link("/person", uid="a&b=<c>") == "/console/person?uid=a%26b%3D%3Cc%3E"
    assert link("") == "/console"


def test_times_are_for_people_and_for_programs() -> None:
    assert stamp(0) == "1970-01-01T00:00:00+00:00"
    assert clock_of("no time") == "no time"
    then = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert clock_of(then.isoformat()) == then.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def test_what_an_event_tells_leaves_out_what_is_empty() -> None:
    told = {"state": "online", "muted": False, "alarms": ["a", "b"], "more": 0, "noticed": None, "session": ""}
    assert facts(told) == "state: online, alarms: a, b, more: 0"
