"""The configuration of nats-server with MQTT, and its users, as text."""

import json
from collections.abc import Mapping

from broker.access.acl import grants
from broker.access.users import User
from broker.provisioning.plan import DATA, MAX_CONNECTIONS, MAX_PACKET_BYTES, Cluster, Plan, check_lines, pid_file
from contract.errors import SettingsError
from infra.host_port import host_port

CONFIG = "nats.conf"
CLUSTER = "sarvis"
USERS = "nats.users.conf"

DELIVERIES = "$MQTT.sub.>"
"""Where the server sends QoS 1 messages to a client's own subscriptions."""

_FORBIDDEN = set(' \t.*>$"\\')


def config_of(number: int) -> str:
    """The name of the main file of a node of a cluster."""
    return CONFIG.replace(".", f"-{number}.")


def can_carry(prefix: str) -> bool:
    """Whether NATS can have topics under a prefix: dots separate its subjects."""
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
    """The main file, of a broker alone or of a node of a cluster."""
    number = None if plan.cluster is None else plan.cluster.node.number
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
        f"server_name: {_quoted(CLUSTER if number is None else f'{CLUSTER}-{number}')}",
        "# Every user may come by MQTT only, so the door for NATS's own clients is on loopback and leads nowhere.",
        'listen: "127.0.0.1:-1"',
        f"pid_file: {_quoted(plan.folder / pid_file(number))}",
        f"max_connections: {MAX_CONNECTIONS}",
        f"max_payload: {MAX_PACKET_BYTES}",
        "jetstream {",
        f"  store_dir: {_quoted(plan.folder / DATA / ('' if number is None else str(number)))}",
        "  max_memory_store: 256MB",
        "  max_file_store: 4GB",
        "  # Each QoS 1 subscription is a consumer.",
        "  limits { default_max_consumers: -1 }",
        "}",
        "mqtt {",
        f"  listen: {_quoted(host_port(plan.listen, plan.port))}",
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
        *([] if plan.cluster is None else _routes(plan, plan.cluster)),
    ]
    return "\n".join(lines) + "\n"


def _routes(plan: Plan, cluster: Cluster) -> list[str]:
    """Every node names all nodes; each is told apart from a client by the authority of its certificate."""
    routes = [f"nats-route://{host_port(node.host, node.route_port)}" for node in cluster.nodes]
    return [
        "cluster {",
        f"  name: {_quoted(CLUSTER)}",
        f"  listen: {_quoted(host_port(plan.listen, cluster.node.route_port))}",
        f"  routes: {_list(routes)}",
        "  tls {",
        f"    cert_file: {_quoted(cluster.cert)}",
        f"    key_file: {_quoted(cluster.key)}",
        f"    ca_file: {_quoted(cluster.ca)}",
        '    min_version: "1.2"',
        "    timeout: 10",
        "  }",
        "}",
    ]


def users(all_users: Mapping[str, User], prefix: str, *, client_certificates: bool) -> str:
    """The included file with the users and their rights."""
    check_prefix(prefix)
    # For NATS a user without a password has an empty password: such a user may be listed only if certificates decide.
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
    """`shown` is the server's name for it: the user name, or the name in its certificate."""
    rights = grants(prefix, name)
    publish = [subject for topic in rights.publish for subject in subjects(topic)]
    subscribe = [subject for topic_filter in rights.subscribe for subject in subjects(topic_filter)]
    password = f", password: {_quoted(bcrypt)}" if bcrypt else ""
    # An empty list would allow everything.
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
