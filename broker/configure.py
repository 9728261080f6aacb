"""Make a folder with everything that one broker with TLS needs; again keeps users and keys and rewrites the rest."""

import pwd
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broker import certs, description, files, kit, mosquitto, nats, revocation
from broker.acl import bridge_user, operator_user, role_of
from broker.certs import Pair
from broker.description import Description, Kind
from broker.eviction import evict
from broker.folder import BrokerFolder, Reload
from broker.kit import Door, Https
from broker.plan import CERTS, DATA, Plan
from broker.users import check_username
from contract.errors import SettingsError

OPERATOR = "admin"
BRIDGE_KIT = "bridge"
OPERATOR_KIT = "operator"
BRIDGE_PORT = 8000


@dataclass(frozen=True, slots=True)
class Wish:
    """What `sarvis broker config` was asked for; `certs` is a folder with certificates, made when it is None."""

    kind: Kind
    out: Path
    hosts: tuple[str, ...]
    prefix: str
    listen: str = "0.0.0.0"
    port: int = 8883
    certs: Path | None = None
    client_certificates: bool = False
    instance: str = "bridge-1"
    operator_port: int | None = None
    local_port: int | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What there is now."""

    config: Path
    bridge_kit: Path
    operator_kit: Path
    description: Description
    runs_as_root: bool
    lost_names: tuple[str, ...] = ()
    """Of the server's certificate that was there before."""


def configure(wish: Wish) -> Made:
    """Write the folder; raises SettingsError that says what to do."""
    _check(wish)
    # Brokers change their working directory: what they are told is absolute.
    out = wish.out.absolute()
    files.make_folder(out)
    certs_folder = (wish.certs or out / CERTS).absolute()
    names_before = certs.names_of(certs_folder)
    server = _server_certificate(certs_folder, wish)
    told = Description(
        kind=wish.kind,
        hosts=wish.hosts,
        port=wish.port,
        operator_port=wish.operator_port,
        prefix=wish.prefix,
        client_certificates=wish.client_certificates,
        certs=certs_folder,
        ca_file=certs_folder / certs.CA_CERT,
    )
    description.save(out, told)
    broker = BrokerFolder(out, wish.prefix)
    bridge_kit, operator_kit = out / BRIDGE_KIT, out / OPERATOR_KIT
    https = Https(_https_url(wish.hosts[0]), wish.listen, server)
    door = _door(broker, told, bridge_user(wish.instance), bridge_kit)
    kit.write_bridge_kit(bridge_kit, door, https, broker_dir=Path(".."))
    kit.write_operator_kit(operator_kit, _door(broker, told, operator_user(OPERATOR), operator_kit))
    broker.render()
    plan = Plan(
        folder=out,
        listen=wish.listen,
        port=wish.port,
        server_cert=server.cert,
        server_key=server.key,
        client_ca=told.ca_file if wish.client_certificates else None,
        revoked=revocation.write_list(certs_folder) if wish.client_certificates else None,
        operator_port=wish.operator_port,
        local_port=wish.local_port,
        owner=broker.owner(),
    )
    config = _write_config(wish, plan)
    lost = tuple(name for name in names_before if name not in certs.names_of(certs_folder))
    return Made(config, bridge_kit, operator_kit, told, runs_as_root=_is_root(plan.owner), lost_names=lost)


def add_user(broker: BrokerFolder, told: Description, username: str, *, new_key: bool = False) -> Door:
    """Let one user in; see `add_users`."""
    return add_users(broker, told, [username], new_key=new_key)[username]


def add_users(
    broker: BrokerFolder, told: Description, usernames: Sequence[str], *, new_key: bool = False
) -> dict[str, Door]:
    """Let users in by the broker's own way, with new passwords or certificates; what kits are made from.

    A certificate is renewed with the key it has, and the older one stays valid. With `new_key` every older one is
    revoked; `tell` closes the connection of whoever holds one.
    """
    if new_key and told.client_certificates:
        revocation.revoke(told.certs, *usernames)
    pairs = _certificates(broker, told, usernames)
    passwords = broker.add_all([name for name in usernames if _asks_for_password(told, name)])
    return {name: _way_in(told, name, passwords.get(name), pairs.get(name)) for name in usernames}


def tell(broker: BrokerFolder, told: Description, usernames: Sequence[str], *, new_key: bool) -> Reload:
    """Have the running broker read its users again; with `new_key` close connections under older certificates."""
    if not (new_key and told.client_certificates and told.kind == "mosquitto"):
        return broker.reload()
    with tempfile.TemporaryDirectory() as folder:
        shown = {name: certs.issue_client(told.certs, name, into=Path(folder), days=1) for name in usernames}
        revocation.revoke_these(told.certs, shown.values())
        reload = broker.reload()
        if reload == "reloaded":
            for username, pair in shown.items():
                evict(told, username, pair)
    return reload


def _let_in(broker: BrokerFolder, told: Description, username: str, password: str | None) -> Door:
    """As `add_user`, but a valid password is kept."""
    if not _asks_for_password(told, username) or password is None or not broker.verify(username, password):
        return add_user(broker, told, username)
    return _way_in(told, username, password, _certificates(broker, told, [username]).get(username))


def _way_in(told: Description, username: str, password: str | None, certificate: Pair | None) -> Door:
    url = told.operator_url if role_of(username) == "operator" else told.url
    return Door(url, username, told.prefix, told.ca_file, password=password, certificate=certificate)


def _certificates(broker: BrokerFolder, told: Description, usernames: Sequence[str]) -> dict[str, Pair]:
    """New or renewed certificates, where clients show one; whom a certificate alone lets in is let in."""
    if not told.client_certificates:
        return {}
    pairs, shown = {}, {}
    for username in usernames:
        is_new = not (told.certs / f"{username}.key").exists()
        name = f"{username}.{secrets.token_hex(4)}" if is_new else broker.certificate_name(username)
        pairs[username] = certs.issue_client(told.certs, username, name=name)
        (found,) = certs.describe(pairs[username].cert).names
        if not _asks_for_password(told, username):
            shown[username] = None if found == username else found
    broker.add_certificate_users(shown)
    return pairs


def _asks_for_password(told: Description, username: str) -> bool:
    """Whether a certificate alone does not let this user in.

    A listener of Mosquitto that leaves client ids free would let every device's certificate in, under any client id: on
    that of the operators the certificate opens the connection, and the password says who comes.
    """
    return not told.client_certificates or (told.operator_port is not None and role_of(username) == "operator")


def remove_user(broker: BrokerFolder, username: str) -> Reload | None:
    """Let a user in no more, and close its connection; what the running broker was told, None for an unknown user."""
    told = broker.describe()
    if not broker.remove(username):
        return None
    if told is None or not told.client_certificates:
        return broker.reload()
    with tempfile.TemporaryDirectory() as folder:
        shown = certs.issue_client(told.certs, username, into=Path(folder), days=1)
        revocation.revoke(told.certs, username)
        reload = broker.reload()
        if reload == "reloaded" and told.kind == "mosquitto":
            evict(told, username, shown)
    return reload


def _check(wish: Wish) -> None:
    check_username(bridge_user(wish.instance))
    if not wish.hosts:
        raise SettingsError("name the broker's machine as its clients call it, with --host")
    if wish.kind == "nats":
        nats.check_prefix(wish.prefix)
    if wish.local_port is not None and wish.kind != "mosquitto":
        raise SettingsError(f"--local-port is for mosquitto; {wish.kind} has one door, which asks everybody for TLS")
    ports = [port for port in (wish.port, wish.operator_port, wish.local_port) if port is not None]
    if len(set(ports)) < len(ports):
        raise SettingsError(
            f"--port {wish.port}, --operator-port {wish.operator_port or 0} and --local-port {wish.local_port or 0} "
            "must differ; 0 leaves out the second or the third"
        )
    if wish.operator_port is not None and wish.kind != "mosquitto":
        raise SettingsError(f"--operator-port is for mosquitto; {wish.kind} lets operators in at --port")
    if wish.local_port is not None and wish.client_certificates:
        raise SettingsError(
            "--local-port and --client-certificates exclude each other: the door on loopback asks for passwords, "
            "and with client certificates nobody has one"
        )


def _server_certificate(folder: Path, wish: Wish) -> Pair:
    """Made by the authority in the folder, which is made as well when the folder is ours; or the one that is there."""
    own = wish.certs is None
    if own and not (folder / certs.CA_CERT).exists():
        certs.make_authority(folder)
    if certs.has_authority(folder):
        return certs.issue_server(folder, wish.hosts)
    pair = Pair(folder / f"{certs.SERVER}.crt", folder / f"{certs.SERVER}.key")
    for path in (folder / certs.CA_CERT, pair.cert, pair.key):
        if not path.is_file():
            raise SettingsError(
                f"{path} does not exist; make an authority with: sarvis certs ca --out {folder}, "
                f"or put your own {certs.CA_CERT}, {pair.cert.name} and {pair.key.name} there"
            )
    if wish.client_certificates:
        raise SettingsError(f"--client-certificates needs {folder / certs.CA_KEY}, to make the clients' certificates")
    return pair


def _door(broker: BrokerFolder, told: Description, username: str, folder: Path) -> Door:
    """The way in that a kit already has, if it still works; else a new one."""
    return _let_in(broker, told, username, _kept_password(folder))


def _kept_password(folder: Path) -> str | None:
    path = folder / kit.PASSWORD
    return files.read(path).strip() if path.is_file() else None


def _write_config(wish: Wish, plan: Plan) -> Path:
    if wish.kind == "embedded":
        path = plan.folder / kit.SETTINGS
        files.write(path, _embedded(wish, plan), files.PUBLIC)
        return path
    files.make_folder(plan.folder / DATA)
    name, text = {"mosquitto": (mosquitto.CONFIG, mosquitto.config), "nats": (nats.CONFIG, nats.config)}[wish.kind]
    files.write(plan.folder / name, text(plan), files.PUBLIC)
    return plan.folder / name


def _embedded(wish: Wish, plan: Plan) -> str:
    client_ca = str(plan.revoked.with_name(revocation.CLIENTS)) if plan.revoked else None
    return kit.toml({
        "auth": {"mode": "required"},
        "mqtt": {"prefix": wish.prefix},
        "broker": {
            "host": wish.listen,
            "port": wish.port,
            "dir": ".",
            "tls_cert": str(plan.server_cert),
            "tls_key": str(plan.server_key),
            "tls_client_ca": client_ca,
        },
    })  # fmt: skip


def _https_url(host: str) -> str:
    return f"https://[{host}]:{BRIDGE_PORT}" if ":" in host else f"https://{host}:{BRIDGE_PORT}"


def _is_root(name: str | None) -> bool:
    return name is not None and pwd.getpwnam(name).pw_uid == 0
