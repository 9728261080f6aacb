"""What can be done from the console: log in and out, choose the language, log a user out, ring a phone to try it."""

from collections.abc import Mapping
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from bridge.auth.authenticator import FORBIDDEN, Refusal
from bridge.auth.middleware import address_of
from bridge.auth.principals import VIEWERS, Principal
from bridge.console.guard import PATH, Visit, cookie_name, cookie_of, is_console
from bridge.console.logins import LONGEST_S, Logins
from bridge.console.pages import asked_by, missing
from bridge.console.render import LANGUAGE_COOKIE, page, refused
from bridge.console.words import LANGUAGES
from bridge.service import Bridge
from bridge.storage.records import By
from contract.clock import iso
from contract.messages import LEGACY_DEVICE
from contract.names import check_note, check_uid, is_device_id
from contract.wake_codec import QuickWake
from infra.telemetry import get_logger

SEE_OTHER = 303
YEAR_S = 365 * 24 * 3600
TEST_COMMAND = "wake_up"

log = get_logger("console")
router = APIRouter(prefix=PATH, include_in_schema=False)


@router.post("/log-in")
async def log_in(request: Request) -> Response:
    """Log in with the key of an operator or a viewer."""
    bridge: Bridge = request.app.state.bridge
    logins: Logins = request.app.state.console_logins
    visit: Visit = request.state.visit
    at = _place(visit.form.get("at", ""))
    if not bridge.authenticator.required:
        return RedirectResponse(at, SEE_OTHER)
    try:
        principal = await _principal(request, visit.form)
    except Refusal as refusal:
        why = "too_many" if refusal.retry_after_s is not None else "used_link" if "once" in visit.form else "wrong_key"
        answer = await refused(asked_by(request), refusal.status, why, form=True, at=at)
        if refusal.retry_after_s is not None:
            answer.headers["retry-after"] = str(refusal.retry_after_s)
        return answer
    if principal.kind not in VIEWERS:
        return await refused(asked_by(request), FORBIDDEN, "callers_key", form=True, at=at)
    cookie = logins.begin(principal.name, bridge.clock.monotonic())
    log.info("console_log_in", key_id=principal.name, role=principal.kind, address=address_of(request.scope))
    answer = RedirectResponse(at, SEE_OTHER)
    _set(request, answer, cookie, int(LONGEST_S))
    return answer


@router.get("/log-in")
async def log_in_form(request: Request) -> Response:
    """The form of a link that logs in once: only its button uses the link, and no program that looks at links."""
    visit: Visit = request.state.visit
    once = request.query_params.get("once", "")[:200]
    if visit.principal is not None or not once:
        return RedirectResponse(PATH, SEE_OTHER)
    return await page("link.html", asked_by(request), once=once)


@router.post("/log-out")
async def log_out(request: Request) -> Response:
    """Log this browser out of the console."""
    logins: Logins = request.app.state.console_logins
    logins.end(cookie_of(request))
    answer = RedirectResponse(PATH, SEE_OTHER)
    _set(request, answer, "", 0)
    return answer


@router.post("/language")
async def language(request: Request) -> Response:
    """Choose the language of the pages."""
    visit: Visit = request.state.visit
    answer = RedirectResponse(_place(visit.form.get("at", "")), SEE_OTHER)
    wanted = visit.form.get("to", "")
    if wanted in LANGUAGES:
        answer.set_cookie(LANGUAGE_COOKIE, wanted, YEAR_S, path=PATH, httponly=True, samesite="strict")
    return answer


@router.post("/people/log-out")
async def log_user_out(request: Request) -> Response:
    """End all sessions of a user."""
    bridge: Bridge = request.app.state.bridge
    visit: Visit = request.state.visit
    uid, at = visit.form.get("uid", ""), _place(visit.form.get("at", ""))
    try:
        check_uid(uid)
    except ValueError:
        return await missing(request, "people", uid)
    if visit.form.get("sure") != uid:
        return RedirectResponse(_with(at, "not_sure"), SEE_OTHER)
    try:
        note = check_note(visit.form.get("note", ""))
    except ValueError:
        return RedirectResponse(_with(at, "bad_note"), SEE_OTHER)
    actor = "" if visit.principal is None else visit.principal.actor
    await bridge.sessions.logout(uid, "operator", By(actor, address_of(request.scope) or "", "http", note))
    return RedirectResponse(_with(at, "logged_out"), SEE_OTHER)


@router.post("/devices/{device_id}/ring")
async def ring(request: Request, device_id: str) -> Response:
    """Ring the apps of the user who is logged in on a device, to try it; the device hears nothing of it."""
    bridge: Bridge = request.app.state.bridge
    if not is_device_id(device_id):
        return await missing(request, "devices", device_id)
    uid = bridge.sessions.user_of(device_id)
    if uid is None:
        told = "no_user"
    else:
        wake = QuickWake(uid, TEST_COMMAND, iso(bridge.clock.utc_now()), device_id=LEGACY_DEVICE)
        told = "rung" if await bridge.trigger(wake) else "not_rung"
    return RedirectResponse(_with(f"{PATH}/devices/{device_id}", told), SEE_OTHER)


async def _principal(request: Request, form: Mapping[str, str]) -> Principal:
    """Who logs in, with a key or by a link; raises Refusal, StoreError."""
    bridge: Bridge = request.app.state.bridge
    logins: Logins = request.app.state.console_logins
    key = form.get("key", "").strip()
    if "once" in form:
        key_id = logins.use(form["once"], bridge.clock.monotonic())
        principal = None if key_id is None else await bridge.authenticator.holder(key_id)
        if principal is not None:
            return principal
        key = ""
    # A used link counts as a wrong key: both may be guesses.
    offered = [(b"x-api-key", key.encode("latin-1", "replace"))]
    return await bridge.authenticator.authenticate(address_of(request.scope), offered, b"")


def _set(request: Request, answer: Response, cookie: str, seconds: int) -> None:
    secure = request.url.scheme == "https"
    answer.set_cookie(
        cookie_name(request), cookie, seconds,
        path="/" if secure else PATH, secure=secure, httponly=True, samesite="strict",
    )  # fmt: skip


def _place(at: str) -> str:
    """A page of the console; its first one for any other address."""
    return at if at.isprintable() and "\\" not in at and is_console(at.partition("?")[0]) else PATH


def _with(at: str, told: str) -> str:
    return f"{at}{'&' if '?' in at else '?'}{urlencode({'told': told})}"
