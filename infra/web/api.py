"""What the HTTP endpoints of bridge and node share: bodies, their limit, and JSON errors.

FastAPI takes a quarter of a start; `infra.web.server` does without it.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.messages import Uid
from infra.telemetry import get_logger

BAD_REQUEST = 400

log = get_logger("http")


def example(body: dict[str, Any]) -> ConfigDict:
    """The configuration of a body's model: a correct example for the API description and for refusals."""
    return ConfigDict(json_schema_extra={"examples": [body]})


class UserRequest(BaseModel):
    """The documented body that names a user; more keys, like `action`, are ignored."""

    model_config = example({"uid": "alice"})

    uid: Uid


class Result(BaseModel):
    """The documented answer."""

    model_config = example({"success": True, "message": "Command sent"})

    success: bool
    message: str


class Problem(BaseModel):
    """Why a request was not carried out."""

    detail: str


def problems(more: dict[int, str] | None = None) -> dict[int | str, dict[str, Any]]:
    """The refusals of an endpoint for its API description; 422 is FastAPI's own."""
    told = {400: "The body is not text in UTF-8", 413: "The body is too large", **(more or {})}
    return {status: {"model": Problem, "description": why} for status, why in told.items()}


def harden(app: FastAPI, *, max_body_bytes: int) -> None:
    """Limit bodies, parse them as JSON, and answer every fault with JSON that never repeats input."""
    app.add_exception_handler(RequestValidationError, _unprocessable)
    app.add_exception_handler(BAD_REQUEST, _unreadable)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes)


class BodyLimit:
    """Refuses a body over `max_bytes` with 413, by its announced length or as soon as it becomes too long.

    It removes the content type: callers send any type or none for the same JSON, and no other bodies exist.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await self._read(scope, receive)
        if body is None:
            response = JSONResponse({"detail": f"the body is larger than {self._max_bytes} bytes"}, 413)
            response.headers["connection"] = "close"
            await response(scope, receive, send)
            return
        headers = [line for line in scope["headers"] if line[0] != b"content-type"]
        await self._app({**scope, "headers": headers}, replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._max_bytes:
            return None
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return bytes(body)
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                return None
            if not message.get("more_body", False):
                return bytes(body)


def replay(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    """An ASGI receive for a body that was already read: it returns the body once, then the server's messages."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _unprocessable(request: Request, error: Exception) -> Response:
    """The fault without the input, which may be a secret or not even be encodable."""
    faults: list[Any] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    detail = [{"type": fault["type"], "loc": fault["loc"], "msg": fault["msg"]} for fault in faults]
    return JSONResponse({"detail": detail, **_wanted(request)}, 422)


async def _unreadable(request: Request, _error: Exception) -> Response:
    return JSONResponse(
        {"detail": "the body is not JSON in UTF-8, or nested too deep", **_wanted(request)}, BAD_REQUEST
    )


def _wanted(request: Request) -> dict[str, Any]:
    """A correct body for this endpoint."""
    body = getattr(request.scope.get("route"), "body_field", None)
    model = body.field_info.annotation if body is not None else None
    extra = getattr(model, "model_config", {}).get("json_schema_extra")
    return {"example": extra["examples"][0]} if isinstance(extra, dict) else {}


async def _failed(_request: Request, error: Exception) -> Response:
    log.error("request_failed", error=repr(error))
    return JSONResponse({"detail": "an internal error occurred; the server's log has the details"}, 500)
