"""A kit: a folder with all that one client needs, which can be moved to its machine as a whole."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from broker import files
from broker.acl import own_name
from broker.certs import Pair
from contract.errors import SettingsError

SETTINGS = "sarvis.toml"
PASSWORD = "password"  # noqa: S105 - the name of a file
CA = "ca.crt"
CERT = "client.crt"
KEY = "client.key"
BRIDGE_CERT = "bridge.crt"
BRIDGE_KEY = "bridge.key"
SIGNING_KEYS = "signing.keys"
OPERATOR_KEY = "operator.key"

MOSQUITTO_SUB = "mosquitto_sub"
"""The program's defaults, which it reads from a file of its own name."""

Table = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Door:
    """How a client reaches the broker and proves who it is: by a password, a certificate, or both."""

    url: str
    username: str
    prefix: str
    ca_file: Path
    password: str | None = None
    certificate: Pair | None = None


@dataclass(frozen=True, slots=True)
class Https:
    """How apps and operators reach the bridge, and where it listens."""

    url: str
    listen: str
    pair: Pair


def write_device_kit(folder: Path, door: Door, *, uid: str | None = None) -> Path:
    """Write a kit for `sarvis edge`; returns its sarvis.toml. Raises SettingsError."""
    return _write(folder, door, {"edge": {"device_id": own_name(door.username), "uid": uid}})


def write_bridge_kit(folder: Path, door: Door, https: Https, *, broker_dir: Path | None = None) -> Path:
    """Write a kit for `sarvis bridge`; `broker_dir` is where its machine adds devices. Raises SettingsError."""
    files.make_folder(folder)
    write_bridge_pair(folder, https.pair)
    tables: dict[str, Table] = {
        "auth": {"mode": "required", "key_file": SIGNING_KEYS},
        "bridge": {
            "instance": own_name(door.username),
            "host": https.listen,
            "tls_cert": BRIDGE_CERT,
            "tls_key": BRIDGE_KEY,
        },
        "broker": {"dir": str(broker_dir) if broker_dir else None},
        "operator": {"url": https.url, "ca_file": CA, "api_key_file": OPERATOR_KEY},
    }
    return _write(folder, door, tables)


def write_bridge_pair(folder: Path, pair: Pair) -> None:
    """Put a certificate and its key into the kit of a bridge, which takes them into use by itself."""
    # The key first: the bridge takes a new pair into use when both fit.
    _copy(pair.key, folder / BRIDGE_KEY, files.SECRET)
    _copy(pair.cert, folder / BRIDGE_CERT, files.PUBLIC)


def write_operator_kit(folder: Path, door: Door) -> Path:
    """Write a kit for whoever watches topics, with mosquitto_sub too; returns its sarvis.toml. Raises SettingsError."""
    path = _write(folder, door, {})
    files.write(folder / MOSQUITTO_SUB, _mosquitto_sub(door))
    return path


def watch_command(folder: Path, prefix: str) -> str:
    """How an operator watches: no argument shows the password to other users of the machine."""
    topic_filter = shlex.quote(f"{prefix}/#")
    return f"cd {shlex.quote(str(folder))} && XDG_CONFIG_HOME=. {MOSQUITTO_SUB} -t {topic_filter} -v"


def _write(folder: Path, door: Door, more: Mapping[str, Table]) -> Path:
    if door.password is None and door.certificate is None:
        raise SettingsError(f"{door.username} needs either a password or a certificate")
    files.make_folder(folder)
    _copy(door.ca_file, folder / CA, files.PUBLIC)
    mqtt: dict[str, str | None] = {
        "url": door.url,
        "username": door.username,
        "prefix": door.prefix,
        "ca_file": CA,
    }
    if door.certificate is not None:
        _copy(door.certificate.key, folder / KEY, files.SECRET)
        _copy(door.certificate.cert, folder / CERT, files.PUBLIC)
        mqtt |= {"cert_file": CERT, "key_file": KEY}
    if door.password is not None:
        files.write(folder / PASSWORD, f"{door.password}\n")
        mqtt |= {"password_file": PASSWORD}
    # What another way in left behind lets nobody in any more.
    for left in ((CERT, KEY) if door.certificate is None else ()) + ((PASSWORD,) if door.password is None else ()):
        (folder / left).unlink(missing_ok=True)
    path = folder / SETTINGS
    files.write(path, toml({"mqtt": mqtt, **more}), files.PUBLIC)
    return path


def _mosquitto_sub(door: Door) -> str:
    address = urlsplit(door.url)
    options = {"-h": address.hostname, "-p": address.port, "--cafile": CA}
    if door.certificate is not None:
        options |= {"--cert": CERT, "--key": KEY}
    if door.password is not None:
        options |= {"-u": door.username, "-P": door.password}
    return "".join(f"{option} {value}\n" for option, value in options.items())


def toml(tables: Mapping[str, Mapping[str, str | int | None]]) -> str:
    """TOML of tables of texts and numbers; what is None is left out, and so is an empty table."""
    parts = ["# Written by a command, which writes it anew. Relative paths start at this folder.\n"]
    for name, table in tables.items():
        lines = [f"{key} = {_value(value)}" for key, value in table.items() if value is not None]
        if lines:
            parts.append("\n".join([f"[{name}]", *lines, ""]))
    return "\n".join(parts)


def _value(value: str | int) -> str:
    # A JSON string is a TOML string, but for one character that JSON need not escape.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _copy(source: Path, target: Path, mode: int) -> None:
    with files.explained(source):
        data = source.read_bytes()
    files.write(target, data, mode)
