"""Where the stories' file is."""

from pathlib import Path

from infra.places import kept_at_home
from infra.settings.loader import Settings

BESIDE = "-stories.db"
ELSEWHERE = Path("~/.local/state/sarvis/bridge/stories.db")


def place_of(settings: Settings) -> Path:
    """`bridge.stories_file`; without it beside a ledger that is a file, as `ledger-stories.db`.

    Raises SettingsError.
    """
    named = settings.bridge.stories_file
    if named is not None:
        return kept_at_home(named, "bridge.stories_file")
    if settings.store.is_file:
        ledger = settings.store.path
        return ledger.with_name(ledger.stem + BESIDE)
    return kept_at_home(ELSEWHERE, "bridge.stories_file")
