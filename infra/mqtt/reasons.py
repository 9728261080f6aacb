"""Explains why a connection to a broker ended, the likeliest reason first.

MQTT 3.1.1 has no reason codes: a broker only closes. paho then reports "Unspecified error" for every cause.
"""

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from infra.host_port import host_port
from infra.settings.broker import MqttSettings

SHORT_S = 30.0
"""Two clients that disconnect each other both return within the longest pause between two attempts."""

LONG_KEEPALIVE_S = 60
"""Some routers and firewalls drop connections that are silent for longer."""

Stage: TypeAlias = Literal["unanswered", "subscribing", "standing"]
"""How far a connection came: CONNECT was sent, the broker accepted it, all subscriptions were granted."""

_SAYS_NOTHING = "Unspecified error"
_NO_MQTT = frozenset({"Protocol error", "Malformed packet"})
_SILENT_BROKER = "Keep alive timeout"
_OTHER_PROTOCOLS = {
    4222: "NATS's own protocol; its MQTT port is a different one, set in its mqtt { }",
    5671: "AMQP; MQTT is usually at 8883",
    5672: "AMQP; MQTT is usually at 1883",
    8080: "HTTP",
    8083: "MQTT over WebSocket, which SARVIS does not speak; plain MQTT is usually at 1883",
    8084: "MQTT over WebSocket, which SARVIS does not speak; plain MQTT is usually at 8883",
    9001: "MQTT over WebSocket, which SARVIS does not speak; plain MQTT is usually at 1883",
    15675: "MQTT over WebSocket, which SARVIS does not speak; plain MQTT is usually at 1883",
}
_USUAL_TLS = frozenset({8883, 8884, 8886})
_USUAL_PLAIN = 1883

# paho's texts for the return codes 1 to 5 of a CONNACK.
_VERSION, _CLIENT_ID, _UNAVAILABLE = 132, 133, 136
_BAD_CREDENTIALS = frozenset({134, 135})


@dataclass(frozen=True, slots=True)
class Client:
    """The client that connects.

    Attributes:
        id_setting: the setting from which the client id comes, as `edge.device_id`.
        filters: its subscriptions.
    """

    settings: MqttSettings
    client_id: str
    id_setting: str
    filters: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Ending:
    """The facts about a connection that ended.

    Attributes:
        said: the library's reason.
        lived_s: seconds since the broker accepted it; 0 if it did not.
        short_lives: how many connections in a row before this one were accepted and ended within SHORT_S.
        been_up: whether the broker accepted a connection at this address before.
    """

    said: str
    stage: Stage
    lived_s: float = 0.0
    short_lives: int = 0
    been_up: bool = False


def ended(client: Client, ending: Ending) -> str:
    """One line: the event, then the likely reasons, the likeliest first."""
    match ending.stage:
        case "standing":
            return _standing(client, ending)
        case "subscribing":
            forbidden = (
                f"{_user(client)} may not subscribe, and the broker closes the connection instead of refusing "
                f"(RabbitMQ does)"
            )
            reasons = [_taken(client), forbidden] if ending.been_up else [forbidden, _taken(client)]
            return _line(f"{_who(ending)} at the subscription to {', '.join(client.filters)}", *reasons)
        case "unanswered":
            return _line(f"{_who(ending)} before it answered CONNECT", *_before_an_answer(client, ending))


def silent(client: Client, within_s: float) -> str:
    """The server accepted the TCP connection and never answered."""
    return _line(
        f"the broker did not answer within {within_s:g} s",
        *_usually(client),
        "the server there does not speak MQTT: check host and port in mqtt.url",
        "the broker is overloaded",
    )


def refused(client: Client, code: int, said: str) -> str:
    """The broker refused the CONNECT."""
    fact = f"the broker refused the connection: {said}"
    if code in _BAD_CREDENTIALS:
        return f"{fact}; {_about_credentials(client.settings)}"
    if code == _CLIENT_ID:
        keepalive_s = client.settings.keepalive_s
        long = f"mqtt.keepalive_s, {keepalive_s}, is more than the broker allows; lower it"
        return _line(
            fact,
            f"it does not accept the client id {client.client_id!r}, which comes from {client.id_setting}: some "
            "brokers require a prefix or the user's name, NATS refuses blanks, `.`, `*` and `>`",
            *([long] if keepalive_s > LONG_KEEPALIVE_S else []),
        )
    if code == _VERSION:
        return f"{fact}; this client speaks MQTT 3.1.1: let the broker accept that version, too"
    if code == _UNAVAILABLE:
        return f"{fact}; it is starting, or accepts no more clients; try again later"
    return fact


def not_reached(client: Client, error: OSError) -> str | None:
    """The TCP connection failed; None if the error needs no explanation."""
    settings = client.settings
    if isinstance(error, socket.gaierror):
        return f"no address is known for {settings.host} ({error.strerror}); check the host in mqtt.url, and DNS here"
    if error.errno == errno.ECONNREFUSED:
        place = host_port(settings.host, settings.port)
        return f"{error}; nothing listens at {place}: start the broker, or check mqtt.url"
    if error.errno in {errno.EHOSTUNREACH, errno.ENETUNREACH}:
        return f"{error}; the network has no route to {settings.host}: check the network, and the host in mqtt.url"
    return None


def about_port(settings: MqttSettings) -> str:
    """A hint about the port for a failed TLS connection."""
    return "; port 1883 is usually the one without TLS, 8883 the one with it" if settings.port == _USUAL_PLAIN else ""


def _standing(client: Client, ending: Ending) -> str:
    fact = f"{_who(ending)} after {_seconds(ending.lived_s)}"
    if ending.said == _SILENT_BROKER:
        return _line(fact, "the broker hangs", "the network between failed")
    restarted, network = "the broker was stopped or restarted", "the network between failed"
    if ending.lived_s < SHORT_S:
        again = f", {ending.short_lives + 1} times in a row" if ending.short_lives else ""
        forbidden = (
            f"{_user(client)} may not publish below {client.settings.prefix}, and the broker closes the connection for "
            f"it (RabbitMQ does)"
        )
        return _line(fact + again, _taken(client), forbidden, restarted, network)
    keepalive_s = client.settings.keepalive_s
    idle = f"a firewall drops connections that are silent for less than mqtt.keepalive_s, {keepalive_s}: lower it"
    first = [idle] if keepalive_s > LONG_KEEPALIVE_S else []
    return _line(fact, *first, restarted, network, _taken(client))


def _before_an_answer(client: Client, ending: Ending) -> list[str]:
    settings = client.settings
    turned_away = (
        "the broker closes the connection of this client without a reason: because of its address, its id "
        f"{client.client_id}, MQTT 3.1.1 or too many clients; the broker's log has the reason"
    )
    if ending.been_up:
        # So host, port and TLS are right. NATS closes connections that replace each other too often.
        return [_taken(client), "the broker restarts, or accepts no more clients"]
    if settings.tls:
        wanted = "if the broker requires a client certificate, set mqtt.cert_file and mqtt.key_file"
        shown = "check that the broker accepts the certificate in mqtt.cert_file"
        return [wanted if settings.cert_file is None else shown, turned_away]
    tls = "if the broker speaks TLS there, write mqtts:// in mqtt.url"
    if settings.port in _USUAL_TLS:
        return [f"port {settings.port} usually speaks TLS: write mqtts:// in mqtt.url", turned_away]
    if settings.port == _USUAL_PLAIN:
        return [turned_away, tls]
    if ending.said in _NO_MQTT:
        return [*_usually(client), "the server there does not speak MQTT: check host and port in mqtt.url", tls]
    return [*_usually(client), tls, turned_away]


def _usually(client: Client) -> list[str]:
    other = _OTHER_PROTOCOLS.get(client.settings.port)
    return [] if other is None else [f"port {client.settings.port} usually speaks {other}"]


def _about_credentials(settings: MqttSettings) -> str:
    has_password = settings.password is not None or settings.password_file is not None
    if settings.username is not None and (has_password or settings.cert_file is None):
        secret = "mqtt.password" if settings.password is not None else "mqtt.password_file"
        return f"check mqtt.username and {secret}"
    if settings.cert_file is not None:
        return "check that the broker knows the name in mqtt.cert_file, or set mqtt.username"
    return "set mqtt.username and mqtt.password_file"


def _who(ending: Ending) -> str:
    if ending.said == _SAYS_NOTHING:
        return "the connection ended: the broker or the network closed it"
    return f"the connection ended: {ending.said},"


def _taken(client: Client) -> str:
    return (
        f"another client with the id {client.client_id} took its place: look for a second one with the same "
        f"{client.id_setting}"
    )


def _user(client: Client) -> str:
    name = client.settings.username
    return "this client" if name is None else f"the user {name}"


def _line(fact: str, *reasons: str) -> str:
    if len(reasons) == 1:
        return f"{fact}; {reasons[0]}"
    told = "; ".join(f"({number}) {reason}" for number, reason in enumerate(reasons, 1))
    return f"{fact}; the likely reasons: {told}"


def _seconds(lived_s: float) -> str:
    return f"{lived_s:.1f} s" if lived_s < SHORT_S else f"{lived_s:.0f} s"
