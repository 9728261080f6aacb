"""Lists what a bridge uses that expires: certificates, API keys, tokens of connected apps."""

import heapq
from collections.abc import Iterable
from datetime import UTC, datetime

from bridge.auth.principals import Principal
from bridge.storage.records import ApiKey
from bridge.storage.store import Store, StoreError
from infra.expiry import SOON, Ending, of_certificates, of_mqtt
from infra.settings.loader import Settings

NAMED = 10
SHORT_LIVED_S = 24 * 3600.0
"""A backend that issues tokens for less than this renews them by itself."""


async def endings(settings: Settings, store: Store, apps: Iterable[Principal], now: datetime) -> list[Ending]:
    """All expiry times; `apps` are the connected ones. Raises nothing: an unreadable ledger only omits the keys."""
    try:
        keys = list(await store.api_keys())
    except StoreError:
        keys = []
    certificates = of_certificates({"bridge.tls_cert": settings.bridge.tls_cert}, {})
    return [*certificates, *of_mqtt(settings.mqtt), *of_api_keys(keys), *of_tokens(apps, now)]


def of_api_keys(keys: Iterable[ApiKey]) -> list[Ending]:
    """Those of keys with an expiry time."""
    advice = "create another with sarvis token api, and revoke this one"
    return [
        Ending(f"API key {key.key_id} ({key.role} {key.name})", datetime.fromtimestamp(key.expires_at, UTC), advice)
        for key in keys
        if key.expires_at is not None
    ]


def of_tokens(apps: Iterable[Principal], now: datetime) -> list[Ending]:
    """One for all connected apps: the token that ends first; the advice names up to 10 users whose token ends soon."""
    latest: dict[str, float] = {}
    for app in apps:
        if app.uid is not None and app.expires_at is not None and not _is_short_lived(app, app.expires_at):
            latest[app.uid] = max(app.expires_at, latest.get(app.uid, 0.0))
    if not latest:
        return []
    near = {uid: moment for uid, moment in latest.items() if moment - now.timestamp() <= SOON.total_seconds()}
    first = heapq.nsmallest(NAMED, near, key=lambda uid: near[uid])
    others = f" and {len(near) - NAMED} others" if len(near) > NAMED else ""
    advice = f"issue new ones with sarvis token app to {', '.join(first)}{others}" if near else "none ends soon"
    until = datetime.fromtimestamp(min(latest.values()), UTC)
    return [Ending("the token of a connected app that ends first", until, advice)]


def _is_short_lived(app: Principal, expires_at: float) -> bool:
    return app.issued_at is not None and expires_at - app.issued_at < SHORT_LIVED_S
