"""Keeps subscriptions in the ledger, reads them when a push is due, and runs the sender while pushes are on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from prometheus_client import Gauge

from bridge.push.contact import doubt_about
from bridge.push.failing import FailingServices
from bridge.push.sender import OnAccepted, PushSender
from bridge.push.subscriptions import changes_for, problem_with
from bridge.push.vapid import Vapid
from bridge.storage.records import PushSubscription, Unsubscribed
from bridge.storage.store import Store, StoreError
from bridge.wakes.delivery import Delivery
from bridge.wakes.story import StoryBook
from contract.clock import Clock
from infra.settings.bridge import PushSettings
from infra.tasks import Tasks
from infra.telemetry import REGISTRY, get_logger

COUNT_EVERY_S = 2.0
AGAIN_S = 0.5
"""After a ledger that could not be read: a wake lives for some seconds."""

SUBSCRIPTIONS = Gauge("sarvis_push_subscriptions", "Phones that are subscribed to pushes", registry=REGISTRY)

log = get_logger("pushing")


class PushNotifications:
    """Pushes are sent inside `async with pushing.running()`.

    Args:
        alive: whether a user is, or may be, logged in; where bridges share a ledger, its rows are asked, too.
        book: notes what becomes of the pushes of each wake.

    Attributes:
        failing: the push services that take nothing.
    """

    def __init__(
        self,
        settings: PushSettings,
        store: Store,
        clock: Clock,
        *,
        alive: Callable[[str], bool],
        book: StoryBook | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._alive = alive
        self._book = book
        self.failing = FailingServices()
        self._vapid: Vapid | None = None
        self._sender: PushSender | None = None
        self._due: list[tuple[Delivery, OnAccepted]] = []
        """Whose phones are still to be looked up."""
        self._some_due = asyncio.Event()
        self._to_count = asyncio.Event()

    @property
    def public_key(self) -> str | None:
        """The key for browsers' subscriptions; None while pushes are off."""
        return None if self._vapid is None else self._vapid.public_key

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Pushes are sent inside this block if enabled; raises StartError or SettingsError before it begins."""
        if self._settings.enabled:
            self._sender = self._make_sender()
        self._to_count.set()
        async with Tasks() as tasks:
            tasks.start(self._count(), "count phones")
            if self._sender is None:
                yield
                return
            async with self._sender.running():
                tasks.start(self._look_up(), "look up phones")
                yield

    def _make_sender(self) -> PushSender:
        contact = self._settings.contact or ""
        self._vapid = Vapid.open(self._settings.key_file, contact, self._clock)
        doubt = doubt_about(contact)
        if doubt is not None:
            log.warning(
                "push_contact_may_be_refused",
                setting="push.contact",
                reason=doubt,
                advice="Apple then refuses all pushes (403 BadJwtToken): set an address that can be resolved",
            )
        return PushSender(self._vapid, self._clock, on_gone=self._gone, book=self._book, failing=self.failing)

    def problem_with(self, endpoint: str) -> str | None:
        """Why this endpoint is refused; None if it is allowed."""
        return problem_with(endpoint, self._settings.services)

    async def subscribe(self, new: PushSubscription) -> None:
        """From now on this phone is rung, too; an earlier user of its endpoint is no longer rung there.

        Raises StoreError.
        """
        async with self._store.transaction() as transaction:
            mine = (await transaction.subscriptions([new.uid]))[new.uid]
            await transaction.save(changes_for(new, mine))
        self._to_count.set()

    async def unsubscribe(self, uid: str, endpoint: str) -> None:
        """Stop ringing this phone, also if another user had subscribed it. Raises StoreError.

        A phone that changed hands must not ring for its previous user. This grants no new right: a caller with the
        endpoint can also take it over by subscribing it.
        """
        async with self._store.transaction() as transaction:
            known = await transaction.phone(endpoint)
            if known is not None:
                await transaction.save([Unsubscribed(known.uid, endpoint)])
        if known is not None and known.uid != uid:
            log.info("phone_has_another_user", uid=uid, before=known.uid)
        self._to_count.set()

    def left(self) -> None:
        """The ledger has recorded a user's log-out, and with it has deleted the user's phones."""
        self._to_count.set()

    def wake(self, delivery: Delivery, on_accepted: OnAccepted) -> None:
        """No socket accepted the wake: push to the user's phones, if the user is logged in.

        Args:
            delivery: of the wake.
            on_accepted: called with the delivery for each phone for which a push service accepted it.
        """
        if not self._alive(delivery.wake.uid):
            self._note(delivery, "logged_out")
        elif self._sender is not None:
            self._due.append((delivery, on_accepted))
            self._some_due.set()

    async def _look_up(self) -> None:
        """One read for all that are due, until cancelled."""
        while True:
            await self._some_due.wait()
            due = list(self._due)
            try:
                uids = {delivery.wake.uid for delivery, _ in due}
                phones = await self._store.subscriptions(uids)
                present = await self._store.present(uids) if self._store.shared else uids
                mine = await self._claim(delivery for delivery, _ in due if phones[delivery.wake.uid])
            except StoreError:  # the store has logged the reason once
                now = self._clock.monotonic()
                self._due = [one for one in self._due if one[0].expires_at > now]
                await self._clock.sleep(AGAIN_S)
                continue
            for delivery, on_accepted in due:
                if delivery.wake.uid in present:
                    if phones[delivery.wake.uid] and _name(delivery) not in mine:
                        self._note(delivery, "elsewhere")
                        continue
                    self._push(delivery, phones[delivery.wake.uid], on_accepted)
                else:
                    self._note(delivery, "logged_out")
            del self._due[: len(due)]
            if not self._due:
                self._some_due.clear()

    async def _claim(self, deliveries: Iterable[Delivery]) -> set[str]:
        """Two bridges may hold the sockets of one user: only one of them pushes. Raises StoreError."""
        names = {_name(delivery) for delivery in deliveries}
        return await self._store.claim(names) if names and self._store.shared else names

    def _push(self, delivery: Delivery, phones: Sequence[PushSubscription], on_accepted: OnAccepted) -> None:
        """A log-out may have come since the phones were read, which has unsubscribed them."""
        if not self._alive(delivery.wake.uid):
            self._note(delivery, "logged_out")
        elif not phones:
            self._note(delivery, "no_phone")
        elif self._sender is not None and not delivery.taken:
            self._sender.push(delivery, phones, on_accepted)

    def _note(self, delivery: Delivery, why: str) -> None:
        if self._book is not None:
            self._book.note(delivery, "no_push", why)

    async def _count(self) -> None:
        """Keep the gauge, until cancelled: phones come and go in the ledger, by other programs, too."""
        not_before = self._clock.monotonic()
        while True:
            await self._to_count.wait()
            await self._clock.sleep(not_before - self._clock.monotonic())
            self._to_count.clear()
            not_before = self._clock.monotonic() + COUNT_EVERY_S
            try:
                SUBSCRIPTIONS.set(await self._store.count_subscriptions())
            except StoreError:
                self._to_count.set()  # the store has logged the reason once

    async def _gone(self, subscription: PushSubscription) -> None:
        try:
            async with self._store.transaction() as transaction:
                if await transaction.phone(subscription.endpoint) == subscription:
                    await transaction.save([Unsubscribed(subscription.uid, subscription.endpoint)])
        except StoreError as error:
            log.warning("subscription_not_dropped", uid=subscription.uid, error=str(error))  # the next push tries again
        self._to_count.set()


def _name(delivery: Delivery) -> str:
    """By which bridges claim the push of a wake."""
    return f"push {delivery.wake.id}"
