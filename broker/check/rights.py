"""Probes of who may come in, and who may do what."""

from collections.abc import Iterator
from dataclasses import replace

from broker.check.findings import (
    FOREIGN_PUBLISH,
    FOREIGN_SUBSCRIBE,
    FORGED_COMMAND,
    STRANGER,
    WRONG_PASSWORD,
    Finding,
)
from broker.check.peer import REFUSED, Peer
from broker.check.target import Credential, Target
from contract.errors import StartError


def strangers(target: Target) -> Iterator[Finding]:
    """Who shows nothing, and who shows a wrong password."""
    came = _welcome(target, Credential())
    # What only this machine reaches may be open.
    guarantee = replace(STRANGER, needed=target.guarded or target.beyond_this_machine)
    yield Finding(guarantee, not came, "let in" if came else "refused")
    name, password = target.bridge.username, target.bridge.password
    if name is not None and password is not None:
        came = _welcome(target, replace(target.bridge, password=f"{password}-wrong"))
        yield Finding(WRONG_PASSWORD, not came, "let in" if came else "refused")


def _welcome(target: Target, credential: Credential) -> bool:
    try:
        with Peer(target, credential, "stranger") as peer:
            return peer.welcome
    except StartError:  # the TLS handshake was refused
        return False


def rights(target: Target, bridge: Peer, device: Peer) -> Iterator[Finding]:
    """What a device tries in vain."""
    device.publish(target.wake(target.foreign_id), b"forged")
    if device.ended.is_set():
        yield Finding(FOREIGN_PUBLISH, True, "the broker cuts the connection")
        return
    device.publish(target.wake(), b"own")
    own = bridge.hears(target.wake(), b"own")
    forged = bool(bridge.payloads(target.wake(target.foreign_id)))
    yield Finding(FOREIGN_PUBLISH, own and not forged, "it was delivered" if forged else "acknowledged and dropped")
    code = device.subscribe(target.login(target.foreign_id))[0]
    device.subscribe(target.login())
    device.publish(target.login(), b"forged")
    bridge.publish(target.login(target.foreign_id), b"secret")
    bridge.publish(target.login(), b"fence")
    fenced = device.hears(target.login(), b"fence")
    heard = b"secret" in device.payloads(target.login(target.foreign_id))
    seen = "it hears them" if heard else "refused in SUBACK" if code >= REFUSED else "granted, nothing delivered"
    yield Finding(FOREIGN_SUBSCRIBE, fenced and not heard, seen)
    forged = b"forged" in device.payloads(target.login())
    yield Finding(FORGED_COMMAND, fenced and not forged, "it was delivered" if forged else "acknowledged and dropped")
