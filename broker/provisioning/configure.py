"""Creates or updates the folder of a broker: certificates, users, kits, configuration."""

import dataclasses
import pwd
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from broker import files
from broker.access import passwords
from broker.access.acl import bridge_user, operator_user, role_of
from broker.access.users import check_username
from broker.provisioning import certs, description, kit, mosquitto, nats, relocation, revocation, written
from broker.provisioning.certs import Pair
from broker.provisioning.description import Description, Kind
from broker.provisioning.eviction import evict
from broker.provisioning.folder import BrokerFolder, Reload
from broker.provisioning.kit import BridgeAccess, BrokerAccess
from broker.provisioning.plan import CERTS, DATA, ROUTE_PORT, ROUTES, Cluster, Plan, nodes_of
from contract.errors import SettingsError
from infra.host_port import host_port
from infra.readable import is_there

OPERATOR = "admin"
BRIDGE_KIT = "bridge"
OPERATOR_KIT = "operator"
BRIDGE_PORT = 8000
_CONFIGS: dict[Kind, str] = {"mosquitto": mosquitto.CONFIG, "nats": nats.CONFIG, "embedded": kit.SETTINGS}

HandOver = Callable[[Mapping[str, BrokerAccess]], AbstractContextManager[None]]
"""Delivers new credentials to their clients on entry; raises if it cannot."""


@dataclass(frozen=True, slots=True)
class ConfigRequest:
    """The options of `sarvis broker config`; `certs` is a folder with certificates, created if None."""

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
    cluster: int | None = None
    """The number of NATS servers; `hosts` are their machines then."""
    route_port: int = ROUTE_PORT
    replace: bool = False
    """Files of other programs in the folder are renamed, not deleted."""


@dataclass(frozen=True, slots=True)
class Made:
    """The resulting broker; `configs` has a file for each node of a cluster, else one."""

    configs: tuple[Path, ...]
    bridge_kit: Path
    operator_kit: Path
    description: Description
    runs_as_root: bool
    lost_names: tuple[str, ...] = ()
    """Of the previous server certificate."""

    @property
    def config(self) -> Path:
        """The configuration, of a cluster that of its first node."""
        return self.configs[0]


def configure(wish: ConfigRequest) -> Made:
    """Write the folder; raises SettingsError that says what to do."""
    _check(wish)
    # Brokers change their working directory, so all paths are absolute.
    out = wish.out.absolute()
    files.make_folder(out)
    before = description.load(out)
    for folder in (out / BRIDGE_KIT, out / OPERATOR_KIT):
        kit.check(folder, replace=wish.replace)
    nodes = () if wish.cluster is None else nodes_of(wish.hosts, wish.cluster, wish.port, wish.route_port)
    if before is not None and before.kind == wish.kind and bool(before.nodes) != bool(nodes):
        raise SettingsError(
            f"{out} is the folder of {'a cluster' if before.nodes else 'one broker alone'}, which does not become the "
            "other; name another folder"
        )
    for name in [nats.config_of(node.number) for node in nodes] or [_CONFIGS[wish.kind]]:
        written.refuse_foreign(out / name, replace=wish.replace)
    broker = BrokerFolder(out, wish.prefix, before=before, replace=wish.replace)
    broker.refuse_foreign()
    relocation.relocate(out)
    certs_folder = (wish.certs or out / CERTS).absolute()
    names_before = certs.names_of(certs_folder)
    server = _server_certificate(certs_folder, wish)
    told = Description(
        kind=wish.kind,
        hosts=wish.hosts,
        port=wish.port,
        operator_port=wish.operator_port,
        nodes=tuple((node.host, node.port) for node in nodes),
        prefix=wish.prefix,
        client_certificates=wish.client_certificates,
        certs=certs_folder,
        ca_file=certs_folder / certs.CA_CERT,
    )
    if told != before:
        description.save(out, told)
    bridge_kit, operator_kit = out / BRIDGE_KIT, out / OPERATOR_KIT
    https = BridgeAccess(f"https://{host_port(wish.hosts[0], BRIDGE_PORT)}", wish.listen, server)
    _give(
        broker, told, bridge_user(wish.instance), bridge_kit,
        lambda door: kit.write_bridge_kit(bridge_kit, door, https, broker_dir=Path("..")),
    )  # fmt: skip
    _give(
        broker, told, operator_user(OPERATOR), operator_kit,
        lambda door: kit.write_operator_kit(operator_kit, door),
    )  # fmt: skip
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
    if nodes:
        pair = node_certificate(out, wish.hosts)
        ca = out / ROUTES / certs.CA_CERT
        clusters = [Cluster(node, nodes, pair.cert, pair.key, ca) for node in nodes]
        plans = [dataclasses.replace(plan, port=one.node.port, cluster=one) for one in clusters]
    else:
        plans = [plan]
    configs = tuple(_write_config(wish, one) for one in plans)
    lost = tuple(name for name in names_before if name not in certs.names_of(certs_folder))
    return Made(configs, bridge_kit, operator_kit, told, runs_as_root=_is_root(plan.owner), lost_names=lost)


def node_certificate(folder: Path, hosts: Sequence[str]) -> Pair:
    """By which the nodes of a cluster recognise each other: the present one, if it is for these hosts and lasts."""
    routes = folder / ROUTES
    if not certs.has_authority(routes):
        certs.make_authority(routes)
    if certs.is_current(routes, certs.NODE, hosts):
        return Pair(routes / f"{certs.NODE}.crt", routes / f"{certs.NODE}.key")
    return certs.issue_node(routes, hosts)


def add_user(broker: BrokerFolder, told: Description, username: str, *, new_key: bool = False) -> BrokerAccess:
    """Add one user; see `add_users`."""
    return add_users(broker, told, [username], new_key=new_key)[username]


def add_users(
    broker: BrokerFolder,
    told: Description,
    usernames: Sequence[str],
    *,
    new_key: bool = False,
    hand_over: HandOver = lambda _: nullcontext(),
) -> dict[str, BrokerAccess]:
    """Add users by the broker's own method, with new passwords or certificates; returns the data for kits.

    A certificate is renewed with its key, and the older one stays valid. With `new_key` every older one is revoked,
    and `tell` closes connections that use one. The users become valid inside `hand_over`: if that raises before, the
    previous credentials stay valid.
    """
    if told.kind == "mosquitto":
        known = set(broker.users())
        mosquitto.check_names(name for name in usernames if name not in known)
    if new_key and told.client_certificates:
        revocation.revoke(told.certs, *usernames)
    pairs, shown = _certificates(broker, told, usernames)
    made = {name: passwords.new_password() for name in usernames if _asks_for_password(told, name)}
    doors = {name: _way_in(told, name, made.get(name), pairs.get(name)) for name in usernames}
    with hand_over(doors):
        broker.admit(made, shown)
    return doors


def tell(broker: BrokerFolder, told: Description, usernames: Sequence[str], *, new_key: bool) -> Reload:
    """Make the running broker reload its users; with `new_key` close connections with older certificates."""
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


def _give(
    broker: BrokerFolder, told: Description, username: str, folder: Path, write: Callable[[BrokerAccess], object]
) -> None:
    """Write a kit with the existing credential of the folder if it still works, otherwise with a new one."""
    kept = _kept_password(folder) if _asks_for_password(told, username) else None
    current = _current_pair(told, username)
    if _asks_for_password(told, username):
        works = kept is not None and broker.verify(username, kept)
    else:
        works = current is not None and broker.lets_certificate_in(username)
    if not works:
        add_users(broker, told, [username], hand_over=lambda doors: files.prepared(lambda: write(doors[username])))
        return
    pairs, shown = ({}, {}) if current is not None else _certificates(broker, told, [username])
    with files.prepared(lambda: write(_way_in(told, username, kept, current or pairs.get(username)))):
        if shown:
            broker.admit({}, shown)


def _current_pair(told: Description, username: str) -> Pair | None:
    """The client's certificate, if clients use one and it need not be renewed."""
    if not told.client_certificates or not certs.is_current(told.certs, username):
        return None
    return Pair(told.certs / f"{username}.crt", told.certs / f"{username}.key")


def _way_in(told: Description, username: str, password: str | None, certificate: Pair | None) -> BrokerAccess:
    url = told.operator_url if role_of(username) == "operator" else told.url
    return BrokerAccess(url, username, told.prefix, told.ca_file, password=password, certificate=certificate)


def _certificates(
    broker: BrokerFolder, told: Description, usernames: Sequence[str]
) -> tuple[dict[str, Pair], dict[str, str | None]]:
    """New or renewed certificates, if clients use them; and for `admit` the users whom a certificate alone admits."""
    pairs: dict[str, Pair] = {}
    shown: dict[str, str | None] = {}
    if not told.client_certificates:
        return pairs, shown
    for username in usernames:
        is_new = not (told.certs / f"{username}.key").exists()
        name = f"{username}.{secrets.token_hex(4)}" if is_new else broker.certificate_name(username)
        pairs[username] = certs.issue_client(told.certs, username, name=name)
        (found,) = certs.describe(pairs[username].cert).names
        if not _asks_for_password(told, username):
            shown[username] = None if found == username else found
    return pairs, shown


def _asks_for_password(told: Description, username: str) -> bool:
    """Whether this user needs a password in addition to a certificate.

    A listener of Mosquitto without checks of client ids would admit every device's certificate with any client id: on
    the
    operators' listener the certificate opens the connection, and the password identifies the user.
    """
    return not told.client_certificates or (told.operator_port is not None and role_of(username) == "operator")


def remove_user(broker: BrokerFolder, username: str) -> Reload | None:
    """Remove a user and close its connection; returns how the running broker was informed, None for an unknown user."""
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


def _check(wish: ConfigRequest) -> None:
    check_username(bridge_user(wish.instance))
    if not wish.hosts:
        raise SettingsError("name the broker's machine as its clients do, with --host")
    if wish.kind == "nats":
        nats.check_prefix(wish.prefix)
    elif wish.cluster is not None:
        raise SettingsError(f"--cluster is for nats; {wish.kind} has no cluster")
    if wish.local_port is not None and wish.kind != "mosquitto":
        raise SettingsError(f"--local-port is for mosquitto; {wish.kind} has one port, which requires TLS")
    ports = [port for port in (wish.port, wish.operator_port, wish.local_port) if port is not None]
    if len(set(ports)) < len(ports):
        raise SettingsError(
            f"--port {wish.port}, --operator-port {wish.operator_port or 0} and --local-port {wish.local_port or 0} "
            "must differ; 0 omits the second or the third"
        )
    if wish.operator_port is not None and wish.kind != "mosquitto":
        raise SettingsError(f"--operator-port is for mosquitto; {wish.kind} lets operators in at --port")
    if wish.local_port is not None and wish.client_certificates:
        raise SettingsError(
            "--local-port and --client-certificates exclude each other: the port on loopback requires passwords, "
            "and with client certificates no user has one"
        )


def _server_certificate(folder: Path, wish: ConfigRequest) -> Pair:
    """Signed by the authority in the folder, which is created if the folder is ours; otherwise the existing one."""
    own = wish.certs is None
    if own and not (folder / certs.CA_CERT).exists():
        certs.make_authority(folder)
    if certs.has_authority(folder):
        if certs.is_current(folder, certs.SERVER, wish.hosts):
            return Pair(folder / f"{certs.SERVER}.crt", folder / f"{certs.SERVER}.key")
        return certs.issue_server(folder, wish.hosts)
    pair = Pair(folder / f"{certs.SERVER}.crt", folder / f"{certs.SERVER}.key")
    for path in (folder / certs.CA_CERT, pair.cert, pair.key):
        if not is_there(path):
            raise SettingsError(
                f"{path} does not exist; create an authority with: sarvis certs ca --out {folder}, "
                f"or put your own {certs.CA_CERT}, {pair.cert.name} and {pair.key.name} there"
            )
    if wish.client_certificates:
        raise SettingsError(f"--client-certificates needs {folder / certs.CA_KEY}, to sign the clients' certificates")
    return pair


def _kept_password(folder: Path) -> str | None:
    path = folder / kit.PASSWORD
    return files.read(path).strip() if is_there(path) else None


def _write_config(wish: ConfigRequest, plan: Plan) -> Path:
    if wish.kind == "embedded":
        path = plan.folder / kit.SETTINGS
        written.write(path, _embedded(wish, plan), replace=wish.replace)
        return path
    files.make_folder(plan.folder / DATA)
    text = {"mosquitto": mosquitto.config, "nats": nats.config}[wish.kind]
    path = plan.folder / (_CONFIGS[wish.kind] if plan.cluster is None else nats.config_of(plan.cluster.node.number))
    written.write(path, text(plan), replace=wish.replace)
    return path


def _embedded(wish: ConfigRequest, plan: Plan) -> str:
    def inside(path: Path) -> str:
        return str(path.relative_to(plan.folder) if path.is_relative_to(plan.folder) else path)

    client_ca = inside(plan.revoked.with_name(revocation.CLIENTS)) if plan.revoked else None
    return kit.toml({
        "auth": {"mode": "required"},
        "mqtt": {"prefix": wish.prefix},
        "broker": {
            "host": wish.listen,
            "port": wish.port,
            "dir": ".",
            "tls_cert": inside(plan.server_cert),
            "tls_key": inside(plan.server_key),
            "tls_client_ca": client_ca,
        },
    })  # fmt: skip


def _is_root(name: str | None) -> bool:
    return name is not None and pwd.getpwnam(name).pw_uid == 0
