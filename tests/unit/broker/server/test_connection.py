import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from amqtt.mqtt.packet import PINGREQ
from amqtt.mqtt.pingreq import PingReqPacket

from broker.server.auth import OpenAuthorizer
from broker.server.codec import Bare
from broker.server.connection import Connection, packets
from broker.server.journal import Message
from broker.server.limits import Limits
from broker.server.offline_queue import OfflineQueue
from broker.server.router import RoutingBroker
from broker.server.session import Session

LIMITS = Limits(max_unsent_bytes=1000, max_unacked=3)


class Transport:
    """A socket whose other end reads nothing."""

    def __init__(self) -> None:
        self.written = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


Opened = tuple[Any, Transport]


@pytest.fixture
async def opened() -> Opened:
    router = RoutingBroker(OpenAuthorizer(), LIMITS)
    transport: Any = Transport()
    session = Session("x", None, clean=True, queue=OfflineQueue(router.kept))
    return Connection(session, transport, router, LIMITS), transport


async def test_qos_0_is_dropped_while_too_much_is_unread(opened: Opened) -> None:
    connection, transport = opened
    assert connection.publish("m", b"x" * 1001, 0)
    assert connection.publish("m", b"dropped", 0)
    assert connection.dropped == 1
    assert b"dropped" not in transport.written
    assert not transport.aborted


async def test_qos_1_is_never_dropped_in_silence(opened: Opened) -> None:
    connection, transport = opened
    connection.publish("m", b"x" * 1001, 0)
    assert not connection.publish("m", b"x", 1)
    assert transport.aborted


async def test_too_many_unacknowledged_messages_cut_the_connection(opened: Opened) -> None:
    connection, transport = opened
    assert [connection.publish("m", b"x", 1) for _ in range(4)] == [True, True, True, False]
    assert transport.aborted


async def test_unread_answers_cut_the_connection(opened: Opened) -> None:
    connection, transport = opened
    for _ in range(1100):
        connection.handle(Bare(PINGREQ))
    assert transport.aborted
    assert len(transport.written) <= 2 * LIMITS.max_unsent_bytes + 2


async def test_what_an_absent_client_missed_waits_on_when_it_is_cut_off_again(opened: Opened) -> None:
    connection, transport = opened
    queue = connection.session.queue
    for data in (b"0", b"1", b"2", b"3", b"4"):
        queue.put(Message(None, "m", 1, data, retain=False))
    connection.resume()
    assert transport.aborted
    assert [message.data for message in connection.session.inflight_out.values()] == [b"0", b"1", b"2"]
    assert [queue.take().data for _ in range(len(queue))] == [b"3", b"4"]


async def test_nothing_is_written_to_a_closed_connection(opened: Opened) -> None:
    connection, transport = opened
    connection.close("test")
    connection.close("test")
    assert not connection.publish("m", b"x", 0)
    connection.handle(Bare(PINGREQ))
    assert transport.written == b""


async def test_a_client_that_floods_lets_the_others_have_their_turn() -> None:
    reader = asyncio.StreamReader(limit=1 << 20)
    reader.feed_data(PingReqPacket().to_bytes() * 50_000)
    reader.feed_eof()
    turns = 0

    async def count(done: Callable[[], bool]) -> None:
        nonlocal turns
        while not done():
            turns += 1
            await asyncio.sleep(0)

    finished = False
    other = asyncio.create_task(count(lambda: finished))
    assert sum([1 async for _ in packets(reader, LIMITS)]) == 50_000
    finished = True
    await other
    assert turns >= 5
