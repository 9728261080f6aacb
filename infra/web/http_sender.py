"""Posts to addresses that others have chosen: no answer, however slow or long, delays or fills this process."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import httpx2

FAILURES = (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, OSError)
"""What `post` raises if the address cannot be reached or is none; TimeoutError, which is an OSError, if it is slow."""

_KEPT_OPEN = 20


class NotRunningError(Exception):
    """The sender does not run: the process starts or stops."""


class HttpSender:
    """Posts while `running`; callers limit how many at a time. Proxies of the environment and redirects are ignored.

    The first post makes the client: most bridges never post, and its certificates and libraries take a tenth of the
    time of a start.
    """

    def __init__(self) -> None:
        self._runs = False
        self._client: asyncio.Task[httpx2.AsyncClient] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Inside this block posts are sent."""
        self._runs = True
        try:
            yield
        finally:
            self._runs = False
            making, self._client = self._client, None
            if making is not None:
                with suppress(*FAILURES):
                    await (await making).aclose()

    @asynccontextmanager
    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, within_s: float
    ) -> AsyncIterator[httpx2.Response]:
        """The answer, inside this block, which ends within that time, too; its body has not been read.

        Raises NotRunningError, TimeoutError or one of FAILURES.
        """
        if not self._runs:
            raise NotRunningError
        async with asyncio.timeout(within_s):
            client = await self._the_client()
            async with client.stream("POST", url, content=body, headers=dict(headers)) as response:
                yield response

    async def _the_client(self) -> httpx2.AsyncClient:
        """A post that is too slow for it leaves it to the next one."""
        if self._client is None or (self._client.done() and self._client.exception() is not None):
            # In a thread: wakes are delivered meanwhile.
            self._client = asyncio.create_task(asyncio.to_thread(_new_client), name="http client")
        return await asyncio.shield(self._client)


def _new_client() -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=_KEPT_OPEN)
    # No time-out but that of `post`, which includes all steps.
    return httpx2.AsyncClient(timeout=None, limits=limits, trust_env=False, follow_redirects=False)
