"""Probes of combined states: wills, take-overs, retained messages, earlier sessions. Each may work alone."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

from broker.check.findings import (
    CLEAN_SESSION,
    RETAINED_CLEARED,
    TAKE_OVER_OLDER_WILL,
    TAKE_OVER_STATUS,
    TAKE_OVER_TWICE,
    TAKE_OVER_WILL,
    WILL_NEWEST,
    WILL_RETAINED,
    Finding,
)
from broker.check.peer import WITHIN_S, Peer, wait
from broker.check.presence import QUIET_S, REPLACED_WITHIN_S
from broker.check.target import Target

SETTLED_S = 2.0
"""How long to wait for a will that a broker publishes late."""
INSISTS_S = 5.0


def retained_wills(target: Target, bridge: Peer) -> Iterator[Finding]:
    """A status that is set, cleared and set again, then replaced by the last will of its client."""
    status = target.status()
    with _device(target, b"gone for good") as device:
        device.publish(status, b"cleared", retain=True)
        device.publish(status, b"", retain=True)
        cleared = not _is_kept(bridge, status, b"cleared", within_s=QUIET_S)
        device.publish(status, b"set again", retain=True)
        again = _is_kept(bridge, status, b"set again")
        wrong = "the later message did not come" if cleared else "the cleared message came"
        yield Finding(RETAINED_CLEARED, cleared and again, "both" if cleared and again else wrong)
        device.die()
        bridge.hears(status, b"gone for good")
    kept = _is_kept(bridge, status, b"gone for good")
    yield Finding(WILL_RETAINED, kept, "it came" if kept else "the status before it came, or nothing")
    _clear(target)


def newest_will(target: Target, bridge: Peer) -> Iterator[Finding]:
    """A boot, a clean disconnect, a boot with another will, a crash, a boot with a third will, a crash."""
    status = target.status()
    with _device(target, b"will 1"):
        pass
    for number in (2, 3):
        with _device(target, b"will %d" % number) as device:
            device.die()
            bridge.hears(status, b"will %d" % number)
    time.sleep(QUIET_S)
    # Once each: overlapping filters may deliver a message twice.
    came = list(dict.fromkeys(payload for payload in bridge.payloads(status) if payload.startswith(b"will ")))
    _clear(target)
    good = came == [b"will 2", b"will 3"]
    wrong = "a clean disconnect left the will behind" if b"will 1" in came else f"{len(came)} of 2 came"
    yield Finding(WILL_NEWEST, good, "it came" if good else wrong)


def take_over(target: Target, bridge: Peer) -> Iterator[Finding]:
    """The same client id twice, each with a will; then the newer one crashes."""
    status = target.status()
    with _device(target, b"older gone") as older:
        older.publish(status, b"older online", retain=True)
        with _device(target, b"newer gone") as newer:
            older.ended.wait(REPLACED_WITHIN_S)
            newer.publish(status, b"newer online", retain=True)
            bridge.hears(status, b"newer online")
            time.sleep(SETTLED_S)
            came = bridge.payloads(status)
            yield Finding(TAKE_OVER_OLDER_WILL, None, _order(came))
            kept = _is_kept(bridge, status, b"newer online")
            yield Finding(TAKE_OVER_STATUS, kept, "it is" if kept else "it is not")
            early = b"newer gone" in came
            newer.die()
            good = not early and bridge.hears(status, b"newer gone")
    _clear(target)
    wrong = "it was published at the take-over, while its client was connected" if early else "it never came"
    yield Finding(TAKE_OVER_WILL, good, "it came" if good else wrong)


def _order(came: list[bytes]) -> str:
    if b"older gone" not in came:
        return "not published"
    late = b"newer online" in came and came.index(b"older gone") > came.index(b"newer online")
    return "published, but after the newer one's status" if late else "published"


def twice(target: Target, bridge: Peer) -> Iterator[Finding]:
    """Three connections of one client id in quick succession; then the newest crashes."""
    status = target.status()
    with ExitStack() as stack:
        older = [stack.enter_context(_device(target, b"breath %d gone" % number)) for number in (1, 2)]
        newest, turned_away_s = _insisting(target, b"breath 3 gone")
        with newest:
            for each in older:
                each.ended.wait(REPLACED_WITHIN_S)
            hears = newest.welcome and bool(newest.subscribe(target.login()))
            bridge.publish(target.login(), b"in one breath")
            hears = hears and newest.hears(target.login(), b"in one breath")
            early = b"breath 3 gone" in bridge.payloads(status)
            newest.die()
            good = not early and bridge.hears(status, b"breath 3 gone")
    _clear(target)
    its_will = "came" if good else "was published while its client was connected" if early else "never came"
    seen = f"it {'receives' if hears else 'receives nothing'}, its will {its_will}"
    if turned_away_s:
        seen += f"; it was refused for {turned_away_s:.1f} s first"
    yield Finding(TAKE_OVER_TWICE, hears and good, seen)


def _insisting(target: Target, will: bytes) -> tuple[Peer, float]:
    """Connects again each time that it is refused, as an edge does; returns for how long it was."""
    began = time.monotonic()
    while True:
        peer = _device(target, will)
        took_s = time.monotonic() - began
        peer.ended.wait(QUIET_S)
        if peer.welcome or took_s > INSISTS_S:
            return peer, took_s if took_s > QUIET_S else 0.0
        peer.leave()


def clean_session(target: Target, bridge: Peer) -> Iterator[Finding]:
    """A persistent session with a filter and a queued message, then a clean one."""
    with Peer(target, target.device.credential, "device", clean=False) as device:
        device.subscribe(target.login())
    bridge.publish(target.login(), b"waits")
    with Peer(target, target.device.credential, "device") as device:
        bridge.publish(target.login(), b"live")
        device.subscribe(target.outcome())
        bridge.publish(target.outcome(), b"fence")
        fenced = device.hears(target.outcome(), b"fence")
        left = len(device.payloads(target.login()))
    seen = f"{left} of 2 came nevertheless" if left else "nothing of it came"
    yield Finding(CLEAN_SESSION, fenced and not left, seen)


def _device(target: Target, will: bytes) -> Peer:
    """Connects as an edge: with a retained last will on its status."""
    return Peer(target, target.device.credential, "device", will=(target.status(), will), keeps_will=True)


def _is_kept(bridge: Peer, topic: str, payload: bytes, *, within_s: float = WITHIN_S) -> bool:
    """Whether a new subscriber receives it as retained."""
    # Some brokers send retained messages only for new subscriptions, others do not answer an UNSUBSCRIBE from none.
    bridge.subscribe(topic)
    bridge.unsubscribe(topic)
    before = len(bridge.heard)
    bridge.subscribe(topic)
    return wait(
        lambda: any((e.topic, e.payload, e.retained) == (topic, payload, True) for e in bridge.heard[before:]), within_s
    )


def _clear(target: Target) -> None:
    with Peer(target, target.device.credential, "device") as device:
        device.publish(target.status(), b"", retain=True)
