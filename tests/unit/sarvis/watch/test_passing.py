"""What a message says that passed the broker."""

from datetime import UTC, datetime

import pytest

from contract.topics import TABLE
from sarvis.watch.passing import MOST_CHARACTERS, head, passing, to_json, told, whole_filter

PREFIX = "sarvis/v1"
AT = datetime(2026, 1, 31, 10, 32, 7, 250_000, UTC)
DEVICES = f"{PREFIX}/devices/jetson-1"
ESCAPE = "\x1b[31m"
HIDDEN = "\u202e"  # turns the direction of what follows


@pytest.mark.parametrize(
    ("topic", "payload", "shown"),
    [
        (
            f"{DEVICES}/wake",
            '{"uid":"김 철수","command":"wake_up","timestamp":"now","v":1,"id":"a1","score":0.607}',
            'jetson-1 -> wake uid="김 철수" command=wake_up timestamp=now id=a1 score=0.607',
        ),
        (
            f"{DEVICES}/outcome",
            '{"id":"a1","status":"acked","latency_ms":1.25}',
            "jetson-1 <- outcome id=a1 status=acked latency_ms=1.25",
        ),
        (
            f"{DEVICES}/status",
            '{"state":"online","alarms":["microphone_lost"],"muted":true}',
            'jetson-1 -> status state=online muted=true alarms=["microphone_lost"]',
        ),
        (f"{PREFIX}/bridges/hub/news", '{"turn":7}', "hub -> news turn=7"),
        (f"{DEVICES}/status", "", "jetson-1 -> status cleared"),
    ],
)
def test_a_message_says_what_its_sender_said_and_no_defaults(topic: str, payload: str, shown: str) -> None:
    it = passing(PREFIX, topic.encode(), payload.encode(), retained=False)
    assert f"{head(it)} {told(it)}" == shown


def test_each_row_of_the_table_has_its_direction() -> None:
    for row in TABLE:
        assert head(passing(PREFIX, row.name(PREFIX, "one").encode(), b"{}", retained=False)).startswith("one ")


@pytest.mark.parametrize("text", [ESCAPE, HIDDEN, "\r", "\x07", "\u2028", "\ud800"])
def test_no_text_of_a_message_reaches_the_terminal_unescaped(text: str) -> None:
    escaped = [f'{{"uid":"a","command":"\\u{ord(one):04x}","timestamp":"t"}}'.encode() for one in text]
    raw = (text.encode(errors="surrogatepass"), b"\xff" + text.encode(errors="ignore"))
    for topic in (f"{DEVICES}/wake".encode(), f"{PREFIX}/x/{text}".encode(errors="replace"), b"\xff\x1b"):
        for payload in (*escaped, *raw):
            it = passing(PREFIX, topic, payload, retained=True)
            assert (head(it) + told(it)).isprintable(), (topic, payload)
            told_json = to_json(it, AT)
            assert told_json["topic"] == topic.decode(errors="replace")


def test_a_bad_message_is_named_and_shown_as_it_came() -> None:
    it = passing(PREFIX, f"{DEVICES}/outcome".encode(), b'{"id":"a1","status":"no\x1b"}', retained=True)
    assert told(it).startswith("(retained) invalid: ")
    assert told(it).endswith(r'"{\"id\":\"a1\",\"status\":\"no\u001b\"}"')
    long = passing(PREFIX, b"other/topic", b"x" * (MOST_CHARACTERS + 5), retained=False)
    assert told(long) == f'not a topic of SARVIS "{"x" * MOST_CHARACTERS}" and 5 more'


def test_programs_get_the_fields_or_the_problem_and_the_payload() -> None:
    wake = b'{"uid":"alice","command":"wake_up","timestamp":"now"}'
    assert to_json(passing(PREFIX, f"{DEVICES}/wake".encode(), wake, retained=False), AT) == {
        "at": "2026-01-31T10:32:07.250000+00:00",
        "topic": f"{DEVICES}/wake",
        "retained": False,
        "family": "devices",
        "owner": "jetson-1",
        "kind": "wake",
        "message": {"uid": "alice", "command": "wake_up", "timestamp": "now"},
    }
    cleared = to_json(passing(PREFIX, f"{DEVICES}/status".encode(), b"", retained=False), AT)
    assert cleared["message"] is None
    foreign = to_json(passing(PREFIX, b"a/b", b"\xff\x00", retained=False), AT)
    assert foreign == {
        "at": "2026-01-31T10:32:07.250000+00:00",
        "topic": "a/b",
        "retained": False,
        "problem": "not a topic of SARVIS",
        "payload_base64": "/wA=",
    }
    invalid = to_json(passing(PREFIX, f"{DEVICES}/wake".encode(), b"{}", retained=False), AT)
    assert (invalid["kind"], invalid["payload"]) == ("wake", "{}")
    assert invalid["problem"].startswith("invalid: ")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (None, "sarvis/v1/#"),
        ("jetson-1", "sarvis/v1/devices/jetson-1/#"),
        ("devices/+/wake", "sarvis/v1/devices/+/wake"),
        ("+/jetson-1/status", "sarvis/v1/+/jetson-1/status"),
        ("#", "sarvis/v1/#"),
        ("sarvis/v1/bridges/#", "sarvis/v1/bridges/#"),
        ("$SYS/#", "$SYS/#"),
        ("homeassistant/#", "homeassistant/#"),
    ],
)
def test_a_filter_means_what_a_person_means(given: str | None, meant: str) -> None:
    assert whole_filter(PREFIX, given) == meant
