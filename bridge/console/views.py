"""How the console shows the state of a device: one mark, one word, one class. No I/O."""

from typing import NamedTuple

from bridge.console.words import Language, say
from bridge.storage.records import Device
from bridge.stories.records import DeviceState


class Shown(NamedTuple):
    """What a page shows of a state: `kind` is a class of the style sheet, the mark tells it without colours."""

    kind: str
    mark: str
    text: str


def shown(language: Language, row: Device | None, state: DeviceState | None) -> Shown:  # noqa: PLR0911 - a table
    """The state of a device, as the ledger and its own last status have it."""

    def words(kind: str, mark: str, *keys: str) -> Shown:
        return Shown(kind, mark, ", ".join(say(language, key) for key in keys))

    if row is not None and row.state == "removed":
        return words("off", "✕", "removed")
    if row is not None and row.logout_url:
        return words("", "-", "http_device")
    if state is None or not state.state:
        return words("", "?", "unknown")
    if state.state == "offline":
        return words("off", "○", "offline")
    if state.alarms:
        deaf = words("alarm", "!", "deaf")
        return deaf._replace(text=f"{deaf.text}: {', '.join(state.alarms)}")
    if state.muted:
        return words("alarm", "!", "muted")
    return words("good", "●", "active") if state.session == "active" else words("", "◐", "online", "standby")
