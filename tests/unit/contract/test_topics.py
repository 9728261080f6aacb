import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import MessageError
from contract.topics import TABLE, WAKE, Topic, parse

PREFIX = "sarvis/v1"
OWNERS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


@given(topic=st.sampled_from(TABLE), owner=OWNERS)
def test_every_topic_is_understood_as_it_was_made(topic: Topic, owner: str) -> None:
    assert parse(PREFIX, topic.name(PREFIX, owner)) == (topic, owner)


@given(name=st.text(max_size=80))
def test_any_other_name_is_refused_and_nothing_else_happens(name: str) -> None:
    try:
        topic, owner = parse(PREFIX, name)
    except MessageError:
        return
    assert topic.name(PREFIX, owner) == name


@pytest.mark.parametrize(
    "name",
    [
        "sarvis/v1/devices/jetson/wake/more",
        "sarvis/v1/devices//wake",
        "sarvis/v1/devices/jet son/wake",
        "sarvis/v1/devices/jetson\n/wake",
        "sarvis/v1/bridges/b/wake",
        "sarvis/v1/devices/jetson/dance",
        "other/v1/devices/jetson/wake",
        "sarvis/v1/devices/" + "a" * 65 + "/wake",
    ],
)
def test_a_topic_that_is_not_in_the_table_is_refused(name: str) -> None:
    with pytest.raises(MessageError):
        parse(PREFIX, name)


def test_the_table_is_the_documented_one() -> None:
    assert [(t.family, t.kind, t.qos, t.retained) for t in TABLE] == [
        ("devices", "wake", 1, False),
        ("devices", "outcome", 0, False),
        ("devices", "hello", 1, False),
        ("devices", "login", 1, False),
        ("devices", "logout", 1, False),
        ("devices", "ack", 1, False),
        ("devices", "model", 1, False),
        ("devices", "model_report", 1, False),
        ("devices", "status", 1, True),
        ("devices", "event", 1, False),
        ("bridges", "status", 1, True),
        ("bridges", "seek", 0, False),
        ("bridges", "joined", 0, False),
        ("bridges", "outcomes", 0, False),
        ("bridges", "news", 1, False),
    ]


def test_one_wildcard_hears_all_devices() -> None:
    assert WAKE.filter(PREFIX) == "sarvis/v1/devices/+/wake"
