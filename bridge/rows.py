"""The rows of the ledger, and the changes that are written to it. What is not in a row is forgotten by a crash."""

from dataclasses import dataclass
from typing import Literal

from contract.messages import EndReason, Logout, LogoutReason

SessionEnd = LogoutReason | EndReason
AuditEvent = Literal["opened", "adopted", "ended", "left", "settled", "superseded", "dead", "removed"]
DeviceState = Literal["new", "seen", "added", "removed"]
"""In no row yet; reported by itself; added by an operator; taken out by an operator."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device as it last reported, or as an operator added it.

    (boot, seq) is compared only within one install_id. One with a `logout_url` speaks only HTTP and reports nothing.

    Attributes:
        claim_uid: whom it wants to have logged in.
        assigned_uid: whom it may claim where credentials are required, said by an operator.
    """

    device_id: str
    install_id: str | None = None
    boot: int = -1
    seq: int = -1
    generation: int = 0
    claim_uid: str | None = None
    logout_url: str | None = None
    assigned_uid: str | None = None
    state: DeviceState = "seen"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of an HTTP caller or an operator; `hash` is that of its secret part, `expires_at` Unix time."""

    key_id: str
    hash: str
    role: str
    name: str
    created_at: str
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """One user logged in on one device; once ended it is never un-ended."""

    session_id: str
    device_id: str
    uid: str
    generation: int
    ended: SessionEnd | None = None


@dataclass(frozen=True, slots=True)
class PendingLogout:
    """An outbox row: a log-out that its device has not yet confirmed.

    Attributes:
        queued_s: service time at which it was queued.
        url: where it is posted to; None for a device on MQTT.
    """

    command_id: str
    session_id: str
    device_id: str
    uid: str
    generation: int
    reason: LogoutReason
    issued_at: str
    queued_s: float = 0.0
    url: str | None = None

    def command(self) -> Logout:
        """The message, the same at every repetition."""
        return Logout(
            id=self.command_id,
            uid=self.uid,
            session_id=self.session_id,
            generation=self.generation,
            reason=self.reason,
            issued_at=self.issued_at,
        )


@dataclass(frozen=True, slots=True)
class Settled:
    """The outbox row of this session is done with."""

    device_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Promise:
    """A user is not logged out for silence before this service time (T2).

    Attributes:
        floored: a restart raised it, and no heartbeat has come since.
    """

    uid: str
    until_s: float
    floored: bool = False


@dataclass(frozen=True, slots=True)
class Departed:
    """A user left: nothing is promised to them any more."""

    uid: str


@dataclass(frozen=True, slots=True)
class ServiceSeconds:
    """How long this service has lived, over all its runs (T1)."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Missed:
    """A wake that nobody took, for the list at the user's next connection.

    Attributes:
        timestamp: what its device said, whose clock may be wrong.
        received_at: when this bridge received it; None if it was stored by a version that did not note it.
    """

    id: str
    uid: str
    command: str
    device_id: str
    timestamp: str
    received_at: str | None = None


@dataclass(frozen=True, slots=True)
class MissedTold:
    """The user was told of all their missed wakes."""

    uid: str


@dataclass(frozen=True, slots=True)
class PushSubscription:
    """Where a sleeping phone of the user can be rung. An endpoint is one browser: it is whose who subscribed it last.

    Attributes:
        p256dh: the phone's public key, base64url.
        auth: the secret it shares with us, base64url.
    """

    uid: str
    endpoint: str
    p256dh: str
    auth: str


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """The user's phone behind this endpoint is not rung any more; without an endpoint none of them is."""

    uid: str
    endpoint: str | None = None

    def is_of(self, subscription: PushSubscription) -> bool:
        """Is it this one that ends?"""
        return subscription.uid == self.uid and self.endpoint in {None, subscription.endpoint}


@dataclass(frozen=True, slots=True)
class Audit:
    """Who, why, when: one line per session change."""

    at: str
    event: AuditEvent
    session_id: str
    device_id: str
    uid: str
    reason: str


Change = (
    Device
    | Session
    | PendingLogout
    | Settled
    | Promise
    | Departed
    | ServiceSeconds
    | Missed
    | MissedTold
    | PushSubscription
    | Unsubscribed
    | Audit
)
