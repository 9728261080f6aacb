"""Closes the connection of a removed user, which Mosquitto would keep.

The revocation list prevents its return, and a connection of our own with its name takes its place.
"""

import socket
import ssl
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from broker.access import acl
from broker.provisioning import certs
from broker.provisioning.certs import Pair
from broker.provisioning.description import Description
from contract.errors import SarvisError

WITHIN_S = 10.0
QUIET_S = 0.3
"""With TLS 1.3 a server refuses a certificate only after the handshake."""


def evict(told: Description, username: str, revoked: Pair) -> None:
    """Wait until the broker refuses the revoked certificate, then take the user's place; raises SarvisError."""
    ends = time.monotonic() + WITHIN_S
    while _is_accepted(told, revoked):
        if time.monotonic() > ends:
            raise SarvisError(
                f"the broker still accepts {username}'s certificate; check that its configuration names the list "
                f"{told.certs / 'ca.crl'} (run sarvis broker config again) and reload it"
            )
        time.sleep(QUIET_S)
    with tempfile.TemporaryDirectory() as folder:
        _take_over(told, username, certs.issue_client(told.certs, username, into=Path(folder), days=1))


def _is_accepted(told: Description, pair: Pair) -> bool:
    address = urlsplit(told.url)
    try:
        with (
            socket.create_connection((address.hostname, address.port), timeout=WITHIN_S) as plain,
            _context(told, pair).wrap_socket(plain, server_hostname=address.hostname) as encrypted,
        ):
            encrypted.settimeout(QUIET_S)
            encrypted.recv(1)
    except TimeoutError:
        return True
    except OSError:
        return False
    return False


def _take_over(told: Description, username: str, pair: Pair) -> None:
    address = urlsplit(told.url)
    client = paho.Client(CallbackAPIVersion.VERSION2, acl.client_id_of(username) or "", reconnect_on_failure=False)
    client.tls_set_context(_context(told, pair))
    answered = Event()
    client.on_connect = lambda *_: answered.set()
    with suppress(OSError):  # then the broker has stopped, and all connections with it
        client.connect(address.hostname or "", address.port or 0)
        client.loop_start()
        answered.wait(WITHIN_S)
        client.disconnect()
        client.loop_stop()


def _context(told: Description, pair: Pair) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=told.ca_file)
    context.load_cert_chain(pair.cert, pair.key)
    return context
