import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.access.acl import client_id_of, grants, may_publish, may_subscribe, may_use, own_name, role_of
from broker.topic_filters import covers, matches, valid_filter
from contract.topics import TABLE

P = "sarvis/v1"
USERS = ("jetson-1", "bridge.b1", "operator.ann")


@pytest.mark.parametrize(
    ("username", "role"),
    [
        ("jetson-1", "device"),
        ("A_b-9", "device"),
        ("bridge", "device"),
        ("x" * 64, "device"),
        ("bridge.b1", "bridge"),
        ("operator.ann", "operator"),
        ("x" * 65, None),
        ("legacy-http", None),
        ("bridge.", None),
        ("bridge.a.b", None),
        (".b1", None),
        ("other.b1", None),
        ("operator.a/b", None),
        ("jetson+", None),
        ("jetson-1\n", None),
        ("", None),
        (None, None),
    ],
)
def test_a_user_name_tells_the_role(username: str | None, role: str | None) -> None:
    assert role_of(username) == role


def test_the_name_of_a_user_is_what_stands_after_the_role() -> None:
    assert [own_name(user) for user in USERS] == ["jetson-1", "b1", "ann"]


FROM_DEVICE = ("wake", "hello", "ack", "model_report")
TO_DEVICE = ("outcome", "login", "logout", "model")


def test_a_device_speaks_for_itself_and_hears_its_own() -> None:
    rights = grants(P, "jetson-1")
    assert set(rights.publish) == {f"{P}/devices/jetson-1/{kind}" for kind in (*FROM_DEVICE, "status")}
    assert set(rights.subscribe) == {
        *(f"{P}/devices/jetson-1/{kind}" for kind in TO_DEVICE),
        f"{P}/bridges/+/status",
    }


def test_a_bridge_speaks_to_all_devices_and_hears_all() -> None:
    rights = grants(P, "bridge.b1")
    assert set(rights.publish) == {
        *(f"{P}/devices/+/{kind}" for kind in (*TO_DEVICE, "status", "event")),
        "homeassistant/device/+/config",
        f"{P}/devices/legacy-http/wake",
        *(f"{P}/bridges/b1/{kind}" for kind in ("status", "seek", "joined", "outcomes", "news")),
    }
    assert set(rights.subscribe) == {
        *(f"{P}/devices/+/{kind}" for kind in (*FROM_DEVICE, "status")),
        *(f"{P}/bridges/+/{kind}" for kind in ("status", "seek", "joined", "outcomes", "news")),
    }


@pytest.mark.parametrize("kind", ["seek", "joined", "outcomes", "news"])
def test_only_the_bridge_itself_says_what_bridges_tell_each_other(kind: str) -> None:
    topic = f"{P}/bridges/b1/{kind}"
    assert may_publish(P, "bridge.b1", topic)
    assert may_subscribe(P, "bridge.b2", f"{P}/bridges/+/{kind}")
    for other in ("bridge.b2", "jetson-1", "b1", "operator.ann", None):
        assert not may_publish(P, other, topic), other
    for other in ("jetson-1", "b1", None):
        assert not may_subscribe(P, other, topic), other


def test_an_operator_hears_all_and_says_only_that_home_assistant_runs() -> None:
    assert grants(P, "operator.ann") == grants(P, "operator.bob")
    assert grants(P, "operator.ann").publish == ("homeassistant/status",)
    assert grants(P, "operator.ann").subscribe == (f"{P}/#", "homeassistant/#")


def test_only_a_bridge_tells_home_assistant_of_devices_and_only_operators_hear_it() -> None:
    topic = "homeassistant/device/sarvis_v1_jetson-1/config"
    assert may_publish(P, "bridge.b1", topic)
    for user in ("jetson-1", "operator.ann", None):
        assert not may_publish(P, user, topic), user
    for user in ("jetson-1", "bridge.b1", None):
        assert not may_subscribe(P, user, "homeassistant/#"), user
        assert not may_subscribe(P, user, f"{P}/devices/jetson-1/event"), user
    assert not may_publish(P, "bridge.b1", "homeassistant/status")
    assert not may_publish(P, "operator.ann", f"{P}/devices/jetson-1/event")


@pytest.mark.parametrize("username", [None, "", "legacy-http", "root.x", "jetson/1"])
def test_an_unknown_user_has_no_rights(username: str | None) -> None:
    assert (grants(P, username).publish, grants(P, username).subscribe) == ((), ())
    assert not may_use(username, "anything")
    assert not may_publish(P, username, f"{P}/devices/legacy-http/wake")


def test_every_topic_of_the_table_has_a_publisher_and_a_subscriber() -> None:
    for row in TABLE:
        topic = row.name(P, "jetson-1" if row.family == "devices" else "b1")
        assert any(may_publish(P, user, topic) for user in ("jetson-1", "bridge.b1")), topic
        hears = ("operator.ann",) if row.direction == "bridge_to_house" else ("jetson-1", "bridge.b1")
        assert any(may_subscribe(P, user, topic) for user in hears), topic


@pytest.mark.parametrize("name", [f"{P}/devices/jetson-2/wake", f"{P}/devices/jetson-1/logout",
                                  f"{P}/bridges/b1/status",
                                  f"{P}/devices/+/wake", f"{P}/devices/jetson-1/wake/more", f"{P}/devices/jetson-1",
                                  "devices/jetson-1/wake", "other/v1/devices/jetson-1/wake", "$SYS/x", ""])  # fmt: skip
def test_a_device_may_publish_nothing_else(name: str) -> None:
    assert may_publish(P, "jetson-1", f"{P}/devices/jetson-1/wake")
    assert not may_publish(P, "jetson-1", name)


@pytest.mark.parametrize("name", ["#", "+", "+/#", f"{P}/#", f"{P}/devices/#", f"{P}/devices/+/logout",
                                  f"{P}/devices/jetson-2/logout", f"{P}/devices/jetson-1/#", f"{P}/devices/jetson-1/+",
                                  f"{P}/+/jetson-1/logout", f"{P}/bridges/#", f"{P}/bridges/+/+", "$SYS/#", "$MQTT/#",
                                  f"$share/g/{P}/devices/jetson-1/logout", f"{P}/devices/jetson-1/wake",
                                  ""])  # fmt: skip
def test_a_device_may_subscribe_to_nothing_else(name: str) -> None:
    assert may_subscribe(P, "jetson-1", f"{P}/devices/jetson-1/logout")
    assert may_subscribe(P, "jetson-1", f"{P}/bridges/b1/status")
    assert not may_subscribe(P, "jetson-1", name)


def test_an_operator_may_subscribe_to_any_part() -> None:
    for name in (P, f"{P}/#", f"{P}/+/x/+", f"{P}/devices/jetson-1/logout"):
        assert may_subscribe(P, "operator.ann", name)
    for name in ("#", "sarvis/#", "sarvis/+/devices/x/wake", "$SYS/#"):
        assert not may_subscribe(P, "operator.ann", name)


def test_client_ids_belong_to_their_users() -> None:
    assert client_id_of("jetson-1") == "sarvis-jetson-1"
    assert client_id_of("bridge.b1") == "sarvis-bridge-b1"
    assert client_id_of("operator.ann") is None
    assert may_use("jetson-1", "sarvis-jetson-1")
    assert may_use("bridge.b1", "sarvis-bridge-b1")
    assert may_use("operator.ann", "mosq-1")
    assert not may_use("operator.ann", "sarvis-jetson-1")
    assert not may_use("jetson-1", "sarvis-jetson-2")
    assert not may_use("jetson-1", "jetson-1")
    assert not may_use("bridge.b1", "sarvis-b1")


def test_no_device_has_the_client_id_of_a_bridge_or_of_another_device() -> None:
    names = [
        "bridge",
        "bridge-",
        "bridge-b1",
        "bridge-bridge-1",
        "b1",
        "device",
        "device-bridge-b1",
        "sarvis-b1",
        "-",
        "x",
    ]
    users = [*names, *(f"bridge.{name}" for name in names)]
    ids = [client_id_of(user) or "" for user in users]
    assert len(set(ids)) == len(users)
    assert all(
        may_use(user, other) is (user == whose) for user in users for whose, other in zip(users, ids, strict=True)
    )
    assert client_id_of("bridge-b1") == "sarvis-device:bridge-b1"


levels = st.sampled_from(["a", "b", "$x", "", "+"])
filters = st.builds(
    lambda parts, tail: "/".join([*parts, *tail]),
    st.lists(levels, min_size=1, max_size=4),
    st.sampled_from([[], ["#"]]),
)
names = st.builds("/".join, st.lists(st.sampled_from(["a", "b", "$x", ""]), min_size=1, max_size=5))


@given(granted=filters, wanted=filters, topic=names)
def test_what_a_covered_filter_matches_is_granted(granted: str, wanted: str, topic: str) -> None:
    if valid_filter(granted) and valid_filter(wanted) and topic and covers(granted, wanted) and matches(wanted, topic):
        assert matches(granted, topic)


@given(granted=filters, topic=names)
def test_a_topic_is_covered_exactly_when_it_is_matched(granted: str, topic: str) -> None:
    if valid_filter(granted) and topic:
        assert covers(granted, topic) is matches(granted, topic)
