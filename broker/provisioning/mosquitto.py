"""Mosquitto's configuration, password file and ACL file, as text."""

from collections.abc import Iterable, Mapping

from broker.access.acl import grants, role_of
from broker.access.users import User
from broker.provisioning.plan import DATA, MAX_CONNECTIONS, MAX_PACKET_BYTES, PID_FILE, Plan, check_lines
from contract import client_ids
from contract.errors import SettingsError

CONFIG = "mosquitto.conf"
PASSWORDS = "mosquitto.passwords"
OPERATORS = "mosquitto.operators.passwords"
ACL = "mosquitto.acl"
LOOPBACK = "127.0.0.1"
MAX_OPERATORS = 100
"""Connections to a listener for other clients than devices."""


def config(plan: Plan) -> str:
    """The main file.

    Mosquitto 2.0 binds client ids to users for a whole listener, or not at all. Devices and bridges need it, because a
    client
    must not take over another's connection; operators, who observe from several places with one user name, use a
    listener
    of their own, which admits only them.
    """
    folder = plan.folder
    lines = [
        "# Written by `sarvis broker config mosquitto`, which writes it anew; start: mosquitto -c THIS_FILE",
        *([f"user {plan.owner}"] if plan.owner else []),
        f"pid_file {folder / PID_FILE}",
        "per_listener_settings true",
        "persistence true",
        f"persistence_location {folder / DATA}/",
        "# Every 5 s, not after every change: that would cost more than the messages.",
        "autosave_interval 5",
        "persistent_client_expiration 1d",
        "set_tcp_nodelay true",
        f"max_packet_size {MAX_PACKET_BYTES}",
        "# The bridge hears the whole fleet through one connection. With any other number Mosquitto 2.0 loses count of",
        "# what is on its way to a client that also publishes, delivers late and drops: docs/operations.md.",
        "max_inflight_messages 0",
        "max_queued_messages 10000",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
        *_listener(plan, plan.port, plan.listen, MAX_CONNECTIONS, PASSWORDS),
        *_tls(plan),
        "# No client takes over another's connection by its client id.",
        "use_username_as_clientid true",
    ]
    if plan.client_ca is not None:
        lines.append("use_identity_as_username true")
    if plan.operator_port is not None:
        lines += [
            *_listener(plan, plan.operator_port, plan.listen, MAX_OPERATORS, OPERATORS),
            *_tls(plan),
        ]
    if plan.local_port is not None:
        lines += _listener(plan, plan.local_port, LOOPBACK, MAX_OPERATORS, PASSWORDS)
    check_lines(*lines)
    return "\n".join(lines) + "\n"


def _listener(plan: Plan, port: int, address: str, max_connections: int, password_file: str) -> list[str]:
    """A listener with the users of a file, each with its rights."""
    return [
        "",
        f"listener {port} {address}",
        f"max_connections {max_connections}",
        "allow_anonymous false",
        f"password_file {plan.folder / password_file}",
        f"acl_file {plan.folder / ACL}",
    ]


def _tls(plan: Plan) -> list[str]:
    """With client certificates every client of the listener shows one."""
    lines = ["tls_version tlsv1.2", f"certfile {plan.server_cert}", f"keyfile {plan.server_key}"]
    if plan.client_ca is not None:
        lines += [f"cafile {plan.client_ca}", "require_certificate true"]
    if plan.revoked is not None:
        lines.append(f"crlfile {plan.revoked}")
    return lines


def check_names(usernames: Iterable[str]) -> None:
    """Raises SettingsError for a new user whose client id would be that of another.

    At the port with TLS a client id is the user name, at the one on loopback the client chooses it: there
    `sarvis-jetson-1` is the device `jetson-1`, and `sarvis-bridge-bridge-1` the bridge.
    """
    for name in usernames:
        if name.startswith(client_ids.PREFIX):
            raise SettingsError(
                f"{name} is the client id of another on this broker; choose a name that does not begin with "
                f"{client_ids.PREFIX}"
            )


def passwords(users: Mapping[str, User]) -> str:
    """`password_file` of all users with a password."""
    return "".join(f"{name}:{user.pbkdf2}\n" for name, user in sorted(users.items()) if user.pbkdf2)


def operators(users: Mapping[str, User]) -> str:
    """`password_file` of the operators' listener."""
    return passwords({name: user for name, user in users.items() if role_of(name) == "operator"})


def acl(users: Mapping[str, User], prefix: str) -> str:
    """`acl_file`, a section for each user.

    No `pattern` lines: they would give rights to every name, also to operators and to a certificate whose user was
    removed, which Mosquitto still admits.
    """
    check_lines(prefix)
    sections = []
    for name in sorted(users):
        rights = grants(prefix, name)
        sections += [
            f"user {name}",
            *(f"topic write {topic}" for topic in rights.publish),
            *(f"topic read {topic_filter}" for topic_filter in rights.subscribe),
            "",
        ]
    return "\n".join(sections)
