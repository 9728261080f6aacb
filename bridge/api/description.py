"""The API description: FastAPI's, with names for generated clients and with who may call what."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from bridge.auth.principals import PERMISSIONS, Kind

NEED_NO_KEY: frozenset[Kind] = frozenset({"open", "network"})
SCHEMES: dict[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key, or an app's token"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "an API key"},
    "queryKey": {"type": "apiKey", "in": "query", "name": "key", "description": "an API key, without a header"},
}
CALLED_BY: dict[str, str] = {
    "caller": "callers of the first guide",
    "app": "apps",
    "operator": "operators",
    "viewer": "operators that only read",
    "device": "devices, with the ticket that the bridge sent them",
}


def operation_id(route: APIRoute) -> str:
    """The name of an operation in generated clients: it is part of the contract."""
    return route.name


def describe(app: FastAPI, *, required: bool) -> None:
    """Let the application describe who may call what, from the table that its doors use.

    `required`: the bridge requires credentials.
    """
    made: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        described = made()
        if "x-sarvis" in described["info"]:
            return described
        described["info"]["x-sarvis"] = {"callers": CALLED_BY}
        if required:
            described.setdefault("components", {})["securitySchemes"] = SCHEMES
        for path, operations in described["paths"].items():
            kinds = sorted(PERMISSIONS[path] - NEED_NO_KEY)
            for operation in operations.values():
                operation["x-callers"] = kinds
                if required:
                    operation["security"] = [{name: kinds} for name in SCHEMES]
        return described

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's way to change it
