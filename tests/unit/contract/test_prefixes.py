import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contract import prefixes
from contract.topics import TABLE
from infra.settings.broker import MqttSettings


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("", "empty"),
        ("a/+", "wildcards"),
        ("#", "wildcards"),
        ("sarvis#v1", "wildcards"),
        ("$SYS", "the broker's own"),
        ("$share/group/sarvis", "the broker's own"),
        ("/sarvis", "slash"),
        ("sarvis/v1/", "slash"),
        ("/", "slash"),
        (" sarvis/v1", "blank"),
        ("sarvis/v1 ", "blank"),
        ("sarvis/v1\n", "line end"),
        ("\tsarvis", "blank"),
        ("sarvis\0v1", "forbids this character"),
        ("sarvis\udc80", "forbids this character"),
        ("a/" * 200 + "b", "levels"),
        ("싸" * 30_000, "bytes"),
    ],
)
def test_a_prefix_that_no_broker_carries_is_refused_with_the_reason(prefix: str, words: str) -> None:
    assert words in (prefixes.fault(prefix) or "")
    with pytest.raises(ValidationError, match=r"a topic cannot begin like this|unicode"):
        MqttSettings(prefix=prefix)


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("sarvis/v1", []),
        ("s", []),
        ("Home_2/sarvis-v1:x", []),
        ("my.home/sarvis", ["RabbitMQ"]),
        ("my home", ["NATS"]),
        ("my home/the kitchen", ["NATS"]),
        ("my\u00a0home", ["NATS", "ASCII"]),
        ("a*b", ["RabbitMQ"]),
        ("sarvis\tv1", ["NATS", "Mosquitto"]),
        ("sarvis\x7fv1", ["Mosquitto"]),
        ("sarvis\ufffe", ["Mosquitto", "ASCII"]),
        (">/sarvis", ["NATS"]),
        ("a//b", ["sarvis broker config nats"]),
        ("싸비스", ["ASCII"]),
        ("the.house at night", ["RabbitMQ", "NATS"]),
    ],
)
def test_a_prefix_that_some_brokers_change_is_named_with_the_broker(prefix: str, words: list[str]) -> None:
    found = prefixes.doubts(prefix)
    assert [word in text for word, text in zip(words, found, strict=True)] == [True] * len(words)
    assert MqttSettings(prefix=prefix).prefix == prefix


@given(st.text(max_size=300))
def test_every_topic_of_a_prefix_that_is_taken_fits_mqtt(prefix: str) -> None:
    if prefixes.fault(prefix) is None:
        longest = max(topic.name(prefix, "x" * 64) for topic in TABLE)
        assert len(longest.encode()) < 65_536
        assert longest.count("/") < 200
