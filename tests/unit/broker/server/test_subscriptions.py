import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.server.subscriptions import Subscriptions
from broker.topic_filters import matches, valid_filter, valid_topic

LEVELS = st.sampled_from(["a", "b", "", "$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(valid_topic)
FILTERS = st.lists(st.sampled_from(["a", "b", "", "+", "#"]), min_size=1, max_size=4).map("/".join).filter(valid_filter)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "drop"]), st.sampled_from("xyz"), FILTERS, st.sampled_from([0, 1, 2]))
)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "covered"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/+", "a/", True),
        ("a/+/c", "a/b/c", True),
        ("+", "a/b", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "ab", False),
        ("#", "a/b", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
    ],
)
def test_a_filter_covers_what_mqtt_says(topic_filter: str, topic: str, covered: bool) -> None:
    assert matches(topic_filter, topic) is covered


@pytest.mark.parametrize("topic_filter", ["", "a#", "a/#/b", "a+", "+a/b", "a\0b", "#/", "$share/g/a"])
def test_a_filter_that_cannot_be_served_is_refused(topic_filter: str) -> None:
    assert not valid_filter(topic_filter)


@pytest.mark.parametrize("topic", ["", "a/+", "#", "$SYS/broker", "a\0"])
def test_a_topic_that_no_client_may_name_is_refused(topic: str) -> None:
    assert not valid_topic(topic)


def test_a_client_with_overlapping_filters_is_found_once_with_its_highest_qos() -> None:
    table = Subscriptions()
    for topic_filter, qos in [("a/b", 0), ("a/+", 1), ("#", 0)]:
        table.add("x", topic_filter, qos)
    assert table.matching("a/b") == {"x": 1}


def test_subscribing_again_replaces_the_qos() -> None:
    table = Subscriptions()
    table.add("x", "a", 2)
    table.add("x", "a", 0)
    assert table.matching("a") == {"x": 0}


def test_what_was_found_does_not_change_with_the_table() -> None:
    table = Subscriptions()
    table.add("x", "a", 1)
    found = table.matching("a")
    table.add("y", "a", 1)
    table.drop("x")
    assert found == {"x": 1}


def test_nothing_remains_of_a_filter_without_clients() -> None:
    table = Subscriptions()
    for topic_filter in ["a", "a/+", "#"]:
        table.add("x", topic_filter, 1)
    table.remove("x", "a")
    table.remove("x", "never/held")
    table.drop("x")
    table.drop("nobody")
    assert len(table) == 0
    assert table.matching("a") == {}
    assert table._wild.next == {}


def test_filters_with_wildcards_that_do_not_match_cost_nothing() -> None:
    spent = []
    for rooms in (10, 10_000):
        table = Subscriptions()
        for room in range(rooms):
            table.add(f"c{room}", f"home/room{room}/+/set", 1)
        before = time.process_time()
        for _ in range(2_000):
            table.matching("home/room3/lamp/set")
        spent.append(time.process_time() - before)
    assert spent[1] < 5 * spent[0]


@given(CHANGES, TOPICS)
def test_the_table_finds_what_a_list_of_all_subscriptions_would(
    changes: list[tuple[str, str, str, int]], topic: str
) -> None:
    table, plain = Subscriptions(), dict[tuple[str, str], int]()
    for change, client_id, topic_filter, qos in changes:
        if change == "add":
            table.add(client_id, topic_filter, qos)
            plain[client_id, topic_filter] = qos
        elif change == "remove":
            table.remove(client_id, topic_filter)
            plain.pop((client_id, topic_filter), None)
        else:
            table.drop(client_id)
            plain = {key: value for key, value in plain.items() if key[0] != client_id}
    expected: dict[str, int] = {}
    for (client_id, topic_filter), qos in plain.items():
        if matches(topic_filter, topic):
            expected[client_id] = max(qos, expected.get(client_id, 0))
    assert table.matching(topic) == expected
    assert (table.cost == 0) is (not plain)
    assert len(table) == len({topic_filter for _, topic_filter in plain})
