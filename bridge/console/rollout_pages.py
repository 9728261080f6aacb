"""The console's pages of rollouts, and what can be done there: pause, resume, stop."""

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from bridge.auth.middleware import address_of
from bridge.console.guard import PATH, Visit
from bridge.console.pages import OK, missing, tell
from bridge.console.reads import ROWS
from bridge.rollout.rules import CHANGES, changed, counts
from bridge.service import Bridge
from bridge.storage.records import By
from bridge.storage.rollouts import Rollout, line_of
from contract.clock import iso

SEE_OTHER = 303
FIRST = ("failed", "asked", "returning", "kept", "running", "returned")
"""The order of devices on a page: those that need somebody first."""

router = APIRouter(prefix=PATH, include_in_schema=False)


@router.get("/rollouts")
async def rollouts(request: Request) -> Response:
    """The newest rollouts, and the models that can be rolled out."""
    bridge: Bridge = request.app.state.bridge
    store = bridge.rollout_store
    known = [] if store is None else list(await store.rollouts())
    models = [] if store is None else list(await store.models())
    return await tell(
        request, "rollouts", "rollouts.html", OK,
        rows=known[: -ROWS - 1 : -1], models=models, names={one.sha256: one.name for one in models},
        is_on=bridge.settings.rollout.bridge_url is not None,
    )  # fmt: skip


@router.get("/rollouts/{number}")
async def rollout(request: Request, number: str) -> Response:
    """A rollout: its stage, and its devices, those that failed first."""
    bridge: Bridge = request.app.state.bridge
    store, found = bridge.rollout_store, await _found(bridge, number)
    if store is None or found is None:
        return await missing(request, "rollouts", number)
    devices = list((await store.devices_of(found.number)).values())
    devices.sort(key=lambda one: (FIRST.index(one.state), one.device_id))
    names = {one.sha256: one.name for one in await store.models()}
    return await tell(
        request, "rollouts", "rollout.html", OK,
        rollout=found, name=names.get(found.model, found.model), counts=counts(devices),
        devices=devices[:ROWS], more=max(0, len(devices) - ROWS),
        actions=[what for what in CHANGES if changed(found, what) is not None],
    )  # fmt: skip


@router.post("/rollouts/{number}/{what}")
async def change(request: Request, number: str, what: str) -> Response:
    """Pause, resume or stop a rollout; the audit names who did it."""
    bridge: Bridge = request.app.state.bridge
    visit: Visit = request.state.visit
    store, found = bridge.rollout_store, await _found(bridge, number)
    if store is None or found is None or what not in CHANGES:
        return await missing(request, "rollouts", number)
    after, told = changed(found, what), "rollout_not_changed"
    if after is not None:
        actor = "" if visit.principal is None else visit.principal.actor
        by = By(actor, address_of(request.scope) or "", "http")
        line = line_of(found.number, f"{what}: now {after.state}", iso(bridge.clock.utc_now()), by)
        if await store.save(found, after, (), [line]):
            told = "rollout_changed"
    return RedirectResponse(f"{PATH}/rollouts/{found.number}?told={told}", SEE_OTHER)


async def _found(bridge: Bridge, number: str) -> Rollout | None:
    known = [] if bridge.rollout_store is None else await bridge.rollout_store.rollouts()
    return next((one for one in known if str(one.number) == number), None)
