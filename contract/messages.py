"""The messages of the MQTT contract: frozen, validated where bytes become objects, unknown keys ignored."""

import json
import uuid
from collections.abc import Sequence
from math import isfinite
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, WithJsonSchema
from pydantic_core import PydanticUseDefault, from_json, to_json

from contract.errors import MessageError
from contract.names import DEVICE_ID_PATTERN, UID_MAX_CHARACTERS, check_uid

MAX_PAYLOAD_BYTES = 8 * 1024
LEGACY_DEVICE = "legacy-http"
"""The device id under which operators see triggers of the legacy HTTP endpoint."""

DeviceId = Annotated[str, StringConstraints(pattern=DEVICE_ID_PATTERN)]
Uid = Annotated[
    str,
    AfterValidator(check_uid),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": UID_MAX_CHARACTERS, "pattern": "^[^/]*$"}),
]
Id = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]
Text = Annotated[str, StringConstraints(max_length=1024)]
MAX_COUNT = 2**53
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
"""A counter that every JSON reader can hold."""
MAX_REPORTED = 2**52
Reported = Annotated[int, Field(ge=0, le=MAX_REPORTED)]
"""A counter that a device reports; low enough for the bridge to continue from it."""

Number = Annotated[float | None, AfterValidator(lambda value: value if value is None or isfinite(value) else None)]
"""A number that may be absent; NaN and the infinities count as absent."""
Name = Annotated[str, StringConstraints(min_length=1, max_length=1024)]

OutcomeStatus = Literal["sent", "acked", "pushed", "expired", "user_not_connected", "rejected"]
LogoutReason = Literal["heartbeat_timeout", "app", "http", "operator", "replaced"]
EndReason = Literal["done", "replaced", "lapsed", "local"]
ModelStatus = Literal["running", "failed", "kept", "returned"]
"""`kept`: the device uses its own model for a reason that it tells, as an enrolled voice."""
AckStatus = Literal["done", "duplicate", "refused", "failed"]
EventType = Literal["heard", "acked", "delivered", "pushed", "missed", "stopped", "forgotten", "expired", "rejected"]
"""`heard`, and what became of a wake in the end: the fates that the bridge's metrics count."""


BACK = "-back"
"""The end of the id of an order to go back."""


def new_id() -> str:
    """A random id for a session, a message or a nonce; never a counter."""
    return uuid.uuid4().hex


_UNNAMED = "unnamed-"


def unnamed_id() -> str:
    """A random id for a wake that came without one: each bridge that hears it gives it another."""
    return f"{_UNNAMED}{new_id()}"


def is_unnamed(wake_id: str) -> bool:
    """Whether a bridge gave it this id."""
    return wake_id.startswith(_UNNAMED)


def is_absent(value: Any) -> bool:
    """Whether a serialiser writes this for a missing value: null, an empty text, list or object, or NaN.

    Some languages write an empty object for an empty list (Lua), others the other way round (PHP).
    """
    return value is None or value in ("", [], {}) or (isinstance(value, float) and not isfinite(value))


def absent_is_default(value: Any) -> Any:
    """For a BeforeValidator of an optional key of an HTTP body: an absent value becomes the default."""
    if is_absent(value):
        raise PydanticUseDefault
    return value


class Message(BaseModel):
    """A JSON object on the wire. An optional key with an absent value (`is_absent`) counts as missing."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)
    max_bytes: ClassVar[int] = MAX_PAYLOAD_BYTES

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Validate a payload; raises MessageError with the first fault."""
        if len(payload) > cls.max_bytes:
            raise MessageError(f"{len(payload)} bytes, more than the {cls.max_bytes} allowed")
        try:
            # What model_validate_json does, without its wrapper, which costs a sixth of the time.
            message: Self = cls.__pydantic_validator__.validate_json(payload)
        except ValidationError as error:
            present = cls._present(payload)
            if present is None:
                raise MessageError(first_fault(error)) from None
        else:
            return message
        try:
            return cls.model_validate_json(present)
        except ValidationError as error:
            raise MessageError(first_fault(error)) from None

    @classmethod
    def _present(cls, payload: bytes) -> bytes | None:
        """The payload without its absent values; None if it has none, or is not a JSON object.

        Called only after a fault: nearly every message is valid at once, and this would take most of the time.
        """
        try:
            document = from_json(payload)
        except ValueError:
            return None
        if not isinstance(document, dict):
            return None
        optional = {name for name, key in cls.model_fields.items() if not key.is_required()}
        present = {
            name: [entry for entry in value if not _says_nothing(entry)] if isinstance(value, list) else value
            for name, value in document.items()
            if name not in optional or not is_absent(value)
        }
        return None if present == document else to_json(present, inf_nan_mode="constants")

    def encode(self) -> bytes:
        """JSON in UTF-8, Hangul unescaped, absent values left out."""
        return json.dumps(
            self.model_dump(mode="json", exclude_none=True), ensure_ascii=False, separators=(",", ":")
        ).encode()


def _says_nothing(entry: Any) -> bool:
    """A free place in a list that stands for an array of fixed length."""
    return all(map(is_absent, entry.values())) if isinstance(entry, dict) else is_absent(entry)


def first_fault(error: ValidationError) -> str:
    """The first fault of a validation as `key: what is wrong`, without the value."""
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in fault["loc"]) or "payload"
    return f"{where}: {fault['msg']}"


class Wake(Message):
    """A device recognised its wake word. The first three keys are the documented ones; the others may be missing."""

    uid: Uid
    command: Text
    timestamp: Text
    v: int = 1
    id: Id = Field(default_factory=unnamed_id)
    device_id: DeviceId | None = None
    boot: Count | None = None
    seq: Count | None = None
    age_ms: Count = 0
    ttl_ms: int = Field(default=10_000, ge=0, le=60_000)
    score: Number = None
    model: Name | None = None


class Outcome(Message):
    """The outcome of a wake; `latency_ms` is the bridge's own time from receipt to outcome."""

    id: Id
    status: OutcomeStatus
    latency_ms: Number = None

    def encode(self) -> bytes:
        """Same bytes as `Message.encode`, but faster."""
        return encode_outcome(self.id, self.status, self.latency_ms)


def encode_outcome(wake_id: str, status: OutcomeStatus, latency_ms: float | None) -> bytes:
    """The bytes of `Outcome(...).encode()` without building the object; `wake_id` is an id, `latency_ms` is finite."""
    quoted = json.dumps(wake_id) if '"' in wake_id or "\\" in wake_id else f'"{wake_id}"'
    if latency_ms is None:
        return f'{{"id":{quoted},"status":"{status}"}}'.encode()
    return f'{{"id":{quoted},"status":"{status}","latency_ms":{latency_ms!r}}}'.encode()


class EndedSession(Message):
    """A session that ended on the device, and why."""

    session_id: Id
    reason: EndReason


class Report(Message):
    """The state that an edge reports, the same in hello and ack."""

    install_id: Id
    boot: Count
    seq: Count
    session_id: Id | None = None
    uid: Uid | None = None
    generation: Reported = 0
    claim_uid: Uid | None = None
    ended: tuple[EndedSession, ...] = ()


class Hello(Report):
    """An edge asks for its session; a login that answers carries the nonce in `re`."""

    nonce: Id
    v: int = 1
    version: Text = ""
    model: Text = ""


class Ack(Report):
    """An edge executed the command `id`, or could not."""

    id: Id
    status: AckStatus


class Login(Message):
    """Grants or renews a session; without `re` it only asks the edge to send hello.

    With `boot` and `seq` it grants nothing: these are the newest counters that the bridge received from the
    installation
    `re`, and the report that it answers was older. An edge that did not send them itself has lost part of its state.
    """

    id: Id
    uid: Uid
    action: Literal["login"] = "login"
    session_id: Id | None = None
    generation: Count = 0
    lease_s: Number = None
    re: Id | None = None
    boot: Count | None = None
    seq: Count | None = None
    issued_at: Text = ""


class Logout(Message):
    """Ends a session. The documented keys suffice: without `session_id` it ends the session that this user has."""

    uid: Uid
    action: Literal["logout"] = "logout"
    id: Id = Field(default_factory=new_id)
    session_id: Id | None = None
    generation: Count = 0
    reason: LogoutReason = "operator"
    issued_at: Text = ""


class ModelOrder(Message):
    """A device is to use this wake-word model from now on: one of a rollout, or its own again."""

    id: Id
    """Of a rollout; whether the device is to go back."""
    manifest: Text = ""
    """What was signed of the model, see contract/model_manifest.py; "" for the device's own model."""
    signature: Text = ""
    """Ed25519, in base64."""
    url: Text = ""
    """Where the bridge is reached over HTTP, for a device whose settings do not say."""
    ticket: Text = ""
    """The credential for the download, valid for an hour and only for this; "" if none is required."""

    @property
    def is_back(self) -> bool:
        """Whether the rollout was stopped, and the device goes back to what it had."""
        return self.id.endswith(BACK)


class ModelReport(Message):
    """What a device did with a ModelOrder; while it is watched, also how often its models wake, and nearly do."""

    id: Id
    """That of the order."""
    status: ModelStatus
    reason: Text = ""
    model: Text = ""
    """The name of the model that it uses now."""
    hours: Number = None
    """Since it uses the new one."""
    wakes_per_hour: Number = None
    near_per_hour: Number = None
    wakes_before: Number = None
    near_before: Number = None


class DeviceStatus(Message):
    """Retained; also the edge's last will."""

    state: Literal["online", "offline"]
    boot: Count = 0
    seq: Count = 0
    session: Literal["active", "standby"] = "standby"
    version: Text = ""
    muted: bool = False
    alarms: tuple[Name, ...] = ()
    """Why the device may not hear its user: `microphone_lost`, `digital_silence`."""
    near: Count | None = None
    """Near-misses since its start: scores of at least half of what a wake needs that led to none."""
    best: Number = None
    """The best score of the newest ones, of which `threshold` was needed."""
    threshold: Number = None


class DeviceEvent(Message):
    """What a wake of a device became, for programs that automate a house: `heard` first, its fate later, each once."""

    event_type: EventType
    id: Id
    uid: Uid
    score: Number = None
    ms: Number = None
    """From the bridge's receipt of the wake to this event."""


class BridgeStatus(Message):
    """Retained; also the bridge's last will."""

    state: Literal["online", "offline"]
    version: Text = ""
    started_at: Text = ""
    era: Name | None = None
    """The same for all bridges that share a ledger, as long as one of them goes on."""


class SoughtWake(Wake):
    """A wake as a bridge hands it on: with the id under which bridges know it."""

    id: Id


class Seek(Message):
    """A bridge has no socket for a wake: whichever bridge has one rings it, and publishes its outcome."""

    max_bytes: ClassVar[int] = 2 * MAX_PAYLOAD_BYTES

    device_id: DeviceId
    wake: SoughtWake
    """Its `age_ms` is that at the moment of this message."""


class Joined(Message):
    """A socket joined at a bridge: other bridges close what it replaces."""

    uid: Uid
    client: Name | None = None
    """The name that the app gave itself, if any."""
    turn: Count
    """The number of the turn in which it was connected: of two sockets the one with the lower number is older."""
    sockets: Count
    """How many sockets of the user this bridge has now."""


MOST_OUTCOMES = 50
"""In one message of a bridge to the others."""


class Outcomes(Message):
    """What a bridge told devices since its last such message: of each wake the device, the id and the newest outcome.

    One message for many: every bridge hears those of all.
    """

    max_bytes: ClassVar[int] = 2 * MAX_PAYLOAD_BYTES

    outcomes: tuple[tuple[DeviceId, Id, OutcomeStatus], ...] = Field(max_length=MOST_OUTCOMES)

    def encode(self) -> bytes:
        """Same bytes as `Message.encode`, but faster."""
        return encode_outcomes(self.outcomes)


def encode_outcomes(outcomes: Sequence[tuple[str, str, OutcomeStatus]]) -> bytes:
    """The bytes of `Outcomes(...).encode()` without building the object."""
    return json.dumps({"outcomes": outcomes}, separators=(",", ":")).encode()


class News(Message):
    """A bridge changed the ledger in this turn: the others may look now rather than half a second later."""

    turn: Count
