"""Each defect of aMQTT 0.12.1: the stock broker has it, ours has not. docs/embedded-broker.md lists them."""

import time
from collections.abc import Iterator

import pytest
from amqtt.mqtt.disconnect import DisconnectPacket
from amqtt.mqtt.pingreq import PingReqPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket

from broker.limits import Limits
from tests.support.embedded import PATIENCE_S, Client, Raw, Running, both, eventually, publication, started


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
