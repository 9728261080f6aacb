"""What one client may cost the broker: aMQTT 0.12.1 ("stock") has no such bound, ours has each."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from amqtt.mqtt.connect import ConnectPacket, ConnectPayload, ConnectVariableHeader
from amqtt.mqtt.subscribe import SubscribePacket

from broker.server.limits import Limits
from broker.server.offline_queue import OVERHEAD_BYTES
from tests.support.embedded import Client, Raw, Running, both_kinds, eventually, publication, started

NAMED = {
    # With a name a session is not anonymous, so that aMQTT queues for it.
    "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": False},
}
ME = ("somebody",)
BURST_S = 3.0
"""What may come at once at first, in seconds of the limit; and something for the clock."""


def waiting(running: Running, name: str) -> int:
    """How many messages wait for a client that is away."""
    session = running.broker._sessions[name][0]
    size: int = len(session.queue) if running.ours else session.retained_messages.qsize()
    return size


@contextmanager
def gone(running: Running, name: str, *filters: tuple[str, int]) -> Iterator[None]:
    """A persistent session whose client has subscribed and left."""
    with Client(running.port, name, clean=False, login=ME) as client:
        client.subscribe(*filters)
    assert eventually(lambda: running.is_away(name))
    yield


@both_kinds
def test_one_connection_more_than_there_is_room_for_is_closed_at_once(kind: str) -> None:
    with (
        started(kind, Limits(max_connections=2)) as running,
        Raw(running.port).connect(),
        Raw(running.port).connect() as leaving,
        Raw(running.port) as late,
    ):
        assert late.closed(running.within(0.5)) is running.ours
        leaving.socket.close()
        assert not running.ours or eventually(lambda: len(running.broker._served) == 1)
        with Raw(running.port).connect():
            pass


@both_kinds
def test_a_packet_that_is_announced_too_long_is_not_waited_for(kind: str) -> None:
    with started(kind) as running, Raw(running.port).connect() as raw:
        raw.send(b"\x30\xff\xff\xff\x7f")  # 256 MiB
        assert raw.closed(running.within(0.5)) is running.ours


@both_kinds
@pytest.mark.parametrize(("size", "room"), [(1, 50), (10_000, 9)])
def test_what_waits_for_an_absent_client_is_bounded_in_number_and_bytes(kind: str, size: int, room: int) -> None:
    limits = Limits(max_offline=50, max_offline_bytes=100_000)
    with (
        started(kind, limits, plugins=NAMED) as running,
        Client(running.port, login=ME) as publisher,
        gone(running, "away", ("m", 1)),
    ):
        for number in range(60):
            publisher.publish("m", f"{number:{size}}".encode())
        assert eventually(lambda: waiting(running, "away") == (room if running.ours else 60))
        if running.ours:
            with Client(running.port, "away", clean=False) as client:
                assert eventually(lambda: [int(data) for _, data in client.heard()] == list(range(60 - room, 60)))
                assert running.broker.kept.total == 0


@both_kinds
def test_what_waits_for_all_absent_clients_is_bounded_in_bytes(kind: str) -> None:
    limits = Limits(max_kept_bytes=100_000)
    with (
        started(kind, limits, plugins=NAMED) as running,
        Client(running.port, login=ME) as publisher,
        gone(running, "first", ("m", 1)),
        gone(running, "second", ("m", 1)),
    ):
        for _ in range(6):
            publisher.publish("m", b"x" * 10_000)
        assert eventually(lambda: waiting(running, "second") == 6)
        assert ("first" not in running.broker._sessions) is running.ours
        assert not running.ours or 60_000 < running.broker.kept.total < 70_000


@both_kinds
@pytest.mark.parametrize(("size", "room"), [(1, 20), (10_000, 9)])
def test_retained_messages_are_bounded_in_number_and_bytes(kind: str, size: int, room: int) -> None:
    limits = Limits(max_retained=20, max_retained_bytes=100_000)
    with started(kind, limits) as running, Client(running.port) as publisher:
        for number in range(30):
            publisher.publish(f"r/{number}", b"x" * size, retain=True)
        assert eventually(lambda: len(running.broker._retained_messages) == (room if running.ours else 30))
        publisher.publish("r/0", b"", retain=True)
        publisher.publish("r/new", b"y" * size, retain=True)
        assert ("r/new" in running.broker._retained_messages) or not running.ours


def test_a_retained_message_that_finds_no_room_takes_the_older_one_of_its_topic_away() -> None:
    with started(limits=Limits(max_retained_bytes=100)) as running, Client(running.port) as client:
        client.publish("r", b"old", retain=True)
        client.publish("r", b"x" * 200, retain=True)
        client.subscribe(("r", 1))
        client.publish("r", b"live")
        assert eventually(lambda: client.heard() == [("r", b"live")])


@both_kinds
def test_filters_of_one_client_are_bounded(kind: str) -> None:
    # A filter with wildcards counts for each of its levels.
    limits = Limits(max_filter_bytes=3 * (4 * 512 + 5) + 7 * (512 + 7), max_wildcards=3)
    with started(kind, limits) as running, Client(running.port) as greedy, Client(running.port) as modest:
        wild = greedy.subscribe(*((f"w/{number}/+", 1) for number in range(5)))
        exact = greedy.subscribe(*((f"exact/{number}", 1) for number in range(10)))
        assert (wild.count(0x80), exact.count(0x80)) == ((2, 3) if running.ours else (0, 0))
        assert greedy.subscribe(("w/0/+", 0)) == [0]
        assert modest.subscribe(("w/9/+", 1)) == [1]
        greedy.unsubscribe("w/0/+")
        assert greedy.subscribe(("w/8/+", 1)) == [1]


@both_kinds
def test_filters_of_all_clients_are_bounded(kind: str) -> None:
    with started(kind, Limits(max_all_filter_bytes=3 * 520)) as running, Client(running.port) as late:
        with Client(running.port) as early:
            early.subscribe(("a/1", 1), ("a/2", 1))
            assert (late.subscribe(("b/1", 1), ("b/2", 1)) == [1, 0x80]) is running.ours
        assert not running.ours or eventually(lambda: running.filters() == 1)
        assert late.subscribe(("b/2", 1)) == [1]


@both_kinds
@pytest.mark.parametrize(("size", "count"), [(1, 201), (10_000, 101)])
def test_a_client_that_never_acknowledges_is_cut_off_by_number_or_bytes(kind: str, size: int, count: int) -> None:
    limits = Limits(max_unacked=200, max_unacked_bytes=1_000_000)
    with started(kind, limits) as running, Client(running.port) as publisher, Raw(running.port).connect() as lazy:
        lazy.send(SubscribePacket.build([("m", 1)], 1))
        assert eventually(lambda: running.filters() == 1)
        for _ in range(count):
            publisher.paho.publish("m", b"x" * size, 1)
        assert lazy.closed(running.within(1.0)) is running.ours


def test_a_client_that_acknowledges_is_not_cut_off() -> None:
    with (
        started(limits=Limits(max_unacked=10, max_unacked_bytes=50_000)) as running,
        Client(running.port) as publisher,
        Client(running.port) as ear,
    ):
        ear.subscribe(("m", 2))
        for number in range(40):
            publisher.publish("m", b"x" * 10_000, 1 + number % 2)
            assert eventually(lambda: len(ear.got) == number + 1)  # noqa: B023
        assert eventually(lambda: running.broker._sessions[ear.name][1]._unacked_bytes == 0)


def test_unacknowledged_messages_of_an_absent_client_count_until_it_returns() -> None:
    persistent = ConnectPacket(variable_header=ConnectVariableHeader(0, 60), payload=ConnectPayload("p"))
    with started() as running, Client(running.port) as publisher:
        sessions = running.broker._sessions
        with Raw(running.port) as first:
            first.send(persistent, SubscribePacket.build([("m", 1)], 1))
            assert first.read(9)[:4] == b"\x20\x02\0\0"
            for _ in range(3):
                publisher.publish("m", b"x" * 10_000)
            assert running.broker.kept.total == 0
        assert eventually(lambda: running.broker.kept.total == 3 * (1 + 10_000 + OVERHEAD_BYTES))
        with Raw(running.port) as second:
            second.send(persistent)
            assert second.read(4) == b"\x20\x02\1\0"
            assert running.broker.kept.total == 0
            assert eventually(lambda: sessions["p"][1]._unacked_bytes == 3 * (1 + 10_000 + OVERHEAD_BYTES))
        assert eventually(lambda: running.broker.kept.total > 30_000)
        with Raw(running.port).connect("p"):
            assert running.broker.kept.total == 0


@both_kinds
def test_a_flood_is_read_no_faster_than_the_limit(kind: str) -> None:
    limits = Limits(max_publish_per_s=100)
    with started(kind, limits) as running, Client(running.port) as ear, Raw(running.port).connect() as loud:
        ear.subscribe(("#", 0))

        def takes_s() -> float:
            before, began = len(ear.got), time.monotonic()
            loud.send(*(publication("m", str(number).encode()) for number in range(800)))
            assert eventually(lambda: len(ear.got) == before + 800)
            return time.monotonic() - began

        # What is not held back may be late on a busy machine, but not each time.
        took_s = [takes_s() for _ in range(1 if running.ours else 5)]
        assert (min(took_s) > 800 / 100 - BURST_S) is running.ours
