"""Posts pushes to push services: each in its own task with a time-out, once again where that may help."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import httpx2
import prometheus_client

from bridge.pushes import Verdict, headers, origin_of, pause_s, payload, verdict
from bridge.rows import PushSubscription
from bridge.vapid import Vapid
from bridge.wakes import Fate
from contract.clock import Clock
from contract.telemetry import REGISTRY, get_logger

TIMEOUT_S = 5.0
MAX_AT_ONCE = 500
MAX_OF_USER = 16
MAX_AT_SERVICE = 250

PUSHES = prometheus_client.Counter(
    "sarvis_pushes_total", "Pushes to phones by what came of them", ["result"], registry=REGISTRY
)

log = get_logger("pusher")


class Pusher:
    """Pushes while `running`. A service that does not answer holds up nobody; what finds no room is only counted.

    Args:
        on_accepted: a push service took the wake.
        on_gone: the push service knows the subscription no more.
    """

    def __init__(
        self,
        vapid: Vapid,
        clock: Clock,
        *,
        on_accepted: Callable[[Fate], None],
        on_gone: Callable[[PushSubscription], Awaitable[None]],
    ) -> None:
        self._vapid = vapid
        self._clock = clock
        self._on_accepted = on_accepted
        self._on_gone = on_gone
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: Counter[str] = Counter()
        self._client: httpx2.AsyncClient | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Inside this block pushes go out; at its end those under way are dropped."""
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
        async with httpx2.AsyncClient(
            timeout=TIMEOUT_S, limits=limits, trust_env=False, follow_redirects=False
        ) as client:
            self._client = client
            try:
                yield
            finally:
                self._client = None
                tasks = list(self._tasks)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def push(self, fate: Fate, subscriptions: Iterable[PushSubscription]) -> None:
        """Begin to ring these phones."""
        for subscription in subscriptions:
            kept = [f"user {subscription.uid}", f"service {origin_of(subscription.endpoint)}"]
            if not self._has_room(*kept):
                PUSHES.labels("no_room").inc()
                continue
            self._under_way.update(kept)
            task = asyncio.create_task(self._push(fate, subscription), name=f"push {fate.wake.id}")
            self._tasks.add(task)
            task.add_done_callback(lambda done, kept=kept: self._over(done, kept))  # type: ignore[misc]

    def _has_room(self, user: str, service: str) -> bool:
        return (
            len(self._tasks) < MAX_AT_ONCE
            and self._under_way[user] < MAX_OF_USER
            and self._under_way[service] < MAX_AT_SERVICE
        )

    def _over(self, task: asyncio.Task[None], kept: list[str]) -> None:
        self._tasks.discard(task)
        self._under_way.subtract(kept)
        for name in kept:
            if not self._under_way[name]:
                del self._under_way[name]

    async def _push(self, fate: Fate, subscription: PushSubscription) -> None:
        try:
            result = await self._try_twice(fate, subscription)
            PUSHES.labels(result).inc()
            # The endpoint itself is a secret: whoever has it can ring the phone.
            log.info("push", uid=subscription.uid, service=origin_of(subscription.endpoint), result=result)
            if result == "accepted":
                self._on_accepted(fate)
            elif result == "gone":
                await self._on_gone(subscription)
        except Exception:
            log.exception("push_failed", uid=subscription.uid)

    async def _try_twice(self, fate: Fate, subscription: PushSubscription) -> str:
        """What came of it: a verdict but `again`, or `given_up`, or `not_needed` when the wake's life ended before."""
        wait_s = 0.0
        for _ in range(2):
            left_s = fate.expires_at - self._clock.monotonic() - wait_s
            if left_s <= 0:
                return "given_up"
            if wait_s:
                await asyncio.sleep(wait_s)
            if fate.taken:
                return "not_needed"
            found, retry_after = await self._try(fate, subscription, left_s)
            if found != "again":
                return found
            wait_s = pause_s(retry_after)
        return "given_up"

    async def _try(self, fate: Fate, subscription: PushSubscription, left_s: float) -> tuple[Verdict, str | None]:
        if self._client is None:
            return "refused", None
        service = origin_of(subscription.endpoint)
        try:
            async with asyncio.timeout(min(TIMEOUT_S, left_s)):
                return await self._post(self._client, fate.wake.id, subscription, left_s)
        except TimeoutError:
            log.warning("push_service_is_slow", service=service)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            log.warning("push_service_not_reached", service=service, error=str(error) or type(error).__name__)
        return "again", None

    async def _post(
        self, client: httpx2.AsyncClient, wake_id: str, subscription: PushSubscription, left_s: float
    ) -> tuple[Verdict, str | None]:
        told = headers(wake_id, left_s)
        told["authorization"] = self._vapid.authorization(origin_of(subscription.endpoint))
        body = self._vapid.encrypted(payload(wake_id), subscription)
        # The answer's body is never read: whatever its length, it takes no memory here.
        async with client.stream("POST", subscription.endpoint, content=body, headers=told) as response:
            found = verdict(response.status_code)
            if found in {"again", "refused"}:
                service = origin_of(subscription.endpoint)
                log.warning("push_service_refused", service=service, status=response.status_code)
            return found, response.headers.get("retry-after")
