"""The pages of the console that only show; what can be done from them is in `bridge/console/actions.py`."""

import heapq
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from bridge.cluster.members import all_sockets
from bridge.console import reads
from bridge.console.guard import PATH, Visit
from bridge.console.plots import plots
from bridge.console.reads import ROWS, Page, paged
from bridge.console.render import Asked, in_thread, language_of, page
from bridge.console.words import TOLD
from bridge.endings import endings
from bridge.operator.why_cli import moment_of
from bridge.service import VERSION, Bridge
from bridge.storage.reader import NOT_TOLD, LedgerReader, Which
from bridge.storage.records import Device
from bridge.storage.store import StoreError
from bridge.stories.file import StoriesError
from bridge.stories.history import DEVICE_STATES, MOST_DEVICES, DeviceStateName
from bridge.wakes.relay import SETTLED
from contract.errors import SettingsError, StartError
from contract.names import is_device_id
from infra.redaction import shown_url

STATIC = Path(__file__).parent / "static"
FILES = {
    "console.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "live.js": "text/javascript; charset=utf-8",
}
LATE_S = 15 * 60.0
"""A log-out that a connected device has not confirmed after that needs somebody."""
NAMED = 10
MOST_RUNS = 60
"""Rows of a table of versions: an open broker lets its clients make them up."""
SOON_DAYS = 14
MOST_NUMBER = 1e11
"""Above all times, as Unix time of the year 5138, and above all numbers of rows that a page asks for."""
OK, NOT_FOUND, UNAVAILABLE = 200, 404, 503

Result = TypeVar("Result")

router = APIRouter(prefix=PATH, include_in_schema=False)


def asked_by(request: Request, section: str = "") -> Asked:
    """What every page needs of this request."""
    visit: Visit = request.state.visit
    bridge: Bridge = request.app.state.bridge
    query = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "told"])
    principal = visit.principal
    return Asked(
        language_of(request),
        visit.token,
        who=(principal.label or principal.name) if principal is not None and principal.kind != "open" else "",
        may_act=visit.may_act,
        is_in=principal is not None,
        section=section,
        path=f"{request.scope['path']}?{query}" if query else request.scope["path"],
        bridges=bridge.sessions.members(len(bridge.hub)) if principal is not None else (),
        told=told if (told := request.query_params.get("told", "")) in TOLD else "",
    )


async def read(bridge: Bridge, do: Callable[[LedgerReader], Result]) -> Result:
    """What `do` returns, which is given the ledger; raises StoreError."""
    try:
        return await in_thread(lambda: reads.ledger(bridge.settings, do))
    except StartError as error:
        raise StoreError(str(error)) from None


async def tell(request: Request, section: str, template: str, status: int = OK, /, **values: Any) -> Response:
    """A page of a section."""
    return await page(template, asked_by(request, section), status, **values)


async def missing(request: Request, section: str, name: str) -> Response:
    """A page that says that there is no such thing."""
    return await tell(request, section, "missing.html", NOT_FOUND, name=name)


def now_of(bridge: Bridge) -> float:
    """Unix time."""
    return bridge.clock.utc_now().timestamp()


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """A file of the pages."""
    if name not in FILES:
        return Response(status_code=NOT_FOUND)
    return FileResponse(STATIC / name, media_type=FILES[name], headers={"cache-control": "max-age=300"})


@router.get("")
async def overview(request: Request) -> Response:
    """How many there are of each kind, and what needs somebody."""
    bridge: Bridge = request.app.state.bridge
    chronicle, now = bridge.chronicle, bridge.clock.utc_now()
    ends = await endings(bridge.settings, bridge.store, [one.principal for one in bridge.hub], now)
    return await tell(
        request, "overview", "overview.html",
        problem=bridge.problem,
        counts={state: chronicle.count(state) for state in DEVICE_STATES},
        sessions=bridge.sessions.active,
        apps=all_sockets(bridge.sessions.members(len(bridge.hub)), len(bridge.hub)),
        waiting=bridge.sessions.waiting,
        oldest_online_s=bridge.sessions.oldest_logout_s(online=True),
        late_s=LATE_S,
        deaf=chronicle.longest_in("deaf", NAMED),
        offline=chronicle.longest_in("offline", 1),
        failing=bridge.push.failing.now(now.timestamp()),
        plots=plots(language_of(request), chronicle.hour(), now.timestamp()),
        fates={fate: int(count) for fate, count in SETTLED.items() if count},
        versions=sorted(chronicle.versions().items()),
        ends=[end for end in ends if end.days_left(now) < SOON_DAYS],
        today=now,
    )  # fmt: skip


@router.get("/devices")
async def devices(request: Request) -> Response:
    """A page of devices by name; `q`: how names begin, `state`: as they said last, `after`: the key."""
    bridge: Bridge = request.app.state.bridge
    given = request.query_params
    begins, after, state = given.get("q", "")[:64], given.get("after", "")[:64], given.get("state", "")
    which = Which(given.get("tag", "")[:64], given.get("version", "")[:64], given.get("model", "")[:64])
    if state in DEVICE_STATES:
        names = await _in_state(bridge, state, after, begins, which)
        known = await read(bridge, lambda ledger: {one: ledger.device(one) for one in names})
        found: Page[Device] = paged([known[one] or Device(one) for one in names], lambda one: one.device_id)
    else:
        state = ""
        rows = await read(bridge, lambda ledger: ledger.devices_after(after, begins, ROWS + 1, which))
        found = paged(rows, lambda one: one.device_id)
    return await tell(
        request, "devices", "devices.html",
        rows=[(one, bridge.chronicle.device(one.device_id), bridge.sessions.user_of(one.device_id))
              for one in found.rows],
        next=found.next, after=after, states=DEVICE_STATES, state=state,
        filters={"q": begins, "tag": which.tag, "version": which.version, "model": which.model},
        feed=f"{PATH}/feed?{urlencode([('id', one.device_id) for one in found.rows])}",
    )  # fmt: skip


async def _in_state(bridge: Bridge, state: DeviceStateName, after: str, begins: str, which: Which) -> list[str]:
    meant = (one for one in bridge.chronicle.devices_in(state) if one > after and one.startswith(begins))
    if which:
        rows = await read(bridge, lambda ledger: ledger.devices(MOST_DEVICES, which))
        named = {row.device_id for row in rows}
        meant = (one for one in meant if one in named)
    return heapq.nsmallest(ROWS + 1, meant)


@router.get("/versions")
async def versions(request: Request) -> Response:
    """How many devices run what, and how many have each tag."""
    bridge: Bridge = request.app.state.bridge
    runs, tags = await read(bridge, lambda ledger: (ledger.runs(), ledger.tags()))
    return await tell(
        request, "devices", "versions.html",
        runs=runs[:MOST_RUNS], more=max(0, len(runs) - MOST_RUNS), tags=list(tags.items())[:MOST_RUNS],
        not_told=NOT_TOLD,
    )  # fmt: skip


@router.get("/devices/{device_id}")
async def device(request: Request, device_id: str) -> Response:
    """Everything about a device, and why it is as it is."""
    bridge: Bridge = request.app.state.bridge
    settings, now, problem, language = bridge.settings, now_of(bridge), bridge.problem, language_of(request)
    if not is_device_id(device_id):
        return await missing(request, "devices", device_id)
    row, lines, waiting = await read(
        bridge,
        lambda ledger: (
            ledger.device(device_id), ledger.audit_before(None, device_id, ROWS), ledger.waiting(ROWS, device_id)
        ),
    )  # fmt: skip
    state = bridge.chronicle.device(device_id)
    if row is None and state is None and not lines:
        return await missing(request, "devices", device_id)
    told = await _of_stories(
        lambda: (
            reads.why(settings, device_id, None, now, problem, language),
            reads.events(settings, device_id, now),
            reads.wakes(settings, now, None, "", device_id).rows[:NAMED],
        )
    )
    return await tell(
        request, "devices", "device.html",
        device_id=device_id, row=row, state=state, user=bridge.sessions.user_of(device_id),
        lines=lines, waiting=waiting, told=told, url=shown_url,
    )  # fmt: skip


@router.get("/people")
async def people(request: Request) -> Response:
    """A page of users by name."""
    bridge: Bridge = request.app.state.bridge
    begins, after = request.query_params.get("q", "")[:128], request.query_params.get("after", "")[:128]
    rows = await read(bridge, lambda ledger: ledger.users_after(after, begins, ROWS + 1))
    found = paged(rows, str)
    return await tell(
        request, "people", "people.html",
        rows=[(uid, bridge.sessions.alive(uid), len(bridge.hub.of(uid))) for uid in found.rows],
        next=found.next, q=begins, after=after,
    )  # fmt: skip


@router.get("/person")
async def person(request: Request) -> Response:
    """Everything about a user; `at`: why a phone did not ring at that time."""
    bridge: Bridge = request.app.state.bridge
    settings, now, problem, language = bridge.settings, now_of(bridge), bridge.problem, language_of(request)
    uid, at = request.query_params.get("uid", "")[:128], request.query_params.get("at", "")[:32]
    moment, fault = None, False
    if at:
        try:
            moment = moment_of(at, now)
        except (SettingsError, OverflowError, ValueError):
            fault = True
    running, lines, waiting, missed, phones = await read(
        bridge,
        lambda ledger: (
            ledger.running(ROWS, uid), ledger.audit_before(None, uid, ROWS), ledger.waiting(ROWS, uid),
            ledger.count("missed", uid), ledger.count("push_subscriptions", uid),
        ),
    )  # fmt: skip
    sockets = [
        (one.label, one.mode, bridge.chronicle.since(one), one.principal.expires_at) for one in bridge.hub.of(uid)
    ]
    if not (running or lines or waiting or sockets or bridge.sessions.alive(uid)):
        return await missing(request, "people", uid)
    told = await _of_stories(
        lambda: (
            reads.why(settings, uid, moment, now, problem, language),
            reads.events(settings, uid, now)[:ROWS],
            reads.wakes(settings, now, None, uid, "").rows[:NAMED],
        )
    )
    return await tell(
        request, "people", "person.html",
        uid=uid, at=at, fault=fault, alive=bridge.sessions.alive(uid), running=[session for session, _ in running],
        sockets=sockets, lines=lines, waiting=waiting, missed=missed, phones=phones, told=told, url=shown_url,
    )  # fmt: skip


@router.get("/wakes")
async def wakes(request: Request) -> Response:
    """A page of wakes, newest first."""
    bridge: Bridge = request.app.state.bridge
    given = request.query_params
    uid, device_id, before = given.get("uid", "")[:128], given.get("device", "")[:64], _number(given.get("before"))
    now = now_of(bridge)
    found = await _of_stories(lambda: reads.wakes(bridge.settings, now, before, uid, device_id))
    return await tell(request, "wakes", "wakes.html", found=found, uid=uid, device=device_id, before=before)


@router.get("/wake")
async def wake(request: Request) -> Response:
    """One wake, hop by hop."""
    bridge: Bridge = request.app.state.bridge
    wake_id, at, now = request.query_params.get("id", "")[:256], _number(request.query_params.get("at")), now_of(bridge)
    language = language_of(request)

    def look() -> tuple[Any, ...] | None:
        found = reads.wake(bridge.settings, now, wake_id, at)
        return None if found is None else (found, reads.told_of(found, now, language), reads.steps(found, language))

    told = await _of_stories(look)
    if told is None:
        return await missing(request, "wakes", wake_id)
    return await tell(request, "wakes", "wake.html", told=told)


@router.get("/logouts")
async def logouts(request: Request) -> Response:
    """Log-outs that no device has confirmed yet, oldest first."""
    bridge: Bridge = request.app.state.bridge
    after = int(_number(request.query_params.get("after")) or 0)
    rows = await read(bridge, lambda ledger: ledger.waiting_after(after, ROWS + 1))
    found = paged(rows, lambda row: row[0])
    return await tell(
        request, "logouts", "logouts.html",
        rows=[(row, bridge.chronicle.device(row.device_id)) for _, row in found.rows],
        next=found.next, count=bridge.sessions.waiting, url=shown_url, after=after,
    )  # fmt: skip


@router.get("/keys")
async def keys(request: Request) -> Response:
    """The API keys, without their secrets."""
    bridge: Bridge = request.app.state.bridge
    found = await read(bridge, LedgerReader.api_keys)
    signing = [key.key_id for key in bridge.authenticator.signing_keys] if bridge.authenticator.required else []
    return await tell(
        request, "keys", "keys.html", rows=found, signing=signing, is_open=not bridge.authenticator.required
    )


@router.get("/audit")
async def audit(request: Request) -> Response:
    """The ledger's audit, newest first; `about`: a user, a device or a session."""
    bridge: Bridge = request.app.state.bridge
    before, about = _number(request.query_params.get("before")), request.query_params.get("about", "")[:128]
    number = None if before is None else int(before)
    rows = await read(bridge, lambda ledger: ledger.audit_before(number, about or None, ROWS + 1))
    found = paged(rows, lambda row: row[0])
    return await tell(
        request, "audit", "audit.html",
        rows=[line for _, line in found.rows], next=found.next, about=about, before=before,
    )  # fmt: skip


@router.get("/health")
async def health(request: Request) -> Response:
    """Whether the bridge, its broker and its ledger work, and what expires."""
    bridge: Bridge = request.app.state.bridge
    now = bridge.clock.utc_now()
    settings = bridge.settings
    ends = await endings(settings, bridge.store, [one.principal for one in bridge.hub], now)
    return await tell(
        request, "health", "health.html",
        problem=bridge.problem, broker=None if bridge.mqtt.connected else bridge.mqtt.problem,
        broker_url=shown_url(settings.mqtt.url), ledger=bridge.store.problem, place=shown_url(settings.store.url),
        instance=settings.bridge.instance, version=VERSION, service_s=bridge.sessions.liveness.now(),
        stories_days=settings.bridge.stories_days, required=bridge.authenticator.required,
        ends=sorted(ends, key=lambda end: end.until), today=now,
    )  # fmt: skip


async def _of_stories(look: Callable[[], Result]) -> Result | str:
    """What `look` returns in the console's thread; as text, why there are no stories."""
    try:
        return await in_thread(look)
    except StoriesError as error:
        return str(error)


def _number(text: str | None) -> float | None:
    """A number of an address; None for none, and for what is none."""
    try:
        found = float(text) if text else None
    except ValueError:
        return None
    return found if found is not None and 0 <= found < MOST_NUMBER else None
