import time
from typing import Any

import pytest
from amqtt.broker import Broker

from broker.server.auth import OpenAuthorizer
from broker.server.limits import Limits
from broker.server.offline_queue import OfflineQueue
from broker.server.router import RoutingBroker
from broker.server.session import Session


class Client:
    """Stands where a Connection does: takes messages, or is absent, or is broken."""

    def __init__(self, *, there: bool = True, broken: bool = False) -> None:
        self.there = there
        self.broken = broken
        self.closed = False
        self.notes = None
        self.got: list[tuple[str, bytes, int, bool]] = []

    def publish(self, topic: str, data: bytes, qos: int, *, retain: bool = False) -> bool:
        if self.broken:
            raise RuntimeError("broken")
        if self.there:
            self.got.append((topic, data, qos, retain))
        return self.there

    def close(self, _reason: str) -> None:
        self.closed = True


def join(broker: Any, client_id: str, client: Client, *filters: tuple[str, int], clean: bool = True) -> Session:
    session = Session(client_id, None, clean, OfflineQueue(broker.kept))
    broker._sessions[client_id] = (session, client)
    broker.client_subscribes(session, list(filters))
    return session


async def test_one_broken_client_keeps_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    broker = RoutingBroker(OpenAuthorizer(), Limits())
    clients = [Client(), Client(broken=True), Client()]
    for index, client in enumerate(clients):
        join(broker, str(index), client, ("a", 1))
    broker.route("a", b"1", 1)
    assert [len(client.got) for client in clients] == [1, 0, 1]
    assert clients[1].closed
    assert "delivery_failed client_id=1" in caplog.text


async def test_the_lower_qos_of_publisher_and_subscriber_holds() -> None:
    broker = RoutingBroker(OpenAuthorizer(), Limits())
    low, high = Client(), Client()
    join(broker, "low", low, ("a", 0))
    join(broker, "high", high, ("a", 2))
    broker.route("a", b"1", 1)
    assert (low.got, high.got) == ([("a", b"1", 0, False)], [("a", b"1", 1, False)])


async def test_an_absent_session_keeps_the_newest_messages_up_to_its_limit() -> None:
    broker = RoutingBroker(OpenAuthorizer(), Limits(max_offline=2))
    session = join(broker, "x", Client(there=False), ("a", 1), clean=False)
    for data in (b"1", b"2", b"3"):
        broker.route("a", data, 1)
    broker.route("a", b"qos 0 is not kept", 0)
    waiting = session.queue
    assert [waiting.take().data for _ in range(len(waiting))] == [b"2", b"3"]


async def test_retained_topics_are_bounded_and_delivered_all_the_same() -> None:
    broker = RoutingBroker(OpenAuthorizer(), Limits(max_retained=1))
    client = Client()
    session = join(broker, "x", client, ("#", 0))
    for topic in ("a", "b", "a"):
        broker.publish_for(session, topic, topic.encode(), 0, retain=True)
    assert [topic for topic, *_ in client.got] == ["a", "b", "a"]
    assert list(broker.retained_messages) == ["a"]


async def test_a_retained_message_comes_once_with_the_higher_qos_of_overlapping_filters() -> None:
    broker = RoutingBroker(OpenAuthorizer(), Limits())
    client = Client()
    session = join(broker, "x", client)
    for topic in ("a/b", "a/c", "b"):
        broker.publish_for(session, topic, topic.encode(), 2, retain=True)
    broker.replay_retained(session, [("a/b", 0), ("a/+", 1), ("absent", 1)])
    assert client.got == [("a/b", b"a/b", 1, True), ("a/c", b"a/c", 1, True)]


async def test_a_filter_without_wildcard_costs_the_same_however_much_is_retained() -> None:
    broker = RoutingBroker(OpenAuthorizer(), Limits())
    session = join(broker, "x", Client())
    spent = []
    for topics in (10, 9_990):
        for number in range(topics):
            broker.publish_for(session, f"{topics}/{number}", b"x", 0, retain=True)
        before = time.process_time()
        for _ in range(1_000):
            broker.replay_retained(session, [("10/5", 1)])
        spent.append(time.process_time() - before)
    assert spent[1] < 20 * spent[0]


async def test_retained_bytes_are_bounded_and_old_news_is_not_kept_for_what_finds_no_room() -> None:
    broker = RoutingBroker(OpenAuthorizer(), Limits(max_retained_bytes=10))
    session = join(broker, "x", Client())
    for topic, data in (("a", b"1234"), ("b", b"1234"), ("c", b"1"), ("b", b"12345"), ("c", b"1")):
        broker.publish_for(session, topic, data, 0, retain=True)
    assert {topic: bytes(kept.data) for topic, kept in broker.retained_messages.items()} == {"a": b"1234", "c": b"1"}
    for topic in "ac":
        broker.publish_for(session, topic, b"", 0, retain=True)
    broker.publish_for(session, "d", b"123456789", 0, retain=True)
    assert list(broker.retained_messages) == ["d"]


async def test_what_a_plugin_of_amqtt_broadcasts_is_routed_too() -> None:
    broker = RoutingBroker(OpenAuthorizer(), Limits())
    client = Client()
    join(broker, "x", client, ("a", 1))
    await broker.internal_message_broadcast("a", b"1", 1)
    assert client.got == [("a", b"1", 1, False)]


async def test_the_broker_opens_no_port_by_itself() -> None:
    broker = RoutingBroker(OpenAuthorizer(), Limits())
    await broker.start()
    assert broker._servers == {}
    await broker.shutdown()


@pytest.mark.parametrize(
    "name", ["_broadcast_loop", "_broadcast_message", "_del_all_subscriptions", "_session_monitor", "shutdown"]
)
def test_what_is_overridden_is_still_there_in_amqtt(name: str) -> None:
    # A method that amqtt renames would leave its defect behind without a word.
    assert callable(getattr(Broker, name, None))
