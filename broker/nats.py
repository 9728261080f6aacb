"""The configuration of nats-server with MQTT, and its users, as text."""

import json
from collections.abc import Mapping

from broker.acl import grants
from broker.plan import DATA, MAX_CONNECTIONS, MAX_PACKET_BYTES, PID_FILE, Plan, check_lines
from broker.users import User
from contract.errors import SettingsError

CONFIG = "nats.conf"
USERS = "nats.users.conf"

DELIVERIES = "$MQTT.sub.>"
"""Where the server sends QoS 1 messages to a client's own subscriptions."""

_FORBIDDEN = set(' \t.*>$"\\')


def can_carry(prefix: str) -> bool:
    """Whether NATS can have topics under a prefix: its subjects are separated by dots."""
    return all(letter.isprintable() and letter not in _FORBIDDEN for letter in prefix) and "" not in prefix.split("/")


def check_prefix(prefix: str) -> None:
    """Raises SettingsError for a topic prefix that NATS cannot carry."""
    if not can_carry(prefix):
        raise SettingsError(
            f'mqtt.prefix {prefix!r} cannot be carried by NATS; choose one without spaces, dots, *, >, $, " or \\, '
            "and without empty levels, for example sarvis/v1"
        )


def subjects(topic_filter: str) -> list[str]:
    """The NATS subjects of an MQTT topic filter."""
    dotted = topic_filter.replace("/", ".").replace("+", "*")
    if not dotted.endswith(".#"):
        return [dotted]
    # MQTT's `a/#` also matches `a`, and the server subscribes to both.
    above = dotted.removesuffix(".#")
    return [above, f"{above}.>"]


def config(plan: Plan) -> str:
    """The main file."""
    tls = [
        f"cert_file: {_quoted(plan.server_cert)}",
        f"key_file: {_quoted(plan.server_key)}",
        'min_version: "1.2"',
        "timeout: 10",
    ]
    if plan.client_ca is not None:
        tls += [f"ca_file: {_quoted(plan.client_ca)}", "verify_and_map: true"]
    lines = [
        "# Written by `sarvis broker config nats`, which writes it anew; start: nats-server -c THIS_FILE",
        'server_name: "sarvis"',
        "# Every user may come by MQTT only, so the door for NATS's own clients is on loopback and leads nowhere.",
        'listen: "127.0.0.1:-1"',
        f"pid_file: {_quoted(plan.folder / PID_FILE)}",
        f"max_connections: {MAX_CONNECTIONS}",
        f"max_payload: {MAX_PACKET_BYTES}",
        "jetstream {",
        f"  store_dir: {_quoted(plan.folder / DATA)}",
        "  max_memory_store: 256MB",
        "  max_file_store: 4GB",
        "  # Each QoS 1 subscription is a consumer.",
        "  limits { default_max_consumers: -1 }",
        "}",
        "mqtt {",
        f"  listen: {_quoted(_address(plan.listen, plan.port))}",
        '  ack_wait: "5s"',
        "  max_ack_pending: 1000",
        "  tls {",
        *(f"    {line}" for line in tls),
        "  }",
        "}",
        "authorization {",
        "  timeout: 10",
        f"  include {_quoted(USERS)}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def users(all_users: Mapping[str, User], prefix: str, *, client_certificates: bool) -> str:
    """The included file: who, and what each may do."""
    check_prefix(prefix)
    # To NATS a user without a password is one whose password is empty: only where certificates decide may it be named.
    named = {name: user for name, user in all_users.items() if client_certificates or user.bcrypt}
    lines = [
        _user(
            name,
            (user.certificate or name) if client_certificates else name,
            None if client_certificates else user.bcrypt,
            prefix,
        )
        for name, user in sorted(named.items())
    ]
    return "users = [\n" + "".join(lines) + "]\n"


def _user(name: str, shown: str, bcrypt: str | None, prefix: str) -> str:
    """`shown` is how the server knows it: by its name, or by what its certificate says."""
    rights = grants(prefix, name)
    publish = [subject for topic in rights.publish for subject in subjects(topic)]
    subscribe = [subject for topic_filter in rights.subscribe for subject in subjects(topic_filter)]
    password = f", password: {_quoted(bcrypt)}" if bcrypt else ""
    # An empty list would mean everything.
    may_publish = f"{{ allow: {_list(publish)} }}" if publish else '{ deny: ">" }'
    return (
        f'  {{ user: {_quoted(shown)}{password}, allowed_connection_types: ["MQTT"], permissions: {{\n'
        f"    publish: {may_publish}\n"
        f"    subscribe: {{ allow: {_list([*subscribe, DELIVERIES])} }}\n"
        f"  }} }}\n"
    )


def _list(texts: list[str]) -> str:
    return "[" + ", ".join(_quoted(text) for text in texts) + "]"


def _quoted(text: object) -> str:
    check_lines(str(text))
    return json.dumps(str(text), ensure_ascii=False)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
