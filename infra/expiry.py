"""Warns before certificates and keys expire: in a metric at all times, in the log from 30 days before."""

import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from contract.clock import Clock
from infra.settings.broker import MqttSettings
from infra.telemetry import REGISTRY, get_logger

SOON = timedelta(days=30)
AGAIN = timedelta(days=1)
LOOK_EVERY_S = 60.0

log = get_logger("expiry")


@dataclass(frozen=True, slots=True)
class Ending:
    """Something that becomes invalid at a known time.

    Attributes:
        what: the setting that names it, or its description.
        until: aware, in UTC.
        advice: how to renew it.
    """

    what: str
    until: datetime
    advice: str

    def days_left(self, now: datetime) -> int:
        """Whole days; negative once it has ended."""
        return (self.until - now).days

    def is_near(self, now: datetime) -> bool:
        """Whether to warn."""
        return self.until - now <= SOON


def of_certificates(shown: Mapping[str, Path | None], authorities: Mapping[str, Path | None]) -> list[Ending]:
    """When the certificates in files end; files without a certificate are skipped: their users report them.

    Both arguments map settings to files. Of a file in `shown` the first certificate counts, of one in `authorities` the
    one that ends last.
    """
    endings = []
    for what, path in shown.items():
        moments = _ends_of(path)
        if moments:
            endings.append(Ending(what, moments[0], f"renew the certificate in {path}"))
    for what, path in authorities.items():
        moments = _ends_of(path)
        if moments:
            endings.append(Ending(what, max(moments), f"put the new certificate of that authority into {path}"))
    return endings


def of_mqtt(settings: MqttSettings) -> list[Ending]:
    """The ends of the files with which a client connects to the broker."""
    return of_certificates({"mqtt.cert_file": settings.cert_file}, {"mqtt.ca_file": settings.ca_file})


def of_peer(what: str, sock: object) -> Ending | None:
    """When the certificate of the peer of a TLS connection ends; None without TLS."""
    shown = sock.getpeercert() if isinstance(sock, ssl.SSLSocket | ssl.SSLObject) else None
    if not shown or "notAfter" not in shown:
        return None
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), UTC)
    return Ending(what, until, "renew it there: sarvis certs server --out FOLDER")


class Expiry(Collector):
    """Collects expiry times; logs them once a day, and reports them whenever `/metrics` is read."""

    def __init__(self) -> None:
        self._own: dict[str, Ending] = {}
        self._peers: dict[str, Ending] = {}
        self._told: dict[str, datetime] = {}

    def look(self, endings: Iterable[Ending], now: datetime) -> None:
        """Take all expiry times of this process's own files; warn of those that end soon, and of those of peers."""
        self._own = {one.what: one for one in endings}
        for one in (*self._own.values(), *self._peers.values()):
            self._warn(one, now)

    def note_peer(self, ending: Ending, now: datetime) -> None:
        """Note the expiry of the certificate of a peer to which this process connects."""
        self._peers[ending.what] = ending
        self._warn(ending, now)

    def collect(self) -> Iterable[Metric]:
        """Collect as prometheus_client requires."""
        family = GaugeMetricFamily(
            "sarvis_expiry_timestamp_seconds", "When a certificate or key ends, in Unix time", labels=["what"]
        )
        for one in (*self._own.values(), *self._peers.values()):
            family.add_metric([one.what], one.until.timestamp())
        yield family

    def _warn(self, one: Ending, now: datetime) -> None:
        told = self._told.get(one.what)
        if not one.is_near(now) or (told is not None and now - told < AGAIN):
            return
        self._told[one.what] = now
        event = "has_ended" if one.until <= now else "ends_soon"
        until = one.until.isoformat(timespec="seconds")
        log.warning(event, what=one.what, until=until, days_left=one.days_left(now), advice=one.advice)


EXPIRY = Expiry()
"""The instance of this process."""

REGISTRY.register(EXPIRY)


async def watch(read: Callable[[], Awaitable[Iterable[Ending]]], clock: Clock) -> None:
    """Look every minute until cancelled; `read` must not raise."""
    while True:
        EXPIRY.look(await read(), clock.utc_now())
        await clock.sleep(LOOK_EVERY_S)


def _ends_of(path: Path | None) -> list[datetime]:
    if path is None:
        return []
    try:
        # Inside: without free files a server cannot import either, and looks again a minute later.
        from cryptography import x509  # noqa: PLC0415 costs a start where there is no certificate

        found = x509.load_pem_x509_certificates(path.expanduser().read_bytes())
    except (OSError, ValueError, RuntimeError):  # the last try: there is no home folder
        return []
    return [one.not_valid_after_utc for one in found]
