"""Serves `/metrics` alone, for a program that has no other HTTP endpoint."""

import asyncio
import socket

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from infra.connection_limits import ConnectionLimits
from infra.telemetry import REGISTRY
from infra.web.http_protocol import IDLE_S, PunctualProtocol
from infra.web.server import Server

MOST_CONNECTIONS = 16


async def serve_metrics(listening: socket.socket) -> None:
    """Serve on this socket, and close it, until cancelled; at most 16 connections: they take no files from others."""
    app = Starlette(routes=[Route("/metrics", _metrics)])
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", http=PunctualProtocol,
        timeout_keep_alive=IDLE_S, proxy_headers=False,
    )  # fmt: skip
    server = Server(config, room=ConnectionLimits(MOST_CONNECTIONS))
    serving = asyncio.create_task(server.serve(sockets=[listening]), name="metrics")
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = server.force_exit = True
        await asyncio.wait([serving])
        listening.close()


async def _metrics(_request: Request) -> Response:
    return PlainTextResponse(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
