#!/usr/bin/env bash
# What one would guess: a peer that changes its mind amid a fragmented message may say goodbye at once. RFC 6455, 5.4, lets
#   control frames come between the fragments of a message, a close is a control frame, and Autobahn's case 7.1.5 wants such
#   a close answered with its own code.
# What happens (websockets 15.0.1 and 17.4): the close with 1000 is answered with 1002 and "incomplete fragmented message", so
#   the peer is told that it broke the protocol, and a server counts a clean end as a failure. wsproto 1.3.2 answers 1000, and
#   both answer 1000 to a close between two whole messages. uvicorn's own WebSocket classes stand on either package.
# Documented: only in the source of websockets (protocol.py, recv_frame), where the rule has no reason beside it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/look.py" <<'PYTHON'
import sys
from importlib.metadata import version

from websockets.protocol import OPEN, SERVER, Protocol
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection

MASK = b"\x01\x02\x03\x04"


def frame(opcode, payload, fin):
    masked = bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))
    return bytes([opcode | (0x80 if fin else 0), 0x80 | len(payload)]) + MASK + masked


WHOLE = frame(1, b"hello", True)
FIRST = frame(1, b"hel", False)
CLOSE = frame(8, b"\x03\xe8", True)


def code_in(output):
    assert output[0] == 0x88, output
    return int.from_bytes(output[2:4], "big")


def by_websockets(data):
    protocol = Protocol(SERVER, state=OPEN)
    protocol.receive_data(data)
    protocol.events_received()
    return code_in(b"".join(protocol.data_to_send()))


def by_wsproto(data):
    connection = Connection(ConnectionType.SERVER)
    connection.receive_data(data)
    for event in connection.events():
        if isinstance(event, CloseConnection):
            return code_in(connection.send(event.response()))


print("websockets", version("websockets"), "wsproto", version("wsproto"))
seen = {
    "websockets": (by_websockets(WHOLE + CLOSE), by_websockets(FIRST + CLOSE)),
    "wsproto": (by_wsproto(WHOLE + CLOSE), by_wsproto(FIRST + CLOSE)),
}
for name, (after, amid) in seen.items():
    print(f"{name}: close 1000 after a message: {after}, amid a message: {amid}")
sys.exit(0 if seen == {"websockets": (1000, 1002), "wsproto": (1000, 1000)} else 1)
PYTHON
for release in 15.0.1 17.4; do
    python3 -m venv "$folder/$release"
    "$folder/$release/bin/pip" install -q --disable-pip-version-check "websockets==$release" wsproto==1.3.2
    "$folder/$release/bin/python" "$folder/look.py"
done
