"""Clients that mean harm, against the embedded broker while others use it; arbitrary packets are in tools/fuzz."""

import gc
import logging
import resource
import socket
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket

from broker.server.limits import Limits
from tests.support.embedded import (
    HOST,
    Client,
    Raw,
    Running,
    both_kinds,
    eventually,
    publication,
    started,
)

CROWD = 1_000


@pytest.fixture
def many_files() -> Iterator[None]:
    """Both ends of all sockets are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4 * CROWD), max(hard, 4 * CROWD)))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_thousand_silent_sockets_are_closed_and_others_are_let_in_meanwhile() -> None:
    limits = Limits(connect_timeout_s=5.0, max_unnamed_per_address=CROWD)
    with started(limits=limits) as running, Client(running.port) as client, ExitStack() as stack:
        client.subscribe(("m", 1))
        silent = [
            stack.enter_context(socket.create_connection((HOST, running.port), source_address=("127.0.0.2", 0)))
            for _ in range(CROWD)
        ]
        with Raw(running.port).connect() as newcomer:
            newcomer.send(publication("m", qos=1, packet_id=1))
            assert newcomer.read(4) == b"\x40\x02\0\1"
            assert eventually(lambda: client.heard() == [("m", b"x")])
        for each in silent:
            each.setblocking(False)
        closed: set[socket.socket] = set()
        assert eventually(lambda: all_closed(silent, closed))
        assert eventually(lambda: len(running.broker._served) == 1)


def all_closed(sockets: list[socket.socket], closed: set[socket.socket]) -> bool:
    """Whether the broker has closed each; `closed` are those of which that is known."""
    for each in sockets:
        try:
            if each not in closed and not each.recv(1):
                closed.add(each)
        except BlockingIOError:
            return False
        except ConnectionError:
            closed.add(each)
    return True


@both_kinds
def test_a_client_that_reads_nothing_costs_a_bounded_amount_and_delays_no_other(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(max_unsent_bytes=200_000)
    with started(kind, limits) as running, Client(running.port) as ear, Client(running.port) as mouth:
        with Raw(running.port).connect("deaf") as deaf:
            deaf.send(SubscribePacket.build([("m", 0)], 1))
            ear.subscribe(("m", 0))
            assert eventually(lambda: running.filters() == 1)
            for number in range(300):
                mouth.publish("m", bytes([number % 256]) * 60_000, 0)
                # One by one, so that who hears everything never looks like one who hears nothing.
                assert not running.ours or eventually(lambda: len(ear.got) > number)  # noqa: B023
            if running.ours:
                unsent = running.broker._sessions["deaf"][1]._transport.get_write_buffer_size()
                assert unsent < limits.max_unsent_bytes + 100_000
        assert not running.ours or eventually(lambda: "qos_0_dropped client_id=deaf" in caplog.text)


def flood(running: Running, what: str, first: int) -> None:
    """What a client that fills the broker does, a part of it; `first` makes each part different."""
    with Client(running.port, login=("somebody",)) as client:
        if what == "filters":
            client.paho.disconnect()
            with Client(running.port, "greedy", clean=False, login=("somebody",)) as greedy:
                for part in range(4):
                    greedy.subscribe(*((f"filter/{first}/{part}/{number}/{'x' * 100}", 0) for number in range(250)))
            return
        for number in range(150):
            client.publish(f"{what}/{first}/{number}", b"x" * 4_000, retain=what == "retained")


@both_kinds
@pytest.mark.parametrize("what", ["offline", "retained", "filters"])
def test_a_flood_fills_no_memory_beyond_its_bound(kind: str, what: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "broker")  # pytest keeps each line
    limits = Limits(
        max_offline_bytes=500_000, max_retained_bytes=500_000, max_filter_bytes=500_000, max_unsent_bytes=200_000
    )
    named = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": False}}
    with started(kind, limits, plugins=named) as running:
        with Client(running.port, "away", clean=False, login=("somebody",)) as away:
            away.subscribe(("offline/#", 1))
        tracemalloc.start()
        try:
            flood(running, what, 0)
            full = held()
            for part in range(1, 3):
                flood(running, what, part)
            # What was in hand when the last message was acknowledged is let go a moment later.
            assert eventually(lambda: held() < 1.3 * full, running.within(0.5)) is running.ours
        finally:
            tracemalloc.stop()


def held() -> int:
    """Bytes that this process has allocated and not given back since tracing began."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_one_packet_of_countless_filters_delays_no_client() -> None:
    def cost(running: Running, count: int) -> float:
        before = running.cpu_s()
        with Raw(running.port).connect() as raw:
            raw.send(SubscribePacket.build([(f"{number}", 0) for number in range(count)], 1))
            raw.read(4)  # SUBACK, or the end
        return running.cpu_s() - before

    with started() as running:
        cost(running, 1_000)
        assert cost(running, 30_000) < cost(running, 1_000)


def test_repeated_requests_for_all_retained_messages_delay_no_client() -> None:
    limits = Limits(max_publish_per_s=1_000)
    with started(limits=limits) as running, Client(running.port) as honest, Raw(running.port).connect() as greedy:
        honest.subscribe(("m", 1))
        for number in range(400):
            honest.publish(f"r/{number}", b"x", 0, retain=True)
        assert eventually(lambda: len(running.broker._retained_messages) == 400)
        began = time.monotonic()
        greedy.send(*(SubscribePacket.build([("r/+", 0), ("none/+", 0)], number) for number in range(1, 31)))
        assert greedy.read(6) == b"\x90\x04\0\1\0\0"
        honest.publish("m")
        assert eventually(lambda: honest.heard() == [("m", b"x")])
        answered = bytearray()
        while answered.count(b"\x90\x04\0") < 29:
            answered += greedy.socket.recv(65_536)
        assert time.monotonic() - began > 5.0  # at its rate 30 take ten seconds


def test_a_topic_of_thousands_of_levels_is_none() -> None:
    with started() as running:
        for said in (
            publication("/" * 201),
            SubscribePacket.build([("/" * 201, 0)], 1),
            UnsubscribePacket.build(["+/" * 201], 1),
        ):
            with Raw(running.port).connect() as raw:
                raw.send(said)
                assert raw.closed()
        with Raw(running.port).connect() as raw:
            raw.send(SubscribePacket.build([("/" * 200, 0)], 1))
            assert raw.read(5) == b"\x90\x03\0\1\0"
