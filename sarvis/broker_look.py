"""Examines the broker for `sarvis doctor` without disturbing a node or bridge of the same settings.

A broker ends the older connection when a client id connects again, and a clean session deletes queued messages. So the
doctor connects with its own client id. Mosquitto, as `sarvis broker config` configures it, replaces the client id by
the user name, so that only a wrong password could be tried without harm: this is detected first, by a request of MQTT 5
that it refuses before it looks at sessions, and then the doctor does not connect. A node or bridge on this machine is
asked by HTTP.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

from broker.access.acl import client_id_of, role_of
from broker.provisioning.certs import common_name_of
from contract import client_ids
from contract.errors import SarvisError
from infra import tls
from infra.diagnostics import Finding
from infra.mqtt import reasons as mqtt_reasons
from infra.mqtt import session as mqtt
from infra.mqtt.connection import explain
from infra.mqtt.probe import MQTT_5, NO_METHOD, WITHIN_S, Answer, Greeting, knock, new_client_id
from infra.mqtt.reasons import Client, Ending
from infra.mqtt.what_listens import what_listens
from infra.redaction import redact
from infra.secrets import secret_of
from infra.settings.loader import Settings
from sarvis.running import Running, running_here

_WELCOME, _WRONG_ID = 0, 2
_OTHER_VERSION = frozenset({1, 0x84})
_CODES = {
    1: (132, "Unsupported protocol version"),
    2: (133, "Client identifier not valid"),
    3: (136, "Server unavailable"),
    4: (134, "Bad user name or password"),
    5: (135, "Not authorized"),
}
"""Codes of MQTT 3.1.1, and the numbers and texts of MQTT 5 for the same."""
_START = "start it, or set mqtt.url"


@dataclass(frozen=True, slots=True)
class _Way:
    """How the node connects to the broker, and with which identity."""

    settings: Settings
    password: str | None
    context: ssl.SSLContext | None
    identity: str | None

    @classmethod
    def read(cls, settings: Settings) -> "_Way":
        """Raises SettingsError that names the setting and the file."""
        ours = settings.mqtt
        mqtt.check(ours)
        password = secret_of(ours.password, ours.password_file, "mqtt.password_file")
        context = tls.client_context(ours.ca_file, ours.cert_file, ours.key_file, who="mqtt") if ours.tls else None
        return cls(settings, password, context, identity_of(ours.username, ours.cert_file))

    @property
    def is_bound(self) -> bool:
        """Whether a broker may replace every client id of this user by one."""
        return self.identity is not None and role_of(self.identity) in {"device", "bridge"}

    @property
    def own_id(self) -> str:
        """The client id of the node itself."""
        if self.identity is not None and role_of(self.identity) == "bridge":
            return client_id_of(self.identity) or ""
        return client_ids.of_device(self.settings.edge.device_id or self.identity or "")

    def knock(self, client_id: str, *, clean: bool = True) -> Answer:
        """A CONNECT of MQTT 3.1.1; raises OSError."""
        greeting = Greeting(client_id, self.settings.mqtt.username, self.password, clean=clean)
        return knock(self.settings.mqtt, self.context, greeting)

    def would_bind(self) -> Answer | None:
        """The answer of an MQTT 5 broker that may replace the client id by the user name; else None.

        None, too, for a broker that closes the connection at MQTT 5.
        """
        client_id, ours = new_client_id("doctor"), self.settings.mqtt
        answer = knock(
            ours, self.context, Greeting(client_id, ours.username, self.password, version=MQTT_5, method=NO_METHOD)
        )
        return None if answer.code in _OTHER_VERSION or (answer.closed and not answer.raw) else answer


def look(settings: Settings, *, as_node: bool = False) -> Finding:
    """Whether the broker accepts these settings.

    `as_node`: with the node's own client id, which ends a running node's connection.
    """
    what = f"broker {settings.mqtt.url}"
    try:
        way = _Way.read(settings)
    except SarvisError as error:
        return Finding(what, "failed", "cannot be used", redact(str(error)))
    try:
        return _as_node(what, way) if as_node else _beside(what, way)
    except OSError as error:
        return Finding(what, "failed", _other(way) or explain(error, _client(way, way.own_id)), _START)


def _beside(what: str, way: _Way) -> Finding:
    """With a client id that no client has."""
    first = way.would_bind() if way.is_bound else None
    if first is not None and first.is_mqtt:
        if first.code == _WELCOME:
            return Finding(what, "fine", "accepts this user")
        return _of_what_runs(what, way, running_here(way.settings, way.identity))
    client_id = new_client_id("doctor")
    answer = first or way.knock(client_id)
    if answer.code == _WRONG_ID and way.is_bound:
        return Finding(what, "fine", f"accepts this user, with the client id {way.own_id} only")
    return _of_answer(what, way, client_id, answer)


def _as_node(what: str, way: _Way) -> Finding:
    """A session with messages for the node stays unchanged: no message is acknowledged."""
    if (running := running_here(way.settings, way.identity)) is not None:
        return _of_what_runs(what, way, running)
    answer = way.knock(way.own_id, clean=False)
    if answer.code == _WELCOME and not answer.present:
        way.knock(way.own_id)  # deletes the session that was just created
    return _of_answer(what, way, way.own_id, answer)


def _of_what_runs(what: str, way: _Way, running: Running | None) -> Finding:
    if running is None:
        return Finding(
            what,
            "warning",
            f"answers; whether it accepts {way.identity} was not tried, because that would end the connection of a "
            f"node that runs elsewhere as {way.identity}",
            "start the node and repeat, or stop it wherever it runs and use sarvis doctor --as-node",
        )
    if running.connected:
        return Finding(what, "fine", f"{running.who}, which runs here, is connected")
    if running.connected is None:
        return Finding(
            what,
            "warning",
            f"answers; {running.who} runs here, does not report whether it is connected, and was not disturbed",
            "look at its log, or stop it and use sarvis doctor --as-node",
        )
    return Finding(
        what, "failed", f"{running.who}, which runs here, is not connected: {running.problem}", "see its log"
    )


def _of_answer(what: str, way: _Way, client_id: str, answer: Answer) -> Finding:
    client = _client(way, client_id)
    if answer.code == _WELCOME:
        return Finding(what, "fine", "accepts this user" if way.identity else "connected")
    if answer.code is not None:
        code, said = _CODES.get(answer.code, (answer.code, f"code {answer.code}"))
        return Finding(what, "failed", mqtt_reasons.refused(client, code, said), "see docs/operations.md")
    silent = mqtt_reasons.silent(client, WITHIN_S)
    ended = mqtt_reasons.ended(client, Ending("Unspecified error", "unanswered"))
    return Finding(what, "failed", _other(way) or (ended if answer.closed else silent), _START)


def _other(way: _Way) -> str | None:
    ours = way.settings.mqtt
    return what_listens(ours.host, ours.port, tls=ours.tls, sure=True)


def _client(way: _Way, client_id: str) -> Client:
    return Client(way.settings.mqtt, client_id, "edge.device_id")


def identity_of(username: str | None, cert_file: Path | None) -> str | None:
    """The identity that the broker uses: the certificate's name if it requires certificates."""
    shown = common_name_of(cert_file) if cert_file is not None else None
    return shown if shown is not None and role_of(shown) is not None else username or shown
