#!/usr/bin/env bash
# A take-over costs the newer connection its last will (iotcore 0.4.0, which is rumqttd in a Python wheel).
#
# One would guess: when a client id connects again, the broker closes the older connection and publishes that one's will
# (MQTT 3.1.1, 3.1.2.5: "the Will Message MUST be published when the Network Connection is subsequently closed"); the
# newer connection keeps its own will until it ends itself.
# What happens: at the take-over the broker publishes the will of the NEWER connection, while its client is there. The
# older will is never published; and when the newer client's socket dies, nothing comes. A device that changes its network
# is thus announced as gone while it is there, and later stays "online" for ever.
# Not documented. Mosquitto, aedes and NATS keep the newer will.
#
# Needs python3 with venv and pip. Ends with 0 while it is so, with 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
broker=""
trap '[ -z "$broker" ] || kill "$broker" 2>/dev/null || true; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check iotcore==0.4.0 paho-mqtt==2.1.0
port=$("$work/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$work/venv/bin/python" -m iotcore --listen 127.0.0.1 --port "$port" >"$work/broker.log" 2>&1 &
broker=$!
"$work/venv/bin/python" - "$port" <<'PYTHON'
import socket
import sys
import threading
import time
from importlib.metadata import version

from paho.mqtt import client as paho

PORT = int(sys.argv[1])


def wait(condition, within_s=10.0):
    ends = time.monotonic() + within_s
    while not condition() and time.monotonic() < ends:
        time.sleep(0.02)
    return condition()


def listens():
    try:
        socket.create_connection(("127.0.0.1", PORT), 1).close()
    except OSError:
        return False
    return True


def connect(client_id, will=None):
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, reconnect_on_failure=False)
    client.here, client.ended = threading.Event(), threading.Event()
    client.on_connect = lambda *_: client.here.set()
    client.on_disconnect = lambda *_: client.ended.set()
    if will:
        client.will_set("status", will, 1)
    client.connect("127.0.0.1", PORT)
    client.loop_start()
    assert client.here.wait(10)
    return client


assert wait(listens, 30)
heard, subscribed = [], threading.Event()
ear = connect("ear")
ear.on_message = lambda _c, _u, message: heard.append(message.payload.decode())
ear.on_subscribe = lambda *_: subscribed.set()
ear.subscribe("status", 1)
assert subscribed.wait(10)

older = connect("device", "will of the older")
newer = connect("device", "will of the newer")
assert older.ended.wait(10), "the older connection stayed"
time.sleep(3)
at_take_over = list(heard)
assert not newer.ended.is_set()
newer.socket().shutdown(socket.SHUT_RDWR)
assert newer.ended.wait(10)
time.sleep(3)
at_death = heard[len(at_take_over):]
ear.disconnect()

print(f"iotcore {version('iotcore')}, paho-mqtt {version('paho-mqtt')}")
print(f"published at the take-over, the newer client being connected: {at_take_over}")
print(f"published when the newer client's socket died:                {at_death}")
print("by MQTT 3.1.1 it would be:                                    ['will of the older'], ['will of the newer']")
sys.exit((at_take_over, at_death) != (["will of the newer"], []))
PYTHON
