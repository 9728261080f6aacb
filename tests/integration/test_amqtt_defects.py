"""Each defect of aMQTT 0.12.1: the stock broker has it, ours has not. docs/embedded-broker.md lists them."""

import gc
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from amqtt.mqtt.connect import ConnectPacket, ConnectPayload, ConnectVariableHeader
from amqtt.mqtt.disconnect import DisconnectPacket
from amqtt.mqtt.pingreq import PingReqPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from broker import users
from broker.access import OpenAccess
from broker.file_access import FileAccess
from broker.limits import Limits
from broker.users import User
from tests.support.embedded import (
    PATIENCE_S,
    Client,
    Raw,
    Running,
    both,
    each_kind,
    eventually,
    publication,
    started,
)

USER, WORD = "operator.one", "a good password"
CREDENTIALS = ConnectPayload("c", None, None, USER, WORD)
PERSISTENT = ConnectPacket(variable_header=ConnectVariableHeader(0, 60), payload=ConnectPayload("p"))


@pytest.fixture
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    with started(request.param, Limits(connect_timeout_s=0.5)) as broker:
        yield broker


@both
def test_a_silent_client_is_disconnected_and_its_last_will_published(running: Running) -> None:
    with Client(running.port) as watcher, Raw(running.port) as silent:
        watcher.subscribe(("will", 1))
        started = time.monotonic()
        silent.connect(keep_alive=1, will=("will", b"gone"))
        assert silent.closed(2.5) is running.ours
        if running.ours:
            assert time.monotonic() - started >= 1.4
            assert eventually(lambda: watcher.heard() == [("will", b"gone")])
        else:
            assert watcher.heard() == []


@both
def test_no_message_is_lost_while_others_subscribe(running: Running) -> None:
    wanted = [(f"m/{index}", b"x") for index in range(200)]
    with Client(running.port) as hearer, Client(running.port) as publisher, Raw(running.port) as churner:
        publisher.subscribe(("m/#", 0))  # stock awaits here, and misses all filters after it when the table changes
        hearer.subscribe(("m/+", 1))
        churner.connect()
        infos = []
        for index, (topic, data) in enumerate(wanted):
            infos.append(publisher.paho.publish(topic, data, 1))
            churner.send(SubscribePacket.build([(f"churn/{index}", 0), (f"churn/{index}/+", 0)], index + 1))
            if index % 2:
                churner.send(UnsubscribePacket.build([f"churn/{index}"], index + 1))
            time.sleep(0.001)
        assert eventually(lambda: all(info.is_published() for info in infos))
        assert eventually(lambda: hearer.heard() == wanted, PATIENCE_S if running.ours else 1.0) is running.ours


@both
def test_nothing_remains_of_filters_that_nobody_holds(running: Running) -> None:
    with Client(running.port) as client:
        client.subscribe(("a", 1), ("a/+", 1), ("#", 1))
        client.unsubscribe("a", "a/+", "#")
        assert (running.filters() == 0) is running.ours
        client.subscribe(("b", 1), ("b/#", 1))
    if running.ours:
        assert eventually(lambda: running.filters() == 0)


@both
def test_a_second_connection_of_the_same_client_closes_the_first(running: Running) -> None:
    with Raw(running.port) as older:
        older.connect("twin")
        older.send(SubscribePacket.build([("old", 1)], 1))
        with Client(running.port, "twin") as newer:
            newer.subscribe(("news", 1))
            assert older.closed(1.0) is running.ours
            newer.publish("news", b"for the newer")
            assert eventually(lambda: newer.heard() == [("news", b"for the newer")], 2.0)


@both
def test_a_socket_that_never_says_connect_is_closed(running: Running) -> None:
    with Raw(running.port) as mute, Raw(running.port) as slow:
        slow.send(b"\x10\x20\0\4MQ")
        assert mute.closed(1.5) is running.ours
        assert slow.closed(0.5) is running.ours


@both
def test_acknowledged_messages_before_a_disconnect_are_delivered(running: Running) -> None:
    with Client(running.port) as hearer, Raw(running.port) as hasty:
        hearer.subscribe(("m/+", 1))
        burst = [publication(f"m/{index}", qos=1, packet_id=index + 1) for index in range(20)]
        hasty.connect()
        hasty.send(*burst, DisconnectPacket())
        all_there = eventually(lambda: len(hearer.got) == 20, PATIENCE_S if running.ours else 1.0)
        assert all_there is running.ours


@both
def test_retained_messages_reach_only_those_who_subscribe_to_them(running: Running) -> None:
    with Client(running.port) as owner:
        owner.subscribe(("secret/#", 1))
        owner.publish("secret/door", b"1234", retain=True)
        assert eventually(lambda: owner.got)
        with Client(running.port) as stranger:
            stranger.subscribe(("mine", 1))
            stranger.publish("mine", b"own")
            assert eventually(lambda: ("mine", b"own") in stranger.heard())
            assert (stranger.heard() == [("mine", b"own")]) is running.ours


@both
def test_overlapping_filters_deliver_a_message_once(running: Running) -> None:
    with Client(running.port) as client:
        client.subscribe(("a/b", 0), ("a/+", 1), ("a/#", 0))
        client.publish("a/b", b"first")
        client.publish("a/end", b"last")
        assert eventually(lambda: ("a/end", b"last") in client.heard())
        assert (client.heard() == [("a/b", b"first"), ("a/end", b"last")]) is running.ours


@both
def test_a_client_that_breaks_the_protocol_is_disconnected(running: Running) -> None:
    with Raw(running.port) as liar, Raw(running.port) as forger:
        liar.connect()
        liar.send(b"\x30\x04\0\x09ab", PingReqPacket())
        forger.connect()
        forger.send(b"\x30\xff\xff\xff\xff\x7f")
        assert (liar.closed(1.0), forger.closed(1.0)) == (running.ours, running.ours)


@both
def test_a_session_that_is_taken_over_hears_on(running: Running) -> None:
    with Raw(running.port) as older:
        older.send(PERSISTENT, SubscribePacket.build([("m", 1)], 1))
        assert eventually(lambda: running.filters() == 1)
        with Client(running.port, "p", clean=False) as newer, Client(running.port) as publisher:
            publisher.publish("m", b"for the newer")
            heard = eventually(lambda: newer.heard() == [("m", b"for the newer")], PATIENCE_S if running.ours else 1.0)
            assert heard is running.ours
            assert older.closed()


@both
def test_messages_wait_for_a_persistent_session_without_a_user(running: Running) -> None:
    with Client(running.port, "away", clean=False) as client:
        client.subscribe(("m", 1))
    with Client(running.port) as publisher:
        for number in range(5):
            publisher.publish("m", str(number).encode())
    with Client(running.port, "away", clean=False) as client:
        heard = eventually(lambda: len(client.got) == 5, PATIENCE_S if running.ours else 1.0)
        assert heard is running.ours


class Taboo(OpenAccess):
    """What aMQTT's plugin of that name allows."""

    def may_subscribe(self, client_id: str, username: str | None, topic_filter: str) -> bool:
        del client_id
        return username == "admin" or topic_filter != "top-secret"


@each_kind
def test_retained_messages_never_reach_those_whose_subscribe_was_refused(kind: str) -> None:
    with started(kind, access=Taboo()) as running, Client(running.port, user=("admin", None)) as owner:
        owner.publish("top-secret", b"1234", retain=True)
        assert owner.subscribe(("top-secret", 1)) == [1]
        with Client(running.port) as stranger:
            assert stranger.subscribe(("top-secret", 1)) == [0x80]
            stranger.subscribe(("mine", 1))
            stranger.publish("mine", b"own")
            assert eventually(lambda: ("mine", b"own") in stranger.heard())
            assert (stranger.heard() == [("mine", b"own")]) is running.ours


def with_passwords(kind: str, folder: Path) -> AbstractContextManager[Running]:
    if kind == "ours":
        users.save(folder, {USER: User.with_password(WORD)})
        return started(kind, access=FileAccess(folder, "sarvis/v1"))
    (folder / "passwords").write_text(f"{USER}:{PasswordHash((Argon2Hasher(),)).hash(WORD)}\n")
    return started(
        kind, plugins={"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(folder / "passwords")}}
    )


@each_kind
def test_a_password_costs_little(kind: str, tmp_path: Path) -> None:
    def cost(running: Running) -> float:
        before = time.process_time()  # a hash has threads of its own
        for _ in range(10):
            with Raw(running.port) as raw:
                raw.send(ConnectPacket(variable_header=ConnectVariableHeader(0xC2, 60), payload=CREDENTIALS))
                assert raw.read(4) == b"\x20\x02\0\0"
        return time.process_time() - before

    with started(kind) as running:
        without = cost(running)
    with with_passwords(kind, tmp_path) as running:
        ratio = cost(running) / without
    assert (ratio < 2) if kind == "ours" else (ratio > 10), ratio


@each_kind
def test_exact_filters_of_others_cost_a_message_nothing(kind: str) -> None:
    burst = b"".join(publication("m").to_bytes() for _ in range(200))
    with (
        started(kind) as running,
        Raw(running.port) as hearer,
        Raw(running.port) as publisher,
        Raw(running.port) as other,
    ):
        for raw in (hearer, publisher, other):
            raw.connect()
        hearer.send(SubscribePacket.build([("m", 0)], 1))
        hearer.read(5)

        def cost() -> float:
            before = running.cpu_s()
            publisher.send(burst)
            assert len(hearer.read(len(burst))) == len(burst)
            return running.cpu_s() - before

        without = min(cost() for _ in range(8))
        # The stock broker would need a minute for as many as ours takes.
        for first in range(0, 10_000 if running.ours else 500, 100):
            other.send(SubscribePacket.build([(f"other/{number}", 0) for number in range(first, first + 100)], 1))
            assert other.read(104)[:2] == b"\x90\x66"
        assert (min(cost() for _ in range(8)) < 1.2 * without) is running.ours


@each_kind
def test_a_client_that_never_acknowledges_is_cut_off(kind: str) -> None:
    with (
        started(kind, Limits(max_unacked=50)) as running,
        Client(running.port) as publisher,
        Raw(running.port) as lazy,
    ):
        lazy.connect()
        lazy.send(SubscribePacket.build([("m", 1)], 1))
        assert eventually(lambda: running.filters() == 1)
        for _ in range(60):
            publisher.paho.publish("m", b"x", 1)
        assert lazy.closed(PATIENCE_S if running.ours else 1.0) is running.ours


@each_kind
def test_what_waits_for_an_absent_client_is_bounded(kind: str, tmp_path: Path) -> None:
    # The stock broker keeps something only for those who said who they are.
    with (
        started(kind, Limits(max_offline=10)) if kind == "ours" else with_passwords(kind, tmp_path) as running,
        Client(running.port, user=(USER, WORD)) as publisher,
    ):
        with Client(running.port, "away", clean=False, user=(USER, WORD)) as client:
            client.subscribe(("m", 1))
        for number in range(30):
            publisher.publish("m", str(number).encode())
        with Client(running.port, "away", clean=False, user=(USER, WORD)) as client:
            assert eventually(lambda: ("m", b"29") in client.heard())
            assert len(client.got) == (10 if running.ours else 30)


@each_kind
def test_retained_topics_are_bounded(kind: str) -> None:
    with started(kind, Limits(max_retained=10)) as running, Client(running.port) as client:
        for number in range(20):
            client.publish(f"r/{number}", retain=True)
        assert (len(running.broker.retained_messages) == 10) is running.ours


@each_kind
def test_filters_are_bounded(kind: str) -> None:
    with started(kind, Limits(max_filters=10)) as running, Client(running.port) as client:
        assert client.subscribe(*[(f"f/{number}", 1) for number in range(10)]) == [1] * 10
        assert (client.subscribe(("f/10", 1)) == [0x80]) is running.ours


@each_kind
def test_a_packet_is_bounded(kind: str) -> None:
    with started(kind, Limits(max_packet_bytes=1000)) as running, Raw(running.port) as raw:
        raw.connect()
        raw.send(publication("m", b"x" * 1000))
        assert raw.closed(1.0) is running.ours


@each_kind
def test_connections_are_bounded(kind: str) -> None:
    with started(kind, Limits(max_connections=3)) as running, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(Raw(running.port)).connect()
        assert stack.enter_context(Raw(running.port)).closed(1.0) is running.ours


@each_kind
def test_no_socket_is_left_to_the_garbage_collector(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.embedded._drop_what_stock_leaves", lambda: None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        with started(kind) as running, Raw(running.port) as silent:
            assert silent.silent()
        del running
        gc.collect()
    assert (not caught) is (kind == "ours"), caught
