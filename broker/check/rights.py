"""Probes of who may connect, publish and subscribe."""

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
from broker.check.peer import REFUSED, Peer, ProbeError
from broker.check.target import Credential, Target
from contract.errors import StartError

CUT = "the broker cuts the connection"


def strangers(target: Target, bridge: Peer) -> Iterator[Finding]:
    """A client without a credential, and one with a wrong password."""
    del bridge
    came = _welcome(target, Credential())
    # A broker that only this machine reaches may be open.
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


def foreign_publish(target: Target, bridge: Peer, device: Peer) -> Iterator[Finding]:
    """A device publishes for another."""
    device.publish(target.wake(target.foreign_id), b"forged")
    if cut := device.ended.is_set():
        device = Peer(target, target.device.credential, "device")
    with device:
        device.publish(target.wake(), b"own")
        own = bridge.hears(target.wake(), b"own")
    forged = bool(bridge.payloads(target.wake(target.foreign_id)))
    refused = CUT if cut else "acknowledged and dropped"
    yield Finding(FOREIGN_PUBLISH, own and not forged, "it was delivered" if forged else refused)


def foreign_subscribe(target: Target, bridge: Peer, device: Peer) -> Iterator[Finding]:
    """A device subscribes to another's commands."""
    try:
        code = device.subscribe(target.login(target.foreign_id))[0]
    except ProbeError:
        if not device.ended.is_set():
            raise
        yield Finding(FOREIGN_SUBSCRIBE, True, CUT)
        return
    fenced = _fenced(target, bridge, device, target.login(target.foreign_id), b"secret")
    heard = b"secret" in device.payloads(target.login(target.foreign_id))
    seen = "it receives them" if heard else "refused in SUBACK" if code >= REFUSED else "granted, nothing delivered"
    yield Finding(FOREIGN_SUBSCRIBE, fenced and not heard, seen)


def forged_command(target: Target, bridge: Peer, device: Peer) -> Iterator[Finding]:
    """A device sends a command to itself, so that it can receive it."""
    device.subscribe(target.login())
    device.publish(target.login(), b"forged")
    if device.ended.is_set():
        yield Finding(FORGED_COMMAND, True, CUT)
        return
    fenced = _fenced(target, bridge, device, target.login(), b"true")
    forged = b"forged" in device.payloads(target.login())
    yield Finding(FORGED_COMMAND, fenced and not forged, "it was delivered" if forged else "acknowledged and dropped")


def _fenced(target: Target, bridge: Peer, device: Peer, topic: str, payload: bytes) -> bool:
    """Whether the device receives its own command that was sent after another message."""
    device.subscribe(target.login())
    bridge.publish(topic, payload)
    bridge.publish(target.login(), b"fence")
    return device.hears(target.login(), b"fence")
