"""What operators' own programs read, page by page: JSON, the next page by the key of the last row."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel

from bridge.api.legacy import DENIED
from bridge.console.pages import read
from bridge.console.reads import ROWS, paged, wakes
from bridge.console.render import in_thread
from bridge.service import Bridge
from bridge.storage.reader import Which
from bridge.storage.records import Device
from bridge.stories.file import StoriesError
from contract.names import TAG_MAX_CHARACTERS, UID_MAX_CHARACTERS
from infra.redaction import shown_url
from infra.web.api import example, problems

router = APIRouter(prefix="/api/ops")

UNREADABLE = {503: "The ledger could not be read"}
NO_STORIES = {404: "There are no stories: bridge.stories_days is 0, or their file cannot be read"}
MAX_ROW = 2**53

After = Annotated[
    str, Query(max_length=UID_MAX_CHARACTERS, description="`next` of the page before", examples=["jetson-1"])
]
Begins = Annotated[
    str, Query(max_length=UID_MAX_CHARACTERS, description="only names that begin like this", examples=["jet"])
]
AfterRow = Annotated[int, Query(ge=0, le=MAX_ROW, description="`next` of the page before", examples=[7])]
Tag = Annotated[
    str, Query(max_length=TAG_MAX_CHARACTERS, description="only devices with this tag", examples=["floor-2"])
]
BeforeMoment = Annotated[
    float | None, Query(ge=0, le=1e11, description="`next` of the page before", examples=[1767225600.0])
]
Uid = Annotated[str, Query(max_length=UID_MAX_CHARACTERS, examples=["alice"])]
DeviceId = Annotated[str, Query(max_length=UID_MAX_CHARACTERS, examples=["jetson-1"])]


class OpsDevice(BaseModel):
    """A device: `state` and the rest as it said last, null if this bridge has not heard of it; `uid` is logged in.

    `tags`, and `seen_at`, when its newest report came, are in the ledger.
    """

    device_id: str
    uid: str | None
    state: str | None = None
    since: float | None = None
    seen: float | None = None
    muted: bool | None = None
    alarms: list[str] | None = None
    version: str | None = None
    model: str | None = None
    tags: list[str] = []
    seen_at: str | None = None


class OpsDevices(BaseModel):
    """A page of devices by name; `next` is null on the last one."""

    model_config = example(
        {
            "rows": [
                {
                    "device_id": "jetson-1",
                    "uid": "alice",
                    "state": "online",
                    "since": 1767225600.0,
                    "seen": 1767225660.0,
                    "muted": False,
                    "alarms": [],
                    "version": "0.1.0",
                    "model": "ssabiseu",
                    "tags": ["floor-2"],
                    "seen_at": "2026-01-01T00:00:58.000000+00:00",
                }
            ],
            "next": "jetson-1",
        }
    )

    rows: list[OpsDevice]
    next: str | None


class OpsUser(BaseModel):
    """A user; `sockets` at this bridge."""

    uid: str
    alive: bool
    sockets: int


class OpsUsers(BaseModel):
    """A page of users by name; `next` is null on the last one."""

    model_config = example({"rows": [{"uid": "alice", "alive": True, "sockets": 2}], "next": "alice"})

    rows: list[OpsUser]
    next: str | None


class OpsLogout(BaseModel):
    """A log-out that its device has not confirmed; without `url` it is told over MQTT."""

    number: int
    device_id: str
    uid: str
    reason: str
    issued_at: str
    url: str | None


class OpsLogouts(BaseModel):
    """A page of log-outs, oldest first; `next` is null on the last one."""

    model_config = example(
        {
            "rows": [
                {
                    "number": 7,
                    "device_id": "jetson-1",
                    "uid": "alice",
                    "reason": "app",
                    "issued_at": "2026-01-01T00:00:00+00:00",
                    "url": "http://192.168.0.9:5000/api/auth/logout",
                }
            ],
            "next": 7,
        }
    )

    rows: list[OpsLogout]
    next: int | None


class OpsWake(BaseModel):
    """A wake, as in `sarvis trace`."""

    id: str
    uid: str
    device_id: str
    received_on: str
    state: str
    status: str
    latency_ms: float


class OpsWakes(BaseModel):
    """A page of wakes, newest first; `next` is null on the last one."""

    model_config = example(
        {
            "rows": [
                {
                    "id": "5b1f0c1e8a6d4e0f9c3a7b2d4e6f8a90",
                    "uid": "alice",
                    "device_id": "jetson-1",
                    "received_on": "2026-01-01T00:00:00+00:00",
                    "state": "acked",
                    "status": "acked",
                    "latency_ms": 3.2,
                }
            ],
            "next": 1767225600.0,
        }
    )

    rows: list[OpsWake]
    next: float | None


@router.get("/devices", responses=problems(DENIED | UNREADABLE))
async def ops_devices(request: Request, after: After = "", begins: Begins = "", tag: Tag = "") -> OpsDevices:
    """Devices that were added or seen, by name; `tag`: those that have it."""
    bridge: Bridge = request.app.state.bridge
    rows = await read(bridge, lambda opened: opened.devices_after(after, begins, ROWS + 1, Which(tag)))
    found = paged(rows, lambda one: one.device_id)
    return OpsDevices(rows=[_device(bridge, one) for one in found.rows], next=_text(found.next))


@router.get("/users", responses=problems(DENIED | UNREADABLE))
async def ops_users(request: Request, after: After = "", begins: Begins = "") -> OpsUsers:
    """Users who are alive, logged in, or left just now, by name."""
    bridge: Bridge = request.app.state.bridge
    found = paged(await read(bridge, lambda opened: opened.users_after(after, begins, ROWS + 1)), str)
    rows = [OpsUser(uid=uid, alive=bridge.sessions.alive(uid), sockets=len(bridge.hub.of(uid))) for uid in found.rows]
    return OpsUsers(rows=rows, next=_text(found.next))


@router.get("/logouts", responses=problems(DENIED | UNREADABLE))
async def ops_logouts(request: Request, after: AfterRow = 0) -> OpsLogouts:
    """Log-outs that no device has confirmed yet."""
    bridge: Bridge = request.app.state.bridge
    found = paged(await read(bridge, lambda opened: opened.waiting_after(after, ROWS + 1)), lambda row: row[0])
    rows = [
        OpsLogout(
            number=number,
            device_id=row.device_id,
            uid=row.uid,
            reason=row.reason,
            issued_at=row.issued_at,
            url=None if row.url is None else shown_url(row.url),
        )
        for number, row in found.rows
    ]
    return OpsLogouts(rows=rows, next=found.rows[-1][0] if found.next is not None else None)


@router.get("/wakes", responses=problems(DENIED | NO_STORIES))
async def ops_wakes(
    request: Request,
    before: BeforeMoment = None,
    uid: Uid = "",
    device_id: DeviceId = "",
) -> OpsWakes:
    """Wakes of all, or of a user, or of a device."""
    bridge: Bridge = request.app.state.bridge
    now = bridge.clock.utc_now().timestamp()
    try:
        found = await in_thread(lambda: wakes(bridge.settings, now, before, uid, device_id))
    except StoriesError as error:
        raise HTTPException(404, str(error)) from None
    rows = [
        OpsWake(
            id=one.id,
            uid=one.uid,
            device_id=one.device_id,
            received_on=one.received_on,
            state=one.state,
            status=one.status,
            latency_ms=one.latency_ms,
        )
        for one in found.rows
    ]
    return OpsWakes(rows=rows, next=None if found.next is None else float(str(found.next)))


def _device(bridge: Bridge, row: Device) -> OpsDevice:
    device_id = row.device_id
    known, uid = bridge.chronicle.device(device_id), bridge.sessions.user_of(device_id)
    told = OpsDevice(
        device_id=device_id,
        uid=uid,
        version=row.version or None,
        model=row.model or None,
        tags=row.tags.split(),
        seen_at=row.seen_at,
    )
    if known is None:
        return told
    return OpsDevice(
        device_id=device_id,
        uid=uid,
        tags=told.tags,
        seen_at=told.seen_at,
        state=known.state or None,
        since=known.since,
        seen=known.seen,
        muted=known.muted,
        alarms=list(known.alarms),
        version=known.version or told.version,
        model=known.model or told.model,
    )


def _text(key: object) -> str | None:
    return None if key is None else str(key)
