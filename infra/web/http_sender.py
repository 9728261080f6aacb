"""Posts to addresses that others have chosen: no answer, however slow or long, delays or fills this process."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2

FAILURES = (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, OSError)
"""What `post` raises if the address cannot be reached or is none; TimeoutError, which is an OSError, if it is slow."""

_KEPT_OPEN = 20


class NotRunningError(Exception):
    """The sender does not run: the process starts or stops."""


class HttpSender:
    """Posts while `running`; callers limit how many at a time. Proxies of the environment and redirects are ignored."""

    def __init__(self) -> None:
        self._client: httpx2.AsyncClient | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Inside this block posts are sent."""
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=_KEPT_OPEN)
        # No time-out but that of `post`, which includes all steps.
        async with httpx2.AsyncClient(timeout=None, limits=limits, trust_env=False, follow_redirects=False) as client:
            self._client = client
            try:
                yield
            finally:
                self._client = None

    @asynccontextmanager
    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, within_s: float
    ) -> AsyncIterator[httpx2.Response]:
        """The answer, inside this block, which ends within that time, too; its body has not been read.

        Raises NotRunningError, TimeoutError or one of FAILURES.
        """
        if self._client is None:
            raise NotRunningError
        async with (
            asyncio.timeout(within_s),
            self._client.stream("POST", url, content=body, headers=dict(headers)) as response,
        ):
            yield response
