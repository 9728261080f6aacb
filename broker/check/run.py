"""All probes of a broker, in an order in which none disturbs another."""

from collections.abc import Callable, Iterator

from broker.check import delivery, presence, rights
from broker.check.findings import Finding
from broker.check.peer import Peer
from broker.check.target import Target
from broker.check.window import window
from contract.errors import StartError

ROLE, MUTE_ROLE = "device", "mute"


def check(target: Target, *, restart: Callable[[], None] | None = None, thorough: bool = False) -> Iterator[Finding]:
    """Probe after probe, each finding as soon as it is known.

    Args:
        target: the broker and who comes to it.
        restart: restarts the broker, or waits for somebody who does; None leaves that out.
        thorough: also what takes a minute.

    Raises StartError when the broker cannot be reached or does not let bridge and device in, ProbeError when it does
    not answer in between.
    """
    with _let_in(target, "bridge") as bridge:
        silent = presence.Silent.begin(target, bridge, target.mute, MUTE_ROLE) if target.mute is not None else None
        try:
            yield from _probe(target, bridge, thorough=thorough)
            if silent is None:
                silent = presence.Silent.begin(target, bridge, target.device, ROLE)
            yield from silent.finish(target, bridge)
        finally:
            if silent is not None:
                silent.peer.leave()
        if restart is not None:
            yield from presence.restart(target, bridge, restart)
    if thorough:
        yield from window(target)


def _probe(target: Target, bridge: Peer, *, thorough: bool) -> Iterator[Finding]:
    bridge.subscribe(target.wakes, target.statuses)
    yield from rights.strangers(target)
    with _let_in(target, ROLE) as device:
        if bridge.ended.is_set():
            raise StartError(
                "this broker ends the bridge's connection when the device comes: it lets a user have only one; give "
                "the device a user of its own with --device-user"
            )
        yield from delivery.deliveries(target, bridge, device)
        yield from delivery.latency(target, bridge, device)
        yield from delivery.unsubscribed(target, bridge, device)
        if target.rights:
            yield from rights.rights(target, bridge, device)
    yield from delivery.sizes(target, bridge)
    with _let_in(target, ROLE) as device:
        yield from presence.retained(target, bridge, device)
    yield from presence.will_of_a_dead_socket(target, bridge)
    yield from presence.take_overs(target, bridge)
    yield from presence.offline_queue(target, bridge)
    with _let_in(target, ROLE) as device:
        if thorough:
            yield from delivery.many_filters(target, bridge, device)
        yield from delivery.versions(target, bridge, device)


def _let_in(target: Target, role: str) -> Peer:
    credential = target.bridge if role == "bridge" else target.device.credential
    peer = Peer(target, credential, role)
    if not peer.welcome:
        peer.leave()
        why = "closed the connection" if peer.code in (None, 0) else f"answered with code {peer.code}"
        raise StartError(
            f"the broker does not let the {role} in: it {why}; check --user, --password-file and the files for TLS"
        )
    return peer
