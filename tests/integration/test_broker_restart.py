"""What the embedded broker knows after it was stopped, or killed, and started again."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from amqtt.mqtt.connect import ConnectPacket, ConnectPayload, ConnectVariableHeader
from amqtt.mqtt.pubrec import PubrecPacket
from amqtt.mqtt.pubrel import PubrelPacket
from amqtt.mqtt.subscribe import SubscribePacket

from broker.server.auth import OpenAuthorizer
from broker.server.embedded import EmbeddedBroker
from broker.server.limits import Limits
from broker.server.store import Store
from tests.support.embedded import (
    HOST,
    Client,
    Raw,
    Running,
    both,
    eventually,
    publication,
    started,
)
from tests.support.processes import Sarvis
from tests.support.waiting import PATIENCE_S

PERSISTENT = ConnectVariableHeader(0, 60)


@contextmanager
def ours(store: Path, **options: Any) -> Iterator[Running]:
    with started(store=store, **options) as running:
        yield running


@contextmanager
def process(folder: Path, *more: str) -> Iterator[tuple[Sarvis, int]]:
    with Sarvis("broker", "--port", "0", *more, cwd=folder) as sarvis:
        yield sarvis, int(sarvis.line_after("broker listening on mqtt://").rsplit(":", 1)[1])


def restart(running: Running) -> None:
    """Stop and start, on the same port, what the fixture began."""
    if running.ours:
        running.call(running.embedded.stop())
        running.call(running.embedded.start())
        running.broker = running.embedded._broker
        return

    async def again() -> None:
        await running.broker.shutdown()
        await asyncio.sleep(0)
        await running.broker.start()

    running.call(again())


@pytest.fixture
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    store = tmp_path / "messages.db" if request.param == "ours" else None
    with started(request.param, store=store) as broker:
        yield broker


@both
def test_retained_messages_and_persistent_sessions_survive_a_restart(running: Running) -> None:
    with Client(running.port, "away", clean=False) as client:
        client.subscribe(("m/+", 1))
    with Client(running.port) as publisher:
        publisher.publish("status", b"kept", retain=True)
        publisher.publish("m/1", b"queued")
    restart(running)
    with Client(running.port, "away", clean=False) as client, Client(running.port) as other:
        other.subscribe(("status", 1))
        other.publish("m/2", b"live")
        wanted = [("m/1", b"queued"), ("m/2", b"live")]
        assert eventually(lambda: client.heard() == wanted, running.within(0.5)) is running.ours
        assert eventually(lambda: other.heard() == [("status", b"kept")], running.within(1.0)) is running.ours
        assert client.flags[0] is running.ours


def test_a_killed_broker_has_all_that_it_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[int] = []
    stopped = threading.Event()

    def acknowledge(_client: Any, _data: Any, packet_id: int, *_: Any) -> None:
        if not stopped.is_set():
            acknowledged.append(packet_id)

    with process(tmp_path) as (sarvis, port), Client(port, "away", clean=False) as client:
        client.subscribe(("m/#", 1))
        client.paho.disconnect()
        with Client(port) as publisher:
            publisher.paho.on_publish = acknowledge
            sent = {publisher.paho.publish(f"m/{n}", str(n), 1, retain=n % 10 == 0).mid: n for n in range(400)}
            assert eventually(lambda: len(acknowledged) > 100)
            stopped.set()
            sarvis.kill()
    promised = {sent[packet_id] for packet_id in acknowledged}
    with process(tmp_path) as (_, port), Client(port, "away", clean=False) as client, Client(port) as late:
        late.subscribe(("m/#", 1))
        assert client.flags[0]
        assert eventually(lambda: promised <= {int(data) for _, data in client.heard()})
        numbers = [int(data) for _, data in client.heard()]
        assert numbers == sorted(set(numbers))
        assert eventually(lambda: {n for n in promised if n % 10 == 0} <= {int(data) for _, data in late.heard()})


def test_qos_2_stays_exactly_once_when_the_broker_is_killed_in_between(tmp_path: Path) -> None:
    sender = ConnectPacket(variable_header=PERSISTENT, payload=ConnectPayload("sender"))
    hearer = ConnectPacket(variable_header=PERSISTENT, payload=ConnectPayload("hearer"))
    with process(tmp_path) as (sarvis, port), Raw(port) as ear, Raw(port) as mouth:
        ear.send(hearer, SubscribePacket.build([("m", 2)], 1))
        assert ear.read(4 + 5) == b"\x20\x02\0\0" + b"\x90\x03\0\1\2"
        mouth.send(sender, publication("m", b"once", 2, 7))
        assert mouth.read(4 + 4) == b"\x20\x02\0\0" + b"\x50\x02\0\7"
        arrived = ear.read(11)
        assert arrived == b"\x34\x09\0\1m\0\1once"
        ear.send(PubrecPacket.build(1))
        assert ear.read(4) == b"\x62\x02\0\1"
        sarvis.kill()
    with process(tmp_path) as (again, port), Raw(port) as ear, Raw(port) as mouth:
        ear.send(hearer)
        assert ear.read(4 + 4) == b"\x20\x02\1\0" + b"\x62\x02\0\1"  # PUBREL again, not the message
        mouth.send(sender, publication("m", b"once", 2, 7), PubrelPacket.build(7), publication("m", b"next", 2, 7))
        assert mouth.read(4 + 4 + 4 + 4) == b"\x20\x02\1\0" + b"\x50\x02\0\7" + b"\x70\x02\0\7" + b"\x50\x02\0\7"
        assert ear.read(11) == b"\x34\x09\0\1m\0\2next"
        mouth.send(PubrelPacket.build(7))
        assert mouth.read(4) == b"\x70\x02\0\7"
        again.kill()
    with process(tmp_path) as (_, port), Raw(port) as mouth:
        mouth.send(sender, publication("m", b"last", 2, 7))
        assert mouth.read(4 + 4) == b"\x20\x02\1\0" + b"\x50\x02\0\7"
    opened, stored = Store.open(tmp_path / "broker" / "messages.db")
    opened.close()
    assert [message.data for each in stored.sessions for message, _ in each.messages] == [b"once", b"next", b"last"]


def test_nothing_is_acknowledged_before_it_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, write = threading.Event(), Store.write

    def slow(self: Store, batch: Any) -> None:
        assert gate.wait(PATIENCE_S)
        write(self, batch)

    monkeypatch.setattr(Store, "write", slow)
    connect = ConnectPacket(variable_header=PERSISTENT, payload=ConnectPayload("p"))
    with ours(tmp_path / "messages.db") as running, Raw(running.port) as raw, Client(running.port) as other:
        other.subscribe(("#", 0))  # a clean session's is nothing to save
        raw.send(connect)
        assert raw.read(4) == b"\x20\x02\0\0"
        raw.send(publication("r", b"x", 1, 1).to_bytes(), retained("r", 2), SubscribePacket.build([("s", 1)], 3))
        raw.send(publication("r", b"y", 1, 4))
        assert eventually(lambda: len(other.got) == 3)
        assert raw.read(4) == b"\x40\x02\0\1"  # nothing of it is kept
        assert raw.silent()
        gate.set()
        assert raw.read(4 + 5 + 4) == b"\x40\x02\0\2" + b"\x90\x03\0\3\1" + b"\x40\x02\0\4"


def retained(topic: str, packet_id: int) -> bytes:
    packet = publication(topic, b"kept", 1, packet_id)
    packet.retain_flag = True
    return bytes(packet.to_bytes())


def test_what_was_dropped_or_acknowledged_does_not_come_back(tmp_path: Path) -> None:
    store = tmp_path / "messages.db"
    with ours(store, limits=Limits(max_offline=3)) as running, Client(running.port) as publisher:
        with Client(running.port, "heard", clean=False) as client:
            client.subscribe(("m", 1), ("left", 1))
            client.unsubscribe("left")
            publisher.publish("m", b"heard")
            assert eventually(lambda: client.got)
        with Client(running.port, "gone", clean=False) as client:
            client.subscribe(("m", 1))
        with Client(running.port, "gone"):  # a clean session ends the persistent one
            pass
        publisher.publish("r", b"x", retain=True)
        publisher.publish("r", b"", retain=True)
        for number in range(5):
            publisher.publish("m", str(number).encode())
    opened, stored = Store.open(store)
    opened.close()
    assert stored.retained == []
    (session,) = stored.sessions
    assert (session.client_id, session.filters) == ("heard", [("m", 1)])
    assert [message.data for message, _ in session.messages] == [b"2", b"3", b"4"]


class Household(OpenAuthorizer):
    """Everybody may; credentials are what the test says."""

    def __init__(self, word: str) -> None:
        self.word = word

    def credential(self, username: str | None) -> str | None:
        del username
        return self.word


def test_the_session_of_a_user_who_changed_meanwhile_is_forgotten(tmp_path: Path) -> None:
    store, limits = tmp_path / "messages.db", Limits(recheck_s=0.05)
    for word, remembered in (("one", False), ("one", True), ("other", False)):
        with ours(store, access=Household(word), limits=limits) as running:
            if word == "other":
                assert eventually(lambda: not running.broker._sessions)
            with Client(running.port, "away", clean=False) as client:
                assert client.flags[0] is remembered
                client.subscribe(("m", 1))


def test_the_broker_that_shall_keep_nothing_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "sarvis.toml").write_text("[broker]\npersistence = false\n")
    for _ in range(2):
        with process(tmp_path) as (_, port), Client(port) as late, Client(port) as client:
            late.subscribe(("#", 1))
            client.publish("t", b"1", retain=True)
            assert eventually(lambda: len(late.got) == 1)
            assert not late.got[0].retain
    assert not (tmp_path / "broker").exists()


def test_a_terminated_broker_ends_soon_with_everything_saved(tmp_path: Path) -> None:
    with process(tmp_path) as (sarvis, port), Client(port) as client:
        client.publish("t", b"1", retain=True)
        sarvis.process.send_signal(signal.SIGTERM)
        assert sarvis.process.wait(PATIENCE_S) == 0
    opened, stored = Store.open(tmp_path / "broker" / "messages.db")
    opened.close()
    assert stored.retained == [("t", b"1", 1)]


async def test_a_taken_port_is_named_before_a_taken_store(tmp_path: Path) -> None:
    async with EmbeddedBroker(HOST, 0, store=tmp_path / "m.db") as first:
        with pytest.raises(Exception, match="already in use"):
            await EmbeddedBroker(HOST, first.port, store=tmp_path / "m.db").start()
        with pytest.raises(Exception, match="another running broker uses"):
            await EmbeddedBroker(HOST, 0, store=tmp_path / "m.db").start()
