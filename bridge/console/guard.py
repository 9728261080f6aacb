"""Lets only logged-in operators and viewers see the console, and only operators change something by its own forms."""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.auth.authenticator import FORBIDDEN, UNAUTHORISED, Refusal
from bridge.auth.middleware import address_of
from bridge.auth.principals import OPERATORS, Principal
from bridge.console.logins import Login, Logins
from bridge.console.render import Asked, language_of, refused
from bridge.service import Bridge
from bridge.storage.store import StoreError
from infra.telemetry import get_logger
from infra.web.api import replay
from infra.web.forwarded import FORWARDED_HOST, Headers
from infra.web.middleware import is_foreign_page

PATH = "/console"
LOG_IN, LOG_OUT, LANGUAGE, STATIC = f"{PATH}/log-in", f"{PATH}/log-out", f"{PATH}/language", f"{PATH}/static/"
FEED = f"{PATH}/feed"
BY_ITSELF = "x-sarvis-by-itself"
"""The header of a page that loads itself again."""
COOKIE = "sarvis_console"
FOR_ALL = frozenset({LOG_IN, LANGUAGE})
"""Before a log-in, besides the files."""
FOR_VIEWERS = frozenset({LOG_IN, LOG_OUT, LANGUAGE})
"""What a viewer may post."""
MAX_FIELDS = 20
UNAVAILABLE = 503

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    # Not no-referrer: a browser would then send the origin `null` with each form.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

log = get_logger("console")


@dataclass(slots=True)
class Visit:
    """One request to the console, as its pages get it in `request.state.visit`.

    Attributes:
        principal: who asks; None before a log-in.
        token: what forms carry.
        login: None before a log-in, and on a bridge without credentials.
        form: the fields of a POST, each once.
    """

    principal: Principal | None
    token: str
    login: Login | None = None
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def may_act(self) -> bool:
        """Whether it may change something."""
        return self.principal is not None and self.principal.kind in OPERATORS


class ConsoleGuard:
    """An ASGI middleware: answers by itself for all below /console what is not allowed. Needs a bounded body."""

    def __init__(self, app: ASGIApp, bridge: Bridge, logins: Logins) -> None:
        self._app = app
        self._bridge = bridge
        self._logins = logins
        self._token = secrets.token_urlsafe(32)
        """In forms before a log-in, and on a bridge without credentials: foreign pages cannot read it either."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http" or not is_console(scope["path"]):
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        if scope["path"].startswith(STATIC):
            await self._app(scope, receive, guarded)
            return
        request = Request(scope, receive)
        body = await request.body() if scope["method"] not in {"GET", "HEAD"} else b""
        answer = await self._judge(request, body)
        if answer is not None:
            await answer(scope, receive, guarded)
        else:
            await self._app(scope, replay(body, receive), guarded)

    async def _judge(self, request: Request, body: bytes) -> Response | None:
        """The refusal; None for a request that is allowed, with its visit."""
        visit = Visit(None, self._token)
        language = language_of(request)
        try:
            await self._find(request, visit)
        except Refusal as refusal:
            return await refused(Asked(language, visit.token), refusal.status, "not_here", detail=refusal.detail)
        except StoreError as error:
            return await refused(Asked(language, visit.token), UNAVAILABLE, "not_checked", detail=str(error))
        request.scope.setdefault("state", {})["visit"] = visit
        asked = Asked(language, visit.token, is_in=visit.principal is not None, may_act=visit.may_act)
        if visit.principal is None and request.scope["path"] not in FOR_ALL:
            return await refused(asked, UNAUTHORISED, "log_in_first", form=True, at=_here(request))
        if request.scope["method"] in {"GET", "HEAD"}:
            return None
        return await self._judge_form(request, body, visit, asked)

    @staticmethod
    async def _judge_form(request: Request, body: bytes, visit: Visit, asked: Asked) -> Response | None:
        if not is_own_form(request.scope):
            log.warning("foreign_form_refused", path=request.scope["path"])
            return await refused(asked, FORBIDDEN, "foreign_form")
        visit.form = form_of(body)
        if not hmac.compare_digest(visit.form.get("token", "").encode(), visit.token.encode()):
            return await refused(asked, FORBIDDEN, "stale_form", form=visit.principal is None, at=PATH)
        if not visit.may_act and request.scope["path"] not in FOR_VIEWERS:
            return await refused(asked, FORBIDDEN, "only_operators")
        return None

    async def _find(self, request: Request, visit: Visit) -> None:
        """Who asks; raises Refusal for those who may not ask at all, and StoreError."""
        doors = self._bridge.authenticator
        if not doors.required:
            visit.principal = await doors.authenticate(address_of(request.scope), request.scope["headers"], b"")
            return
        cookie = cookie_of(request)
        login = self._logins.find(cookie, self._bridge.clock.monotonic(), uses=is_use(request)) if cookie else None
        if login is None:
            return
        principal = await doors.holder(login.key_id)
        if principal is None:
            self._logins.end(cookie)
            return
        visit.principal, visit.token, visit.login = principal, login.token, login


async def is_still_in(request: Request) -> bool:
    """Whether the log-in of a request that takes long is still valid; this does not count as its use."""
    bridge: Bridge = request.app.state.bridge
    visit: Visit = request.state.visit
    if visit.login is None:
        return True
    if visit.login.is_over(bridge.clock.monotonic()):
        return False
    try:
        return await bridge.authenticator.holder(visit.login.key_id) is not None
    except StoreError:
        return False


def is_console(path: str) -> bool:
    """Whether a path is the console's."""
    return path == PATH or path.startswith(f"{PATH}/")


def is_own_form(scope: Scope) -> bool:
    """Whether a page of this very origin sends a request, as its browser says; without such a header it is foreign."""
    headers: Headers = list(scope["headers"])
    told = dict(headers)
    site, origin = told.get(b"sec-fetch-site"), told.get(b"origin")
    if site is None and origin is None:
        return False
    if site is not None and site != b"same-origin":
        return False
    return origin is None or not is_foreign_page(headers, scope.get("scheme", "http"), (), scope.get(FORWARDED_HOST))


def is_use(request: Request) -> bool:
    """Whether a person asks. A page that follows what happens asks by itself: its log-in ends as if it were closed."""
    return request.scope["path"] != FEED and BY_ITSELF not in request.headers


def form_of(body: bytes) -> dict[str, str]:
    """The fields of a form; the first of each name counts, and one with too many fields has none."""
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        return {}
    return dict(reversed(fields))


def cookie_name(request: Request) -> str:
    """Over TLS a name that browsers accept from this very host only."""
    return f"__Host-{COOKIE}" if request.url.scheme == "https" else COOKIE


def cookie_of(request: Request) -> str:
    """What a browser sends as the cookie of the console; empty if it sends none."""
    found = SimpleCookie()
    try:
        found.load(request.headers.get("cookie", ""))
    except CookieError:
        return ""
    morsel = found.get(cookie_name(request))
    return "" if morsel is None else morsel.value


def _here(request: Request) -> str:
    if request.scope["method"] not in {"GET", "HEAD"}:
        return PATH
    query = request.url.query
    return f"{request.scope['path']}?{query}" if query else request.scope["path"]
