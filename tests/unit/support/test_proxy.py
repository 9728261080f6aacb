"""FaultProxy between plain sockets, whose other end stands for the broker, and once before a real broker."""

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.mqtt_packets import PACKET_MAX, as_qos_0, payload_of, topic_of
from tests.support.ports import free_port
from tests.support.proxy import HOST, Direction, FaultProxy, Verdict
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import EmbeddedBroker, Mqtt, accepts

PINGREQ = b"\xc0\x00"
SILENCE_S = 0.2


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def publish(kind: str, payload: bytes = b"{}", *, device: str = "d1", qos: int = 1) -> bytes:
    topic = f"sarvis/v1/devices/{device}/{kind}".encode()
    body = len(topic).to_bytes(2) + topic + (b"\x00\x07" if qos else b"") + payload
    return bytes([0x30 | qos << 1]) + varint(len(body)) + body


WAKE, OUTCOME, STATUS = publish("wake"), publish("outcome"), publish("status", qos=0)


class Between:
    """A proxy, the listening socket of what it takes for a broker, and connections through both."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.listener = stack.enter_context(socket.create_server((HOST, 0)))
        self.listener.settimeout(PATIENCE_S)
        self.proxy = stack.enter_context(FaultProxy(self.listener.getsockname()[1]))

    def client(self) -> socket.socket:
        return self._stack.enter_context(socket.create_connection((HOST, self.proxy.port), PATIENCE_S))

    def broker(self) -> socket.socket:
        side, _ = self.listener.accept()
        side.settimeout(PATIENCE_S)
        return self._stack.enter_context(side)

    def connection(self) -> tuple[socket.socket, socket.socket]:
        return self.client(), self.broker()


@pytest.fixture
def between() -> Iterator[Between]:
    with ExitStack() as stack:
        yield Between(stack)


@pytest.fixture
def proxy(between: Between) -> FaultProxy:
    return between.proxy


def receive(side: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = side.recv(count - len(data))
        assert more, f"closed after {data!r}"
        data += more
    return data


def passes(sender: socket.socket, receiver: socket.socket, packet: bytes = PINGREQ) -> bool:
    sender.sendall(packet)
    return receive(receiver, len(packet)) == packet


def silent(*sides: socket.socket) -> bool:
    """Open, and nothing comes."""
    return select.select(sides, [], [], SILENCE_S)[0] == []


def was_reset(side: socket.socket) -> bool:
    """RST, after whatever had come before it."""
    try:
        while side.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return False


def has_ended(side: socket.socket) -> bool:
    try:
        return side.recv(1) == b""
    except ConnectionResetError:
        return True


class Blocker:
    """An action that stands still until it is let go."""

    def __init__(self, verdict: Verdict = "forward") -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.verdict = verdict

    def __call__(self, _: bytes) -> Verdict:
        self.entered.set()
        assert self.go.wait(PATIENCE_S)
        return self.verdict


def test_a_topic_is_read_from_a_publish_only() -> None:
    assert topic_of(publish("wake", b"x" * 20_000)) == "sarvis/v1/devices/d1/wake"
    assert topic_of(PINGREQ) is None
    assert topic_of(b"") is None
    assert topic_of(b"\x30\x02\x00\x09") is None


def test_a_payload_begins_after_the_packet_id_if_there_is_one() -> None:
    assert payload_of(publish("wake", b"ha", qos=0)) == b"ha"
    assert payload_of(publish("wake", b"ha", qos=2)) == b"ha"


@pytest.mark.parametrize("size", [2, 300])
def test_a_publish_may_be_changed_to_qos_0(size: int) -> None:
    payload = b"x" * size
    assert as_qos_0(publish("login", payload)) == publish("login", payload, qos=0)


def test_a_packet_of_old_comes_again_behind_what_is_under_way(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()
    assert passes(broker, client)

    def again(_packet: bytes) -> Verdict:
        proxy.replay("down", STATUS)
        return "forward"

    trigger = proxy.when("down", "outcome", again)
    broker.sendall(OUTCOME)
    assert receive(client, len(OUTCOME) + len(STATUS)) == OUTCOME + STATUS
    assert trigger.fired.wait(PATIENCE_S)


def test_what_no_fault_touches_passes_unchanged_both_ways(between: Between) -> None:
    client, broker = between.connection()
    for packet in (PINGREQ, STATUS, WAKE, publish("wake", b"x" * 300), publish("wake", bytes(100_000))):
        assert passes(client, broker, packet)
        assert passes(broker, client, packet)


def test_packets_may_come_in_pieces_or_together(between: Between) -> None:
    client, broker = between.connection()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    packet = publish("wake", b"x" * 200)
    for byte in packet:
        client.sendall(bytes([byte]))
    assert receive(broker, len(packet)) == packet
    assert passes(client, broker, PINGREQ + WAKE + STATUS + packet + PINGREQ)
    assert len(between.proxy.seen) == 4


def test_a_packet_is_forwarded_only_when_it_is_whole(between: Between) -> None:
    client, broker = between.connection()
    client.sendall(WAKE[:-1])
    assert silent(broker)
    client.sendall(WAKE[-1:])
    assert receive(broker, len(WAKE)) == WAKE


def test_what_a_client_said_before_it_closed_still_passes(between: Between) -> None:
    client, broker = between.connection()
    client.sendall(WAKE + WAKE[:5])
    client.close()
    assert receive(broker, len(WAKE)) == WAKE
    assert broker.recv(1) == b""


def test_a_broker_that_closes_closes_the_client(between: Between) -> None:
    client, broker = between.connection()
    broker.sendall(OUTCOME)
    broker.close()
    assert receive(client, len(OUTCOME)) == OUTCOME
    assert client.recv(1) == b""


@pytest.mark.parametrize("head", [b"\x30" + varint(PACKET_MAX), b"\x30\xff\xff\xff\xff"], ids=["large", "endless"])
def test_a_packet_over_a_mebibyte_closes_the_connection(between: Between, head: bytes) -> None:
    client, broker = between.connection()
    client.sendall(WAKE + head)
    assert receive(broker, len(WAKE)) == WAKE
    assert has_ended(broker)
    assert has_ended(client)


def test_a_packet_of_a_mebibyte_passes(between: Between) -> None:
    client, broker = between.connection()
    packet = publish("wake", bytes(PACKET_MAX - len(publish("wake", b"")) - 2))
    assert len(packet) == PACKET_MAX
    sender = threading.Thread(target=client.sendall, args=(packet,))
    sender.start()
    assert receive(broker, len(packet)) == packet
    sender.join()


def test_a_client_is_closed_while_the_broker_refuses_and_reaches_it_when_it_is_back() -> None:
    with FaultProxy(free_port()) as proxy:
        with socket.create_connection((HOST, proxy.port), PATIENCE_S) as client:
            assert has_ended(client)
        with socket.create_server((HOST, proxy.upstream_port)) as listener:
            listener.settimeout(PATIENCE_S)
            with socket.create_connection((HOST, proxy.port), PATIENCE_S) as client:
                broker, _ = listener.accept()
                with broker:
                    assert passes(client, broker, WAKE)


def test_every_publish_that_was_read_is_in_the_log(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()
    before, before_wall = time.monotonic(), time.time()
    assert passes(client, broker, PINGREQ + publish("wake", b"one"))
    assert passes(broker, client, publish("outcome", b"two", qos=0))
    proxy.half_open(on=True)
    client.sendall(publish("wake", b"three"))
    wait_for("the swallowed packet is in the log", lambda: len(proxy.seen) == 3)
    up, down, swallowed = proxy.seen
    assert (up.direction, up.topic, up.payload) == ("up", "sarvis/v1/devices/d1/wake", b"one")
    assert (down.direction, down.topic, down.payload) == ("down", "sarvis/v1/devices/d1/outcome", b"two")
    assert swallowed.payload == b"three"
    assert before <= up.at <= down.at <= swallowed.at <= time.monotonic()
    assert before_wall <= up.wall <= time.time()


@pytest.mark.parametrize(("verdict", "times"), [("forward", 1), ("drop", 0), ("twice", 2)])
def test_a_trigger_decides_once_about_its_packet(
    between: Between, proxy: FaultProxy, verdict: Verdict, times: int
) -> None:
    client, broker = between.connection()
    asked: list[bytes] = []

    def decide(packet: bytes) -> Verdict:
        asked.append(packet)
        return verdict

    trigger = proxy.when("up", "wake", decide)
    assert not trigger.fired.is_set()
    client.sendall(WAKE + PINGREQ + WAKE)
    assert receive(broker, len(WAKE) * times + len(PINGREQ + WAKE)) == WAKE * times + PINGREQ + WAKE
    assert trigger.fired.wait(PATIENCE_S)
    assert asked == [WAKE]
    assert trigger.at is not None
    assert proxy.seen[0].at <= trigger.at <= time.monotonic()


def test_a_trigger_waits_for_its_direction_kind_and_device(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()
    trigger = proxy.when("down", "outcome", lambda _: "drop", device="d2")
    theirs = publish("outcome", device="d2")
    assert passes(client, broker, theirs)
    assert passes(broker, client, publish("wake", device="d2") + publish("outcome", device="d22") + OUTCOME)
    assert not trigger.fired.is_set()
    broker.sendall(theirs + PINGREQ)
    assert receive(client, len(PINGREQ)) == PINGREQ
    assert trigger.fired.wait(PATIENCE_S)


def test_a_trigger_that_was_disarmed_does_nothing(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()
    trigger = proxy.when("up", "wake", lambda _: "drop")
    trigger.disarm()
    trigger.disarm()
    assert passes(client, broker, WAKE)
    assert trigger.at is None


def test_two_triggers_take_one_packet_each(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()
    proxy.when("up", "wake", lambda _: "drop")
    proxy.when("up", "wake", lambda _: "twice")
    client.sendall(publish("wake", b"1") + publish("wake", b"2") + PINGREQ)
    expected = publish("wake", b"2") * 2 + PINGREQ
    assert receive(broker, len(expected)) == expected


def test_an_action_that_blocks_stops_its_own_direction_only(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()
    other_client, other_broker = between.connection()
    block = Blocker()
    trigger = proxy.when("up", "wake", block)
    client.sendall(WAKE + PINGREQ)
    assert block.entered.wait(PATIENCE_S)
    assert passes(broker, client, OUTCOME)
    assert passes(other_client, other_broker, WAKE)
    assert silent(broker)
    assert not trigger.fired.is_set()
    block.go.set()
    assert receive(broker, len(WAKE + PINGREQ)) == WAKE + PINGREQ
    assert trigger.fired.wait(PATIENCE_S)


def test_a_packet_is_forwarded_although_its_client_died_in_the_action(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    def die(_: bytes) -> Verdict:
        client.close()  # on this machine a reset arrives at once
        return "forward"

    proxy.when("up", "wake", die)
    client.sendall(WAKE)
    assert receive(broker, len(WAKE)) == WAKE
    assert broker.recv(1) == b""


def test_an_action_may_hurt_its_own_connection(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()

    def reset(_: bytes) -> Verdict:
        proxy.reset()
        return "forward"

    trigger = proxy.when("up", "wake", reset)
    client.sendall(WAKE)
    assert was_reset(client)
    assert was_reset(broker)
    assert trigger.fired.wait(PATIENCE_S)


def test_a_packet_passes_whose_action_cuts_off_the_answer(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()

    def cut(_: bytes) -> Verdict:
        proxy.half_open(on=True)
        return "forward"

    proxy.when("up", "wake", cut)
    assert passes(client, broker, WAKE)
    broker.sendall(PINGREQ)
    assert silent(client)


def test_a_packet_dropped_while_half_open_counts_as_lost(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()

    def lose(_: bytes) -> Verdict:
        proxy.half_open(on=True)
        return "drop"

    trigger = proxy.when("up", "wake", lose)
    client.sendall(WAKE)
    assert trigger.fired.wait(PATIENCE_S)
    proxy.half_open(on=False)
    assert was_reset(client)
    assert was_reset(broker)


def test_stopping_waits_for_an_action_and_says_what_it_raised(between: Between, proxy: FaultProxy) -> None:
    client, _ = between.connection()
    block = Blocker()

    def fail(packet: bytes) -> Verdict:
        block(packet)
        raise LookupError("no such process")

    trigger = proxy.when("up", "wake", fail)
    client.sendall(WAKE)
    assert block.entered.wait(PATIENCE_S)
    threading.Timer(SILENCE_S, block.go.set).start()
    with pytest.raises(LookupError, match="no such process"):
        proxy.stop()
    assert trigger.fired.is_set()
    proxy.stop()


def test_a_delay_holds_every_packet_equally_long_in_order(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()
    proxy.delay(0.3)
    packets = [publish("wake", b"%d" % number) for number in range(20)]
    began = time.monotonic()
    for packet in packets:
        client.sendall(packet)
    broker.sendall(OUTCOME)
    everything = b"".join(packets)
    assert receive(broker, len(everything)) == everything
    assert receive(client, len(OUTCOME)) == OUTCOME
    assert 0.3 <= time.monotonic() - began < 2


def test_a_delay_that_is_switched_off_lets_go_what_it_holds(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()
    proxy.delay(PATIENCE_S * 2)
    client.sendall(WAKE)
    assert silent(broker)
    proxy.delay(0)
    assert receive(broker, len(WAKE)) == WAKE


def test_a_half_open_connection_swallows_everything_and_stays_open(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()
    proxy.half_open(on=True)
    client.sendall(WAKE)
    broker.sendall(OUTCOME)
    assert silent(client, broker)
    late = between.client()
    late.sendall(WAKE)
    assert silent(late)


def test_half_open_connections_that_lost_something_are_reset_when_healed(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()
    spared_client, spared_broker = between.connection()
    proxy.half_open(on=True)
    late = between.client()
    for side in (client, late):
        side.sendall(WAKE)
    wait_for("both are swallowed", lambda: len(proxy.seen) == 2)
    proxy.heal()
    assert was_reset(client)
    assert was_reset(broker)
    assert was_reset(late)
    assert passes(spared_client, spared_broker)
    new_client, new_broker = between.connection()
    assert passes(new_client, new_broker)


def test_a_half_open_connection_does_not_tell_that_a_side_has_closed(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()
    proxy.half_open(on=True)
    client.close()
    assert silent(broker)
    proxy.half_open(on=False)
    assert was_reset(broker)


def test_what_a_delay_holds_is_swallowed_too(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()
    proxy.delay(PATIENCE_S * 2)
    client.sendall(WAKE)
    wait_for("it is held", lambda: proxy.seen)
    proxy.half_open(on=True)
    proxy.delay(0)
    assert silent(broker)
    proxy.half_open(on=False)
    assert was_reset(broker)


def test_refusing_resets_what_is_connected_and_what_connects(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()
    proxy.refuse(on=True)
    assert was_reset(client)
    assert was_reset(broker)
    with pytest.raises(ConnectionResetError):  # from connecting already, if the reset is quick
        between.client().recv(1)
    proxy.refuse(on=False)
    client, broker = between.connection()
    assert passes(client, broker, WAKE)


def test_a_reset_hits_both_sides_of_every_connection_once(between: Between, proxy: FaultProxy) -> None:
    sides = [*between.connection(), *between.connection()]
    proxy.reset()
    assert all(was_reset(side) for side in sides)
    client, broker = between.connection()
    assert passes(client, broker, WAKE)


def test_a_side_that_no_longer_reads_fills_no_memory_and_holds_up_no_reset(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()
    large = publish("wake", bytes(PACKET_MAX // 2))

    def flood() -> None:
        with suppress(ConnectionError):
            client.sendall(large * 100)

    flooding = threading.Thread(target=flood)
    flooding.start()
    wait_for("the way is nearly full", lambda: len(proxy.seen) > 30)
    wait_for("the way is full", lambda: select.select([], [client], [], SILENCE_S)[1] == [])
    assert len(proxy.seen) < 80
    proxy.reset()
    flooding.join(PATIENCE_S)
    assert not flooding.is_alive()
    assert was_reset(broker)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_duplicating_forwards_every_publish_twice(between: Between, proxy: FaultProxy, direction: Direction) -> None:
    client, broker = between.connection()
    sender, receiver = (client, broker) if direction == "up" else (broker, client)
    proxy.duplicate(on=True)
    sender.sendall(WAKE + PINGREQ + STATUS)
    expected = WAKE * 2 + PINGREQ + STATUS * 2
    assert receive(receiver, len(expected)) == expected
    assert len(proxy.seen) == 2
    proxy.duplicate(on=False)
    assert passes(sender, receiver, WAKE + PINGREQ)


def test_healing_ends_every_fault_and_disarms_every_trigger(between: Between, proxy: FaultProxy) -> None:
    trigger = proxy.when("up", "wake", lambda _: "drop")
    proxy.delay(PATIENCE_S * 2)
    proxy.duplicate(on=True)
    proxy.half_open(on=True)
    proxy.refuse(on=True)
    proxy.heal()
    client, broker = between.connection()
    assert passes(client, broker, WAKE + PINGREQ)
    assert trigger.at is None


def test_stopping_ends_the_thread_and_the_port_which_starting_opens_again(between: Between, proxy: FaultProxy) -> None:
    client, broker = between.connection()
    port = proxy.port
    proxy.delay(0.05)
    proxy.stop()
    assert was_reset(client)
    assert was_reset(broker)
    assert "fault proxy" not in [thread.name for thread in threading.enumerate()]
    assert not accepts(port)
    proxy.heal()
    proxy.start()
    assert proxy.port == port
    client, broker = between.connection()
    assert passes(client, broker, WAKE)


def test_a_real_client_publishes_and_hears_through_the_proxy(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path)
    broker.start()
    try:
        with FaultProxy(broker.port) as proxy, Mqtt(proxy.port) as client:
            client.publish("devices/d1/wake", {"text": "싸비스"})
            assert client.message("devices/d1/wake") == {"text": "싸비스"}
            assert [(seen.direction, seen.topic) for seen in proxy.seen] == [
                ("up", "sarvis/v1/devices/d1/wake"),
                ("down", "sarvis/v1/devices/d1/wake"),
            ]
    finally:
        broker.stop()
