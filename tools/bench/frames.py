"""As much of WebSocket as the load needs: frames, cut and made. No input, no output."""

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
WHOLE = 0x80
NO_MASK = bytes(4)
"""A mask of zeros changes nothing: allowed, and free."""


def client_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """A frame of a client; at most 125 bytes."""
    assert len(payload) < 126
    return bytes([WHOLE | opcode, 0x80 | len(payload)]) + NO_MASK + payload


def only(data: bytes, opcode: int) -> int:
    """Where the payload begins if this is one whole frame of that kind, shorter than 64 KiB; else 0."""
    if len(data) < 4 or data[0] != WHOLE | opcode:
        return 0
    size = data[1]
    if size < 126:
        return 2 if len(data) == size + 2 else 0
    return 4 if size == 126 and len(data) == (data[2] << 8 | data[3]) + 4 else 0


def cut(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """A server's frames, each as (opcode, payload), and the beginning of one that is not whole."""
    found = []
    at, end = 0, len(data)
    while end - at >= 2:
        size, head = data[at + 1], 2
        if size == 126:
            size, head = int.from_bytes(data[at + 2 : at + 4]), 4
        elif size == 127:
            size, head = int.from_bytes(data[at + 2 : at + 10]), 10
        if end - at < head + size:
            break
        found.append((data[at] & 15, data[at + head : at + head + size]))
        at += head + size
    return found, data[at:]
