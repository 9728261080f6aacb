"""What a house needs of the embedded broker, over real sockets; its beginnings are in test_broker_defects.py."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import pytest
from amqtt.mqtt.connect import ConnectPacket, ConnectPayload, ConnectVariableHeader
from amqtt.mqtt.disconnect import DisconnectPacket
from amqtt.mqtt.pingreq import PingReqPacket
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.pubcomp import PubcompPacket
from amqtt.mqtt.pubrec import PubrecPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket
from typer.testing import CliRunner

from broker.cli import app
from broker.server.auth import OpenAuthorizer
from broker.server.connection import Connection
from broker.server.embedded import EmbeddedBroker
from broker.server.limits import Limits
from contract.errors import SettingsError, StartError
from tests.support.embedded import HOST, Client, Raw, Running, eventually, publication, started
from tests.support.programs import needs
from tests.support.waiting import PATIENCE_S
from tools.fuzz.rawmqtt import CONNECT, packet, text

# --- what else a house needs of the broker ---


def test_garbage_disturbs_no_client_and_prints_no_traceback(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    with Client(running.port) as client:
        client.subscribe(("a", 1))
        for garbage in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\0" * 100,
            b"\xff" + os.urandom(4095),  # chance alone may begin a long packet, which is rightly waited for
            b"\x10\x00",
            b"\x10\x02\xff\xff",
            b"\xe0\x00",
        ):
            with Raw(running.port) as raw:
                raw.send(garbage)
                assert raw.closed()
            with Raw(running.port) as raw:
                raw.connect().send(garbage)
                assert raw.closed()
        with Raw(running.port) as raw:
            raw.connect().send(b"\x30\xff\xff\xff\x7f")  # 256 MiB are announced
            assert raw.closed()
        with Raw(running.port) as raw:
            raw.connect("reset")
        client.publish("a", b"still here")
        assert eventually(lambda: client.heard() == [("a", b"still here")])
    assert all(record.exc_info is None for record in caplog.records)
    assert "Traceback" not in caplog.text
    assert "never retrieved" not in caplog.text


def test_a_client_that_does_not_read_is_cut_off_and_the_others_hear_everything(running: Running) -> None:
    with Client(running.port) as hearer, Client(running.port) as publisher, Raw(running.port) as deaf:
        deaf.connect("deaf", will=("will", b"deaf gone"))
        deaf.send(SubscribePacket.build([("m", 1)], 1))
        hearer.subscribe(("m", 1), ("will", 1))
        assert eventually(lambda: running.filters() == 2)
        sent = 0
        while ("will", b"deaf gone") not in hearer.heard() and sent < 2_000:  # the kernel buffers some megabytes
            publisher.publish("m", b"x" * 60_000)
            sent += 1
        assert eventually(lambda: len(hearer.got) == sent + 1)
        assert ("will", b"deaf gone") in hearer.heard()


def test_a_client_that_never_acknowledges_is_cut_off(running: Running) -> None:
    with Client(running.port) as publisher, Raw(running.port) as lazy:
        lazy.connect()
        lazy.send(SubscribePacket.build([("m", 1)], 1))
        assert eventually(lambda: running.filters() == 1)
        for _ in range(2_001):
            publisher.paho.publish("m", b"x", 1)
        assert lazy.closed()


def test_an_error_of_ours_in_one_delivery_is_not_the_publishers(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Connection.publish

    def faulty(self: Any, *args: Any, **kwargs: Any) -> bool:
        if self.session.client_id == "cursed":
            raise RuntimeError("a bug")
        return bool(publish(self, *args, **kwargs))

    monkeypatch.setattr(Connection, "publish", faulty)
    with Client(running.port, "cursed") as cursed, Client(running.port) as client:
        cursed.subscribe(("m", 1))
        client.subscribe(("m", 1))
        client.publish("m", b"1")
        client.publish("m", b"2")
        assert eventually(lambda: client.heard() == [("m", b"1"), ("m", b"2")])


def test_the_older_connections_will_comes_before_the_newer_connection(running: Running) -> None:
    with Client(running.port) as watcher, Raw(running.port) as older:
        watcher.subscribe(("status", 1))
        older.connect("device", will=("status", b"offline"))
        with Client(running.port, "device", will=("status", b"offline", 1, True)) as newer:
            newer.subscribe(("command", 1))
            newer.publish("status", b"online", retain=True)
            assert older.closed()
            watcher.publish("command", b"go")
            assert eventually(lambda: newer.heard() == [("command", b"go")])
            assert [data for _, data in watcher.heard()] == [b"offline", b"online"]
            with Client(running.port) as late:
                late.subscribe(("status", 1))
                assert eventually(lambda: late.heard() == [("status", b"online")])


def test_twins_that_connect_at_once_leave_one_connected(running: Running) -> None:
    with ExitStack() as stack:
        twins = [stack.enter_context(Raw(running.port)) for _ in range(10)]
        for twin in twins:
            header, payload = ConnectVariableHeader(0x02, 60), ConnectPayload("twin")
            twin.send(ConnectPacket(variable_header=header, payload=payload))
        # Looked at again and again: one is also all that is there while the others have not come in yet.
        assert eventually(lambda: sum(not twin.closed(0.1) for twin in twins) == 1)
        assert eventually(lambda: len(running.broker._served) == 1)


def test_a_disconnect_publishes_no_will(running: Running) -> None:
    with Client(running.port) as watcher, Raw(running.port) as polite:
        watcher.subscribe(("#", 1))
        polite.connect(will=("will", b"gone"))
        polite.send(DisconnectPacket())
        assert polite.closed()
        watcher.publish("end")
        assert eventually(lambda: watcher.heard() == [("end", b"x")])


def test_retained_messages_come_with_each_subscribe_until_cleared(running: Running) -> None:
    with Client(running.port) as client, Client(running.port) as late:
        client.publish("r/1", b"kept", retain=True)
        for _ in range(2):
            late.subscribe(("r/+", 1))
        assert eventually(lambda: [message.retain for message in late.got] == [True, True])
        client.publish("r/1", b"live", retain=True)
        assert eventually(lambda: late.heard()[2:] == [("r/1", b"live")])
        assert not late.got[2].retain
        client.publish("r/1", b"", retain=True)
        assert eventually(lambda: late.heard()[3:] == [("r/1", b"")])
        with Client(running.port) as later:
            later.subscribe(("r/#", 1))
            later.publish("r/end")
            assert eventually(lambda: later.heard() == [("r/end", b"x")])


def test_qos_2_is_delivered_once(running: Running) -> None:
    with Client(running.port) as client:
        assert client.subscribe(("m", 2)) == [2]
        for index in range(20):
            client.publish("m", str(index).encode(), 2)
        assert eventually(lambda: client.heard() == [("m", str(index).encode()) for index in range(20)])


def test_filters_that_cannot_be_served_are_refused(running: Running) -> None:
    with Client(running.port) as client, Raw(running.port) as raw:
        raw.connect()
        raw.send(SubscribePacket.build([("a#", 0), ("ok", 1), ("$share/g/a", 1)], 7))
        assert raw.socket.recv(64) == b"\x90\x05\0\x07\x80\x01\x80"
        client.publish("$SYS/forged")  # acknowledged and dropped


def test_a_persistent_session_gets_what_came_while_it_was_away(running: Running) -> None:
    name = uuid4().hex
    with Client(running.port, name, clean=False) as client:
        assert client.flags == (False, 0)
        client.subscribe(("m", 1))
    with Client(running.port) as publisher:
        for index in range(5):
            publisher.publish("m", str(index).encode())
    with Client(running.port, name, clean=False) as client:
        assert client.flags == (True, 0)
        assert eventually(lambda: [data for _, data in client.heard()] == [b"0", b"1", b"2", b"3", b"4"])
    with Client(running.port, name) as client:
        assert client.flags == (False, 0)
        assert running.filters() == 0


def test_an_unacknowledged_message_comes_again_to_a_persistent_session(running: Running) -> None:
    connect = ConnectPacket(variable_header=ConnectVariableHeader(0, 60), payload=ConnectPayload("p"))
    with Client(running.port) as publisher:
        with Raw(running.port) as first:
            first.send(connect, SubscribePacket.build([("m", 1)], 1))
            assert eventually(lambda: running.filters() == 1)
            publisher.publish("m", b"again")
            assert eventually(lambda: b"again" in first.socket.recv(64, socket.MSG_PEEK))
        with Raw(running.port) as second:
            second.send(connect)
            assert eventually(lambda: second.socket.recv(64, socket.MSG_PEEK).endswith(b"again"))
            assert second.socket.recv(64) == b"\x20\x02\1\0" + b"\x3a\x0a\0\1m\0\1again"


def test_an_absent_session_expires(running: Running) -> None:
    with Client(running.port, "absent", clean=False) as client:
        client.subscribe(("m", 1))
    assert eventually(running.broker._sessions["absent"][1].ended.is_set)
    running.broker.forget_expired(running.loop.time() + 23 * 3600)
    assert running.filters() == 1
    running.broker.forget_expired(running.loop.time() + 25 * 3600)
    assert running.filters() == 0


def test_of_too_many_absent_sessions_the_one_that_is_absent_longest_is_forgotten() -> None:
    with started(limits=Limits(max_sessions=2)) as running:
        for name in ("a", "b", "a", "c", "d"):
            with Client(running.port, name, clean=False) as client:
                client.subscribe((f"m/{name}", 1))
            assert eventually(running.broker._sessions[name][1].ended.is_set)
        assert set(running.broker._sessions) == {"c", "d"}
        assert running.filters() == 2


def test_a_client_that_floods_is_read_at_its_rate_and_others_are_served() -> None:
    with (
        started(limits=Limits(max_publish_per_s=100)) as running,
        Client(running.port, "loud") as loud,
        Client(running.port, "quiet") as quiet,
        Client(running.port) as ear,
    ):
        ear.subscribe(("#", 1))
        for number in range(1600):
            loud.paho.publish("flood", str(number), 0)
        quiet.publish("honest", b"heard")
        assert eventually(lambda: any(message.topic == "honest" for message in ear.got))
        assert sum(message.topic == "flood" for message in ear.got) < 1600
        assert eventually(lambda: sum(message.topic == "flood" for message in ear.got) == 1600)


def test_a_malformed_connect_is_closed_unanswered(running: Running) -> None:
    for name, flags in ((b"MQTT", 0x42), (b"MQTT", 0x03), (b"MQXX", 0x02)):
        with Raw(running.port) as raw:
            raw.send(packet(CONNECT, text(name) + bytes([4, flags, 0, 60]) + text(b"x") + text(b"secret")))
            assert raw.read(5) == b""


def test_an_acknowledgement_that_does_not_fit_its_message_closes_the_connection(running: Running) -> None:
    with Client(running.port) as publisher:
        for qos, wrong in ((1, PubrecPacket), (1, PubcompPacket), (2, PubackPacket), (2, PubcompPacket)):
            with Raw(running.port) as raw:
                raw.connect()
                raw.send(SubscribePacket.build([("m", qos)], 1))
                assert raw.read(5) == bytes([0x90, 3, 0, 1, qos])
                publisher.publish("m", qos=2)
                assert raw.read(8)[-3:] == b"\0\1x"
                raw.send(wrong.build(1), PingReqPacket())
                assert raw.read(1) == b""


def test_text_with_u_0000_closes_the_connection(running: Running) -> None:
    for said in (publication("a\0b"), SubscribePacket.build([("a\0b", 0)], 1), UnsubscribePacket.build(["a\0b"], 1)):
        with Raw(running.port) as raw:
            raw.connect()
            raw.send(said, PingReqPacket())
            assert raw.read(1) == b""


def test_a_client_that_releases_no_qos_2_messages_is_cut_off_before_ids_run_out(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with Raw(running.port) as raw:
        raw.connect()
        raw.send(SubscribePacket.build([("m", 1)], 1))
        raw.send(*(publication("other", qos=2, packet_id=number + 1) for number in range(2_001)))
        assert raw.closed()
    assert "without PUBREL" in caplog.text


def test_packets_sent_together_with_connect_are_served(running: Running) -> None:
    with Raw(running.port) as eager:
        connect = ConnectPacket(variable_header=ConnectVariableHeader(0x02, 60), payload=ConnectPayload("eager"))
        eager.send(connect, SubscribePacket.build([("m", 0)], 1), publication("m"))
        assert eventually(lambda: len(eager.socket.recv(64, socket.MSG_PEEK)) == 15)


def test_small_packets_are_not_held_back(running: Running) -> None:
    with Client(running.port, "here"):
        accepted = running.broker._sessions["here"][1]._transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class Doorman(OpenAuthorizer):
    """Lets in who says `secret`, and nobody into `private`."""

    async def may_connect(self, client_id: str, username: str | None, password: str | None) -> bool:
        del client_id, username
        return password != "wrong"

    def may_publish(self, client_id: str, username: str | None, topic: str) -> bool:
        del username
        return client_id == "owner" or not topic.startswith("private")

    def may_subscribe(self, client_id: str, username: str | None, topic_filter: str) -> bool:
        del username
        return client_id == "owner" or not topic_filter.startswith("private")


@contextmanager
def guarded() -> Iterator[Running]:
    with started(access=Doorman()) as running:
        yield running


def test_a_refused_publish_reaches_no_client() -> None:
    with guarded() as running, Client(running.port, "owner") as owner, Client(running.port) as other:
        owner.subscribe(("private/#", 1))
        owner.publish("private/a", b"1", retain=True)
        other.publish("private/a", b"forged", retain=True)
        assert other.subscribe(("private/#", 1), ("mine", 1)) == [0x80, 1]
        other.publish("mine")
        assert eventually(lambda: other.heard() == [("mine", b"x")])
        assert owner.heard() == [("private/a", b"1")]


def test_a_refused_client_takes_nothing_over() -> None:
    with guarded() as running, Client(running.port, "owner") as owner, Raw(running.port) as thief:
        owner.subscribe(("m", 1))
        header, payload = ConnectVariableHeader(0xC2, 60), ConnectPayload("owner", None, None, "owner", "wrong")
        thief.send(ConnectPacket(variable_header=header, payload=payload))
        assert thief.socket.recv(4) == b"\x20\x02\0\x05"
        assert thief.closed()
        owner.publish("m")
        assert eventually(lambda: owner.heard() == [("m", b"x")])


# --- start and stop ---


def test_a_port_in_use_is_named_with_a_way_out(running: Running) -> None:
    with pytest.raises(StartError) as caught:
        asyncio.run(EmbeddedBroker(HOST, running.port).start())
    assert str(caught.value) == (
        f"port {running.port} on 127.0.0.1 is already in use; stop that program or choose another port with --port"
    )


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("no.such.host.invalid", 0), (HOST, 70_000)])
def test_an_address_that_cannot_be_had_is_a_start_error(host: str, port: int) -> None:
    with pytest.raises(StartError, match="choose"):
        asyncio.run(EmbeddedBroker(host, port).start())


async def test_port_0_becomes_the_real_port_and_stop_gives_it_back() -> None:
    async with EmbeddedBroker(HOST, 0) as broker:
        assert broker.port > 0
        assert broker.url == f"mqtt://127.0.0.1:{broker.port}"
        reader, writer = await asyncio.open_connection(HOST, broker.port)
    assert await reader.read() == b""
    writer.close()
    await broker.stop()
    again = EmbeddedBroker(HOST, broker.port)
    await again.start()
    await again.stop()


@contextmanager
def command(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    code = "from broker.cli import app; app()"
    line = [sys.executable, "-W", "error", "-c", code, *arguments]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            assert ready.startswith("broker listening on mqtt://127.0.0.1:")
            yield process, int(ready.rsplit(":", 1)[1])
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_when_it_is_ready_and_ends_cleanly(number: signal.Signals) -> None:
    with command("--port", "0") as (process, port), Client(port) as client, Raw(port) as raw:
        raw.connect()
        client.subscribe(("a", 1))
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
        assert process.communicate() == ("", "")


def test_the_command_raises_start_error_for_the_roof_to_print(running: Running) -> None:
    result = CliRunner().invoke(app, ["--port", str(running.port)])
    assert isinstance(result.exception, StartError)
    assert result.output == ""


def test_a_port_that_is_none_is_a_usage_error() -> None:
    with pytest.raises(SettingsError, match=r"broker\.port"):
        CliRunner().invoke(app, ["--port", "70000"], catch_exceptions=False)


# --- an operator's tools ---


@needs("mosquitto_pub", "mosquitto_sub")
def test_mosquitto_tools_publish_and_subscribe(running: Running) -> None:
    def pub(*arguments: str) -> None:
        subprocess.run(["mosquitto_pub", "-p", str(running.port), *arguments], check=True, timeout=PATIENCE_S)

    pub("-t", "tools/kept", "-m", "retained", "-q", "1", "-r")
    line = ["mosquitto_sub", "-p", str(running.port), "-q", "1", "-t", "tools/#", "-v", "-C", "4", "-W", "60"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as hearer:
        assert eventually(lambda: running.filters() == 1)
        for qos in ("0", "1", "2"):
            pub("-t", f"tools/{qos}", "-m", "싸비스", "-q", qos)
        out, _ = hearer.communicate(timeout=PATIENCE_S)
    assert out.splitlines() == ["tools/kept retained", "tools/0 싸비스", "tools/1 싸비스", "tools/2 싸비스"]
