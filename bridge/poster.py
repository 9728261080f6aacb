"""Log-outs to devices that speak only HTTP: the documented `POST {uid, action}`, one at a time per device."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import httpx2

from bridge.rows import PendingLogout
from bridge.store import StoreError
from contract.redaction import describe_request
from contract.telemetry import get_logger

TIMEOUT_S = 2.0
MAX_AT_ONCE = 500
FORBIDDEN, CONFLICT = 403, 409

log = get_logger("poster")


class Poster:
    """Posts while `running`. A device that does not answer holds up nobody but itself.

    Args:
        on_done: told of each post: None when the device obeyed (2xx, or 409: it holds another user), else why not.
    """

    def __init__(self, on_done: Callable[[PendingLogout, str | None], Awaitable[None]]) -> None:
        self._on_done = on_done
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        self._client: httpx2.AsyncClient | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Inside this block posts go out; at its end those under way are dropped, their rows stay in the ledger."""
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
        async with httpx2.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False) as client:
            self._client = client
            try:
                yield
            finally:
                self._client = None
                tasks = list(self._under_way.values())
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def post(self, row: PendingLogout) -> None:
        """Begin; the device must have no post under way."""
        task = asyncio.create_task(self._post(row), name=f"post to {row.device_id}")
        self._under_way[row.device_id] = task
        task.add_done_callback(lambda _: self._under_way.pop(row.device_id, None))

    async def over(self, device_id: str) -> None:
        """Wait until no post to this device is under way."""
        task = self._under_way.get(device_id)
        if task is not None:
            await asyncio.wait([task])

    async def _post(self, row: PendingLogout) -> None:
        problem = await self._try(row)
        (log.info if problem is None else log.warning)("logout_posted", device_id=row.device_id, problem=problem)
        try:
            await self._on_done(row, problem)
        except StoreError as error:
            log.warning("post_not_noted", device_id=row.device_id, error=str(error))  # it is posted again

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
        # The answer's body is never read: whatever its length, it takes no memory here.
        async with client.stream("POST", url, json=body) as response:
            return response.status_code


def what_a_node_needs(url: str) -> str:
    """The settings with which a node takes what is posted to this address of its."""
    host = httpx2.URL(url).host
    named = "" if _is_known_anyway(host) else f'edge.http_hosts = ["{host}"] and '
    return f"on that node set {named}edge.http_allow, which must have the address of this bridge"


def _is_known_anyway(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
