import pytest

from tools.bench.frames import BINARY, TEXT, client_frame, cut, only


@pytest.mark.parametrize("piece", [1, 3, 100, 70_000])
def test_server_frames_of_every_length_are_cut_out_of_the_stream(piece: int) -> None:
    payloads = [b"", b"a" * 125, b"b" * 126, b"c" * 65_535, b"d" * 65_536]
    stream = b"".join(
        b"\x81" + (
            bytes([len(payload)]) if len(payload) < 126
            else b"\x7e" + len(payload).to_bytes(2) if len(payload) < 65_536
            else b"\x7f" + len(payload).to_bytes(8)
        ) + payload
        for payload in payloads
    )  # fmt: skip
    found: list[tuple[int, bytes]] = []
    tail = b""
    for at in range(0, len(stream), piece):
        more, tail = cut(tail + stream[at : at + piece])
        found += more

    assert found == [(1, payload) for payload in payloads]


def test_a_clients_frame_has_a_mask() -> None:
    assert client_frame(b"hi") == b"\x81\x82\x00\x00\x00\x00hi"


@pytest.mark.parametrize("size", [2, 125, 126, 255, 256, 65_535])
def test_one_whole_frame_is_known_without_being_cut(size: int) -> None:
    payload = b"x" * size
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2)
    frame = b"\x81" + length + payload

    assert frame[only(frame, TEXT) :] == payload
    assert only(frame, BINARY) == 0
    assert only(frame[:-1], TEXT) == 0
    assert only(frame + b"\x81", TEXT) == 0
    assert only(frame + frame, TEXT) == 0


@pytest.mark.parametrize(
    "frame", [b"", b"\x81", b"\x81\x00", b"\x81\x7f" + (70_000).to_bytes(8) + b"x" * 70_000, b"\x01\x02ab"]
)
def test_what_is_not_one_small_whole_frame_is_left_to_the_cutter(frame: bytes) -> None:
    assert only(frame, TEXT) == 0
