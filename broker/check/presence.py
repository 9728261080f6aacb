"""Probes of the state that a broker keeps for clients: retained messages, wills, sessions."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from secrets import token_hex

from broker.check.findings import (
    OFFLINE_QUEUE,
    RESTART_QUEUE,
    RESTART_RETAINED,
    RETAINED_EXACT,
    RETAINED_PRIVATE,
    RETAINED_WILDCARD,
    TAKE_OVER,
    TAKE_OVER_PERSISTENT,
    TAKE_OVER_SILENT,
    WILL_KEEPALIVE,
    WILL_SOCKET,
    Finding,
    Guarantee,
)
from broker.check.peer import Peer, wait
from broker.check.target import Device, Target
from contract.errors import StartError

KEEPALIVE_S = 4
SILENT_AT_MOST_S = 4.0 * KEEPALIVE_S
QUEUED = 20
BACK_WITHIN_S = 60.0
QUIET_S = 0.3
REPLACED_WITHIN_S = 5.0
CRASHED, OLDER = b"crashed", b"older"


def retained(target: Target, bridge: Peer, device: Peer) -> Iterator[Finding]:
    """A status that exists before a client subscribes; and a client that never subscribes."""
    bridge.unsubscribe(target.statuses)
    device.publish(target.status(), b"kept", retain=True)
    for guarantee, topic_filter in ((RETAINED_EXACT, target.status()), (RETAINED_WILDCARD, target.statuses)):
        came = _comes_kept(bridge, topic_filter)
        yield Finding(guarantee, came, "it came" if came else "nothing came")
        bridge.unsubscribe(topic_filter)
    bridge.subscribe(target.statuses)
    device.leave()
    with Peer(target, target.device.credential, "device") as again:
        again.subscribe(target.login())
        bridge.publish(target.login(), b"fence")
        again.hears(target.login(), b"fence")
        leaked = target.status() in {each.topic for each in again.heard}
        again.publish(target.status(), b"", retain=True)
    yield Finding(RETAINED_PRIVATE, not leaked, "came unasked" if leaked else "nothing came without a subscription")


def _comes_kept(bridge: Peer, topic_filter: str) -> bool:
    before = len(bridge.heard)
    bridge.subscribe(topic_filter)
    return wait(lambda: any(each.retained and each.payload == b"kept" for each in bridge.heard[before:]), 2.0)


def will_of_a_dead_socket(target: Target, bridge: Peer) -> Iterator[Finding]:
    """The will after a crash."""
    with Peer(target, target.device.credential, "device", will=(target.status(), CRASHED)) as device:
        began = time.monotonic()
        device.die()
        came = bridge.hears(target.status(), CRASHED)
    seen = f"after {_since(began, bridge, CRASHED):.1f} s" if came else "it never came"
    yield Finding(WILL_SOCKET, came, seen)


@dataclass(frozen=True)
class Silent:
    """A client that has been silent since a moment by the monotonic clock; its socket stays open."""

    guarantee: Guarantee
    device: Device
    peer: Peer
    will: bytes
    since: float

    @classmethod
    def begin(cls, target: Target, bridge: Peer, device: Device, role: str, *, taken_over: bool = False) -> "Silent":
        """Connect with a short keep-alive, and fall silent; the bridge keeps listening, whatever else it unsubscribes.

        `taken_over`: it takes the place of an older connection first.
        """
        guarantee = TAKE_OVER_SILENT if taken_over else WILL_KEEPALIVE
        status = target.status(device.id)
        bridge.subscribe(status)
        with ExitStack() as stack:
            if taken_over:
                older = stack.enter_context(Peer(target, device.credential, role, will=(status, OLDER)))
            # It may be started twice, each time with its own will.
            will = f"{guarantee.key} {token_hex(4)}".encode()
            peer = Peer(target, device.credential, role, keepalive_s=KEEPALIVE_S, will=(status, will))
            if taken_over:
                older.ended.wait(REPLACED_WITHIN_S)
        since = time.monotonic()
        peer.fall_silent()
        return cls(guarantee, device, peer, will, since)

    def finish(self, target: Target, bridge: Peer) -> Iterator[Finding]:
        """Wait for the will, at most as long as a broker may take; then the connection is closed."""
        status = target.status(self.device.id)
        left_s = self.since + SILENT_AT_MOST_S - time.monotonic()
        seen = f"not within {SILENT_AT_MOST_S:.0f} s"
        if came := bridge.hears(status, self.will, max(0.0, left_s)):
            at = next(each.at for each in bridge.heard if (each.topic, each.payload) == (status, self.will))
            seen = f"after {at - self.since:.1f} s"
            # A broker may not drop a client so soon: the will was published while the client was connected.
            came = at - self.since > KEEPALIVE_S / 2
        yield Finding(self.guarantee, came, f"{seen}, keep-alive {KEEPALIVE_S} s")


def _since(began: float, hearer: Peer, payload: bytes) -> float:
    return next(each.at for each in reversed(hearer.heard) if each.payload == payload) - began


def take_overs(target: Target, bridge: Peer) -> Iterator[Finding]:
    """The same client id twice, as after a change of network."""
    with Peer(target, target.device.credential, "device") as older:
        with Peer(target, target.device.credential, "device") as newer:
            ended = older.ended.wait(2.0)
            hears = newer.welcome and bool(newer.subscribe(target.login())) and _hears_commands(target, bridge, newer)
        older_says = "the older one ended" if ended else "the older one stayed"
        yield Finding(
            TAKE_OVER, ended and hears, f"{older_says}, the newer one {'receives' if hears else 'receives nothing'}"
        )
    time.sleep(QUIET_S)  # a broker that still processes the old connection would have three of this name
    with Peer(target, target.device.credential, "device", clean=False) as older:
        older.subscribe(target.login())
        with Peer(target, target.device.credential, "device", clean=False) as newer:
            older.ended.wait(2.0)
            hears = newer.welcome and _hears_commands(target, bridge, newer)
    _forget(target)
    yield Finding(TAKE_OVER_PERSISTENT, hears, "it keeps receiving" if hears else "it receives nothing")


def _hears_commands(target: Target, bridge: Peer, device: Peer) -> bool:
    """At once, and after the broker has dropped the older connection: only then aMQTT breaks the newer one."""
    bridge.publish(target.login(), b"at once")
    time.sleep(QUIET_S)
    bridge.publish(target.login(), b"later")
    return wait(lambda: {b"at once", b"later"} <= set(device.payloads(target.login())), 2.0)


def offline_queue(target: Target, bridge: Peer) -> Iterator[Finding]:
    """Messages for a device that is absent for a while."""
    _go_away(target, bridge)
    came = _come_back(target)
    yield Finding(OFFLINE_QUEUE, came == QUEUED, f"{came} of {QUEUED}")


def restart(target: Target, bridge: Peer, again: Callable[[], None]) -> Iterator[Finding]:
    """The state before and after `again` has restarted the broker; raises StartError if it does not come back."""
    with Peer(target, target.device.credential, "device") as device:
        device.publish(target.status(), b"kept", retain=True)
    _go_away(target, bridge)
    again()
    bridge.ended.wait(BACK_WITHIN_S)
    with _back(target) as hearer:
        hearer.subscribe(target.statuses)
        kept = wait(lambda: b"kept" in hearer.payloads(target.status()), 2.0)
        yield Finding(RESTART_RETAINED, kept, "it came" if kept else "nothing came")
    came = _come_back(target)
    yield Finding(RESTART_QUEUE, came == QUEUED, f"{came} of {QUEUED}")
    with Peer(target, target.device.credential, "device") as device:
        device.publish(target.status(), b"", retain=True)


def _back(target: Target) -> Peer:
    ends = time.monotonic() + BACK_WITHIN_S
    while True:
        try:
            peer = Peer(target, target.bridge, "bridge")
        except StartError:
            if time.monotonic() > ends:
                raise
        else:
            if peer.welcome:
                return peer
            peer.leave()
        time.sleep(QUIET_S)


def _go_away(target: Target, bridge: Peer) -> None:
    with Peer(target, target.device.credential, "device", clean=False) as device:
        device.subscribe(target.login())
    # Until the broker has read the DISCONNECT, it may send messages to a socket that is no longer read.
    time.sleep(QUIET_S)
    for number in range(QUEUED):
        bridge.publish(target.login(), f"queued {number}".encode())


def _come_back(target: Target) -> int:
    def queued() -> int:
        return len({each for each in device.payloads(target.login()) if each.startswith(b"queued")})

    with Peer(target, target.device.credential, "device", clean=False) as device:
        wait(lambda: queued() == QUEUED)
        came = queued()
    _forget(target)
    return came


def _forget(target: Target) -> None:
    with Peer(target, target.device.credential, "device"):
        pass
