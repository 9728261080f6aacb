"""The rows of the ledger, and the changes that are written to it. A crash loses everything that is not in a row."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from contract.messages import EndReason, Logout, LogoutReason

SessionEnd = LogoutReason | EndReason
AuditEvent = Literal["opened", "adopted", "ended", "left", "settled", "superseded", "dead", "removed", "rollout"]
Via = Literal["", "http", "socket", "mqtt", "cli", "expiry"]
"""The way of a request; "" in lines of earlier versions."""
LEAVING = ("heartbeat_timeout", "app", "http", "operator")
"""Why sessions end that end together with all others of their user."""
DeviceState = Literal["new", "seen", "added", "removed"]
"""No row yet; reported by itself; added by an operator; removed by an operator."""

BACK_UP = "back-up"
"""Stands instead of the name of a bridge's run in a ledger that `sarvis backup` or `sarvis restore` wrote."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device as it last reported, or as an operator added it.

    (boot, seq) is compared only within one install_id. A device with a `logout_url` speaks only HTTP and reports
    nothing.

    Attributes:
    claim_uid: the user for whom the device asks a log-in.
    assigned_uid: the user whom it may claim if credentials are required, set by an operator.
    tags: names that operators gave it, each once, in order, with a space between two.
    version, model: its software and its wake-word model, as its newest hello says; "" if none said.
    seen_at: when its newest report came, in ISO 8601; None if none came since bridges note that.
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
    tags: str = ""
    version: str = ""
    model: str = ""
    seen_at: str | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of an HTTP caller or an operator; `hash` is that of its secret part; times are Unix time.

    Attributes:
    used_at: when it was last used, a minute late at most; None if it was not used since bridges note that.
    """

    key_id: str
    hash: str
    role: str
    name: str
    created_at: str
    expires_at: float | None = None
    used_at: float | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """One user logged in on one device; an ended session never becomes active again."""

    session_id: str
    device_id: str
    uid: str
    generation: int
    ended: SessionEnd | None = None


@dataclass(frozen=True, slots=True)
class PendingLogout:
    """An outbox row: a log-out that its device has not confirmed yet.

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
    """The outbox row of this session is removed."""

    device_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class DurableDeadline:
    """A user is not logged out for silence before this service time (T2); an earlier one changes nothing.

    A user who had left is there again.

    Attributes:
    floored: a restart raised it, and no heartbeat has come since.
    """

    uid: str
    until_s: float
    floored: bool = False


@dataclass(frozen=True, slots=True)
class Departed:
    """A user left: the durable deadline no longer holds.

    Attributes:
    left_s: service time at which the user left; known until T later.
    reason: why.
    """

    uid: str
    left_s: float
    reason: LogoutReason


@dataclass(frozen=True, slots=True)
class ServiceSeconds:
    """The service time: how long this service has run, over all its runs (T1); an earlier one changes nothing."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Missed:
    """A missed wake, for the list at the user's next connection; one of a known id changes nothing.

    Attributes:
    timestamp: as the device sent it; its clock may be wrong.
    received_at: when this bridge received it; None if an older version stored it.
    """

    id: str
    uid: str
    command: str
    device_id: str
    timestamp: str
    received_at: str | None = None


@dataclass(frozen=True, slots=True)
class MissedTold:
    """The user received this missed wake in the list."""

    id: str


@dataclass(frozen=True, slots=True)
class PushSubscription:
    """A push subscription of a user's phone. An endpoint identifies one browser and belongs to its newest subscriber.

    Attributes:
    p256dh: the phone's public key, base64url.
    auth: the secret that it shares with the bridge, base64url.
    """

    uid: str
    endpoint: str
    p256dh: str
    auth: str


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """The user's phone behind this endpoint is no longer rung; without an endpoint none of them is."""

    uid: str
    endpoint: str | None = None

    def is_of(self, subscription: PushSubscription) -> bool:
        """Whether this subscription ends."""
        return subscription.uid == self.uid and self.endpoint in {None, subscription.endpoint}


@dataclass(frozen=True, slots=True)
class Audit:
    """One line per session change: when, what, why, and who caused it; see `By`."""

    at: str
    event: AuditEvent
    session_id: str
    device_id: str
    uid: str
    reason: str
    actor: str = ""
    address: str = ""
    via: Via = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class BridgeRow:
    """A bridge that uses the ledger, as it wrote itself.

    Attributes:
    run: the name of its process: each start has another.
    seen_s: service time at which the row was written.
    address: where its apps connect, as it knows itself.
    sockets: of apps, that are open.
    beat: how often the row was written: it counts also while the service time stands still.
    hears: it hears what the broker sends.
    draining: it leaves soon.
    gone: it left.
    """

    instance: str
    run: str
    seen_s: float
    hears: bool = True
    draining: bool = False
    gone: bool = False
    version: str = ""
    address: str = ""
    sockets: int = 0
    beat: int = 0


@dataclass(frozen=True, slots=True)
class Lifetime:
    """What a shared ledger knows of whether a user is there.

    Attributes:
    until_s: the durable deadline.
    left_s: service time at which the user left; None for a user who is there.
    """

    until_s: float
    left_s: float | None = None


Change = (
    Device
    | Session
    | PendingLogout
    | Settled
    | DurableDeadline
    | Departed
    | ServiceSeconds
    | Missed
    | MissedTold
    | PushSubscription
    | Unsubscribed
    | Audit
)


class Forgotten(NamedTuple):
    """How many rows of a user were deleted, or bear a made-up name from now on.

    Attributes:
    audit, sessions: bear that name.
    missed, subscriptions, deadlines: were deleted.
    """

    audit: int = 0
    sessions: int = 0
    missed: int = 0
    subscriptions: int = 0
    deadlines: int = 0


class By(NamedTuple):
    """Who caused a change.

    Attributes:
    actor: `app:UID`, `device:ID`, `key:ID:NAME`, `network`, `open` (no credentials are required), `user:NAME` of this
        machine, or `time-out`.
    address: of its client, if it came over a network.
    via: the way it came.
    note: what the person wrote who did it.
    """

    actor: str = ""
    address: str = ""
    via: Via = ""
    note: str = ""


UNNAMED = By()
TIME_OUT = By("time-out", via="expiry")


def signed(changes: Iterable[Change], by: By) -> list[Change]:
    """The changes, with this actor in each audit line."""
    return [
        replace(change, actor=by.actor, address=by.address, via=by.via, note=by.note)
        if isinstance(change, Audit)
        else change
        for change in changes
    ]
