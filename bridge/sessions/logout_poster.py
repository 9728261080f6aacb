"""Posts log-outs to devices that speak only HTTP: `POST {uid, action}`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import httpx2

from bridge.storage.records import PendingLogout
from infra.redaction import describe_request
from infra.telemetry import get_logger

TIMEOUT_S = 2.0
MAX_AT_ONCE = 500
FORBIDDEN, CONFLICT = 403, 409

log = get_logger("poster")


class LogoutPoster:
    """Posts while `running`. A device that does not answer delays no other."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        self._client: httpx2.AsyncClient | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Inside this block posts are sent."""
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
        async with httpx2.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False) as client:
            self._client = client
            try:
                yield
            finally:
                self._client = None

    async def post(self, row: PendingLogout) -> str | None:
        """Post once; None if the device obeyed (2xx, or 409: it has another user), else the reason."""
        problem = await self._try(row)
        (log.info if problem is None else log.warning)("logout_posted", device_id=row.device_id, problem=problem)
        return problem

    async def _try(self, row: PendingLogout) -> str | None:
        if self._client is None or row.url is None:
            return "stopping"
        try:
            async with self._places, asyncio.timeout(TIMEOUT_S):
                status = await self._status(self._client, row.url, {"uid": row.uid, "action": "logout"})
        except TimeoutError:
            return f"no answer within {TIMEOUT_S:.0f} s"
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, OSError) as error:
            return describe_request(error, row.url)
        if httpx2.codes.is_success(status) or status == CONFLICT:
            return None
        return f"it answered {status}{f'; {what_a_node_needs(row.url)}' if status == FORBIDDEN else ''}"

    async def _status(self, client: httpx2.AsyncClient, url: str, body: dict[str, str]) -> int:
        # The body of the answer is never read: whatever its length, it uses no memory.
        async with client.stream("POST", url, json=body) as response:
            return response.status_code


def what_a_node_needs(url: str) -> str:
    """The settings that a node needs to accept posts to this address."""
    host = httpx2.URL(url).host
    named = "" if _is_known_anyway(host) else f'edge.http_hosts = ["{host}"] and '
    return f"on that node set {named}edge.http_allow to networks that contain the address of this bridge"


def _is_known_anyway(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
