import pytest

from tools.bench.apps import App, Lost, MqttApp, NatsApp, packet_end, publish_id
from tools.bench.packets import wake
from tools.fuzz.rawmqtt import publish


class Ears:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[bytes | str] = []

    def offers(self, app: int) -> list[str]:
        del app
        return []

    def woken(self, app: App, data: bytes) -> None:
        del app
        self.heard.append(data)

    def answered(self, app: App, *, first: bool = False) -> None:
        del app
        self.heard.append("greeted" if first else "answered")


class Wire:
    """Pieces that a server has sent, and what it was told."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.said: list[bytes] = []

    def recv(self, most: int) -> bytes:
        del most
        return self.pieces.pop(0)

    def sendall(self, data: bytes) -> None:
        self.said.append(data)


def hear(kind: type[App], *pieces: bytes) -> tuple[list[bytes | str], list[bytes]]:
    ears, wire = Ears(), Wire(*pieces)
    app = kind(ears, 1)
    app.sock.close()
    app.sock = wire  # type: ignore[assignment]
    app._recv = wire.recv  # type: ignore[assignment]
    while wire.pieces:
        app.read()
    return ears.heard, wire.said


def frame(payload: bytes, opcode: int) -> bytes:
    size = len(payload)
    return bytes([0x80 | opcode]) + (bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2)) + payload


COMMAND = b'{"type":"voice_command","command":"wake_up 000000001","timestamp":"then"}'
ACK = b'{"type":"heartbeat_ack","timestamp":"then","status":"active"}'


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_an_app_hears_the_same_however_its_stream_is_cut(piece: int) -> None:
    stream = frame(b'{"type":"connection_established"}', 1) + frame(COMMAND, 1) + frame(b"?", 9) + frame(ACK, 1)
    heard, said = hear(App, *(stream[at : at + piece] for at in range(0, len(stream), piece)))

    assert [COMMAND in told if isinstance(told, bytes) else told for told in heard] == ["greeted", True, "answered"]
    assert said == [b"\x8a\x81\0\0\0\0?"]


def test_the_end_of_a_frame_may_look_like_a_whole_one() -> None:
    stream = frame(b'{"type":"heartbeat_ack","status":"\x81\x02hi', 1)
    heard, _ = hear(App, stream[:-4], stream[-4:])

    assert heard == ["answered"]


@pytest.mark.parametrize("stream", [frame(b"\x03\xe8", 8), frame(b'{"type":"goodbye"}', 1), b""])
def test_what_no_server_should_say_ends_the_measurement(stream: bytes) -> None:
    with pytest.raises(Lost):
        hear(App, stream)


@pytest.mark.parametrize("piece", [1, 30, 1000])
def test_an_app_of_nats_hears_wakes_in_whatever_frames_they_come(piece: int) -> None:
    text = b"INFO {}\r\nPONG\r\nMSG a.b 1 %d\r\n%s\r\nPONG\r\n" % (len(COMMAND), COMMAND)
    heard, _ = hear(NatsApp, *(frame(text[at : at + piece], 2) for at in range(0, len(text), piece)))

    assert heard == ["greeted", COMMAND, "answered"]


@pytest.mark.parametrize("piece", [1, 30, 1000])
def test_an_app_of_mqtt_subscribes_when_it_is_let_in_and_confirms_wakes(piece: int) -> None:
    one = publish(b"sarvis/v1/devices/bench-000001/wake", COMMAND, qos=1, packet_id=258)
    text = b"\x20\x02\0\0" + b"\x90\x03\0\x01\x01" + one + publish(b"a", COMMAND) + b"\xd0\0"
    heard, said = hear(MqttApp, *(frame(text[at : at + piece], 2) for at in range(0, len(text), piece)))

    assert heard == ["greeted", one, publish(b"a", COMMAND), "answered"]
    assert b"devices/bench-000001/wake" in said[0]
    assert said[1:] == [b"\x82\x84\0\0\0\0\x40\x02\x01\x02"]


@pytest.mark.parametrize("refusal", [b"\x20\x02\0\x05", b"\x90\x03\0\x01\x80"])
def test_a_refusal_of_mqtt_ends_the_measurement(refusal: bytes) -> None:
    with pytest.raises(Lost):
        hear(MqttApp, frame(refusal, 2))


def test_packets_of_mqtt_are_measured_by_their_length() -> None:
    packet = wake("0123456789ab", 70_000, 1, 1)

    assert packet_end(packet + b"more") == len(packet)
    assert publish_id(packet) == (70_000 % 60_000 + 1).to_bytes(2)
    assert packet_end(b"\x30") == 0
    assert packet_end(b"\x30\x80") == 0
