"""Runs all probes of a broker, in an order in which none disturbs another."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from broker.check import combined, delivery, findings, presence, rights
from broker.check.findings import Finding, Guarantee
from broker.check.line import Line, let_in
from broker.check.peer import Peer, ProbeError
from broker.check.presence import Silent
from broker.check.target import Device, Target
from broker.check.window import window
from contract.errors import StartError
from infra.mqtt.what_listens import what_listens

ROLE, MUTE_ROLE, LATE_ROLE = "device", "mute", "late"

WithBridge = Callable[[Target, Peer], Iterator[Finding]]
WithDevice = Callable[[Target, Peer, Peer], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe: `run` yields a finding for each guarantee, or raises on the way."""

    guarantees: tuple[Guarantee, ...]
    run: WithBridge

    @classmethod
    def with_device(cls, run: WithDevice, *guarantees: Guarantee) -> "Probe":
        """A probe that also needs a device, on its own connection."""

        def connected(target: Target, bridge: Peer) -> Iterator[Finding]:
            with let_in(target, ROLE) as device:
                yield from run(target, bridge, device)

        return cls(guarantees, connected)


PROBES = (
    Probe((findings.STRANGER,), rights.strangers),
    Probe.with_device(delivery.deliveries, findings.DELIVERY, findings.COMMANDS),
    Probe.with_device(delivery.latency, findings.LATENCY),
    Probe.with_device(delivery.unsubscribed, findings.UNSUBSCRIBE),
)
OF_RIGHTS = (
    Probe.with_device(rights.foreign_publish, findings.FOREIGN_PUBLISH),
    Probe.with_device(rights.foreign_subscribe, findings.FOREIGN_SUBSCRIBE),
    Probe.with_device(rights.forged_command, findings.FORGED_COMMAND),
)
OF_MEMORY = (
    Probe((findings.PAYLOAD,), delivery.sizes),
    Probe.with_device(
        presence.retained, findings.RETAINED_EXACT, findings.RETAINED_WILDCARD, findings.RETAINED_PRIVATE
    ),
    Probe((findings.WILL_SOCKET,), presence.will_of_a_dead_socket),
    Probe((findings.RETAINED_CLEARED, findings.WILL_RETAINED), combined.retained_wills),
    Probe((findings.WILL_NEWEST,), combined.newest_will),
    Probe((findings.TAKE_OVER, findings.TAKE_OVER_PERSISTENT), presence.take_overs),
    Probe((findings.TAKE_OVER_OLDER_WILL, findings.TAKE_OVER_STATUS, findings.TAKE_OVER_WILL), combined.take_over),
    Probe((findings.TAKE_OVER_TWICE,), combined.twice),
    Probe((findings.CLEAN_SESSION,), combined.clean_session),
    Probe((findings.OFFLINE_QUEUE,), presence.offline_queue),
)
THOROUGH = (Probe.with_device(delivery.many_filters, findings.FILTERS),)
UNNEEDED = (
    Probe.with_device(delivery.shared, findings.SHARED),
    Probe((findings.MQTT_5,), delivery.mqtt_5),
)


def check(target: Target, *, restart: Callable[[], None] | None = None, thorough: bool = False) -> Iterator[Finding]:
    """Run probe after probe, and yield each finding at once.

    Args:
    target: the broker and its clients.
    restart: restarts the broker, or waits until an operator does; None skips these probes.
    thorough: also run probes that take a minute.

    Raises StartError if the broker cannot be reached or refuses bridge and device at the beginning, or does
    not come back from its restart. Later faults of the broker are findings.
    """
    _is_a_broker(target)
    found, target = _prefix(target)
    yield found
    silent_ones = [device for device in (target.mute, target.late) if device is not None]
    with Line(target, *(target.status(device.id) for device in silent_ones)) as line:
        waiting = _Waiting(line)
        try:
            waiting.begin(target.mute, MUTE_ROLE)
            waiting.begin(target.late, LATE_ROLE, taken_over=True)
            for probe in _chosen(target, thorough=thorough):
                yield from _probed(probe, line)
            yield from waiting.finish(target.mute or target.device, MUTE_ROLE if target.mute else ROLE)
            yield from waiting.finish(target.late or target.device, LATE_ROLE if target.late else ROLE, taken_over=True)
        finally:
            waiting.leave()
        if restart is not None:
            yield from presence.restart(target, line.ready(), restart)
    if thorough:
        yield from _safely((findings.WINDOW,), lambda: window(target))


def _chosen(target: Target, *, thorough: bool) -> tuple[Probe, ...]:
    return (*PROBES, *(OF_RIGHTS if target.rights else ()), *OF_MEMORY, *(THOROUGH if thorough else ()), *UNNEEDED)


def _is_a_broker(target: Target) -> None:
    """Raises StartError that names the server there instead, or why bridge and device are refused."""
    tls = target.plain is not None
    # All nodes of a cluster: one that hangs may only wait for another that is gone.
    found = [
        other for host, port in target.nodes if (other := what_listens(host, port, tls=tls, sure=True)) is not None
    ]
    if found:
        raise StartError("; ".join(found))
    try:
        for _ in target.nodes:
            _both_come_in(target)
    except StartError as error:
        other = None if target.others else what_listens(target.host, target.port, tls=tls)
        raise StartError(f"{error}; {other}" if other else str(error)) from error


def _both_come_in(target: Target) -> None:
    with let_in(target, "bridge") as bridge, let_in(target, ROLE):
        if bridge.ended.is_set():
            raise StartError(
                "this broker ends the bridge's connection when the device comes: it allows a user only one; give "
                "the device a user of its own with --device-user"
            )


def _prefix(target: Target) -> tuple[Finding, Target]:
    """The finding for the prefix, and the prefix to probe: another one, if the broker changes only the first."""
    found = _carried(target)
    if found.holds or target.spare_prefix is None:
        return found, target
    spare = replace(target, prefix=target.spare_prefix)
    return found, spare if _carried(spare).holds else target


def _carried(target: Target) -> Finding:
    def run() -> Iterator[Finding]:
        with let_in(target, "bridge") as bridge, let_in(target, ROLE) as device:
            yield from delivery.prefix(target, bridge, device)

    (found,) = _safely((findings.PREFIX,), run)
    return found


def _probed(probe: Probe, line: Line) -> Iterator[Finding]:
    yield from _safely(probe.guarantees, lambda: probe.run(line.target, line.ready()))


def _safely(guarantees: tuple[Guarantee, ...], run: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a probe; if it fails, a finding for each guarantee that is still unknown."""
    unknown = {guarantee.key: guarantee for guarantee in guarantees}
    try:
        for finding in run():
            unknown.pop(finding.guarantee.key, None)
            yield finding
    except (ProbeError, StartError, OSError) as error:
        for guarantee in unknown.values():
            yield Finding.of_end(guarantee, str(error))


class _Waiting:
    """Clients that fall silent at the beginning, so that their keep-alive runs out while other probes run."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._begun: dict[Guarantee, tuple[Silent, int]] = {}

    def begin(self, device: Device | None, role: str, *, taken_over: bool = False) -> None:
        """Does nothing without such a device, or if it is refused: `finish` tries again."""
        guarantee = _of_silence(taken_over=taken_over)
        if device is not None and guarantee not in self._begun:
            with suppress(ProbeError, StartError, OSError):
                silent = Silent.begin(self._line.target, self._line.ready(), device, role, taken_over=taken_over)
                self._begun[guarantee] = silent, self._line.renewals

    def finish(self, device: Device, role: str, *, taken_over: bool = False) -> Iterator[Finding]:
        """Wait for one; start it now if that was not done, or if the bridge was away when its will came."""
        guarantee = _of_silence(taken_over=taken_over)

        def run() -> Iterator[Finding]:
            silent, renewals = self._begun.get(guarantee, (None, 0))
            bridge = self._line.ready()
            if silent is None or renewals != self._line.renewals:
                if silent is not None:
                    silent.peer.leave()
                silent = Silent.begin(self._line.target, bridge, device, role, taken_over=taken_over)
                self._begun[guarantee] = silent, self._line.renewals
            yield from silent.finish(self._line.target, bridge)

        yield from _safely((guarantee,), run)

    def leave(self) -> None:
        """Close the remaining ones."""
        for silent, _ in self._begun.values():
            silent.peer.leave()


def _of_silence(*, taken_over: bool) -> Guarantee:
    return findings.TAKE_OVER_SILENT if taken_over else findings.WILL_KEEPALIVE
