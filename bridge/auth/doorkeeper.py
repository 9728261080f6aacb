"""The door of all HTTP endpoints, before any body is read: without a credential there is nothing to learn here."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from bridge.auth.doors import UNAUTHORISED, Doors, Refusal
from bridge.auth.principals import BARE, Principal, is_free
from bridge.store import StoreError
from contract.forwarded import Headers
from contract.http_methods import is_about_the_server

UNAVAILABLE = 503


class Doorkeeper:
    """Lets in who may enter, as `request.state.principal`; WebSockets judge for themselves, they speak close codes."""

    def __init__(self, app: ASGIApp, doors: Doors) -> None:
        self._app = app
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            refusal = await self.judge(scope)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def judge(self, scope: Scope) -> Response | None:
        """The refusal; None for who may enter. A request is judged once, whoever asks again."""
        state = scope.setdefault("state", {})
        if "principal" in state:
            return None
        state["principal"] = None
        address = address_of(scope)
        try:
            self._doors.count(address)
            if is_free(scope["path"]) or is_about_the_server(scope):
                return None
            state["principal"] = await self._doors.enter(
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
    """Does a script of a page call, or whoever shows a token already? The browser must not ask its user then."""
    told = dict(headers)
    return told.get(b"sec-fetch-dest") == b"empty" or told.get(b"authorization", b"")[:7].lower() == b"bearer "


def denial(refusal: Refusal, *, asks_a_person: bool = True) -> Response:
    """The refusal as an HTTP answer."""
    response = JSONResponse({"detail": refusal.detail}, refusal.status, {"connection": "close"})
    if refusal.retry_after_s is not None:
        response.headers["retry-after"] = str(refusal.retry_after_s)
    if refusal.status == UNAUTHORISED:
        # Basic, with the key as password, so that a browser asks its user; browsers want a header for each.
        for scheme in ('Basic realm="SARVIS", charset="UTF-8"', 'Bearer realm="SARVIS"')[not asks_a_person :]:
            response.headers.append("www-authenticate", scheme)
    return response


def principal_of(request: Request) -> Principal:
    """Who was let in."""
    principal = request.state.principal
    assert isinstance(principal, Principal)  # noqa: S101 - only free doors have none
    return principal
