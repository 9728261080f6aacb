"""Posts log-outs to devices that speak only HTTP: `POST {uid, action}`."""

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from ipaddress import ip_address

import httpx2

from bridge.storage.records import PendingLogout
from infra.redaction import describe_request
from infra.telemetry import get_logger
from infra.web.http_sender import FAILURES, HttpSender, NotRunningError

TIMEOUT_S = 2.0
MAX_AT_ONCE = 500
FORBIDDEN, CONFLICT = 403, 409
_JSON = {"content-type": "application/json"}

log = get_logger("poster")


class LogoutPoster:
    """Posts while `running`. A device that does not answer delays no other."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        self._sender = HttpSender()

    def running(self) -> AbstractAsyncContextManager[None]:
        """Inside this block posts are sent."""
        return self._sender.running()

    async def post(self, row: PendingLogout) -> str | None:
        """Post once; None if the device obeyed (2xx, or 409: it has another user), else the reason."""
        problem = await self._try(row)
        (log.info if problem is None else log.warning)("logout_posted", device_id=row.device_id, problem=problem)
        return problem

    async def _try(self, row: PendingLogout) -> str | None:
        if row.url is None:
            return "stopping"
        asked = {"uid": row.uid, "action": "logout"}
        try:
            body = json.dumps(asked, ensure_ascii=False, separators=(",", ":")).encode()
            async with self._places, self._sender.post(row.url, body, _JSON, within_s=TIMEOUT_S) as response:
                status = response.status_code
        except NotRunningError:
            return "stopping"
        except TimeoutError:
            return f"no answer within {TIMEOUT_S:.0f} s"
        except FAILURES as error:
            return describe_request(error, row.url)
        if httpx2.codes.is_success(status) or status == CONFLICT:
            return None
        return f"it answered {status}{f'; {what_a_node_needs(row.url)}' if status == FORBIDDEN else ''}"


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
