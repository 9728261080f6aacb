"""Pushes as a whole: subscriptions in the ledger and in memory, and the pusher while pushes are on."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from prometheus_client import Gauge

from bridge.push_contact import doubt_about
from bridge.pusher import Pusher
from bridge.pushes import Subscribers, problem_with
from bridge.rows import PushSubscription, Unsubscribed
from bridge.store import Store, StoreError
from bridge.vapid import Vapid
from bridge.wakes import Fate
from contract.clock import Clock
from contract.sections.bridge import PushSettings
from contract.telemetry import REGISTRY, get_logger

SUBSCRIPTIONS = Gauge("sarvis_push_subscriptions", "Phones that are subscribed to pushes", registry=REGISTRY)

log = get_logger("pushing")


class Pushing:
    """Call `load` once before anything else; pushes go out inside `async with pushing.running()`.

    Args:
        alive: whether somebody is logged in; nobody else is rung.
        on_accepted: a push service took a wake for a phone.
    """

    def __init__(
        self,
        settings: PushSettings,
        store: Store,
        clock: Clock,
        *,
        alive: Callable[[str], bool],
        on_accepted: Callable[[Fate], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._alive = alive
        self._on_accepted = on_accepted
        self._subscribers = Subscribers()
        self._vapid: Vapid | None = None
        self._pusher: Pusher | None = None

    @property
    def public_key(self) -> str | None:
        """What browsers subscribe with; None while pushes are off."""
        return None if self._vapid is None else self._vapid.public_key

    def load(self, subscriptions: Iterable[PushSubscription]) -> None:
        """Who was subscribed before this bridge started, oldest first."""
        self._subscribers.apply(subscriptions)
        SUBSCRIPTIONS.set_function(lambda: len(self._subscribers))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Pushes go out inside this block, if they are on; raises StartError or SettingsError before it begins."""
        if not self._settings.enabled:
            yield
            return
        contact = self._settings.contact or ""
        self._vapid = Vapid.open(self._settings.key_file, contact, self._clock)
        doubt = doubt_about(contact)
        if doubt is not None:
            log.warning(
                "push_contact_may_be_refused",
                setting="push.contact",
                reason=doubt,
                advice="Apple pushes nothing then (403 BadJwtToken): write an address of yours that can be resolved",
            )
        self._pusher = Pusher(self._vapid, self._clock, on_accepted=self._on_accepted, on_gone=self._gone)
        async with self._pusher.running():
            yield

    def problem_with(self, endpoint: str) -> str | None:
        """Why this endpoint is not let in; None when it is."""
        return problem_with(endpoint, self._settings.services)

    async def subscribe(self, new: PushSubscription) -> None:
        """From now on this phone is rung, too; whoever had subscribed its endpoint is rung there no more.

        Raises StoreError.
        """
        async with self._store.transaction() as transaction:
            changes = self._subscribers.changes(new)
            await transaction.save(changes)
        # Nothing is awaited between a commit and this, here and at a log-out: memory changes in the ledger's order.
        self._subscribers.apply(changes)

    async def unsubscribe(self, uid: str, endpoint: str) -> None:
        """This phone is not rung any more, also when another user had subscribed it. Raises StoreError.

        A phone that another user holds now must not ring for the last one. It is no new right: whoever knows an
        endpoint can take it over by subscribing it.
        """
        owner = self._subscribers.owner(endpoint)
        if owner is None:
            return
        if owner != uid:
            log.info("phone_has_another_user", uid=uid, before=owner)
        gone = Unsubscribed(owner, endpoint)
        async with self._store.transaction() as transaction:
            await transaction.save([gone])
        self._subscribers.apply([gone])

    def left(self, uid: str) -> None:
        """The ledger has noted that the user logged out; with that it has forgotten their phones."""
        self._subscribers.apply([Unsubscribed(uid)])

    def wake(self, fate: Fate) -> None:
        """No socket took the wake: ring the user's phones, if the user is logged in."""
        if self._pusher is not None and self._alive(fate.wake.uid):
            self._pusher.push(fate, self._subscribers.of(fate.wake.uid))

    async def _gone(self, subscription: PushSubscription) -> None:
        if subscription not in self._subscribers.of(subscription.uid):
            return
        try:
            await self.unsubscribe(subscription.uid, subscription.endpoint)
        except StoreError as error:
            log.warning("subscription_not_dropped", uid=subscription.uid, error=str(error))  # the next push tries again
