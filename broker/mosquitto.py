"""Mosquitto's configuration, password file and ACL file, as text."""

from collections.abc import Mapping

from broker.acl import grants
from broker.plan import DATA, MAX_CONNECTIONS, MAX_PACKET_BYTES, PID_FILE, Plan, check_lines
from broker.users import User

CONFIG = "mosquitto.conf"
PASSWORDS = "mosquitto.passwords"
ACL = "mosquitto.acl"
LOOPBACK = "127.0.0.1"


def config(plan: Plan) -> str:
    """The main file. One set of users and rights for all listeners: the doors differ only in what they ask for."""
    folder = plan.folder
    lines = [
        "# Written by `sarvis broker config mosquitto`, which writes it anew; start: mosquitto -c THIS_FILE",
        *([f"user {plan.owner}"] if plan.owner else []),
        f"pid_file {folder / PID_FILE}",
        "allow_anonymous false",
        f"password_file {folder / PASSWORDS}",
        f"acl_file {folder / ACL}",
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
        "",
        f"listener {plan.port} {plan.listen}",
        f"max_connections {MAX_CONNECTIONS}",
        "tls_version tlsv1.2",
        f"certfile {plan.server_cert}",
        f"keyfile {plan.server_key}",
        "# Nobody takes over another's connection by its client id.",
        "use_username_as_clientid true",
    ]
    if plan.client_ca is not None:
        lines += [f"cafile {plan.client_ca}", "require_certificate true", "use_identity_as_username true"]
    if plan.revoked is not None:
        lines.append(f"crlfile {plan.revoked}")
    if plan.local_port is not None:
        lines += ["", f"listener {plan.local_port} {LOOPBACK}", "max_connections 100"]
    check_lines(*lines)
    return "\n".join(lines) + "\n"


def passwords(users: Mapping[str, User]) -> str:
    """`password_file`."""
    return "".join(f"{name}:{user.pbkdf2}\n" for name, user in sorted(users.items()) if user.pbkdf2)


def acl(users: Mapping[str, User], prefix: str) -> str:
    """`acl_file`, a section for each user.

    No `pattern` lines: they would give rights to every name, also to operators and to a certificate whose user was
    removed, which Mosquitto still lets in.
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
