"""The short way past paho, without a network: what comes in, what goes out, and beside it paho alone as the judge."""

import asyncio
import ssl
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from infra.mqtt import stream_client as fast_mqtt
from infra.mqtt.stream_client import (
    ACK_WITHIN_S,
    CHECKED,
    MAX_SHORT_BYTES,
    MOST_UNACKED,
    READ_BYTES,
    StreamClient,
    encode_puback,
    encode_publish0,
    why_not,
)
from tests.support.clock import ManualClock

CONSTRAINTS = Path(__file__).parents[4] / "constraints.txt"
RETAIN, DUP, QOS_1, QOS_2, QOS_3 = 1, 8, 2, 4, 6
PUBLISH, PUBACK, PUBREC, SUBACK = 0x30, 0x40, 0x50, 0x90
CONNACK, PINGRESP = b"\x20\x02\x00\x00", b"\xd0\x00"
PINGREQ, DISCONNECT = b"\xc0\x00", b"\xe0\x00"
KEEPALIVE_S = 10

Heard = tuple[bytes, bytes, int, bool, int]


def length_of(size: int) -> bytes:
    encoded = bytearray()
    while True:
        size, digit = divmod(size, 128)
        encoded.append(digit | (0x80 if size else 0))
        if not size:
            return bytes(encoded)


def packet(head: int, body: bytes) -> bytes:
    return bytes((head,)) + length_of(len(body)) + body


def publish(topic: bytes, payload: bytes, mid: int | None = None, flags: int = 0) -> bytes:
    """Of QoS 1 when there is a packet id."""
    name = len(topic).to_bytes(2) + topic
    return packet(0x30 | flags | (0 if mid is None else 2), name + (b"" if mid is None else mid.to_bytes(2)) + payload)


class Wire:
    """A socket without a network: what it was sent, and what it answers next."""

    def __init__(self) -> None:
        self.coming: deque[bytes | OSError] = deque()
        self.sends: list[bytes] = []
        self.room: int | OSError | None = None
        """How many bytes it takes at once; None takes all, 0 would block, an error is raised."""
        self.closed = False

    @property
    def sent(self) -> bytes:
        return b"".join(self.sends)

    def recv(self, buffer_size: int) -> bytes:
        if not self.coming:
            raise BlockingIOError
        first = self.coming.popleft()
        if isinstance(first, OSError):
            raise first
        if len(first) > buffer_size:
            self.coming.appendleft(first[buffer_size:])
        return first[:buffer_size]

    def send(self, buffer: bytes | bytearray) -> int:
        if isinstance(self.room, OSError):
            raise self.room
        if self.room == 0:
            raise BlockingIOError
        taken = bytes(buffer[: self.room])
        self.sends.append(taken)
        return len(taken)

    def setblocking(self, flag: bool) -> None:
        pass

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.closed = True


class Loop:
    """As much of an event loop as the client uses."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []
        self.later: list[tuple[float, Callable[[], object]]] = []

    def call_later(self, seconds: float, call: Callable[[], object]) -> object:
        self.later.append((seconds, call))
        return call

    def call_soon(self, call: Callable[[], object]) -> None:
        self.calls.append(call)

    def turn(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class Line:
    """A client that is connected to a wire, and what it told; paho alone when it is not fast."""

    def __init__(self, fast: bool = True) -> None:
        self.wire = Wire()
        self.loop = Loop()
        self.heard: list[Heard] = []
        self.lost: list[str] = []
        options: dict[str, Any] = {
            "callback_api_version": CallbackAPIVersion.VERSION2,
            "client_id": "x",
            "manual_ack": True,
            "reconnect_on_failure": False,
        }
        if fast:
            loop = cast("asyncio.AbstractEventLoop", self.loop)
            self.client: paho.Client = StreamClient(self._hear, loop, **options)
        else:
            self.client = paho.Client(**options)
        self.client.on_message = lambda _client, _data, came: self.heard.append(
            (came._topic, bytes(came.payload), came.qos, came.retain, came.mid)
        )
        self.client.on_disconnect = lambda _client, _data, _flags, reason, _properties: self.lost.append(str(reason))
        self.client.on_socket_register_write = lambda *_: None
        self.client.keepalive = KEEPALIVE_S
        self.client._sock = self.wire

    @property
    def fast(self) -> StreamClient:
        assert isinstance(self.client, StreamClient)
        return self.client

    def _hear(self, client: StreamClient, *came: Any) -> None:
        assert client is self.client
        self.heard.append(came)

    def comes(self, *pieces: bytes | OSError) -> None:
        """Let the client read until there is nothing more, as a loop would."""
        self.wire.coming.extend(pieces)
        while self.wire.coming and self.client.socket() is not None:
            self.client.loop_read()


def pieces_of(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    at = 0
    for cut in sorted(set(cuts)):
        if at < cut < len(data):
            yield data[at:cut]
            at = cut
    yield data[at:]


MIXED = (
    CONNACK
    + publish(b"a", b"", flags=RETAIN)
    + publish(b"topic/1", b"x" * 150, 7)
    + PINGRESP
    + publish(b"t", b"\x00\xff", 65535, flags=DUP)
    + packet(PUBACK, b"\x00\x05")
    + publish(b"topic/2", b"y", 1, flags=RETAIN)
)
HEARD_OF_MIXED: list[Heard] = [
    (b"a", b"", 0, True, 0),
    (b"topic/1", b"x" * 150, 1, False, 7),
    (b"t", b"\x00\xff", 1, False, 65535),
    (b"topic/2", b"y", 1, True, 1),
]

MALFORMED = {
    "a topic longer than its packet": packet(PUBLISH, b"\xff\xffab"),
    "a topic that leaves no room for the packet id": packet(PUBLISH | QOS_1, b"\x00\x02ab\x00"),
    "an empty topic": packet(PUBLISH, b"\x00\x00payload"),
    "half a length of a topic": packet(PUBLISH, b"\x00"),
    "no body": packet(PUBLISH, b""),
    "QoS 3": packet(PUBLISH | QOS_3, b"\x00\x01t\x00\x09twice"),
    "a length of five bytes": b"\x30\xff\xff\xff\xff\x01",
    "a length of five bytes, of which four came": b"\x30\xff\xff\xff\xff",
    "a packet of type 0": b"\x00\x05",
    "a packet of type 15": b"\xff\x00",
    "a SUBACK without a body": packet(SUBACK, b""),
}


# --- reading ---


@pytest.mark.parametrize("cut", range(len(MIXED)))
def test_wherever_a_stream_is_split_the_same_messages_come(cut: int) -> None:
    line = Line()
    line.comes(*pieces_of(MIXED, [cut]))
    assert line.heard == HEARD_OF_MIXED
    assert line.lost == []
    assert line.client.is_connected(), "paho got its CONNACK"


def test_byte_by_byte_the_same_messages_come() -> None:
    line = Line()
    line.comes(*pieces_of(MIXED, range(len(MIXED))))
    assert line.heard == HEARD_OF_MIXED


@pytest.mark.parametrize("size", [1, 124, 125, 16_379, 16_380, MAX_SHORT_BYTES - 5, MAX_SHORT_BYTES - 4, 3_000_000])
def test_a_message_of_any_size_comes_and_so_does_the_next(size: int) -> None:
    line = Line()
    line.comes(publish(b"t", b"x" * size, 2) + publish(b"t", b"next"))
    assert line.heard == [(b"t", b"x" * size, 1, False, 2), (b"t", b"next", 0, False, 0)]
    assert line.lost == []


def test_a_packet_of_type_0_ends_the_connection_at_its_head() -> None:
    line = Line()
    line.comes(b"\x00\x05")
    assert len(line.lost) == 1


def test_a_long_message_is_not_gathered_before_paho_gets_it() -> None:
    line = Line()
    long = publish(b"t", b"x" * MAX_SHORT_BYTES, 2)
    line.comes(long[:10], long[10:30_000])
    assert len(line.client._in_packet["packet"]) == 30_000 - 4
    assert line.fast._cutter._rest == b""


def test_one_turn_of_the_loop_reads_once() -> None:
    line = Line()
    line.wire.coming.extend([publish(b"t", b"1"), publish(b"t", b"2")])
    line.client.loop_read()
    assert [payload for _, payload, *_ in line.heard] == [b"1"]
    line.wire.coming = deque([b"\x30" * (READ_BYTES + 1)])
    line.client.loop_read()
    assert line.wire.coming == deque([b"\x30"]), "no more than so many bytes"


@pytest.mark.parametrize("fault", MALFORMED)
def test_what_is_malformed_ends_the_connection_with_a_reason_after_what_came_before(fault: str) -> None:
    line = Line()
    line.comes(publish(b"t", b"before") + MALFORMED[fault], publish(b"t", b"after"))
    assert [payload for _, payload, *_ in line.heard] == [b"before"]
    assert len(line.lost) == 1
    assert line.wire.closed


@pytest.mark.parametrize(
    "end", [b"", ConnectionResetError(), TimeoutError(), ssl.SSLError()], ids=["end", "reset", "timeout", "tls"]
)
def test_the_end_is_told_as_paho_tells_it(end: bytes | OSError) -> None:
    told = []
    for fast in (True, False):
        line = Line(fast)
        line.comes(CONNACK, end)
        assert line.wire.closed
        told.append(line.lost)
    assert told[0] == told[1] != []


@pytest.mark.parametrize("wait", [BlockingIOError(), ssl.SSLWantReadError(), ssl.SSLWantWriteError()])
def test_nothing_to_read_yet_is_no_end(wait: OSError) -> None:
    line = Line()
    wanted: list[str] = []
    line.client.on_socket_register_write = lambda *_: wanted.append("write")
    line.comes(wait, publish(b"t", b"x"))
    assert len(line.heard) == 1
    assert line.lost == []
    assert wanted == (["write"] if isinstance(wait, ssl.SSLWantWriteError) else [])


def test_a_message_of_qos_2_is_left_to_paho() -> None:
    line = Line()
    line.comes(packet(PUBLISH | QOS_2, b"\x00\x01t\x00\x09once"))
    assert line.heard == []
    assert [queued["packet"][0] for queued in line.client._out_packet] == [PUBREC]


PACKETS = st.one_of(
    st.builds(
        publish,
        st.binary(min_size=1, max_size=200),
        st.binary(max_size=300),
        st.none() | st.integers(0, 65535),
        st.sampled_from([0, RETAIN, DUP]),
    ),
    st.sampled_from([CONNACK, PINGRESP, *MALFORMED.values(), packet(PUBREC, b"\x00\x01"), b"\x62\x02\x00\x01"]),
    st.binary(max_size=12),
    st.builds(packet, st.integers(0, 255), st.binary(max_size=200)),
    st.builds(packet, st.just(PUBLISH | QOS_2), st.just(b"\x00\x01t\x00\x01twice")),
)


@given(
    data=st.lists(PACKETS, max_size=12).map(b"".join),
    cuts=st.lists(st.integers(1, 2000), max_size=30),
    short=st.sampled_from([20, MAX_SHORT_BYTES]),
)
def test_of_any_bytes_in_any_pieces_it_hears_what_paho_alone_hears(data: bytes, cuts: list[int], short: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_mqtt, "MAX_SHORT_BYTES", short)
        fast, alone = Line(), Line(fast=False)
        fast.comes(*pieces_of(data, cuts))
        alone.comes(data)
        assert fast.heard == alone.heard
        if alone.lost:
            assert fast.lost
        fast.comes(b"")
        assert len(fast.lost) == 1


def test_a_client_that_nobody_holds_goes_at_once_with_its_socket() -> None:
    line = Line()
    line.comes(MIXED)
    there = weakref.ref(line.client)
    del line.client
    assert there() is None
    assert line.wire.closed


# --- writing ---


@pytest.mark.parametrize("size", [0, 1, 120, 121, 122, 16_377, 16_378, 16_379, 70_000, 2_000_000])
def test_a_publish_is_encoded_as_paho_encodes_it(size: int) -> None:
    line = Line(fast=False)
    line.client.publish("topic", b"x" * size)
    assert encode_publish0(b"topic", b"x" * size) == bytes(line.client._out_packet[0]["packet"])


@pytest.mark.parametrize("mid", [1, 255, 256, 65535])
def test_an_acknowledgement_is_encoded_as_paho_encodes_it(mid: int) -> None:
    line = Line(fast=False)
    line.client.ack(mid, 1)
    assert encode_puback(mid) == line.client._out_packet[0]["packet"]


def test_all_of_one_turn_goes_out_at_once_and_in_order() -> None:
    line = Line()
    assert line.fast.send_soon(b"one ")
    line.fast.ack(1, 1)
    assert line.fast.send_soon(b" three")
    assert line.wire.sends == []
    assert len(line.loop.calls) == 1
    line.loop.turn()
    assert line.wire.sends == [b"one " + encode_puback(1) + b" three"]
    line.fast.send_soon(b"next")
    line.loop.turn()
    assert line.wire.sends[1:] == [b"next"]


def acks(*mids: int) -> bytes:
    return b"".join(map(encode_puback, mids))


def test_acknowledgements_that_may_wait_go_with_what_is_sent_in_the_same_turn() -> None:
    line = Line()
    line.fast.ack_soon(1)
    assert line.fast.send_soon(b"outcome ")
    line.fast.ack_soon(2)
    line.loop.turn()
    assert line.wire.sends == [b"outcome " + acks(1, 2)]
    assert len(line.loop.later) == 1
    line.loop.later.pop()[1]()
    line.loop.turn()
    assert line.wire.sends == [b"outcome " + acks(1, 2)]


def test_acknowledgements_with_which_nothing_is_sent_go_together_after_a_while() -> None:
    line = Line()
    for mid in (1, 2, 3):
        line.fast.ack_soon(mid)
        line.loop.turn()
    assert line.wire.sends == []
    ((seconds, send),) = line.loop.later
    line.loop.later.clear()
    send()
    line.loop.turn()
    assert (seconds, line.wire.sends) == (ACK_WITHIN_S, [acks(1, 2, 3)])
    line.fast.ack_soon(4)
    assert len(line.loop.later) == 1, "the next waits anew"


def test_of_acknowledgements_that_wait_there_are_never_so_many_that_a_broker_waits_for_them() -> None:
    line = Line()
    for mid in range(1, 2 * MOST_UNACKED + 1):
        line.fast.ack_soon(mid)
        line.loop.turn()
    assert line.wire.sends == [acks(*range(1, MOST_UNACKED + 1)), acks(*range(MOST_UNACKED + 1, 2 * MOST_UNACKED + 1))]


def test_what_needs_no_acknowledgement_gets_none() -> None:
    line = Line()
    line.fast.ack(0, 0)
    line.loop.turn()
    assert line.wire.sent == b""


def test_pahos_own_packets_keep_their_place_among_ours() -> None:
    line = Line()
    line.fast.send_soon(b"one")
    line.client.publish("t", b"two", 1)
    line.fast.send_soon(b"three")
    line.loop.turn()
    line.client.loop_write()
    assert line.wire.sent == b"one" + publish(b"t", b"two", 1) + b"three"


def test_what_was_given_out_is_sent_before_the_farewell() -> None:
    line = Line()
    line.comes(CONNACK)
    line.fast.ack(5, 1)
    line.fast.send_soon(b"outcome")
    line.client.disconnect()
    line.client.loop_write()
    assert line.wire.sent == encode_puback(5) + b"outcome" + DISCONNECT
    line.loop.turn()
    assert line.wire.closed


@pytest.mark.parametrize("room", [0, 1, 3, 5])
def test_what_the_socket_does_not_take_goes_later_and_in_order(room: int) -> None:
    line = Line()
    registered: list[str] = []
    line.client.on_socket_register_write = lambda *_: registered.append("write")
    line.wire.room = room
    line.fast.send_soon(b"first")
    line.fast.send_soon(b"second")
    line.loop.turn()
    assert registered == ["write"]
    line.fast.send_soon(b"third")
    line.loop.turn()
    assert len(line.wire.sent) == room
    line.wire.room = None
    line.client.loop_write()
    assert line.wire.sent == b"firstsecondthird"
    line.fast.send_soon(b"fourth")
    line.loop.turn()
    assert line.wire.sends[-1] == b"fourth", "straight again"


def test_when_too_much_waits_nothing_more_is_taken_but_acknowledgements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_mqtt, "MAX_UNSENT_BYTES", 10)
    line = Line()
    line.wire.room = 0
    assert line.fast.send_soon(b"12345678")
    line.loop.turn()
    assert line.fast.send_soon(b"90")
    assert not line.fast.send_soon(b"too much")
    line.fast.ack(1, 1)
    line.loop.turn()
    line.wire.room = 12
    line.client.loop_write()
    assert line.wire.sent == b"1234567890" + encode_puback(1)
    assert line.fast.send_soon(b"again")


def test_a_broken_connection_is_told_by_pahos_writer_and_raises_nothing() -> None:
    line = Line()
    line.comes(CONNACK)
    line.wire.room = ConnectionResetError()
    line.fast.send_soon(b"lost")
    line.loop.turn()
    line.client.loop_write()
    assert len(line.lost) == 1
    assert line.wire.closed


def test_after_the_end_nothing_is_taken() -> None:
    line = Line()
    line.fast.send_soon(b"waits")
    line.comes(b"")
    line.loop.turn()
    assert not line.fast.send_soon(b"late")
    line.fast.ack(1, 1)
    line.loop.turn()
    assert line.wire.sent == b""
    line.client.loop_read()
    assert len(line.lost) == 1


@given(
    steps=st.lists(
        st.sampled_from(["send", "ack", "publish", "turn", "write"]) | st.integers(0, 30),
        max_size=60,
    )
)
def test_whatever_the_socket_takes_when_everything_goes_out_whole_and_in_order(steps: list[str | int]) -> None:
    line = Line()
    wanted = b""
    for number, step in enumerate(steps, 1):
        match step:
            case "send":
                data = encode_publish0(b"t", str(number).encode())
                assert line.fast.send_soon(data)
                wanted += data
            case "ack":
                line.fast.ack(number, 1)
                wanted += encode_puback(number)
            case "publish":
                mid = line.client.publish("t", b"own", 1).mid
                wanted += publish(b"t", b"own", mid)
            case "turn":
                line.loop.turn()
            case "write":
                line.client.loop_write()
            case int():
                line.wire.room = step
    line.wire.room = None
    line.loop.turn()
    line.client.loop_write()
    assert line.wire.sent == wanted
    assert line.fast._unsent_bytes == 0


# --- keep-alive ---


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    clock = ManualClock()
    monkeypatch.setattr(paho, "time_func", clock.monotonic)
    monkeypatch.setattr(fast_mqtt, "monotonic", clock.monotonic)
    return clock


def pings(line: Line) -> int:
    line.client.loop_write()
    return line.wire.sends.count(PINGREQ)


@pytest.mark.parametrize("traffic", ["in", "out", "both"])
def test_under_traffic_of_any_direction_it_pings_when_it_must_and_stays(traffic: str, clock: ManualClock) -> None:
    line = Line()
    line.comes(CONNACK)
    answered = 0
    for _ in range(KEEPALIVE_S * 6):
        clock.advance(1)
        if traffic != "out":
            line.comes(publish(b"t", b"x"))
        if traffic != "in":
            line.fast.send_soon(b"x")
            line.loop.turn()
        line.client.loop_misc()
        if pings(line) > answered:
            answered += 1
            line.comes(PINGRESP)
    assert line.lost == []
    assert answered == (0 if traffic == "both" else 6)


def test_a_broker_that_answers_no_ping_is_left_also_while_we_talk(clock: ManualClock) -> None:
    line = Line()
    line.comes(CONNACK)
    for _ in range(KEEPALIVE_S * 2 + 1):
        clock.advance(1)
        line.fast.send_soon(b"x")
        line.loop.turn()
        line.client.loop_misc()
        line.client.loop_write()
    assert set(line.lost) == {"Keep alive timeout"}


# --- which paho ---


def test_the_paho_that_is_pinned_was_looked_at() -> None:
    pinned = [line.split("==")[1] for line in CONSTRAINTS.read_text().splitlines() if line.startswith("paho-mqtt==")]
    assert len(pinned) == 1
    assert set(pinned) <= CHECKED
    assert why_not() is None


def test_another_version_or_a_name_that_is_gone_is_a_reason() -> None:
    assert "9.9.9" in (why_not(version="9.9.9") or "")

    client = Line(fast=False).client
    del client._out_packet
    reason = why_not(client) or ""
    assert "_out_packet" in reason
    assert "_sock" not in reason
