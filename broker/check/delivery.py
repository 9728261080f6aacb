"""Probes of how messages are delivered."""

import statistics
import time
from collections.abc import Iterator

from broker.check.findings import (
    COMMANDS,
    DELIVERY,
    FILTERS,
    LATENCY,
    MQTT_5,
    PAYLOAD,
    PREFIX,
    SHARED,
    UNSUBSCRIBE,
    Finding,
)
from broker.check.peer import REFUSED, Peer, ProbeError, wait
from broker.check.target import Target

MESSAGES = 200
NEEDED_BYTES = 8 * 1024
SIZES = (NEEDED_BYTES, 64 * 1024, 256 * 1024, 1000 * 1024)
ROUND_TRIPS = 100
FILTERS_TRIED = 10_000
FILTERS_AT_ONCE = 100
FILTERS_WITHIN_S = 60.0
STALLED_S = 1.0


def prefix(target: Target, bridge: Peer, device: Peer) -> Iterator[Finding]:
    """Whether a topic is the same on both sides; with a changed prefix all other probes would fail."""
    fault = _changed(target.wake(), target.wakes, device, bridge) or _changed(
        target.login(), target.login(), bridge, device
    )
    yield Finding(PREFIX, fault is None, fault or "they do")


def _changed(topic: str, topic_filter: str, speaker: Peer, hearer: Peer) -> str | None:
    """How a message's topic was changed, if it did not come as it was sent."""
    if hearer.subscribe(topic_filter)[0] >= REFUSED:
        return f"SUBSCRIBE to {topic_filter} was refused"
    before = len(hearer.heard)
    speaker.publish(topic, b"prefix")
    wait(lambda: len(hearer.heard) > before or speaker.ended.is_set())
    came = [each.topic for each in hearer.heard[before:] if each.payload == b"prefix"]
    if topic in came:
        return None
    if came:
        return f"{topic} came as {came[0]}"
    return f"the broker ended the connection at PUBLISH to {topic}" if speaker.ended.is_set() else "nothing came"


def deliveries(target: Target, bridge: Peer, device: Peer) -> Iterator[Finding]:
    """Wakes one way, commands the other."""
    wanted = [f"wake {number}".encode() for number in range(MESSAGES)]
    for payload in wanted:
        device.say(target.wake(), payload)
    wait(lambda: len(set(bridge.payloads(target.wake()))) >= MESSAGES or device.ended.is_set())
    yield _delivered(wanted, bridge.payloads(target.wake()))
    device.subscribe(target.login())
    bridge.publish(target.login(target.foreign_id), b"not for you")
    bridge.publish(target.login(), b"for you")
    came = device.hears(target.login(), b"for you")
    astray = device.payloads(target.login(target.foreign_id))
    seen = "it arrived" if came else "it did not arrive"
    yield Finding(COMMANDS, came and not astray, f"{seen}, and another device's as well" if astray else seen)


def _delivered(wanted: list[bytes], came: list[bytes]) -> Finding:
    known = set(wanted)
    once = list(dict.fromkeys(each for each in came if each in known))
    again = sum(each in known for each in came) - len(once)
    ordered = once == [each for each in wanted if each in set(once)]
    seen = (
        f"{len(once)} of {len(wanted)}" + (f", {again} twice" if again else "") + ("" if ordered else ", out of order")
    )
    return Finding(DELIVERY, len(once) == len(wanted) and ordered, seen)


def latency(target: Target, bridge: Peer, device: Peer) -> Iterator[Finding]:
    """One message after the other."""
    took = []
    for number in range(ROUND_TRIPS):
        payload = f"ping {number}".encode()
        began = time.monotonic()
        device.say(target.wake(), payload)
        if not bridge.hears(target.wake(), payload):
            break
        took.append(next(each.at for each in reversed(bridge.heard) if each.payload == payload) - began)
    if len(took) < ROUND_TRIPS:
        yield Finding(LATENCY, None, f"message {len(took) + 1} did not arrive")
        return
    slices = statistics.quantiles(took, n=20)
    yield Finding(LATENCY, None, f"p50 {slices[9] * 1000:.2f} ms, p95 {slices[18] * 1000:.2f} ms")


def sizes(target: Target, bridge: Peer) -> Iterator[Finding]:
    """Larger and larger messages, each on its own connection, because a broker may cut it."""
    passed = 0
    for size in SIZES:
        with Peer(target, target.device.credential, "device") as device:
            payload = size.to_bytes(4) * (size // 4)
            if not device.publish(target.wake(), payload) or not bridge.hears(target.wake(), payload):
                break
        passed = size
    largest = (
        f"the largest tried, {passed // 1024} KiB, passed" if passed == SIZES[-1] else f"{passed // 1024} KiB passed"
    )
    more = "" if passed == SIZES[-1] else f", {next(size for size in SIZES if size > passed) // 1024} KiB did not"
    yield Finding(PAYLOAD, passed >= NEEDED_BYTES, largest + more)


def unsubscribed(target: Target, bridge: Peer, device: Peer) -> Iterator[Finding]:
    """An unsubscribed filter, and a later message on another filter."""
    device.subscribe(target.login(), target.outcome())
    device.unsubscribe(target.login())
    bridge.publish(target.login(), b"too late")
    bridge.publish(target.outcome(), b"fence")
    fenced = device.hears(target.outcome(), b"fence")
    late = b"too late" in device.payloads(target.login())
    yield Finding(UNSUBSCRIBE, fenced and not late, "it came nevertheless" if late else "nothing came")


def shared(target: Target, bridge: Peer, device: Peer) -> Iterator[Finding]:
    """A feature that SARVIS does not use, but others may."""
    code = bridge.subscribe(f"$share/check/{target.wakes}")[0]
    seen = "refused in SUBACK"
    if code < REFUSED:
        before = len(bridge.payloads(target.wake()))
        bridge.unsubscribe(target.wakes)
        device.publish(target.wake(), b"shared")
        came = bridge.hears(target.wake(), b"shared", STALLED_S)
        seen = "work" if came and len(bridge.payloads(target.wake())) == before + 1 else "granted, but nothing comes"
        bridge.unsubscribe(f"$share/check/{target.wakes}")
    yield Finding(SHARED, None, seen)


def mqtt_5(target: Target, bridge: Peer) -> Iterator[Finding]:
    """The same for MQTT 5."""
    del bridge
    with Peer(target, target.device.credential, "device", mqtt_5=True) as modern:
        yield Finding(MQTT_5, None, "spoken" if modern.welcome else "refused")


def many_filters(target: Target, bridge: Peer, device: Peer) -> Iterator[Finding]:
    """Subscribe one by one to as many topics as a large fleet has."""
    before = _rate(target, bridge, device)
    began, held = time.monotonic(), 0
    try:
        while held < FILTERS_TRIED and time.monotonic() < began + FILTERS_WITHIN_S:
            names = [target.wake(f"{target.foreign_id}-{number}") for number in range(held, held + FILTERS_AT_ONCE)]
            if bridge.subscribe(*names)[0] >= REFUSED:
                break
            held += FILTERS_AT_ONCE
    except ProbeError:
        pass  # the number so far is the finding
    took = time.monotonic() - began
    after = _rate(target, bridge, device)
    seen = f"{held:,} in {took:.1f} s; messages/s {before:,.0f} before, {after:,.0f} with them"
    yield Finding(FILTERS, held >= FILTERS_TRIED and after > before / 2, seen)


def _rate(target: Target, bridge: Peer, device: Peer) -> float:
    began = time.monotonic()
    for number in range(MESSAGES):
        device.say(target.wake(), f"rate {began} {number}".encode())
    bridge.hears(target.wake(), f"rate {began} {MESSAGES - 1}".encode())
    return MESSAGES / (time.monotonic() - began)
