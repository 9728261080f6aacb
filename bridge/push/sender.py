"""Posts pushes to push services: one task each, with a time-out and one retry."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import httpx2
import prometheus_client

from bridge.push.answers import MAX_BODY, hint, reason
from bridge.push.failing import FailingServices
from bridge.push.subscriptions import Verdict, date_of, headers, origin_of, pause_s, payload, verdict
from bridge.push.vapid import Vapid
from bridge.storage.records import PushSubscription
from bridge.wakes.delivery import Delivery
from bridge.wakes.story import StoryBook
from contract.clock import Clock
from infra.tasks import Tasks
from infra.telemetry import REGISTRY, get_logger
from infra.web.http_sender import FAILURES, HttpSender, NotRunningError

TIMEOUT_S = 5.0
REASON_S = 1.0
"""For the reason that a service gives for a refusal."""
MAX_AT_ONCE = 500
MAX_OF_USER = 16
MAX_AT_SERVICE = 250
MAX_WAITING = 2000
MAX_WAITING_OF_PHONE = 4

PUSHES = prometheus_client.Counter("sarvis_pushes_total", "Pushes to phones by result", ["result"], registry=REGISTRY)
for _result in ("accepted", "gone", "refused", "given_up", "no_room", "not_needed"):
    PUSHES.labels(_result)  # a rate sees the first one only if there was a zero before

log = get_logger("pusher")

OnAccepted = Callable[[Delivery], None]


class PushSender:
    """Sends pushes while `running`.

    A service that does not answer delays no other; pushes beyond the limits are only counted.

    Args:
        on_gone: the push service no longer has the subscription.
        book: notes the result of each push.
        failing: is told the result of each push.
    """

    def __init__(
        self,
        vapid: Vapid,
        clock: Clock,
        *,
        on_gone: Callable[[PushSubscription], Awaitable[None]],
        book: StoryBook | None = None,
        failing: FailingServices | None = None,
    ) -> None:
        self._vapid = vapid
        self._clock = clock
        self._failing = failing or FailingServices()
        self._on_gone = on_gone
        self._book = book
        self._tasks: Tasks | None = None
        self._under_way: Counter[str] = Counter()
        self._sender = HttpSender()

    def __len__(self) -> int:
        """Pushes under way, those that wait for a second try included."""
        return 0 if self._tasks is None else len(self._tasks)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Inside this block pushes are sent; at its end unfinished ones are dropped."""
        async with self._sender.running():
            try:
                async with Tasks() as self._tasks:
                    yield
            finally:
                self._tasks = None
                self._under_way.clear()

    def push(self, delivery: Delivery, subscriptions: Iterable[PushSubscription], on_accepted: OnAccepted) -> None:
        """Start pushing to these phones; `on_accepted` is called for each that a push service accepts."""
        for subscription in subscriptions:
            if self._tasks is None or not self._has_room(subscription):
                PUSHES.labels("no_room").inc()
                if self._book is not None:
                    self._book.note(delivery, "no_push", "no_room")
                continue
            # Counted now and not when the task starts: the next push is checked against it.
            self._under_way.update(_places(subscription))
            self._tasks.start(self._push(delivery, subscription, on_accepted), f"push {delivery.wake.id}")

    def _has_room(self, subscription: PushSubscription) -> bool:
        everywhere, user, service = _places(subscription)
        return (
            self._under_way[everywhere] < MAX_AT_ONCE
            and self._under_way[user] < MAX_OF_USER
            and self._under_way[service] < MAX_AT_SERVICE
        )

    async def _push(self, delivery: Delivery, subscription: PushSubscription, on_accepted: OnAccepted) -> None:
        try:
            result = await self._try_twice(delivery, subscription)
            PUSHES.labels(result).inc()
            service = origin_of(subscription.endpoint)
            self._failing.ended(service, result, self._clock.utc_now().timestamp())
            if self._book is not None:
                self._book.note(delivery, "push", service, result)
            # The endpoint itself is a secret: its owner can ring the phone.
            log.info("push", uid=subscription.uid, service=service, result=result)
            if result == "accepted":
                on_accepted(delivery)
            elif result == "gone":
                await self._on_gone(subscription)
        except Exception:
            log.exception("push_failed", uid=subscription.uid)

    async def _try_twice(self, delivery: Delivery, subscription: PushSubscription) -> str:
        """The result: a verdict other than `again`, or `given_up`, `no_room` or `not_needed`.

        A push that waits for its second attempt occupies no place. Called with its places counted; leaves none counted.
        """
        found, wait_s = await self._try(delivery, subscription)
        if found != "again":
            return found
        if delivery.expires_at - self._clock.monotonic() <= wait_s:
            return "given_up"
        if not await self._wait(wait_s, subscription):
            return "no_room"
        if delivery.taken:
            return "not_needed"
        if not self._has_room(subscription):
            return "no_room"
        self._under_way.update(_places(subscription))
        found, _ = await self._try(delivery, subscription)
        return "given_up" if found == "again" else found

    async def _wait(self, wait_s: float, subscription: PushSubscription) -> bool:
        places = ["waiting", f"waiting {subscription.endpoint}"]
        if self._under_way[places[0]] >= MAX_WAITING or self._under_way[places[1]] >= MAX_WAITING_OF_PHONE:
            return False
        self._under_way.update(places)
        try:
            await self._clock.sleep(wait_s)
        finally:
            self._leave(places)
        return True

    def _leave(self, places: Iterable[str]) -> None:
        self._under_way.subtract(places)
        for name in places:
            if not self._under_way[name]:
                del self._under_way[name]

    async def _try(self, delivery: Delivery, subscription: PushSubscription) -> tuple[Verdict, float]:
        """The verdict, and how long to wait before another attempt."""
        service = origin_of(subscription.endpoint)
        left_s = delivery.expires_at - self._clock.monotonic()
        try:
            return ("again", 0.0) if left_s <= 0 else await self._post(delivery.wake.id, subscription, left_s)
        except NotRunningError:
            return "refused", 0.0
        except TimeoutError:
            log.warning("push_service_is_slow", service=service)
        except FAILURES as error:
            told = (
                reason(str(error).encode(), None, (subscription.endpoint.removeprefix(service),))
                or type(error).__name__
            )
            log.warning("push_service_not_reached", service=service, error=told)
        finally:
            self._leave(_places(subscription))
        return "again", pause_s(None)

    async def _post(self, wake_id: str, subscription: PushSubscription, left_s: float) -> tuple[Verdict, float]:
        service = origin_of(subscription.endpoint)
        told = headers(wake_id, left_s, service)
        signed = self._vapid.authorization(service)
        told["authorization"] = signed
        body = self._vapid.encrypted(payload(wake_id), subscription)
        async with self._sender.post(subscription.endpoint, body, told, within_s=min(TIMEOUT_S, left_s)) as response:
            found = verdict(response.status_code, response.headers.get("x-wns-status"))
            now = self._clock.utc_now()
            date = response.headers.get("date")
            wait_s = pause_s(response.headers.get("retry-after"), date=date, now=now)
            # The body of a successful answer is not read: whatever its length, it uses no memory.
            if found in {"again", "refused"}:
                secrets = (subscription.endpoint.removeprefix(service), subscription.p256dh, subscription.auth, signed)
                windows = response.headers.get("x-wns-error-description") or response.headers.get("x-wns-status")
                said = reason(await _beginning(response), windows, secrets)
                advice = hint(response.status_code, said, answered=date_of(date), now=now)
                log.warning(
                    "push_service_refused",
                    service=service,
                    status=response.status_code,
                    reason=said,
                    **({"retry_after_s": wait_s} if found == "again" else {}),
                    **({"advice": advice} if advice else {}),
                )
            return found, wait_s


def _places(subscription: PushSubscription) -> tuple[str, str, str]:
    """The limits against which a running push counts."""
    return "all", f"user {subscription.uid}", f"service {origin_of(subscription.endpoint)}"


async def _beginning(response: httpx2.Response) -> bytes:
    """The first bytes of the body, as far as they arrive in time."""
    body = b""
    if response.headers.get("content-encoding"):
        return body  # no body was requested
    try:
        async with asyncio.timeout(REASON_S):
            async for piece in response.aiter_raw():
                body += piece
                if len(body) >= MAX_BODY:
                    break
    except (TimeoutError, httpx2.HTTPError):
        return body[:MAX_BODY]
    return body[:MAX_BODY]
