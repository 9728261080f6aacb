"""Key files of which all bridges on a ledger need copies: none is made anew where others have it."""

from pathlib import Path

from bridge.auth import tokens
from bridge.push import vapid
from bridge.storage.store import Store
from contract.errors import StartError
from infra.places import kept_at_home
from infra.readable import is_absent
from infra.settings.loader import Settings


async def refuse_to_make_others(settings: Settings, store: Store) -> None:
    """Raise StartError if a key file is missing here and other bridges use the ledger, or did; StoreError.

    A token that one bridge has signed, and a phone that has subscribed at one, must be good at all of them.
    """
    wanted = {
        tokens.SETTING: (settings.auth.key_file if settings.auth.mode == "required" else None, "`sarvis token rotate`"),
        vapid.SETTING: (settings.push.key_file if settings.push.enabled else None, "`openssl ecparam`"),
    }
    missing = {
        setting: (path, maker)
        for setting, (path, maker) in wanted.items()
        if path is not None and _is_missing(path, setting)
    }
    others = await store.other_bridges() if missing else []
    if others:
        setting, (path, maker) = next(iter(missing.items()))
        raise StartError(
            f"{setting}: {path} is not here, and other bridges use this ledger ({', '.join(others)}); copy the file "
            f"from one of their machines. If it is lost everywhere, make a new one ({maker}): what the old one "
            f"signed is then invalid"
        )


def _is_missing(path: Path, setting: str) -> bool:
    try:
        return is_absent(kept_at_home(path, setting))
    except OSError:
        return False  # who opens it says what is wrong
