"""Identifies the server at an address where a broker was expected, by its answers to CONNECT, TLS, HTTP and UDP."""

import contextlib
import errno
import re
import socket
import ssl
from contextlib import suppress

from infra.host_port import host_port
from infra.mqtt.probe import Answer, Greeting, new_client_id, reached, said

WITHIN_S = 3.0
_UDP_WITHIN_S = 0.5
_SHOWN_BYTES = 40
_BANNERS: tuple[tuple[bytes, str], ...] = (
    (rb"HTTP/\d", "a web server (HTTP)"),
    (rb"\s*<(!doctype|html)", "a web server (HTTP)"),
    (rb"SSH-", "an SSH server"),
    (rb"INFO \{", "NATS with its own protocol; its MQTT port is a different one, set in its mqtt { }"),
    (rb"AMQP", "a broker for AMQP, which usually has MQTT at 1883 or 8883"),
    (rb"220[ -].*(smtp|mail)", "a mail server (SMTP)"),
    (rb"220[ -]", "an FTP or mail server"),
    (rb"\+OK", "a mail server (POP3) or Redis"),
    (rb"\* OK", "a mail server (IMAP)"),
    (rb"-(ERR|NOAUTH|DENIED)", "Redis"),
    (rb"RFB \d", "VNC"),
    (rb".{3}\x00\x0a[0-9]+\.[0-9]+", "MySQL or MariaDB"),
)
_TLS_RECORD = re.compile(rb"[\x14-\x17]\x03[\x00-\x04]")
_WEBSOCKET = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2FydmlzLWFza3MtYWdhaQ==\r\n"
    "Sec-WebSocket-Protocol: mqtt\r\n\r\n"
)
_PATHS = ("/mqtt", "/")
_SWITCHING = re.compile(rb"HTTP/1\.1 101 ")
_REFUSED = frozenset({errno.ECONNREFUSED})
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_EOF_WHILE_READING", "RECORD_LAYER_FAILURE"})
_CHECK = "check host and port in mqtt.url"


def what_listens(host: str, port: int, *, tls: bool, sure: bool = False) -> str | None:
    """One sentence; None if a broker answers as expected, or nothing certain can be said.

    Sends no user name, and a client id that no other client has.

    Args:
        host: name or address.
        port: of TCP.
        tls: whether TLS was expected.
        sure: None also for a connection that is closed without an answer: brokers do that to unknown clients.
    """
    place = host_port(host, port)
    try:
        found = _with_tls(host, port, place) if tls else _without_tls(host, port, place)
    except OSError as error:
        if error.errno in _REFUSED:
            return _by_udp(host, port, place)
        return None
    return None if sure and found == _closes(place) else found


def _without_tls(host: str, port: int, place: str) -> str | None:
    answer = _answer(host, port, None)
    if answer.is_mqtt:
        return None
    if (named := _named(answer.raw)) is not None:
        return _told(place, named, _speaks_websocket(host, port, None))
    if (encrypted := _tls_server(host, port)) is not None:
        return _of_tls(place, encrypted, _speaks_websocket(host, port, _any_server()))
    if _speaks_websocket(host, port, None):
        return _websocket(place, "1883")
    if (web := _web_server(host, port, None)) is not None:
        return _told(place, web)
    return _nameless(place, answer)


def _with_tls(host: str, port: int, place: str) -> str | None:
    try:
        answer = _tls_server(host, port, strict=True)
    except ssl.SSLError as error:
        # Any other error comes from a server that speaks TLS.
        return _no_tls(host, port, place) if (error.reason or "") in _NO_TLS else None
    except (TimeoutError, ConnectionResetError):
        return _no_tls(host, port, place)
    if answer is None or answer.is_mqtt:
        return None
    if _speaks_websocket(host, port, _any_server()):
        return _websocket(place, "8883")
    named = _named(answer.raw) or _web_server(host, port, _any_server())
    return None if named is None else _told(place, f"{named}, with TLS")


def _no_tls(host: str, port: int, place: str) -> str:
    """TLS was expected and the server does not speak it."""
    plain = _answer(host, port, None)
    if plain.is_mqtt:
        return f"at {place} is an MQTT broker without TLS: write mqtt://{place}, or its port for TLS, usually 8883"
    if _speaks_websocket(host, port, None):
        return _websocket(place, "8883")
    named = _named(plain.raw) or (None if plain.raw else _web_server(host, port, None))
    return _nameless(place, plain) if named is None else _told(place, f"{named}, without TLS")


def _answer(host: str, port: int, context: ssl.SSLContext | None) -> Answer:
    with reached(host, port, context, WITHIN_S) as sock:
        return said(sock, Greeting(new_client_id("check")).encode(), WITHIN_S)


def _tls_server(host: str, port: int, *, strict: bool = False) -> Answer | None:
    """A TLS server's answer to CONNECT; None, or with `strict` an OSError, if the server does not speak TLS."""
    try:
        return _answer(host, port, _any_server())
    except ssl.SSLError as error:
        if strict:
            raise
        # An alert proves TLS, too: the server requires a client certificate, for example.
        return Answer(b"", closed=True) if "ALERT" in (error.reason or "") else None
    except OSError:
        if strict:
            raise
        return None


def _any_server() -> ssl.SSLContext:
    """Only the protocol is examined; no secret is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _web_server(host: str, port: int, context: ssl.SSLContext | None) -> str | None:
    with suppress(OSError), reached(host, port, context, WITHIN_S) as sock:
        return _named(said(sock, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), WITHIN_S).raw)
    return None


def _speaks_websocket(host: str, port: int, context: ssl.SSLContext | None) -> bool:
    for path in _PATHS:
        with contextlib.suppress(OSError), reached(host, port, context, WITHIN_S) as sock:
            words = _WEBSOCKET.format(path=path, host=host).encode()
            if _SWITCHING.match(said(sock, words, WITHIN_S).raw):
                return True
    return False


def _by_udp(host: str, port: int, place: str) -> str:
    """The host has refused TCP, so it would also report a closed UDP port."""
    with suppress(OSError):
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as sock:
            sock.settimeout(_UDP_WITHIN_S)
            sock.connect(address)
            sock.send(b"")
            try:
                sock.recv(1)
            except ConnectionRefusedError:
                return _nothing(place)
            except TimeoutError:
                pass
            return (
                f"no broker answers at {place}: nothing listens there by TCP, but something seems to by UDP (MQTT-SN, "
                f"CoAP?), and MQTT needs TCP; "
                f"{_CHECK}"
            )
    return _nothing(place)


def _named(raw: bytes) -> str | None:
    if _TLS_RECORD.match(raw):
        return None
    return next((name for begins, name in _BANNERS if re.match(begins, raw, re.IGNORECASE | re.DOTALL)), None)


def _told(place: str, named: str, websocket: bool = False) -> str:
    return _websocket(place, "1883") if websocket else f"the server at {place} is not an MQTT broker: {named}; {_CHECK}"


def _websocket(place: str, usual: str) -> str:
    return (
        f"the server at {place} speaks MQTT over WebSocket, which SARVIS does not: use the broker's port for plain "
        f"MQTT, usually {usual}"
    )


def _of_tls(place: str, answer: Answer, websocket: bool) -> str:
    if websocket:
        return _websocket(place, "8883")
    if (named := _named(answer.raw)) is not None:
        return _told(place, f"{named}, with TLS")
    broker = "an MQTT broker" if answer.is_mqtt else "something, perhaps the broker,"
    return f"at {place} {broker} speaks TLS: write mqtts://{place}"


def _nameless(place: str, answer: Answer) -> str:
    if answer.raw:
        begins = answer.raw[:_SHOWN_BYTES]
        return f"the server at {place} is not an MQTT broker: it answers {begins!r}; {_CHECK}"
    if answer.closed:
        return _closes(place)
    return (
        f"the server at {place} accepts the connection and answers neither MQTT nor TLS nor HTTP: it hangs, or is "
        f"not a broker; {_CHECK}"
    )


def _closes(place: str) -> str:
    return (
        f"the server at {place} closes every connection without an answer, with MQTT, TLS and HTTP alike: a broker "
        f"that refuses this address, a proxy without its server, or not a broker; {_CHECK}, and the broker's log"
    )


def _nothing(place: str) -> str:
    return f"no broker answers at {place} (connection refused): nothing listens there; start it, or check mqtt.url"
