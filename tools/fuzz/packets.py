"""Attack: MQTT packets that are malformed, cut off, too long or out of order, against the embedded broker."""

import struct
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.support.waiting import wait_for
from tests.support.world import EmbeddedBroker, Mqtt, unique
from tools.fuzz.house import Watch
from tools.fuzz.house import publish as publish_acked
from tools.fuzz.rawmqtt import (
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBSCRIBE,
    UNSUBSCRIBE,
    RawClient,
    connect,
    length,
    packet,
    publish,
    subscribe,
    text,
)
from tools.fuzz.record import Budget, Result
from tools.fuzz.rounds import Rounds

BATCH = 50
SILENT_AT_MOST = 40
ROUND = 5
FLAGS = {CONNECT: 0, PUBREL: 2, SUBSCRIBE: 2, UNSUBSCRIBE: 2}


@dataclass(frozen=True)
class Conversation:
    """What a client says on one connection; with a good CONNECT before it, or not."""

    pieces: tuple[bytes, ...]
    greets: bool
    silent: bool = False


_names = st.one_of(
    st.sampled_from(
        [
            b"",
            b"a",
            b"a/b",
            b"#",
            b"+",
            b"a/#/b",
            b"a#",
            b"/",
            b"$SYS/#",
            b"\0",
            b"\xff",
            b"\xed\xa0\x80",
            b"\xef\xbb\xbf",
            b"+/#",
            b"/" * 5000,
            b"a/" * 5000,
            b"\xc0\xaf",
            b"x" * 65535,
            "싸비스/+".encode(),
            b"fuzz/" + b"+/" * 200 + b"#",
            b"$share/g/a",
        ]
    ),
    st.binary(max_size=12),
)
_client_ids = st.sampled_from(
    [b"", b"fuzz-1", b"fuzz-2", b"fuzz-3", b"\xff", b"\0", b"c" * 24, b"c" * 65535, b"sarvis-x"]
)
_packet_ids = st.sampled_from([0, 1, 2, 255, 65535])
_payloads = st.sampled_from([b"", b"x", b"\0" * 100, b"x" * 9000, b"x" * 100_000])
_qos = st.sampled_from([0, 1, 2, 3])
_sixteen = _packet_ids.map(lambda number: struct.pack("!H", number))

connects = st.one_of(
    st.builds(
        connect,
        _client_ids,
        clean=st.booleans(),
        keepalive=st.sampled_from([0, 1, 60, 65535]),
        will=st.none() | st.tuples(_names, _payloads, _qos),
    ),
    # Protocol name, level and flags that do not fit together, fields that are missing.
    st.builds(
        lambda name, level, flags, rest: packet(CONNECT, text(name) + bytes([level, flags]) + rest),
        st.sampled_from([b"MQTT", b"MQIsdp", b"", b"mqtt", b"\xff", b"HTTP"]),
        st.sampled_from([0, 3, 4, 5, 6, 0x84, 255]),
        st.integers(0, 255),
        st.binary(max_size=30),
    ),
)
good = st.one_of(
    connects,
    st.builds(publish, _names, _payloads, qos=_qos, packet_id=_packet_ids, retain=st.booleans()),
    st.builds(subscribe, _names, qos=_qos, packet_id=_packet_ids),
    st.builds(lambda head, name: packet(UNSUBSCRIBE, head + text(name), 2), _sixteen, _names),
    st.builds(
        lambda kind, head: packet(kind, head, FLAGS.get(kind, 0)),
        st.sampled_from([PUBACK, PUBREC, PUBREL, PUBCOMP]),
        _sixteen,
    ),
    st.sampled_from([PINGREQ, DISCONNECT]),
)
bad = st.one_of(
    # Any type with any flags and any body.
    st.builds(packet, st.integers(0, 15), st.binary(max_size=40), st.integers(0, 15)),
    # Lengths that lie, too many topics, bodies that are cut.
    st.builds(
        lambda kind, claimed, body: bytes([kind << 4 | FLAGS.get(kind, 0)]) + length(claimed) + body,
        st.sampled_from([CONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, PUBACK, 12, 14]),
        st.sampled_from([0, 1, 2, 3, 10, 127, 128, 16_384, 2**20 - 5, 2**20, 2**21, 2**28 - 1]),
        st.binary(max_size=40),
    ),
    st.builds(lambda first, rest: bytes([first]) + b"\xff" * rest, st.integers(0, 255), st.integers(1, 6)),
    st.builds(
        lambda head, names, tail: packet(SUBSCRIBE, head + b"".join(text(name) + b"\1" for name in names) + tail, 2),
        _sixteen,
        st.lists(_names, max_size=30),
        st.binary(max_size=3),
    ),
    # More filters than a packet may have, more levels than a topic may have.
    st.sampled_from(
        [packet(SUBSCRIBE, b"\0\1" + (text(b"a") + b"\1") * 2_000, 2), publish(b"/" * 201, b"x"), subscribe(b"/" * 201)]
    ),
    good.map(lambda whole: whole[:-1]),
    good.map(lambda whole: whole + b"\0"),
    good.map(lambda whole: whole[1:]),
    good.map(lambda whole: bytes([whole[0] ^ 0x0F]) + whole[1:]),
    st.binary(min_size=1, max_size=60),
    st.just(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
)


@st.composite
def conversations(draw: Callable[..., Any]) -> Conversation:
    """A few packets, most of them good, in arbitrary TCP pieces."""
    said = b"".join(draw(st.lists(st.one_of(good, good, bad), min_size=1, max_size=8)))
    places = sorted(draw(st.lists(st.integers(0, len(said)), max_size=4)))
    pieces = tuple(said[start:end] for start, end in zip([0, *places], [*places, len(said)], strict=True))
    return Conversation(pieces, draw(st.booleans()), silent=draw(st.integers(0, 19)) == 0)


class Listener(Rounds):
    """A client that publishes to itself all the time, and must hear everything once and in order."""

    name = "listener"
    pause_s = 0.02

    def __init__(self, port: int) -> None:
        super().__init__()
        self.heard = 0
        self._mqtt = self.at_end.enter_context(Mqtt(port, unique("neighbour")))

    def live(self) -> bool:
        """A few messages, published and heard."""
        wanted = [f"{self.begun} {number}".encode() for number in range(ROUND)]
        try:
            for payload in wanted:
                publish_acked(self._mqtt, "t", payload)
            wait_for("all of a round", lambda: len(self._mqtt.got) >= ROUND)
        except (AssertionError, ValueError, RuntimeError) as error:
            self.failures.append(f"the listener: {error!r}")
            return False
        if [payload for _, payload, _ in self._mqtt.got] != wanted:
            self.failures.append("the listener heard something else than was published")
        self._mqtt.got.clear()
        self.heard += ROUND
        return True


def attack(broker: EmbeddedBroker, budget: Budget) -> Result:
    """Say it to a broker while a listener goes on listening; the broker must hang up on its own when a client has."""
    result = Result("packets")
    assert broker._sarvis is not None
    watch = Watch({"broker": broker._sarvis})
    with Listener(broker.port) as listener, ExitStack() as silent:
        waiting: list[RawClient] = []
        for batch in budget.batches(conversations(), BATCH):
            for one in batch:
                result.inputs += 1
                client = RawClient(broker.port, unique("fuzz").encode() if one.greets else None)
                if one.silent and len(waiting) < SILENT_AT_MOST:
                    waiting.append(silent.enter_context(client))
                    _say(client, one)
                else:
                    with client:
                        try:
                            _say(client, one)
                            client.hear_out()
                        except TimeoutError:
                            result.found("broken", "the broker does not hang up on a client that has ended", one)
                if not watch.look(result, one):
                    return result
            if not listener.settle(result, batch[-1]):
                break
        result.notes.append(f"a listener heard {listener.heard} messages, all in order")
    watch.look(result, "the end")
    return result


def _say(client: RawClient, one: Conversation) -> None:
    for piece in one.pieces:
        if not client.say(piece):
            return
