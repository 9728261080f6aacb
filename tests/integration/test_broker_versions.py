"""What the embedded broker says to clients of other versions of MQTT: bytes of every shape, and programs of others."""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.embedded import HOST, Client, Raw, Running, started
from tests.support.paho_clients import end
from tests.support.programs import need, program
from tests.support.secure import SecureBroker
from tests.support.waiting import PATIENCE_S
from tools.fuzz.rawmqtt import CONNECT, PINGREQ, length, packet, subscribe, text

NOT_SPOKEN = b"\x20\x02\0\x01"


def modern(
    flags: int, properties: bytes, client_id: bytes, *fields: bytes, level: int = 5, name: bytes = b"MQTT"
) -> bytes:
    """CONNECT of MQTT 5 with a keep-alive of 60 s."""
    return packet(
        CONNECT,
        text(name) + bytes([level, flags, 0, 60]) + listed(properties) + text(client_id) + b"".join(fields),
    )


def listed(properties: bytes) -> bytes:
    return length(len(properties)) + properties


USER = b"\x26" + text(b"key") + text(b"value")
EXPIRY, RECEIVE_MAXIMUM, METHOD = b"\x11\0\0\x0e\x10", b"\x21\0\x14", b"\x15" + text(b"SCRAM-SHA-1")
WILL_DELAY, CONTENT_TYPE = b"\x18\0\0\0\5", b"\3" + text(b"text/plain")
WILL = (text(b"a/will"), text(b"gone"))
NAME, SECRET = text(b"user"), text(b"secret")
SHAPES = {
    "bare": modern(0x02, b"", b""),
    "clean start 0": modern(0x00, b"", b"id"),
    "properties": modern(0x02, EXPIRY + RECEIVE_MAXIMUM + USER * 3, b"id"),
    "will": modern(0x06, b"", b"id", listed(b""), *WILL),
    "will with properties": modern(0x2E, EXPIRY, b"", listed(WILL_DELAY + CONTENT_TYPE + USER), *WILL),
    "all of it": modern(0xF6, USER, b"id", listed(WILL_DELAY), *WILL, NAME, SECRET),
    "method": modern(0xC2, METHOD + b"\x16" + text(b"n,,n=user"), b"id", NAME, SECRET),
    "a password without a name": modern(0x42, b"", b"id", SECRET),
    "properties of 60 KB": modern(0x02, b"\x26" + text(b"k") + text(b"v" * 60_000), b"id"),
    "longer than any packet may be": modern(0x02, USER * 100_000, b"id"),
    "a packet behind it": modern(0x02, b"", b"id") + subscribe(b"a") + PINGREQ,
    "a damaged rest": packet(CONNECT, text(b"MQTT") + b"\5" + b"\xff" * 30),
    "no rest": packet(CONNECT, text(b"MQTT") + b"\5"),
    "MQTT 6": modern(0x02, b"", b"id", level=6),
    "a bridge of Mosquitto": modern(0x02, b"", b"id", level=0x84),
    "MQTT 3.1": modern(0x02, b"id", b"", level=3, name=b"MQIsdp"),
}


@pytest.fixture(scope="module")
def broker() -> Iterator[Running]:
    with started() as running:
        yield running


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pieces", ["whole", "byte by byte"])
def test_another_version_is_told_so_whatever_its_connect_holds(broker: Running, shape: str, pieces: str) -> None:
    connect = SHAPES[shape]
    by_itself = 20 if pieces == "byte by byte" else 0
    with Raw(broker.port) as raw:
        raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionError):  # the answer may come, and the socket be closed, before the end is said
            for byte in connect[:by_itself]:
                raw.send(bytes([byte]))
            raw.send(connect[by_itself:])
        assert raw.read(5) == NOT_SPOKEN


def test_the_answer_waits_for_nothing_behind_the_level(broker: Running) -> None:
    with Raw(broker.port) as raw:
        raw.send(SHAPES["longer than any packet may be"][:12])
        assert raw.read(5) == NOT_SPOKEN


def test_another_version_is_told_so_over_tls(tmp_path: Path) -> None:
    need("mosquitto_pub")
    with SecureBroker("embedded", tmp_path, certificates=False) as secure:
        said = mosquitto_pub(secure.port, "--cafile", str(secure.ca_file), "--will-topic", "w", "--will-payload", "x")
    assert "Unsupported Protocol Version" in said


def mosquitto_pub(port: int, *options: str) -> str:
    line = [program("mosquitto_pub"), "-h", "localhost", "-p", str(port), "-V", "5", *options]
    done = subprocess.run(
        [*line, "-t", "a", "-m", "x"], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode
    return done.stderr


def test_mosquittos_tools_say_which_version_to_take(broker: Running) -> None:
    will = ("--will-topic", "w", "--will-payload", "x")
    more = ("-x", "60", "-D", "connect", "user-property", "k", "v", "-D", "will", "will-delay-interval", "5")
    for options in ((), will, (*will, *more)):
        assert "use MQTT v3.x mode" in mosquitto_pub(broker.port, *options)


def test_paho_says_that_the_version_is_not_supported(broker: Running) -> None:
    answers: list[Any] = []
    answered = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, "", protocol=paho.MQTTv5, reconnect_on_failure=False)
    will: Any = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
    will.WillDelayInterval = 5
    client.will_set("w", b"x", 1, retain=True, properties=will)

    def on_connect(_client: Any, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        answers.append(code)
        answered.set()

    client.on_connect = on_connect
    client.connect(HOST, broker.port)
    client.loop_start()
    try:
        assert answered.wait(PATIENCE_S)
    finally:
        end(client)
    assert str(answers[0]) == "Unsupported protocol version"


def test_other_clients_are_served_meanwhile(broker: Running) -> None:
    with Client(broker.port) as client, Raw(broker.port) as raw:
        client.subscribe(("m", 1))
        raw.send(SHAPES["longer than any packet may be"][:5000])
        client.publish("m")
        assert raw.read(5) == NOT_SPOKEN
