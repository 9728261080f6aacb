"""Collects what is known about a user or a device: from the stories, the ledger and the running bridge."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

from bridge.operator.client import readiness
from bridge.storage.reader import LedgerReader
from bridge.storage.reading import open_reader
from bridge.storage.records import Audit
from bridge.storage.store import StoreError
from bridge.stories.file import DAY_S, StoriesReader, check
from bridge.stories.place import place_of
from bridge.stories.records import Story
from bridge.stories.why import AROUND_S, CLOSED, OPENED, RECENT_S, Evidence, Line
from contract.errors import SarvisError, StartError
from infra.settings.bridge import StoreSettings
from infra.settings.loader import Settings

OpenReader = Callable[[StoreSettings], AbstractContextManager[LedgerReader]]

MOST_LINES = 1000
WRITTEN_LATER_S = 90.0
"""A story is written until its wake is over, at most a minute after it came."""


def reader_of(settings: Settings, files: Sequence[Path]) -> StoriesReader:
    """The stories in these files, or in that of the settings; raises StoriesError, SettingsError."""
    paths = list(files) or [place_of(settings)]
    for path in paths:
        check(path)
    return StoriesReader(paths)


def collect(
    settings: Settings,
    reader: StoriesReader,
    name: str,
    moment: float | None,
    now: float,
    ask: Callable[[Settings], str | None] = readiness,
    read: OpenReader = open_reader,
) -> Evidence:
    """All that is known about this user or device; raises SarvisError if nothing is.

    `ask` tells what the running bridge says of itself, as `Evidence.ready`; `read` opens the ledger: the bridge itself
    has another way than commands.
    """
    middle, around = (now, RECENT_S) if moment is None else (moment, 2 * AROUND_S)
    near = reader.stories(middle - around, middle + around + WRITTEN_LATER_S)
    stories = [story for story in near if name in {story.uid, story.device_id}]
    states = reader.devices()
    ledger = _Ledger.read(settings, name, read)
    is_device = name in states or name in ledger.devices or any(story.device_id == name for story in stories)
    users = {story.uid for story in stories} | {line.uid for line in ledger.audit if line.device_id == name}
    devices = [name] if is_device else ledger.devices_of(name, stories, until=middle + around)
    if not is_device:
        ledger.add(settings, devices, read)
    runs = reader.runs()
    about = [name, *devices, *(users if is_device else ()), *{run.bridge for run in runs}]
    events = reader.events(about, now - settings.bridge.stories_days * DAY_S, now)
    if not (stories or events or ledger.audit or is_device or devices or _was_ever(reader, name, now)):
        raise SarvisError(
            f"neither the stories nor the ledger name {name!r}; check the name: `sarvis device list` and `sarvis "
            f"sessions list` show those that are known"
        )
    ready = ask(settings) if moment is None else ""
    return Evidence(name, is_device, now, moment, stories, events, ledger.audit, devices, states, runs, ready)


def _was_ever(reader: StoriesReader, name: str, now: float) -> bool:
    return any(name in {story.uid, story.device_id} for story in reader.stories(0.0, now + 1.0))


class _Ledger:
    """Its lines about a user or a device; without a ledger there are none."""

    def __init__(self) -> None:
        self.audit: list[Line] = []
        self.devices: set[str] = set()
        self.claims: dict[str, str] = {}

    @classmethod
    def read(cls, settings: Settings, name: str, opened: OpenReader) -> "_Ledger":
        found = cls()
        try:
            with opened(settings.store) as ledger:
                found.audit = _lines(ledger, name)
                devices = ledger.devices(1_000_000)
        except (StoreError, StartError):
            return found
        found.devices = {device.device_id for device in devices}
        found.claims = {
            device.device_id: user
            for device in devices
            if (user := device.assigned_uid or device.claim_uid) is not None
        }
        return found

    def add(self, settings: Settings, devices: Sequence[str], opened: OpenReader) -> None:
        """The lines about these devices, too: they name the users who came after."""
        try:
            with opened(settings.store) as ledger:
                for device_id in devices:
                    self.audit += [line for line in _lines(ledger, device_id) if line not in self.audit]
        except (StoreError, StartError):
            return
        self.audit.sort(key=lambda line: line.at)

    def devices_of(self, uid: str, stories: Sequence[Story], until: float) -> list[str]:
        """Where the user is logged in, or was last; those of the user's wakes; those that are to log the user in."""
        at: dict[str, bool] = {}
        last = None
        for line in self.audit:
            if line.uid == uid and line.at <= until and line.event in OPENED | CLOSED:
                at[line.device_id] = line.event in OPENED
                last = line.device_id
        mine = [device_id for device_id, is_in in at.items() if is_in]
        claimed = [device_id for device_id, user in self.claims.items() if user == uid]
        named = [story.device_id for story in stories]
        rest = [] if mine or claimed or last is None else [last]
        return list(dict.fromkeys([*mine, *named, *claimed, *rest]))


def _lines(ledger: LedgerReader, name: str) -> list[Line]:
    return [_line(line) for line in ledger.audit(name, MOST_LINES)]


def _line(line: Audit) -> Line:
    at = datetime.fromisoformat(line.at).timestamp()
    return Line(at, line.event, line.device_id, line.uid, line.reason)
