"""The defects of aMQTT 0.12.1, one after the other: the stock broker is shown to have each, ours to have none.

The same body runs on both. On the day on which a newer aMQTT has healed a defect, its "stock" test fails and says so.
"""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Self

from amqtt.mqtt.connect import ConnectPacket, ConnectPayload, ConnectVariableHeader
from amqtt.mqtt.disconnect import DisconnectPacket
from amqtt.mqtt.pingreq import PingReqPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket
from pwdlib.hashers.argon2 import Argon2Hasher

from broker.access import users
from broker.access.file_auth import FileAccess
from broker.server.auth import OpenAuthorizer
from broker.server.limits import Limits
from tests.support.embedded import (
    STOCK_PLUGINS,
    Client,
    Raw,
    Running,
    both,
    both_kinds,
    eventually,
    publication,
    started,
)
from tools.fuzz.rawmqtt import CONNECT, packet, text


@both
def test_a_silent_client_is_disconnected_and_its_last_will_published(running: Running) -> None:
    with Client(running.port) as watcher, Raw(running.port) as silent:
        watcher.subscribe(("will", 1))
        started = time.monotonic()
        silent.connect(keep_alive=1, will=("will", b"gone"))
        assert silent.closed(running.within(2.5)) is running.ours
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
        assert eventually(lambda: hearer.heard() == wanted, running.within(1.0)) is running.ours


@both
def test_nothing_remains_of_filters_without_clients(running: Running) -> None:
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
            assert older.closed(running.within(1.0)) is running.ours
            newer.publish("news", b"for the newer")
            assert eventually(lambda: newer.heard() == [("news", b"for the newer")])


@both_kinds
def test_a_socket_that_never_says_connect_is_closed(kind: str) -> None:
    with started(kind, Limits(connect_timeout_s=0.5)) as running, Raw(running.port) as mute, Raw(running.port) as slow:
        slow.send(b"\x10\x20\0\4MQ")
        assert mute.closed(running.within(1.5)) is running.ours
        assert slow.closed(running.within(0.5)) is running.ours


@both
def test_acknowledged_messages_before_a_disconnect_are_delivered(running: Running) -> None:
    with Client(running.port) as hearer, Raw(running.port) as hasty:
        hearer.subscribe(("m/+", 1))
        burst = [publication(f"m/{index}", qos=1, packet_id=index + 1) for index in range(20)]
        hasty.connect()
        hasty.send(*burst, DisconnectPacket())
        all_there = eventually(lambda: len(hearer.got) == 20, running.within(1.0))
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
        assert [raw.closed(running.within(1.0)) for raw in (liar, forger)] == [running.ours] * 2


@both
def test_a_client_of_mqtt_5_is_told_that_it_is_not_spoken_also_if_it_has_a_last_will(running: Running) -> None:
    plain = bytes([5, 0x02, 0, 60]) + b"\0" + text(b"id")
    with_will = bytes([5, 0x06, 0, 60]) + b"\0" + text(b"id") + b"\0" + text(b"a") + text(b"x")
    for rest, told in ((plain, True), (with_will, running.ours)):
        with Raw(running.port) as raw:
            raw.send(packet(CONNECT, text(b"MQTT") + rest))
            assert raw.silent(running.within(0.5)) is not told
            assert not told or raw.read(4) == b"\x20\x02\0\1"


class Taboo(OpenAuthorizer):
    """What aMQTT's TopicTabooPlugin does: its three topics are the user admin's alone."""

    def may_subscribe(self, client_id: str, username: str | None, topic_filter: str) -> bool:
        del client_id
        return username == "admin" or topic_filter != "top-secret"

    def may_publish(self, client_id: str, username: str | None, topic: str) -> bool:
        return self.may_subscribe(client_id, username, topic)


@both_kinds
def test_a_retained_message_does_not_reach_a_client_refused_its_topic(kind: str) -> None:
    with started(kind, access=Taboo()) as running, Client(running.port, login=("admin", "")) as owner:
        owner.subscribe(("top-secret", 1))
        owner.publish("top-secret", b"1234", retain=True)
        with Client(running.port) as stranger:
            assert stranger.subscribe(("top-secret", 1), ("mine", 1)) == [0x80, 1]
            stranger.publish("mine", b"own")
            assert eventually(lambda: ("mine", b"own") in stranger.heard())
            assert (stranger.heard() == [("mine", b"own")]) is running.ours


@both
def test_a_second_connection_of_a_persistent_session_hears_what_comes(running: Running) -> None:
    persistent = ConnectPacket(variable_header=ConnectVariableHeader(0, 60), payload=ConnectPayload("twin"))
    with Raw(running.port) as older, Client(running.port) as publisher:
        older.send(persistent, SubscribePacket.build([("news", 1)], 1))
        assert older.read(4 + 5) == b"\x20\x02\0\0" + b"\x90\x03\0\1\1"
        with Client(running.port, "twin", clean=False) as newer:
            assert older.closed()
            publisher.publish("news", b"for the newer")
            heard = eventually(lambda: newer.heard() == [("news", b"for the newer")], running.within(0.5))
            assert heard is running.ours


@both
def test_messages_wait_for_an_absent_client_without_a_name(running: Running) -> None:
    with Client(running.port, "away", clean=False) as client:
        client.subscribe(("m", 1))
    assert eventually(lambda: running.is_away("away"))
    with Client(running.port) as publisher:
        # It acknowledges before it hands on: what it has not handed on when the absent one is back, is not missed.
        publisher.subscribe(("m", 1))
        publisher.publish("m", b"meanwhile")
        assert eventually(lambda: publisher.heard() == [("m", b"meanwhile")])
    with Client(running.port, "away", clean=False) as client, Client(running.port) as publisher:
        client.subscribe(("m", 1))
        publisher.publish("m", b"now")
        assert eventually(lambda: ("m", b"now") in client.heard())
        assert (client.heard() == [("m", b"meanwhile"), ("m", b"now")]) is running.ours


@both_kinds
def test_a_password_costs_the_loop_hardly_more_than_none(kind: str, tmp_path: Path) -> None:
    users.save(tmp_path, {"kitchen": users.User.with_password("secret")})
    file = tmp_path / "passwords"
    file.write_text(f"kitchen:{Argon2Hasher().hash('secret')}\n")
    guard = {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(file)}}
    costs = []
    for access, plugins, login in (
        (OpenAuthorizer(), STOCK_PLUGINS, ()),
        (FileAccess(tmp_path, "sarvis/v1"), guard, ("kitchen", "secret")),
    ):
        with started(kind, access=access, plugins=plugins) as running:
            before = running.cpu_s()
            for _ in range(6):
                with Client(running.port, "sarvis-kitchen", login=login) as client:
                    assert client.flags[1] == 0
            costs.append(running.cpu_s() - before)
    assert (costs[1] < 3 * costs[0]) is (kind == "ours")


class Burst:
    """A publisher and a listener of one broker, and what a burst from one to the other costs it."""

    DATA = b"".join(bytes(publication("m", b"x" * 100).to_bytes()) for _ in range(300))

    def __init__(self, running: Running) -> None:
        self._running = running
        self._ear = Raw(running.port).connect()
        self._mouth = Raw(running.port).connect()
        self._ear.send(SubscribePacket.build([("m", 0)], 1))
        assert self._ear.read(5) == b"\x90\x03\0\1\0"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ear.socket.close()
        self._mouth.socket.close()

    def cpu_s(self) -> float:
        before = self._running.cpu_s()
        self._mouth.send(self.DATA)
        assert self._ear.read(len(self.DATA)) == self.DATA
        return self._running.cpu_s() - before


@both_kinds
def test_thousands_of_exact_filters_slow_no_message_down(kind: str) -> None:
    many = 10_000 if kind == "ours" else 500  # for more of them aMQTT takes a minute
    limits = Limits(max_publish_per_s=1e6)
    with (
        started(kind, limits) as empty,
        started(kind, limits) as full,
        Client(full.port) as holder,
        Burst(empty) as without,
        Burst(full) as with_them,
    ):
        for first in range(0, many, 500):
            codes = holder.subscribe(*((f"exact/{number}", 0) for number in range(first, first + 500)))
            assert codes == [0] * 500
        ratios = [with_them.cpu_s() / without.cpu_s() for _ in range(11)]
        assert (median(ratios) < 1.2) is (kind == "ours")


@both_kinds
def test_every_socket_is_closed_and_none_left_to_the_garbage_collector(kind: str) -> None:
    # In a process of its own: here a log with a traceback in it may hold on to what is to be collected.
    code = """
import gc, sys
from tests.support.embedded import Client, Raw, Running
running = Running(sys.argv[1])
with Client(running.port), Raw(running.port).connect(), Raw(running.port) as mute, Raw(running.port) as forger:
    mute.send(b"\\x10")
    forger.connect().send(b"\\xff\\xff")
    running.stop()
del running
gc.collect()
"""
    line = [sys.executable, "-W", "always::ResourceWarning", "-c", code, kind]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60)
    assert ("ResourceWarning: unclosed" not in done.stderr) is (kind == "ours")
