"""Authenticates HTTP requests before any body is read."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from bridge.auth.authenticator import FORBIDDEN, TOO_MANY, UNAUTHORISED, Authenticator, Refusal
from bridge.auth.principals import BARE, Principal, is_free
from bridge.storage.records import By
from bridge.storage.store import StoreError
from infra.telemetry import CounterFamily
from infra.web.forwarded import Headers
from infra.web.methods import is_about_the_server

UNAVAILABLE = 503
REFUSED = CounterFamily(
    "sarvis_refused", "HTTP requests that were refused for their credential or their number", "status",
    (str(UNAUTHORISED), str(FORBIDDEN), str(TOO_MANY)),
).counts  # fmt: skip


class AuthMiddleware:
    """Admits authorized requests, as `request.state.principal`; WebSockets are checked at their endpoint."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._doors = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "http":
            refusal = await self.judge(scope)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def judge(self, scope: Scope) -> Response | None:
        """The refusal, or None for an authorized request. A request is checked once, however often this is called."""
        state = scope.setdefault("state", {})
        if "principal" in state:
            return None
        state["principal"] = None
        address = address_of(scope)
        try:
            self._doors.count(address)
            if is_free(scope["path"]) or is_about_the_server(scope):
                return None
            state["principal"] = await self._doors.authorize(
                scope["path"], address, scope["headers"], scope["query_string"]
            )
        except Refusal as refusal:
            if scope["path"] in BARE and refusal.status == UNAUTHORISED:
                return None
            return denial(refusal, asks_a_person=not _is_program(scope["headers"]))
        except StoreError as error:
            return JSONResponse({"detail": f"the credential cannot be checked: {error}"}, UNAVAILABLE)
        return None


def address_of(scope: Scope) -> str | None:
    """The peer's address; that of the client behind a trusted proxy."""
    client = scope.get("client")
    return client[0] if client else None


def _is_program(headers: Headers) -> bool:
    """Whether a page's script calls, or a client that already sends a token: then the browser must not ask its user."""
    told = dict(headers)
    return told.get(b"sec-fetch-dest") == b"empty" or told.get(b"authorization", b"")[:7].lower() == b"bearer "


def denial(refusal: Refusal, *, asks_a_person: bool = True) -> Response:
    """The refusal as an HTTP answer."""
    REFUSED[str(refusal.status)] += 1
    response = JSONResponse({"detail": refusal.detail}, refusal.status, {"connection": "close"})
    if refusal.retry_after_s is not None:
        response.headers["retry-after"] = str(refusal.retry_after_s)
    if refusal.status == UNAUTHORISED:
        # Basic, with the key as password, makes a browser ask its user; browsers need one header for each scheme.
        for scheme in ('Basic realm="SARVIS", charset="UTF-8"', 'Bearer realm="SARVIS"')[not asks_a_person :]:
            response.headers.append("www-authenticate", scheme)
    return response


def actor_of(request: Request) -> By:
    """Who calls, for the audit."""
    return By(principal_of(request).actor, address_of(request.scope) or "", "http")


def principal_of(request: Request) -> Principal:
    """The principal of an authorized request."""
    principal = request.state.principal
    assert isinstance(principal, Principal)  # noqa: S101 - only free doors have none
    return principal
