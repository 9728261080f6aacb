"""`sarvis forget` while no bridge runs: it takes the place of the bridge of these settings for a moment."""

from typing import Any

from bridge.operator.person import me
from bridge.sessions.devices import Devices
from bridge.sessions.service import Sessions
from bridge.storage.opening import open_store
from bridge.storage.records import PendingLogout
from bridge.storage.sqlite import creation
from bridge.storage.sqlite import file as sqlite_file
from bridge.storage.store import Identity
from bridge.stories.file import StoriesFile
from bridge.stories.place import place_of
from contract.clock import SystemClock
from contract.errors import StartError
from contract.messages import new_id
from infra.settings.bridge import StoreSettings
from infra.settings.loader import Settings

COMMAND = "forget"
"""In the place of a version, where other bridges of a ledger see who is there."""


async def forget_stopped(settings: Settings, uid: str) -> dict[str, Any]:
    """What the endpoint `/api/users/forget` does and answers, without a bridge.

    The next bridge tells devices the log-outs. Raises LedgerKeptError if a bridge of these settings runs, StartError if
    there is no ledger, StoreError, StoriesError.
    """
    _needs_ledger(settings.store)
    name = f"forgotten-{new_id()[:12]}"
    store = await open_store(settings.store, make=False, me=Identity(settings.bridge.instance, COMMAND, ""))
    try:
        sessions = Sessions(store, settings, SystemClock(), Devices(_is_not_sent, _is_not_posted), lambda _: None)
        await sessions.load()
        await sessions.logout(uid, "operator", me())
        stories = _forget_stories(settings, uid, name)
        ledger = await store.forget(uid, name)
        return {
            "success": True,
            "name": name,
            "stories": stories,
            "audit": ledger.audit,
            "sessions": ledger.sessions,
            "missed": ledger.missed,
            "subscriptions": ledger.subscriptions,
            "waiting": sessions.waiting_at(uid),
            "claims": await sessions.claims(uid),
        }
    finally:
        await store.close()


def _needs_ledger(settings: StoreSettings) -> None:
    if settings.is_file and (creation.is_prepared(settings.path) or not sqlite_file.check(settings.path)):
        raise StartError(sqlite_file.none_there(settings))


def _forget_stories(settings: Settings, uid: str, name: str) -> int:
    path = place_of(settings)
    if not path.exists():
        return 0
    file = StoriesFile.of_stopped(path)
    try:
        return file.forget(uid, name)
    finally:
        file.close()


def _is_not_sent(*_: object) -> bool:
    return False


async def _is_not_posted(row: PendingLogout) -> str | None:
    return f"no bridge runs that could tell {row.device_id}"
