"""A kit: a folder with all that one client needs, to be copied to its machine."""

import json
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import typer

from broker import files
from broker.access.acl import own_name
from broker.provisioning import certs, ledger_place, written
from broker.provisioning.certs import Pair
from contract.errors import SettingsError
from infra.settings.store_url import OF_SET_UP

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
"""The program's default options, which it reads from a file of its own name."""
FILES = (SETTINGS, PASSWORD, CA, CERT, KEY, BRIDGE_CERT, BRIDGE_KEY, MOSQUITTO_SUB)
"""Files in a kit that are written again."""

_OPTIONS = {"-h", "-p", "--cafile", "--cert", "--key", "-u", "-P"}

Table = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class BrokerAccess:
    """How a client reaches the broker and identifies itself: by a password, a certificate, or both.

    Attributes:
        url: as `mqtt.url` has it: of a cluster the addresses of all nodes.
    """

    url: str
    username: str
    prefix: str
    ca_file: Path
    password: str | None = None
    certificate: Pair | None = None


@dataclass(frozen=True, slots=True)
class BridgeAccess:
    """How apps and operators reach the bridge, and where it listens."""

    url: str
    listen: str
    pair: Pair


def check(folder: Path, username: str | None = None, *, replace: bool = False) -> None:
    """Raises SettingsError if a kit would replace other files or another user's kit.

    With `replace` they are renamed.
    """
    there = [folder / name for name in FILES if (folder / name).is_symlink() or (folder / name).exists()]
    links = [path for path in there if path.is_symlink()]
    settings = folder / SETTINGS
    if links:
        fault = f"{links[0]} is a symbolic link and is not replaced"
    elif there and not written.is_written(settings):
        fault = f"{there[0]} was not written by sarvis and is not replaced"
    elif there and username is not None and _username(settings) != username:
        fault = f"{folder} is the kit of {_username(settings)} and is not replaced"
    else:
        return
    if not replace:
        raise SettingsError(
            f"{fault}; name another folder, or keep the existing files under other names with --replace"
        )
    written.set_aside(there)


def write_device_kit(folder: Path, door: BrokerAccess, *, uid: str | None = None) -> Path:
    """Write a kit for `sarvis edge`; returns its sarvis.toml. Raises SettingsError."""
    return _write(folder, door, {"edge": {"device_id": own_name(door.username), "uid": uid}})


def write_bridge_kit(folder: Path, door: BrokerAccess, https: BridgeAccess, *, broker_dir: Path | None = None) -> Path:
    """Write a kit for `sarvis bridge`; `broker_dir` is the folder in which its machine adds devices.

    Raises SettingsError.
    """
    files.make_folder(folder)
    if _is_of(folder, https.pair, door.ca_file):
        write_bridge_pair(folder, https.pair)
    else:
        typer.echo(f"{folder / BRIDGE_CERT} has a key of its own and is left as it is", err=True)
    tables: dict[str, Table] = {
        "store": {"url": ledger_place.of_set_up(folder / SETTINGS)},
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
    """Put a certificate and its key into the kit of a bridge, which loads them by itself."""
    # The key first: the bridge loads a new pair once both match.
    _copy(pair.key, folder / BRIDGE_KEY, files.SECRET)
    _copy(pair.cert, folder / BRIDGE_CERT, files.PUBLIC)


def write_operator_kit(folder: Path, door: BrokerAccess) -> Path:
    """Write a kit for observers of topics, with mosquitto_sub too; returns its sarvis.toml. Raises SettingsError."""
    path = _write(folder, door, {})
    defaults = folder / MOSQUITTO_SUB
    if defaults.exists() and any(line.split(" ")[0] not in _OPTIONS for line in files.read(defaults).splitlines()):
        if files.read(defaults).startswith(_mosquitto_sub(door)):
            return path
        written.set_aside([defaults])
    _write_if_other(defaults, _mosquitto_sub(door), files.SECRET)
    return path


def watch_command(folder: Path, prefix: str) -> str:
    """The operator's command to observe: no argument shows the password to other users of the machine."""
    topic_filter = shlex.quote(f"{prefix}/#")
    return f"cd {shlex.quote(str(folder))} && XDG_CONFIG_HOME=. {MOSQUITTO_SUB} -t {topic_filter} -v"


def _write(folder: Path, door: BrokerAccess, more: Mapping[str, Table]) -> Path:
    if door.password is None and door.certificate is None:
        raise SettingsError(f"{door.username} needs either a password or a certificate")
    files.make_folder(folder)
    if (folder / CA).exists() and (folder / CA).read_bytes() != _bytes(door.ca_file):
        written.set_aside([folder / CA])
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
        _write_if_other(folder / PASSWORD, f"{door.password}\n", files.SECRET)
        mqtt |= {"password_file": PASSWORD}
    # Remains of another credential are removed.
    for left in ((CERT, KEY) if door.certificate is None else ()) + ((PASSWORD,) if door.password is None else ()):
        files.remove(folder / left)
    path = folder / SETTINGS
    text = _settings({"mqtt": mqtt, **more})
    if "store" in more and not written.was_last(path, text):
        text = _settings({"mqtt": mqtt, **more, "store": {"url": ledger_place.of_kit(path)}})
    written.write(path, text)
    return path


def _settings(tables: Mapping[str, Table]) -> str:
    # A table that set-up wrote and a person wrote once more is allowed: scripts append [store].
    return toml(tables).replace("\n[store]\n", f"\n[store]  {OF_SET_UP}\n")


def _mosquitto_sub(door: BrokerAccess) -> str:
    address = urlsplit(door.url.partition(",")[0])
    options = {"-h": address.hostname, "-p": address.port, "--cafile": CA}
    if door.certificate is not None:
        options |= {"--cert": CERT, "--key": KEY}
    if door.password is not None:
        options |= {"-u": door.username, "-P": door.password}
    return "".join(f"{option} {value}\n" for option, value in options.items())


def toml(tables: Mapping[str, Mapping[str, str | int | None]]) -> str:
    """TOML of tables of texts and numbers; None values and empty tables are omitted."""
    parts = ["# Written by a command, which writes it anew. Relative paths start at this folder.\n"]
    for name, table in tables.items():
        lines = [f"{key} = {_value(value)}" for key, value in table.items() if value is not None]
        if lines:
            parts.append("\n".join([f"[{name}]", *lines, ""]))
    return "\n".join(parts)


def _value(value: str | int) -> str:
    # A JSON string is a TOML string, except for one character that JSON need not escape.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _copy(source: Path, target: Path, mode: int) -> None:
    _write_if_other(target, _bytes(source), mode)


def _bytes(path: Path) -> bytes:
    with files.explained(path):
        return path.read_bytes()


def _username(settings: Path) -> str | None:
    try:
        name = tomllib.loads(files.read(settings)).get("mqtt", {}).get("username")
    except (tomllib.TOMLDecodeError, AttributeError):
        return None
    return name if isinstance(name, str) else None


def _is_of(folder: Path, pair: Pair, authority: Path) -> bool:
    """Whether the bridge's certificate is the server's, an older one of it, or missing."""
    cert = folder / BRIDGE_CERT
    if not cert.exists():
        return True
    same_key = certs.load_certificate(cert).public_key() == certs.load_certificate(pair.cert).public_key()
    return same_key or certs.signed_by(cert, authority)


def _write_if_other(path: Path, data: str | bytes, mode: int) -> None:
    raw = data.encode() if isinstance(data, str) else data
    if path.is_symlink() or not path.exists() or path.read_bytes() != raw:
        files.write(path, data, mode)
