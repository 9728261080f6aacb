"""Renews a server's certificate wherever it is served from one folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.provisioning import certs, description, kit
from broker.provisioning.certs import Pair
from broker.provisioning.configure import BRIDGE_KIT, node_certificate
from broker.provisioning.description import Description
from broker.provisioning.folder import BrokerFolder, Reload
from contract.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Renewed:
    """The result.

    Attributes:
    signed: an authority signed it; otherwise the existing certificate was copied on.
    lost: names that the older certificate had and this one lacks.
    copies: the certificates of bridges that were replaced by this one.
    foreign: the certificates of bridges with another key, which were not changed.
    reload: how the running broker was informed; None if the folder is not that of a broker.
    """

    pair: Pair
    signed: bool
    lost: tuple[str, ...]
    copies: tuple[Path, ...]
    foreign: tuple[Path, ...]
    reload: Reload | None


def renew(folder: Path, names: Sequence[str] = ()) -> Renewed:
    """Renew `server.crt` with its names, or with others; raises SettingsError.

    `folder` is that of a broker, or that of its certificates.
    """
    broker, told = _broker_of(folder)
    own = told.certs if told else folder
    pair = Pair(own / f"{certs.SERVER}.crt", own / f"{certs.SERVER}.key")
    before = certs.load_certificate(pair.cert) if pair.cert.exists() else None
    old_names = certs.names_of(own)
    signed = certs.has_authority(own)
    if signed or not (told and pair.cert.exists()):
        pair = certs.issue_server(own, names)
        signed = True
    elif names:
        raise SettingsError(
            f"{own} has no {certs.CA_KEY} to sign with: without names, its {pair.cert.name} is handed on"
        )
    lost = tuple(name for name in old_names if name not in certs.names_of(own))
    if broker is None:
        return Renewed(pair, signed, lost, (), (), None)
    if told is not None and told.nodes:
        # As often as the server's: a cluster whose nodes no longer recognise each other is none.
        node_certificate(broker.folder, told.hosts)
    ours = [one.public_key() for one in (before, certs.load_certificate(pair.cert)) if one is not None]
    bridge = broker.folder / BRIDGE_KIT / kit.BRIDGE_CERT
    copies: tuple[Path, ...] = ()
    foreign: tuple[Path, ...] = ()
    if bridge.exists():
        if certs.load_certificate(bridge).public_key() in ours or not signed:
            kit.write_bridge_pair(bridge.parent, pair)
            copies = (bridge,)
        else:
            foreign = (bridge,)
    return Renewed(pair, signed, lost, copies, foreign, broker.reload())


def _broker_of(folder: Path) -> tuple[BrokerFolder | None, Description | None]:
    for candidate in (folder, folder.absolute().parent):
        told = description.load(candidate)
        if told is not None and (candidate == folder or told.certs.resolve() == folder.resolve()):
            return BrokerFolder(candidate, told.prefix), told
    return None, None
